"""Where an HDU lies in a file, and what its header says; no data are read here."""

import functools
from dataclasses import dataclass

from astra_dagster.fits.header import BLOCK, Header
from astra_dagster.fits.structure import Sizes


@functools.lru_cache(maxsize=256)
def _parse_header(raw: bytes) -> Header:
    return Header(raw)


@dataclass(frozen=True, slots=True)
class HDU:
    """A header and data unit; its data begin at the byte `offset` of the file, `own` is a header that no other has."""

    index: int
    raw: bytes
    sizes: Sizes
    offset: int
    own: Header | None

    @property
    def header(self) -> Header:
        """Header, which is parsed when it is asked for; those of extensions are mostly the same in all files."""
        return self.own or _parse_header(self.raw)

    @property
    def kind(self) -> str:
        """Sort of the data: "image", "table" or "other"."""
        return self.sizes.kind

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the data, slowest axis first."""
        return self.sizes.shape

    @property
    def size(self) -> int:
        """Size of the data in bytes, without padding."""
        return self.sizes.bytes

    @property
    def end(self) -> int:
        """Place in the file where the padding of the data ends."""
        return self.offset + -(-self.size // BLOCK) * BLOCK

    @property
    def name(self) -> str:
        """Value of EXTNAME; empty if there is none."""
        return self.header.text("EXTNAME") or ""
