"""The record of a partition, which is made when its output has been written, as one text."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from astra_dagster.outputs import document
from astra_dagster.outputs.document import FORMAT, READABLE, input_version
from astra_dagster.outputs.store import UNREADABLE, OutputStore, PartitionWork, StoredOutput

FIRST = 2
"""Layout of the outputs of records that do not say which it is."""

_LENGTH = 12
"""Digits of the hash of a data version."""


@dataclass(frozen=True, slots=True)
class Record:
    """The record of a partition of a task, from when it was last materialised.

    Its text serves as the output's data version: one indexed value with everything that completeness depends on.

    Attributes
    ----------
    results
        Hash of the results.
    digest
        Parameters digest.
    code_version
        Code version of the task.
    input
        Hash of the data version of the inputs; see `hash_inputs`.
    size
        Size of the output in bytes.
    layout
        Version of the layout of the output.
    """

    results: str
    digest: str
    code_version: str
    input: str
    size: int
    layout: int = FORMAT

    def __str__(self) -> str:
        text = f"{self.results}.{self.digest}.{self.code_version}.{self.input}.{self.size}"
        return text if self.layout == FIRST else f"{text}.{self.layout}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Parse the text of a record; None if the text is not one."""
        match = re.fullmatch(r"([0-9a-f]+)\.([0-9a-f]+)\.([^.]+)\.([0-9a-f]+)\.([0-9]+)(?:\.([0-9]+))?", text)
        return cls(match[1], match[2], match[3], match[4], int(match[5]), int(match[6] or FIRST)) if match else None


def make_pattern(digest: str, code_version: str) -> str:
    """Make the pattern of the texts of records with these, in a layout that is read: very many need no parsing."""
    layouts = "|".join(str(layout) for layout in sorted(READABLE))
    return rf"^[0-9a-f]+\.{digest}\.{re.escape(code_version)}\.[0-9a-f]+\.[0-9]+(\.({layouts}))?$"


def record_of(store: OutputStore, work: PartitionWork, written: StoredOutput) -> Record:
    """Make the record of an output that is on disk."""
    return Record(written.version, store.digest, store.task.version, hash_inputs_of(work), written.size)


def find_record(store: OutputStore, key: str) -> Record | None:
    """Make the record of an output of a valid key from the output alone; None if there is no output of this code."""
    try:
        found = document.read(store.path_of(key), store.task.output)
    except UNREADABLE:
        return None
    if found.origin.label != document.Label(key, store.task.family, store.digest, store.task.version):
        return None
    given = hash_inputs([item.version for item in found.origin.inputs], len(store.task.common))
    return Record(found.version, store.digest, store.task.version, given, found.size)


def hash_inputs_of(work: PartitionWork) -> str:
    """Return the hash of the data versions of the inputs of a partition as they are today; see `hash_inputs`."""
    return hash_inputs([one.version for one in work.inputs], len(work.common))


def hash_inputs(versions: Sequence[str], common: int = 0) -> str:
    """Return the hash of the data versions of inputs, in the form in which records hold it.

    Parameters
    ----------
    versions
        Data versions of all inputs.
    common
        Number of the last of them that are files in common: each has a hash of its own, so that it can be told which
        of them has changed.
    """
    own = len(versions) - common
    return "".join(map(_hash, (input_version(versions[:own]), *versions[own:])))


def find_changed(before: str, now: str) -> list[int] | None:
    """Return the numbers of the common files that differ between two hashes of inputs; None if other inputs do too."""
    if len(before) != len(now) or before[:_LENGTH] != now[:_LENGTH]:
        return None
    parts = range(_LENGTH, len(now), _LENGTH)
    return [number for number, i in enumerate(parts) if before[i : i + _LENGTH] != now[i : i + _LENGTH]]


def _hash(version: str) -> str:
    return hashlib.sha256(version.encode()).hexdigest()[:_LENGTH]
