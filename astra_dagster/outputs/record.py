"""The record of a partition, which is made when its output has been written, as one text."""

import hashlib
import re
from dataclasses import dataclass
from typing import Self

from astra_dagster.outputs.document import FORMAT
from astra_dagster.outputs.store import OutputStore, PartitionWork, StoredOutput

FIRST = 2
"""Layout of the outputs of records that do not say which it is."""


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
        Hash of the data version of the inputs.
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


def record_of(store: OutputStore, work: PartitionWork, written: StoredOutput) -> Record:
    """Make the record of an output that is on disk."""
    return Record(written.version, store.digest, store.task.version, hash_version(work.input_version), written.size)


def hash_version(version: str) -> str:
    """Return the hash of a data version, in the form in which records hold that of the inputs."""
    return hashlib.sha256(version.encode()).hexdigest()[:12]
