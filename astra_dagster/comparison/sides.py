"""The two sides of a comparison: how a side is asked for in words, and the rows that it has.

Where the rows come from is not known here.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from astra_dagster.datamodel.releases import release
from astra_dagster.errors import ComparisonError, UnknownReleaseError
from astra_dagster.viewer.shown import ShownSpectra

CODE_VERSION = "code_version"
"""Name by which a side asks for the results of another code version."""


CELLS = 16
"""Longest arrays of which each cell is compared by itself, as those of three detectors."""


@dataclass(frozen=True)
class SideRequest:
    """What a side was asked to be; without any of it, the results as they are today.

    Attributes
    ----------
    name
        The words of the request.
    parameters
        Parameters other than the defaults.
    releases
        Wanted releases; all if empty.
    code_version
        Results of this code version, as records have them.
    before
        Results as they were at this time, as records have them.
    path
        Parquet file of a table that was kept.
    """

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    releases: tuple[str, ...] = ()
    code_version: str | None = None
    before: datetime | None = None
    path: Path | None = None


@dataclass(frozen=True, eq=False)
class Side:
    """The rows of a side.

    Attributes
    ----------
    name
        What the side is: ``order=3``.
    table
        The key, the number of the spectrum if files have several, and the results, with their units as metadata.
    parts
        Names of the parts of a key, the release first.
    source
        Where the rows are from, in words.
    show
        What to put after ``astra-dagster show KEY`` to see a spectrum of this side; nothing if it is the input's.
    read
        Reads the spectra of a key to show them; None if that cannot be done.
    """

    name: str
    table: pa.Table
    parts: tuple[str, ...]
    source: str = ""
    show: str = ""
    read: Callable[[str], ShownSpectra] | None = None


def split_arrays(table: pa.Table) -> pa.Table:
    """Return a table in which short arrays of numbers are columns: ``chi2[0]``, ``chi2[1]``; longer ones stay."""
    fields: list[pa.Field] = []
    columns: list[pa.ChunkedArray | pa.Array] = []
    for about, column in zip(table.schema, table.columns, strict=True):
        of_numbers = pa.types.is_list(about.type) and about.type.value_type in (pa.float64(), pa.int64())
        cells = pc.max(pc.list_value_length(column)).as_py() or 0 if of_numbers else 0
        if 0 < cells <= CELLS:
            padded = pc.list_slice(column, 0, cells, return_fixed_size_list=True).combine_chunks()
            values = pc.fill_null(padded, pa.scalar([None] * cells, padded.type)).flatten()
            for i in range(cells):
                columns.append(values.take(pa.array(range(i, len(values), cells), pa.int64())))
                fields.append(pa.field(f"{about.name}[{i}]", values.type, metadata=about.metadata))
        else:
            columns.append(column)
            fields.append(about)
    return pa.table(columns, schema=pa.schema(fields))


def parse_side(text: str) -> SideRequest:
    """Parse the words of a side, with blanks between them: ``order=3``, ``DR17``, ``"DR17 order=5"``, ``yesterday``.

    Raises
    ------
    UnknownReleaseError
        If a word is none that is understood; what is meant to be a release is the likeliest.
    ComparisonError
        If there is no word.
    """
    parameters: dict[str, Any] = {}
    releases: list[str] = []
    code_version, before, path = None, None, None
    for word in text.split():
        name, equals, value = word.partition("=")
        if equals and name == CODE_VERSION:
            code_version = value
        elif equals:
            parameters[name] = _parse_value(value)
        elif word.endswith(".parquet"):
            path = Path(word)
        elif (time := _parse_time(word)) is not None:
            before = time
        elif word not in ("default", "today"):
            releases.append(_find_release(word))
    if not text.strip():
        raise ComparisonError("a side of the comparison is empty", hint="default stands for the default parameters")
    return SideRequest(text, parameters, tuple(releases), code_version, before, path)


def _find_release(word: str) -> str:
    try:
        return release(word).name
    except UnknownReleaseError as error:
        hint = f"{error.hint}; a side is order=3, DR17, code_version=2, 2026-01-31, yesterday, default or a .parquet"
        raise UnknownReleaseError(error.message, hint=hint) from error


def _parse_value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _parse_time(word: str) -> datetime | None:
    """Parse a point in time; a day stands for its beginning, in local time."""
    if word == "yesterday":
        return datetime.now().astimezone() - timedelta(days=1)
    try:
        return datetime.fromisoformat(word).astimezone() if word[:4].isdigit() else None
    except ValueError:
        return None
