"""Write and recognise the origin of a table of results, in its Parquet metadata and its FITS header.

pyarrow is imported only to read a Parquet file, because it is slow to import.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from astra_dagster.fits.header import BLOCK, Header
from astra_dagster.fits.writer import Card
from astra_dagster.spectra import output

FORMAT = "2"
"""Version of the layout of the tables."""


@dataclass(frozen=True, slots=True)
class TableHead:
    """The origin of a table of results: task, code version and parameters."""

    task: str
    code_version: str
    digest: str
    parameters: Mapping[str, Any]

    def metadata(self) -> dict[str, str]:
        """Return the origin as metadata of a Parquet file."""
        return {
            "format": FORMAT,
            "task": self.task,
            "digest": self.digest,
            "code_version": self.code_version,
            "parameters": json.dumps(dict(self.parameters), sort_keys=True),
        }

    def is_of(self, metadata: Mapping[str, str]) -> bool:
        """Whether metadata are those of a table of this layout, task and digest; the code version may differ."""
        mine = self.metadata()
        return all(metadata.get(name) == mine[name] for name in ("format", "task", "digest"))

    def cards(self, version: str) -> list[Card]:
        """Return the origin as cards of a primary FITS header, with the hash of the contents."""
        return [
            ("CREATOR", output.ORIGIN, "program that wrote this"),
            ("LONGSTRN", "OGIP 1.0", "long texts are continued"),
            ("TASK", self.task, "task"),
            ("CODEVER", self.code_version, "code version of the task"),
            ("DIGEST", self.digest, "digest of the parameters"),
            *output.make_pairs("PAR", self.parameters, "parameter"),
            ("VERSION", version, "hash of the contents"),
        ]


def is_table_of(stream: BinaryIO, suffix: str, task: str, digest: str) -> bool:
    """Whether a file says of itself that it is a table of a task with the parameters of a digest."""
    if suffix == "fits":
        cards = Header(stream.read(BLOCK))
        return [cards.get(name) for name in ("CREATOR", "TASK", "DIGEST")] == [output.ORIGIN, task, digest]
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        about = pq.read_schema(stream).metadata or {}
    except (OSError, pa.ArrowException):
        return False
    return [about.get(name, b"").decode() for name in (b"task", b"digest")] == [task, digest]
