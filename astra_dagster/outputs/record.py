"""The record of a partition: what is written down when its output has been made, in one text.

Who keeps records, and what follows from them, is not decided here.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Self

from astra_dagster.outputs.store import OutputStore, PartitionWork, StoredOutput


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


def record_of(store: OutputStore, work: PartitionWork, written: StoredOutput) -> Record:
    """Record of an output that is on disk."""
    return Record(written.version, store.digest, store.task.version, hash_version(work.input_version), written.size)


def hash_version(version: str) -> str:
    """Hash of a data version, as records have it of the input."""
    return hashlib.sha256(version.encode()).hexdigest()[:12]
