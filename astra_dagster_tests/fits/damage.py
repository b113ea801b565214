"""FITS files with contents of any kind, and cards changed afterwards."""

from pathlib import Path
from typing import Any

from astropy.io import fits

from astra_dagster.fits.reader import FitsFile


def blocks(count: int, byte: bytes = b"\0") -> bytes:
    return byte * (2880 * count)


def opened(hdus: list[Any], path: Path) -> FitsFile:
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path, overwrite=True)
    return FitsFile(path)


def renamed(path: Path, prefix: str) -> None:
    """Give the cards whose names begin with Z the names that mean something; astropy would act on them."""
    contents = path.read_bytes()
    for name in ("SCAL", "ZERO"):
        assert f"Z{name}".encode() in contents
        contents = contents.replace(f"Z{name}".encode(), f"{prefix}{name}".encode())
    path.write_bytes(contents)


def changed_card(path: Path, old: str, new: str) -> None:
    """Overwrite a card of an extension."""
    contents = bytearray(path.read_bytes())
    place = contents.index(old.encode(), contents.index(b"XTENSION"))
    length = max(len(old), len(new))
    assert not contents[place + len(old) : place + length].strip()
    contents[place : place + length] = new.ljust(length).encode()
    path.write_bytes(contents)
