"""Files that a task makes besides its results: plots, posteriors. They lie beside the output, which holds their names.

The name of a file holds a hash of its contents, so that it is whole if it is there, an output never names the file of
another one, and nobody's file is taken for ours.
"""

import contextlib
import hashlib
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from astra_dagster.errors import AstraError
from astra_dagster.files import open_file
from astra_dagster.outputs.atomic import replacing
from astra_dagster.outputs.layout import HASH, file_name, parse_file_name


def write_files(
    output: Path, results: Mapping[str, Any], suffixes: Mapping[str, str], key: str | None = None
) -> dict[str, Any]:
    """Write the contents that results hold as files, and return the results with the names of these.

    Parameters
    ----------
    output
        Path of the output.
    results
        Results; for each file its contents, None, or a list of these if the output holds several spectra.
    suffixes
        Suffix of each file, by its name among the results.
    key
        Partition key, for error messages.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    named = dict(results)
    for name, suffix in suffixes.items():
        value = results[name]
        made = [_write(output, name, suffix, item, key) for item in (value if isinstance(value, list) else [value])]
        named[name] = made if isinstance(value, list) else made[0]
    return named


def _write(output: Path, name: str, suffix: str, contents: bytes | None, key: str | None) -> str | None:
    if contents is None:
        return None
    label = file_name(output.stem, name, hashlib.sha256(contents).hexdigest()[:HASH], suffix)
    with replacing(output.with_name(label), key) as stream:
        stream.write(contents)
    return label


def names_in(results: Mapping[str, Any], suffixes: Iterable[str]) -> list[str]:
    """Return the names of all files that results name."""
    found: list[str] = []
    for name in suffixes:
        value = results.get(name)
        found += [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str)]
    return found


def are_whole(output: Path, results: Mapping[str, Any], suffixes: Iterable[str]) -> bool:
    """Whether all files that the results of an output name are there, and hold what was written to them."""
    for name in names_in(results, suffixes):
        found = parse_file_name(name)
        try:
            with open_file(output.with_name(name), os.O_NOFOLLOW) as stream:
                same = found is not None and holds(stream, found.hash)
        except OSError:
            return False
        if not same:
            return False
    return True


def holds(stream: io.BufferedReader, hashed: str) -> bool:
    """Whether a file holds the contents of which its name has the hash."""
    return hashlib.file_digest(stream, "sha256").hexdigest().startswith(hashed)


def remove_files(output: Path, names: Iterable[str]) -> None:
    """Remove files of an earlier output; one that cannot be removed stays."""
    for name in names:
        found = parse_file_name(name)
        if found is not None and found.stem == output.stem:
            with contextlib.suppress(OSError, AstraError):
                output.with_name(name).unlink()
