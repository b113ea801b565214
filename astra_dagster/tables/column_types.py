"""Types of a table's columns, found from the values that are in them, so that they do not depend on their order.

A kind is "bool", "int", "float" or "text", "[int]" for a row of such values, "[]" for a row that holds none. Missing
values have no kind. Unlike kinds in one column make it the widest of them: text, with the others as JSON.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

Kinds = frozenset[str]

NONE: Kinds = frozenset()

_OF_TYPE = {bool: "bool", int: "int", float: "float", str: "text"}
_ARROW = {"text": pa.string(), "float": pa.float64(), "int": pa.int64(), "bool": pa.bool_()}
"""Widest first."""

_OF_ARROW = {pa.string(): "text", pa.float64(): "float", pa.int64(): "int", pa.int32(): "int", pa.bool_(): "bool"}
_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


def kinds_of(values: Sequence[Any]) -> Kinds:
    """Kinds of plain Python values."""
    found: set[str] = set()
    for kind in set(map(type, values)) - {type(None)}:
        if kind is list:
            inner = kinds_of(list(chain.from_iterable(value for value in values if type(value) is list)))
            found |= {f"[{name}]" for name in inner} or {"[]"}
        elif kind is int:
            whole = [value for value in values if type(value) is int]
            if max(whole) > _HIGHEST or min(whole) < _LOWEST:  # digits of identifiers are not to be lost
                found |= {"int" if _LOWEST <= value <= _HIGHEST else "text" for value in whole}
            else:
                found.add("int")
        else:
            found.add(_OF_TYPE.get(kind, "text"))
    return frozenset(found)


def kinds_in(column: pa.ChunkedArray) -> Kinds:
    """Kinds in a column of a table, where these are not mixed."""
    if column.null_count == len(column):
        return NONE
    if not pa.types.is_list(column.type):
        return frozenset({_OF_ARROW[column.type]})
    cells = pc.list_flatten(column)
    return frozenset({"[]" if cells.null_count == len(cells) else f"[{_OF_ARROW[cells.type]}]"})


def mixed(kinds: Kinds) -> bool:
    """Whether a column of these kinds no longer shows which value was of which kind."""
    some = kinds - {"[]"}
    return len(some) > 1 or ("[]" in kinds and any(not kind.startswith("[") for kind in some))


def arrow_type(kinds: Kinds) -> pa.DataType:
    """Type of a column of these kinds; of one without any value that of a number."""
    rows = {kind for kind in kinds if kind.startswith("[")}
    if (rows and rows != kinds) or any(kind.startswith("[[") for kind in rows):
        return pa.string()
    if rows:
        return pa.list_(pa.field("element", arrow_type(frozenset(kind[1:-1] for kind in rows - {"[]"}))))
    return next((kind for name, kind in _ARROW.items() if name in kinds), pa.float64())


def kind_name(kind: pa.DataType) -> str:
    """Name of the type of a column: "int", "[float]"."""
    return f"[{_OF_ARROW[kind.value_type]}]" if pa.types.is_list(kind) else _OF_ARROW[kind]


def array(values: Sequence[Any], kinds: Kinds) -> pa.Array:
    """Column of plain Python values of these kinds."""
    kind = arrow_type(kinds)
    plain = not mixed(kinds) and "text" not in kind_name(kind)
    return pa.array(values, kind) if plain else _converted(values, kind)


def as_type(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """A column as another, wider type."""
    return column if column.type == kind else _converted(column.to_pylist(), kind)


def _converted(values: Iterable[Any], kind: pa.DataType) -> pa.Array:
    convert = _conversion(kind)
    return pa.array([None if value is None else convert(value) for value in values], kind)


def _conversion(kind: pa.DataType) -> Callable[[Any], Any]:
    if pa.types.is_list(kind):
        inner = _conversion(kind.value_type)
        return lambda row: [None if value is None else inner(value) for value in row]
    if kind == pa.string():
        return lambda value: _text(value) if isinstance(value, str) else json.dumps(value)
    return float if kind == pa.float64() else int


def _text(value: str) -> str:
    """A text without half characters, which JSON can hold, and tables cannot."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode()
