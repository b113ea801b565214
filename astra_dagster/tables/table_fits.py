"""Write a table as FITS, for TOPCAT and astropy: one binary table, in blocks of rows."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from astra_dagster.arrays import AnyArray
from astra_dagster.fits import writer as encode
from astra_dagster.fits.header import BLOCK
from astra_dagster.fits.writer import Card, ColumnHead
from astra_dagster.tables import column_types as kinds
from astra_dagster.tables.table import make_unique

BLOCK_ROWS = 2**15
"""Number of rows that are written at a time."""

_NULL = -(2**63)
"""Stands for a missing whole number."""

_LOGICALS, _WHOLE = (pa.list_(pa.field("element", kind)) for kind in (pa.bool_(), pa.int64()))
_NUMBERS = {"double": ("D", ">f8"), "int64": ("K", ">i8"), "int32": ("J", ">i4"), "bool": ("L", "u1")}


@dataclass(frozen=True)
class _Column:
    """A column of the FITS table.

    Attributes
    ----------
    cells
        Number of cells in a row; None for a single value.
    shape
        Shape of the array in a row, if it has more than one axis.
    """

    name: str
    values: pa.ChunkedArray
    code: str
    layout: str
    cells: int | None
    nulls: bool
    unit: str
    description: str
    ucd: str
    shape: tuple[int, ...] = ()

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.layout) if self.cells is None else np.dtype((self.layout, (self.cells,)))

    @property
    def head(self) -> ColumnHead:
        form = self.code if self.cells is None else f"{self.cells}{self.code}"
        null = _NULL if self.nulls and self.code == "K" else None
        return ColumnHead(self.name, form, self.unit, null, self.description, self.ucd, self.shape)

    def block(self, start: int, stop: int) -> AnyArray:
        values = self.values.slice(start, stop - start).combine_chunks()
        if self.code.endswith("A"):
            return _write_texts(values, self.layout)
        if self.cells is None:
            return _write_numbers(values, self.code)
        lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy()
        padded = np.full((len(values), self.cells), _write_numbers(pa.nulls(1, values.type.value_type), self.code)[0])
        padded[np.arange(self.cells) < lengths[:, None]] = _write_numbers(values.flatten(), self.code)
        return padded


def write_fits(stream: BinaryIO, table: pa.Table, name: str, cards: Iterable[Card]) -> None:
    """Write a table as FITS.

    Missing real numbers are NaN, missing whole numbers the value of TNULL, and missing texts empty. Lists of numbers
    are padded to the length of the longest, and arrays of several axes stay arrays if all have one shape. Lists of
    texts, and arrays of several shapes, are JSON. A column of logical values of which some are missing holds 1 and 0.
    Characters that are not printable ASCII, which FITS cannot hold, become question marks.

    Parameters
    ----------
    name
        EXTNAME of the table.
    cards
        Cards of the primary header: keyword, value and comment.
    """
    names = make_unique(re.sub(r"[^A-Za-z0-9_]", "_", field.name) for field in table.schema)
    columns = [_describe(label, table[i], table.schema.field(i)) for i, label in enumerate(names)]
    layout = np.dtype([(column.name, column.dtype) for column in columns])
    stream.write(encode.make_primary(cards))
    stream.write(encode.table_header(name, len(table), layout.itemsize, [column.head for column in columns]))
    for start in range(0, len(table), BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, len(table))
        rows = np.empty(stop - start, layout)
        for column in columns:
            rows[column.name] = column.block(start, stop)
        stream.write(rows.tobytes())
    stream.write(b"\0" * (-len(table) * layout.itemsize % BLOCK))


def _describe(name: str, values: pa.ChunkedArray, field: pa.Field) -> _Column:
    about = {key.decode(): text.decode() for key, text in (field.metadata or {}).items()}
    unit, description = _write_unit(about.get("unit", "")), about.get("description", "")
    if about.get("unit") and not unit:
        description += f" [{about['unit']}]"
    description, ucd = _to_ascii(description), _to_ascii(about.get("ucd", ""))
    cells, nulls, kind = None, values.null_count > 0, field.type
    shape: tuple[int, ...] = ()
    if pa.types.is_list(kind) and pa.types.is_list(kind.value_type):
        values, shape = _flatten(values)
        kind = values.type
    if pa.types.is_list(kind) and kind.value_type == pa.string():
        kind = pa.string()
    if pa.types.is_list(kind):
        lengths = pc.fill_null(pc.list_value_length(values), 0)
        cells = max(pc.max(lengths).as_py() or 0, 1)
        nulls = pc.list_flatten(values).null_count > 0 or (pc.min(lengths).as_py() or 0) < cells
    if nulls and kind in (pa.bool_(), _LOGICALS):  # astropy reads a missing logical value as false, with a warning
        kind = pa.int64() if kind == pa.bool_() else _WHOLE
    values = pa.chunked_array([kinds.convert(piece, kind) for piece in values.chunks], kind)
    if kind == pa.string():
        width = max(pc.max(pc.binary_length(values)).as_py() or 0, 1)
        return _Column(name, values, f"{width}A", f"S{width}", None, nulls, unit, description, ucd)
    code, layout = _NUMBERS[str(kind if cells is None else kind.value_type)]
    return _Column(name, values, code, layout, cells, nulls, unit, description, ucd, shape)


def _flatten(values: pa.ChunkedArray) -> tuple[pa.ChunkedArray, tuple[int, ...]]:
    """Return arrays of several axes as lists of numbers, and their shape; arrays of several shapes as JSON."""
    arrays = [None if value is None else np.array(value, dtype=object) for value in values.to_pylist()]
    shapes = {array.shape for array in arrays if array is not None}
    inner = values.type
    while pa.types.is_list(inner):
        inner = inner.value_type
    if len(shapes) != 1 or inner == pa.string():
        return pa.chunked_array([kinds.convert(piece, pa.string()) for piece in values.chunks], pa.string()), ()
    flat = [None if array is None else array.ravel().tolist() for array in arrays]
    return pa.chunked_array([pa.array(flat, pa.list_(pa.field("element", inner)))]), shapes.pop()


def _write_numbers(values: pa.Array, code: str) -> AnyArray:
    if code == "L":
        values = pc.if_else(values, ord("T"), ord("F")).cast(pa.uint8())
    elif code == "K" and values.null_count:
        values = values.fill_null(_NULL)
    return np.asarray(values.to_numpy(zero_copy_only=False))


def _write_texts(values: pa.Array, layout: str) -> AnyArray:
    filled = values.fill_null("")
    if not pc.all(pc.ascii_is_printable(filled), min_count=0).as_py():
        filled = pc.replace_substring_regex(filled, "[^ -~]", "?")
    return np.array(filled.cast(pa.binary()).to_pylist(), layout)


def _to_ascii(text: str) -> str:
    return re.sub(r"[^ -~]", "?", " ".join(text.split()))


def _write_unit(text: str) -> str:
    """Return a unit as the FITS standard spells it; empty if the standard does not know it."""
    from astropy.units import Unit  # here, because it is slow to import

    try:
        return str(Unit(text).to_string("fits")) if text else ""
    except ValueError:
        return ""
