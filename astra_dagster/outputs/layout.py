"""The paths of our files below the outputs folder: make them, and parse them.

::

    <task>/<digest>/parameters.json                                   the parameters of the digest
    <task>/<digest>/<task>_table.<parquet or fits>                    all results in one table
    <task>/<digest>/<release>/.../<task>-<parts>.<json or fits>       an output
    <task>/<digest>/<release>/.../<task>-<parts>.<suffix>.failed      the note of a failure, beside the output
    <task>/<digest>/<release>/.../<task>-<parts>.<name>-<hash>.<any>  a file that the task made besides, with its hash
    pages/<task>-<digest>-<parts>.html                                a page with a spectrum
    nights/<mjd>.html                                                 the page of a night

The parts are those of the partition key without those that the release lacks; all but the last are folders. The key of
a group that is a whole release has no parts, and its output lies beside ``parameters.json``. While a
file is written, it is named ``.astra-<process>-<random>.tmp``, in the same folder. This module never accesses the disk.
"""

import os
import re
import secrets
from dataclasses import dataclass
from enum import Enum

from astra_dagster.datamodel.keys import ABSENT

PARAMETERS = "parameters.json"

NIGHT = "mjd"
"""The part of a key that tells the night: its modified Julian date."""

HASH = 12
"""Digits of the hash in the name of a file that a task made besides its output."""

_NOTE = ".failed"
_TEMPORARY = re.compile(r"\.astra-([0-9]{1,10})-[0-9a-f]{12}\.tmp")
_FILE = re.compile(r"(.+)\.([a-z][a-z0-9_]*)-([0-9a-f]{12})\.([a-z0-9]{1,8})")
_FAMILY, _DIGEST = re.compile(r"[a-z][a-z0-9_]{0,99}"), re.compile(r"[0-9a-f]{12}")


class Sort(Enum):
    """The types of our files; a note is that of a failure, a file is what a task made besides an output."""

    OUTPUT = "output"
    NOTE = "note"
    FILE = "file"
    TABLE = "table"
    PARAMETERS = "parameters"
    TEMPORARY = "temporary"


@dataclass(frozen=True, slots=True)
class OwnName:
    """The parsed name of one of our files.

    Attributes
    ----------
    sort
        Type of the file.
    place
        Path below the folder of the digest, without suffix; `place_of` makes that of an output. For a file, that of
        its output.
    suffix
        Suffix without the dot; for a note, that of the output.
    hash
        Hash of the contents of a file.
    """

    sort: Sort
    place: str = ""
    suffix: str = ""
    hash: str = ""


@dataclass(frozen=True, slots=True)
class FileName:
    """The parsed name of a file that a task made besides an output: stem of the output, and hash of the contents."""

    stem: str
    hash: str
    suffix: str


def digest_folder(root: str | os.PathLike[str], family: str, digest: str) -> str:
    """Return the folder of the outputs of a task with the parameters of a digest."""
    return f"{os.fspath(root)}/{family}/{digest}"


def place_of(family: str, key: str) -> str:
    """Return the path of the output of a partition below the folder of the digest, without suffix."""
    texts = [text for text in key.split("/") if text != ABSENT]
    return "/".join([*texts[:-1], "-".join([family, *texts])])


def parts_at(family: str, place: str) -> tuple[str, ...] | None:
    """Return the release and the parts of the partition whose output is at a place; None if the place is no output's.

    Parts that the release lacks are missing; the release and the product or group tell which the others are.
    """
    folder, _, stem = place.rpartition("/")
    begins = "-".join([family, *filter(None, folder.split("/")), ""])
    return (*filter(None, folder.split("/")), stem.removeprefix(begins)) if stem.startswith(begins) else None


def note_name(output: str) -> str:
    """Return the name of the note of a failure from the name of the output."""
    return f"{output}{_NOTE}"


def file_name(stem: str, name: str, hashed: str, suffix: str) -> str:
    """Return the name of a file that a task made besides its output, from the stem of the output's name."""
    return f"{stem}.{name}-{hashed}.{suffix}"


def parse_file_name(name: str) -> FileName | None:
    """Parse what `file_name` makes; None if a name is none of these."""
    match = _FILE.fullmatch(name)
    return FileName(match[1], match[3], match[4]) if match else None


def table_name(family: str, suffix: str) -> str:
    """Return the name of the table of a task."""
    return f"{family}_table.{suffix}"


def page_path(task: str, digest: str, key: str) -> str:
    """Return the path of the page of a partition below the outputs folder."""
    return f"pages/{task}-{digest}-{key.replace('/', '-')}.html"


def night_path(mjd: str) -> str:
    """Return the path of the page of a night below the outputs folder."""
    return f"nights/{mjd}.html"


def temporary_name() -> str:
    """Make a unique name for a temporary file of this process."""
    return f".astra-{os.getpid()}-{secrets.token_hex(6)}.tmp"


def writer_of(name: str) -> int:
    """Return the ID of the process that writes a temporary file; 0 if the name is not that of one."""
    match = _TEMPORARY.fullmatch(name)
    return int(match[1]) if match else 0


def is_family(name: str) -> bool:
    """Whether a name can be that of the folder of a task."""
    return _FAMILY.fullmatch(name) is not None


def is_digest(name: str) -> bool:
    """Whether a name can be that of the folder of a digest."""
    return _DIGEST.fullmatch(name) is not None


def own_name(family: str, folder: str, name: str) -> OwnName | None:
    """Parse the name of a file; None if it is not one of ours.

    Parameters
    ----------
    folder
        Folder of the file below the folder of the digest; empty if it is that folder itself.
    """
    if file := parse_file_name(name):
        place = f"{folder}/{file.stem}" if folder else file.stem
        return OwnName(Sort.FILE, place, file.suffix, file.hash) if parts_at(family, place) is not None else None
    stem, _, suffix = name.removesuffix(_NOTE).rpartition(".")
    place = f"{folder}/{stem}" if folder else stem
    if suffix in ("json", "fits") and parts_at(family, place) is not None:
        return OwnName(Sort.NOTE if name.endswith(_NOTE) else Sort.OUTPUT, place, suffix)
    if not folder and name == PARAMETERS:
        return OwnName(Sort.PARAMETERS, stem, suffix)
    if not folder and name in (table_name(family, "parquet"), table_name(family, "fits")):
        return OwnName(Sort.TABLE, stem, suffix)
    return OwnName(Sort.TEMPORARY) if _TEMPORARY.fullmatch(name) else None
