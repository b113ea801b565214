"""Tables of continuum regions that come with the package, and functions that read them and tables of users."""

import functools
from importlib.resources import files
from pathlib import Path

import numpy as np

from astra_dagster.errors import ConfigurationError
from astra_dagster.files import read_text

NAMED = ("apogee", "optical")
"""Names of the tables that come with the package; the first lines of each name its source."""

Regions = tuple[tuple[float, float], ...]


@functools.cache
def named_regions(name: str) -> Regions:
    """Return the continuum regions of a table of the package: start and end as vacuum wavelengths in Angstrom.

    Raises
    ------
    ConfigurationError
        If there is no such table.
    """
    if name not in NAMED:
        raise ConfigurationError(
            f"no continuum regions named {name!r}", hint=f"there are {' and '.join(NAMED)}, or name a file that exists"
        )
    return _parse(files(__package__).joinpath(f"{name}.txt").read_text(encoding="utf-8"), name)


def read_regions(path: str | Path) -> Regions:
    """Read continuum regions from a file with two columns, start and end in Angstrom; # begins a line of comment.

    Raises
    ------
    ConfigurationError
        If the file cannot be read, or is not such a table.
    """
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the continuum regions cannot be read: {error}", path=path) from error
    return _parse(text, path)


def _parse(text: str, path: str | Path) -> Regions:
    try:
        table = np.array([line.split() for line in text.splitlines() if line.partition("#")[0].strip()], dtype=float)
    except ValueError:
        table = np.empty((0, 0))
    if (
        table.ndim != 2
        or table.shape[1:] != (2,)
        or not (np.isfinite(table).all() and (table[:, 0] < table[:, 1]).all())
    ):
        raise ConfigurationError(
            "not a table of continuum regions", path=path, hint="two columns are expected, start and end in Angstrom"
        )
    return tuple((float(start), float(end)) for start, end in table)
