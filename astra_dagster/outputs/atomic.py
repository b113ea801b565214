"""Files that are written completely or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from astra_dagster.errors import make_write_error
from astra_dagster.outputs.layout import temporary_name

MOVE = "make it writable, or set ASTRA_OUTPUTS to another folder"
"""Hint of an error if outputs cannot be written."""


@contextlib.contextmanager
def replacing(path: Path, key: str | None = None, *, what: str = "output", hint: str = MOVE) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces the file at `path` once it is completely written; else it is removed.

    Parameters
    ----------
    path
        Path of the file; missing folders are made.
    key
        Partition key, for the error message.
    what, hint
        What is written, and what to do if that fails, for the error message.

    Raises
    ------
    DiskFullError
        If the disk is full.
    OutputError
        If the file cannot be written for another reason.
    """
    temporary = path.with_name(temporary_name())
    try:
        with _new(temporary) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise make_write_error(error, f"the {what}", path, key=key, hint=hint) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _new(path: Path) -> BinaryIO:
    """Open a new file; make its folder again if a clean-up has removed it meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return path.open("xb")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("xb")
