"""Which partitions are complete, and why the others are not.

A partition is complete when its record carries today's parameters digest, code version and input data version, and
its output is there with the recorded size. Records come from outside; nothing here knows who keeps them.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Self

from astra_dagster.outputs.store import OutputStore, Work, Written
from astra_dagster.presence import status_of


@dataclass(frozen=True, slots=True)
class Record:
    """What was recorded of a partition of a task when it was last materialised.

    Its text is the output's data version: everything that completeness needs to know in one indexed value.

    Attributes
    ----------
    results
        Hash of the results.
    digest
        Parameters digest.
    code_version
        Of the task.
    input
        Hash of the data version of the file that it was made from.
    size
        Size of the output in bytes.
    """

    results: str
    digest: str
    code_version: str
    input: str
    size: int

    def __str__(self) -> str:
        return f"{self.results}.{self.digest}.{self.code_version}.{self.input}.{self.size}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Record from its text; None if the text is not one."""
        match = re.fullmatch(r"([0-9a-f]+)\.([0-9a-f]+)\.([^.]+)\.([0-9a-f]+)\.([0-9]+)", text)
        return cls(match[1], match[2], match[3], match[4], int(match[5])) if match else None


def record_of(store: OutputStore, work: Work, written: Written) -> Record:
    """Record of an output that is on disk."""
    return Record(written.version, store.digest, store.task.version, _hashed(work.input_version), written.size)


def why_incomplete(record: Record | None, work: Work, store: OutputStore) -> str | None:
    """Reason why a partition is not complete; None if it is.

    Parameters
    ----------
    record
        Its latest record, None if it has none.
    work
        The partition with what it is given today.

    Raises
    ------
    UnreachableError
        If nobody can tell whether its output is there.
    """
    if record is None:
        return "no record"
    if record.digest != store.digest:
        return _parameters_changed(record.digest, store)
    if record.code_version != store.task.version:
        return f"code version {record.code_version} -> {store.task.version}"
    if record.input != _hashed(work.input_version):
        upstream = ", ".join(task.name for task in store.task.upstream)
        return f"upstream changed: {upstream}" if upstream else "input changed"
    status = status_of(store.path(work.data_id))
    if status is None:
        return "output missing"
    size = status.st_size
    return None if size == record.size else f"output has {size} bytes, recorded were {record.size}"


def _parameters_changed(digest: str, store: OutputStore) -> str:
    before, now = store.parameters_of(digest), {**store.parameters.as_dict(), **store.task.required_digests}
    if before is None:
        return f"parameters changed: digest {digest} -> {store.digest}"
    names = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    changes = (f"{name} {before.get(name, 'unset')} -> {now.get(name, 'unset')}" for name in names)
    return "parameters changed: " + ", ".join(changes)


def _hashed(version: str) -> str:
    return hashlib.sha256(version.encode()).hexdigest()[:12]
