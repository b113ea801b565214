"""Files that are spoilt in a way that would take a careless program down."""

import bz2
import gzip
import os
from collections.abc import Callable
from pathlib import Path

from astra_dagster.fits.reader import LARGEST


def sparse(path: Path) -> Path:
    """A terabyte that holds nothing, with room for as many pixels as its header says."""
    contents = bytearray(path.read_bytes())
    place = contents.index(b"NAXIS1  =                 2048")
    contents[place : place + 30] = b"NAXIS1  =             67108864"
    path.write_bytes(contents)
    os.truncate(path, 1 << 40)
    return path


def fifo(path: Path) -> Path:
    path.unlink()
    os.mkfifo(path)
    return path


def bomb(suffix: str) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        packer = gzip.compress if suffix == ".gz" else bz2.compress
        other = path.with_name(path.name + suffix)
        other.write_bytes(packer(path.read_bytes()) + packer(bytes(LARGEST // 4)) * 5)
        return other

    return write
