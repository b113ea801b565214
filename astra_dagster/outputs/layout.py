"""Where our files lie below the outputs folder: the law of paths, in both directions.

::

    <task>/<digest>/parameters.json                                   what the digest stands for
    <task>/<digest>/<task>_table.<parquet or fits>                    all results in one table
    <task>/<digest>/<release>/.../<task>-<parts>.<json or fits>       an output
    <task>/<digest>/<release>/.../<task>-<parts>.<suffix>.failed      beside it, the note of a failure
    pages/<task>-<digest>-<parts>.html                                a page with a spectrum

The parts are those of the partition key, less those that the release lacks; all but the last are folders. Beside what
it is to become lies a temporary file, ``.astra-<process>-<random>.tmp``. Nothing here looks at a disk, or into a file.
"""

import os
import re
import secrets
from dataclasses import dataclass
from enum import Enum

from astra_dagster.datamodel.keys import ABSENT

PARAMETERS = "parameters.json"

_NOTE = ".failed"
_TEMPORARY = re.compile(r"\.astra-([0-9]{1,10})-[0-9a-f]{12}\.tmp")
_FAMILY, _DIGEST = re.compile(r"[a-z][a-z0-9_]{0,99}"), re.compile(r"[0-9a-f]{12}")


class Sort(Enum):
    """What a file of ours is; a note is one of a failure."""

    OUTPUT = "output"
    NOTE = "note"
    TABLE = "table"
    PARAMETERS = "parameters"
    TEMPORARY = "temporary"


@dataclass(frozen=True, slots=True)
class OwnName:
    """What a name of ours says.

    Attributes
    ----------
    sort
        What it is the name of.
    place
        Path below the folder of its digest, without suffix: of an output see `place_of`.
    suffix
        Without the dot; of a note that of the output.
    """

    sort: Sort
    place: str = ""
    suffix: str = ""


def digest_folder(root: str | os.PathLike[str], family: str, digest: str) -> str:
    """Folder of what a task makes with the parameters of a digest."""
    return f"{os.fspath(root)}/{family}/{digest}"


def place_of(family: str, key: str) -> str:
    """Path of the output of a partition below the folder of a digest, without suffix."""
    texts = [text for text in key.split("/") if text != ABSENT]
    return "/".join([*texts[:-1], "-".join([family, *texts])])


def parts_at(family: str, place: str) -> tuple[str, ...] | None:
    """Release and parts of the partition whose output lies at a place, less what the release lacks; None if none does.

    The release and the product, or the group, tell which parts these are.
    """
    folder, _, stem = place.rpartition("/")
    begins = "-".join([family, *filter(None, folder.split("/")), ""])
    return (*filter(None, folder.split("/")), stem.removeprefix(begins)) if stem.startswith(begins) else None


def note_name(output: str) -> str:
    """Name of the note that an output failed, from that of the output."""
    return f"{output}{_NOTE}"


def table_name(family: str, suffix: str) -> str:
    """Name of the table of a task."""
    return f"{family}_table.{suffix}"


def page_path(task: str, digest: str, key: str) -> str:
    """Path of the page of a partition below the outputs folder."""
    return f"pages/{task}-{digest}-{key.replace('/', '-')}.html"


def temporary_name() -> str:
    """Name for a temporary file of this process, which no other file has."""
    return f".astra-{os.getpid()}-{secrets.token_hex(6)}.tmp"


def writer_of(name: str) -> int:
    """Process that a temporary file is of."""
    match = _TEMPORARY.fullmatch(name)
    return int(match[1]) if match else 0


def is_family(name: str) -> bool:
    """Whether the folder of a task could be named so."""
    return _FAMILY.fullmatch(name) is not None


def is_digest(name: str) -> bool:
    """Whether the folder of a digest could be named so."""
    return _DIGEST.fullmatch(name) is not None


def own_name(family: str, folder: str, name: str) -> OwnName | None:
    """What the name of a file says; None if it is none of ours.

    Parameters
    ----------
    folder
        Where the file lies, below the folder of its digest; empty if it lies there itself.
    """
    stem, _, suffix = name.removesuffix(_NOTE).rpartition(".")
    place = f"{folder}/{stem}" if folder else stem
    if suffix in ("json", "fits") and parts_at(family, place) is not None:
        return OwnName(Sort.NOTE if name.endswith(_NOTE) else Sort.OUTPUT, place, suffix)
    if not folder and name == PARAMETERS:
        return OwnName(Sort.PARAMETERS, stem, suffix)
    if not folder and name in (table_name(family, "parquet"), table_name(family, "fits")):
        return OwnName(Sort.TABLE, stem, suffix)
    return OwnName(Sort.TEMPORARY) if _TEMPORARY.fullmatch(name) else None
