"""Types of a table's columns. They follow from the values in a column, whatever their order.

A kind is "bool", "int", "float" or "text", "[int]" for a list of such values, "[[int]]" for a list of such lists, and
"[]" for an empty list. Missing values have no kind. A column of several kinds has the type of the widest; in a column
of text, other values are JSON.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from astra_dagster.arrays import FloatArray

Kinds = frozenset[str]

NONE: Kinds = frozenset()

_OF_TYPE = {bool: "bool", int: "int", float: "float", str: "text"}
_ARROW = {"text": pa.string(), "float": pa.float64(), "int": pa.int64(), "bool": pa.bool_()}
"""Type of a column by kind of its values, the widest first."""

_OF_ARROW = {pa.string(): "text", pa.float64(): "float", pa.int64(): "int", pa.int32(): "int", pa.bool_(): "bool"}
_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


def find_kinds(values: Sequence[Any]) -> Kinds:
    """Return the kinds of plain Python values."""
    found: set[str] = set()
    for kind in set(map(type, values)) - {type(None)}:
        if kind is list:
            inner = find_kinds(list(chain.from_iterable(value for value in values if type(value) is list)))
            found |= {f"[{name}]" for name in inner} or {"[]"}
        elif kind is int:
            whole = [value for value in values if type(value) is int]
            if max(whole) > _HIGHEST or min(whole) < _LOWEST:  # as text, since a float would lose digits of identifiers
                found |= {"int" if _LOWEST <= value <= _HIGHEST else "text" for value in whole}
            else:
                found.add("int")
        else:
            found.add(_OF_TYPE.get(kind, "text"))
    return frozenset(found)


def find_column_kinds(column: pa.ChunkedArray) -> Kinds:
    """Return the kinds of values in a column of a table that is not mixed."""
    if column.null_count == len(column):
        return NONE
    if not pa.types.is_list(column.type):
        return frozenset({_OF_ARROW[column.type]})
    inner = find_column_kinds(pc.list_flatten(column))
    return frozenset({f"[{kind}]" for kind in inner} or {"[]"})


def is_mixed(kinds: Kinds) -> bool:
    """Whether a column with values of these kinds does not show which value had which kind."""
    some = kinds - {"[]"}
    return len(some) > 1 or ("[]" in kinds and any(not kind.startswith("[") for kind in some))


def arrow_type(kinds: Kinds) -> pa.DataType:
    """Return the type of a column with values of these kinds; without any value it is that of a number."""
    rows = {kind for kind in kinds if kind.startswith("[")}
    if rows and rows != kinds:
        return pa.string()
    if rows:
        return pa.list_(pa.field("element", arrow_type(frozenset(kind[1:-1] for kind in rows - {"[]"}))))
    return next((kind for name, kind in _ARROW.items() if name in kinds), pa.float64())


def kind_name(kind: pa.DataType) -> str:
    """Return the name of a column's type: "int", "[float]"."""
    return f"[{kind_name(kind.value_type)}]" if pa.types.is_list(kind) else _OF_ARROW[kind]


def to_floats(column: pa.ChunkedArray) -> FloatArray:
    """Return a column of numbers as an array, NaN where values are missing."""
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=float)


def make_array(values: Sequence[Any], kinds: Kinds) -> pa.Array:
    """Make a column from plain Python values of these kinds."""
    kind = arrow_type(kinds)
    plain = not is_mixed(kinds) and "text" not in kind_name(kind)
    return pa.array(values, kind) if plain else _convert_values(values, kind)


def convert(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """Convert a column to a wider type."""
    return column if column.type == kind else _convert_values(column.to_pylist(), kind)


def _convert_values(values: Iterable[Any], kind: pa.DataType) -> pa.Array:
    to_kind = _find_conversion(kind)
    return pa.array([None if value is None else to_kind(value) for value in values], kind)


def _find_conversion(kind: pa.DataType) -> Callable[[Any], Any]:
    if pa.types.is_list(kind):
        inner = _find_conversion(kind.value_type)
        return lambda row: [None if value is None else inner(value) for value in row]
    if kind == pa.string():
        return lambda value: _replace_surrogates(value) if isinstance(value, str) else json.dumps(value)
    return float if kind == pa.float64() else int


def _replace_surrogates(value: str) -> str:
    """Replace unpaired surrogates in a text, which JSON can hold, and tables cannot."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode()
