"""Find our own files below the outputs folder: name and content tell them from a user's. Links are never followed.

`astra_dagster.cleanup` decides which of them are no longer needed.
"""

import io
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from astra_dagster import files
from astra_dagster.outputs.companions import read_failure_note, read_meaning
from astra_dagster.outputs.document import read_label
from astra_dagster.outputs.layout import OwnName, Sort, own_name, place_of, temporary_name
from astra_dagster.outputs.result_files import holds
from astra_dagster.outputs.table_head import is_table_of

Identity = tuple[int, int, int]
"""Inode, size in bytes and modification time in nanoseconds, which are the same for an unchanged file."""

SKEW = 3_600
"""Seconds by which the clock of a file system may differ from this machine's."""


@dataclass(frozen=True, slots=True)
class OwnFile:
    """A regular file whose name is that of one of our files."""

    name: OwnName
    entry: os.DirEntry[str]


@dataclass(frozen=True, slots=True)
class Inspected:
    """A file that is ours by its content too, and the code version if it is an output."""

    identity: Identity
    code_version: str = ""


def identity_of(status: os.stat_result) -> Identity:
    """Return the identity of a file from its status."""
    return status.st_ino, status.st_size, status.st_mtime_ns


def file_system_time(root: Path) -> int:
    """Return the time in nanoseconds by the clock of a folder's file system, which may differ from this machine's.

    If the folder cannot be written to, return this machine's time less `SKEW`, so that no file seems older than it is.
    """
    path = root / temporary_name()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            return os.fstat(descriptor).st_mtime_ns
        finally:
            os.close(descriptor)
            path.unlink()
    except OSError:
        return time.time_ns() - SKEW * 10**9


def walk(folder: str, family: str, problems: list[tuple[str, str]]) -> Iterator[OwnFile]:
    """Yield the files with our names below the folder of a digest; add folders that cannot be listed to `problems`."""
    inner_folders = [""]
    while inner_folders:
        inner = inner_folders.pop()
        try:
            with os.scandir(f"{folder}/{inner}" if inner else folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        inner_folders.append(f"{inner}/{entry.name}" if inner else entry.name)
                    elif (name := own_name(family, inner, entry.name)) and entry.is_file(follow_symlinks=False):
                        yield OwnFile(name, entry)
        except OSError as error:
            problems.append((f"{folder}/{inner}", f"cannot be listed: {error.strerror}"))


def inspect(file: OwnFile, family: str, digest: str) -> Inspected | None:
    """Inspect the content of a file with one of our names; None if the content is not ours.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    try:
        with files.open_file(file.entry.path, os.O_NOFOLLOW) as stream:
            status = os.fstat(stream.fileno())
            version = _version(file.name, family, digest, stream)
    except (files.WrongFileError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return None if version is None else Inspected(identity_of(status), version)


def code_version_of(file: OwnFile, suffix: str) -> str | None:
    """Return the code version of the output beside which a task made a file; None if the output is not there."""
    output = Path(file.entry.path).with_name(f"{file.name.place.rpartition('/')[2]}.{suffix}")
    try:
        with files.open_file(output, os.O_NOFOLLOW) as stream:
            return read_label(stream, suffix).code_version
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _version(name: OwnName, family: str, digest: str, stream: io.BufferedReader) -> str | None:
    """Return the code version of an output, empty text for our other files, and None if the content is not ours."""
    version, ours = "", True
    if name.sort == Sort.TABLE:
        ours = is_table_of(stream, name.suffix, family, digest)
    elif name.sort == Sort.OUTPUT:
        label = read_label(stream, name.suffix)
        ours = (label.task, label.digest, place_of(family, label.key)) == (family, digest, name.place)
        version = label.code_version
    elif name.sort == Sort.PARAMETERS:
        meaning = read_meaning(stream.read(files.SMALL))
        ours = (meaning.task, meaning.digest) == (family, digest)
    elif name.sort == Sort.FILE:
        ours = holds(stream, name.hash)
    elif name.sort == Sort.NOTE:
        ours = place_of(family, read_failure_note(stream.read(files.SMALL)).key) == name.place
    # A temporary file may be incomplete: it is recognised by its name alone.
    return version if ours else None
