"""Files that appear whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from astra_dagster.errors import make_write_error
from astra_dagster.outputs.layout import temporary_name

MOVE = "make it writable, or set ASTRA_OUTPUTS to another folder"
"""What to do where outputs cannot be written."""


@contextlib.contextmanager
def replacing(path: Path, key: str | None = None, *, what: str = "output", hint: str = MOVE) -> Iterator[BinaryIO]:
    """A file to write to, that takes the place of another once all is written, and else leaves no trace.

    Parameters
    ----------
    path
        Where it goes; folders on the way are made.
    key
        Partition key, for the error message.
    what, hint
        What is written, and what to do where it cannot be, for the error message.

    Raises
    ------
    DiskFullError
        If the disk takes no more.
    OutputError
        If it cannot be written for another reason.
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
    """A new file, in a folder that a clean-up may have taken away between its making and now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return path.open("xb")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("xb")
