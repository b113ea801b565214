"""Lists of partitions as people have them: keys, names of stars, plate-mjd-fibre, or a table with such columns.

A list is read here, and matched with keys that are registered; what is done with these is not decided here.
"""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from astra_dagster.datamodel.catalogue import list_names, open_table
from astra_dagster.datamodel.keys import Key
from astra_dagster.errors import CatalogueError, InputMissingError, InvalidKeyError, nearest
from astra_dagster.files import read_text

STDIN = "-"
"""Stands for what is read from the standard input."""

_TABLES = (".fits", ".fits.gz", ".fit", ".csv", ".ecsv", ".vot", ".votable", ".xml")
_KEYS, _NAMES = ("key", "partition"), ("obj", "apogee_id", "tmass_id", "star")
_FIBRE = ("plate", "mjd", "fibre")
_NUMBERS = re.compile(r"([0-9]{1,9})-([0-9]{5})-([0-9]{1,9})")
_FIRST = 3
"""Most unknown entries that an error names."""


def read_list(path: str) -> list[str]:
    """Read the entries of a list: one a line, or one a row of a FITS, CSV or VOTable file; each once.

    Empty lines, and those that begin with ``#``, are left out. A table has a column of keys (``key``), or ``plate``,
    ``mjd`` and ``fibre``, or names of stars (``apogee_id`` or ``obj``), in upper or lower case.

    Raises
    ------
    InputMissingError
        If there is no such file.
    CatalogueError
        If it cannot be read, or has none of these columns, or no entry.
    """
    found = _read_table(Path(path)) if path.lower().endswith(_TABLES) else map(str.strip, _read_lines(path))
    entries = list(dict.fromkeys(entry for entry in found if entry and not entry.startswith("#")))
    if not entries:
        raise CatalogueError("the list has no entry", path=path, hint="expected one key, or one name, a line")
    return entries


def match_entries(entries: Iterable[str], keys: Sequence[str], parts: Sequence[str], name: str) -> list[str]:
    """Return the keys that the entries of a list stand for, each once, in the order of the list.

    Parameters
    ----------
    keys
        Keys to choose from.
    parts
        Names of their parts, without the release.
    name
        Name of what the keys are of, for errors.

    Raises
    ------
    InvalidKeyError
        If an entry stands for none of the keys; the error names the first of them, and the nearest keys.
    """
    known = dict.fromkeys(keys)
    indices: dict[tuple[str, ...], Mapping[tuple[str, ...], list[str]]] = {}
    found: dict[str, None] = {}
    unknown = []
    for entry in entries:
        mine = [entry] if entry in known else []
        if not mine and "/" not in entry:
            numbers = _NUMBERS.fullmatch(entry)
            names = _FIBRE if numbers else ("obj",)
            wanted = tuple(map(_plain, numbers.groups() if numbers else (entry,)))
            if set(names) <= set(parts):
                if names not in indices:
                    indices[names] = _index(keys, [1 + parts.index(part) for part in names])
                mine = indices[names].get(wanted, [])
        if not mine:
            unknown.append(entry)
        found.update(dict.fromkeys(mine))
    if unknown:
        shown = ", ".join(entry[:100] for entry in unknown[:_FIRST])
        more = f" and {len(unknown) - _FIRST} more" if len(unknown) > _FIRST else ""
        raise InvalidKeyError(f"no {name} partition is registered as {shown}{more}", hint=_hint(unknown, keys, parts))
    return list(found)


def _hint(unknown: Sequence[str], keys: Sequence[str], parts: Sequence[str]) -> str:
    if "/" not in unknown[0] and not _NUMBERS.fullmatch(unknown[0]) and "obj" not in parts:
        return f"names of stars are no part of these keys: they are release/{'/'.join(parts)}"
    return nearest(unknown[0], keys) if keys else "run astra-dagster discover"


def _index(keys: Sequence[str], places: Sequence[int]) -> Mapping[tuple[str, ...], list[str]]:
    index: dict[tuple[str, ...], list[str]] = {}
    for key in keys:
        texts = key.split("/")
        if len(texts) > max(places):
            index.setdefault(tuple(_plain(texts[place]) for place in places), []).append(key)
    return index


def _plain(text: str) -> str:
    return text.lstrip("0") or text[-1:]


def _read_lines(path: str) -> list[str]:
    try:
        text = sys.stdin.read() if path == STDIN else read_text(path)
    except FileNotFoundError:
        raise InputMissingError("there is no such list", path=path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogueError(f"the list cannot be read: {error}", path=path) from error
    return text.splitlines()


def _read_table(path: Path) -> list[str]:
    with ExitStack() as stack:
        table = open_table(path, stack)
        for names in (_KEYS, _NAMES):
            if (texts := table.texts(*names)) is not None:
                return texts
        parts = [texts for part in _FIBRE if (texts := table.texts(*list_names(Key(part)))) is not None]
        if len(parts) == len(_FIBRE):
            return ["-".join(row) for row in zip(*parts, strict=True)]
        raise CatalogueError(
            f"the table has none of the columns {', '.join((*_KEYS, *_NAMES))}, or plate, mjd and fibre",
            path=path,
            hint=f"it has {', '.join(table.names[:20])}",
        )
