"""Our own files below the outputs folder, told from a user's by name and content. Links are never followed.

Which of them are no longer needed, and how they are removed, is not decided here.
"""

import os
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from astra_dagster import files
from astra_dagster.datamodel.keys import ABSENT
from astra_dagster.fits.header import Header
from astra_dagster.fits.reader import BLOCK
from astra_dagster.spectra.output import ORIGIN
from astra_dagster.tasks.parameters import digest as digest_of

OUTPUT, NOTE, TABLE, PARAMETERS, TEMPORARY = "output", "note", "table", "parameters", "temporary"
"""Sorts of our files; a note is one of a failure."""

Identity = tuple[int, int, int]
"""Inode, size in bytes and modification time in nanoseconds: equal for a file that nobody touched."""

SKEW = 3_600
"""By how many seconds the clock of a file system may differ from this machine's."""

_TEMPORARY = re.compile(r"\.astra-([0-9]{1,10})-[0-9a-f]{12}\.tmp")


@dataclass(frozen=True, slots=True)
class OwnFile:
    """A regular file with a name of ours.

    Attributes
    ----------
    sort
        What it is by its name.
    place
        Path below the folder of its digest, without suffix: for an output see `place_of`.
    suffix
        Without the dot; of a note that of the output.
    """

    sort: str
    place: str
    suffix: str
    entry: os.DirEntry[str]


@dataclass(frozen=True, slots=True)
class Inspected:
    """A file that is ours by its content too, and the code version that an output is of."""

    identity: Identity
    code_version: str = ""


def place_of(family: str, key: str) -> str:
    """Path of the output of a partition below the folder of a digest, without suffix."""
    release, *parts = key.split("/")
    texts = [release, *(part for part in parts if part != ABSENT)]
    return "/".join([*texts[:-1], "-".join([family, *texts])])


def identity_of(status: os.stat_result) -> Identity:
    """Identity of a file from its status."""
    return status.st_ino, status.st_size, status.st_mtime_ns


def writer_of(name: str) -> int:
    """Process that wrote a temporary file."""
    match = _TEMPORARY.fullmatch(name)
    return int(match[1]) if match else 0


def file_system_time(root: Path) -> int:
    """What time it is, in nanoseconds, by the clock that dates the files below a folder: not always this machine's.

    Where nothing can be written it is taken to be `SKEW` earlier than here, so that nothing looks older than it is.
    """
    path = root / f".astra-{os.getpid()}-{secrets.token_hex(6)}.tmp"
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
    """Files with names of ours below the folder of a digest; folders that cannot be listed go to `problems`."""
    inner_folders = [""]
    while inner_folders:
        inner = inner_folders.pop()
        begins = "-".join([family, *filter(None, inner.split("/")), ""])
        try:
            with os.scandir(f"{folder}/{inner}" if inner else folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        inner_folders.append(f"{inner}/{entry.name}" if inner else entry.name)
                    elif (found := _named(family, inner, begins, entry)) and entry.is_file(follow_symlinks=False):
                        yield found
        except OSError as error:
            problems.append((f"{folder}/{inner}", f"cannot be listed: {error.strerror}"))


def _named(family: str, inner: str, begins: str, entry: os.DirEntry[str]) -> OwnFile | None:
    name = entry.name
    stem, _, suffix = name.removesuffix(".failed").rpartition(".")
    if suffix in ("json", "fits") and stem.startswith(begins):
        sort = NOTE if name.endswith(".failed") else OUTPUT
        return OwnFile(sort, f"{inner}/{stem}" if inner else stem, suffix, entry)
    if not inner and name == "parameters.json":
        return OwnFile(PARAMETERS, stem, suffix, entry)
    if not inner and name in (f"{family}_table.parquet", f"{family}_table.fits"):
        return OwnFile(TABLE, stem, suffix, entry)
    return OwnFile(TEMPORARY, "", "", entry) if _TEMPORARY.fullmatch(name) else None


def parameters_in(folder: str, family: str, digest: str) -> dict[str, Any] | None:
    """Parameters that the folder of a digest is for; None if ``parameters.json`` does not say so."""
    try:
        with files.open_file(f"{folder}/parameters.json", os.O_NOFOLLOW) as stream:
            document = files.parse_json(stream.read(files.SMALL))
        return dict(document["parameters"]) if _spells(document, family, digest) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def inspect(file: OwnFile, family: str, digest: str) -> Inspected | None:
    """Look into a file with a name of ours; None if its content is not.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    try:
        with files.open_file(file.entry.path, os.O_NOFOLLOW) as stream:
            status = os.fstat(stream.fileno())
            version = _version(file, family, digest, stream)
    except (files.WrongFileError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return None if version is None else Inspected(identity_of(status), version)


def _version(file: OwnFile, family: str, digest: str, stream: BinaryIO) -> str | None:
    """Code version of an output that is ours, nothing of another file that is ours, None of one that is not."""
    if file.sort == TEMPORARY:  # cut short as it may be, it has nothing but its name
        return ""
    if file.sort == TABLE:
        return "" if _about_table(file, stream) == (ORIGIN, family, digest) else None
    if file.sort == OUTPUT and file.suffix == "fits":
        cards = Header(stream.read(BLOCK))
        origin, task, own, key, version = (str(cards.get(n)) for n in ("ORIGIN", "TASK", "DIGEST", "KEY", "CODEVER"))
        ours = (origin, task, own, place_of(family, key)) == (ORIGIN, family, digest, file.place)
        return version if ours else None
    document = files.parse_json(stream.read(files.SMALL))
    if file.sort == PARAMETERS:
        return "" if _spells(document, family, digest) else None
    if place_of(family, document["key"]) != file.place:
        return None
    if file.sort == NOTE:
        return "" if {"error", "tried"} <= set(document) else None
    origin = document["provenance"]
    ours = (origin["task"], origin["parameters_digest"]) == (family, digest) and "results" in document
    return str(origin["code_version"]) if ours else None


def _about_table(file: OwnFile, stream: BinaryIO) -> tuple[str, ...]:
    """What a table says of its origin: program, task and digest."""
    if file.suffix == "fits":
        cards = Header(stream.read(BLOCK))
        return tuple(str(cards.get(name)) for name in ("CREATOR", "TASK", "DIGEST"))
    import pyarrow as pa  # here, because it is slow to import
    import pyarrow.parquet as pq

    try:
        about = pq.read_schema(stream).metadata or {}
    except (OSError, pa.ArrowException):
        return ()
    return (ORIGIN, *(about.get(name, b"").decode() for name in (b"task", b"digest")))


def _spells(document: Any, family: str, digest: str) -> bool:
    required = {"requires": document["requires"]} if document.get("requires") else {}
    return bool(document["task"] == family and digest_of({**document["parameters"], **required}) == digest)
