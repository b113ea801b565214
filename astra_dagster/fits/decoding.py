"""Decode the columns of binary tables and the numbers of images, which headers may say are scaled or null.

Standard: https://fits.gsfc.nasa.gov/fits_standard.html (version 4.0), sections 4.4.2 and 7.3.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from astra_dagster.arrays import AnyArray
from astra_dagster.fits.header import Header
from astra_dagster.fits.model import Model
from astra_dagster.fits.structure import is_one_bit_off

_MAX_TEXT = 1000  # characters of a text in a table
_COLUMN_TYPES = {
    **{"L": "S1", "B": "u1", "I": ">i2", "J": ">i4", "K": ">i8"},
    **{"E": ">f4", "D": ">f8", "C": ">c8", "M": ">c16"},
    **{"P": "V8", "Q": "V16"},  # pointers into the heap, which is not read
}
_KINDS = {"L": "b", "A": "U", "X": "u", "P": "V", "Q": "V"}  # kinds of type after decoding, where NumPy's differs
_TFORM = re.compile(r"([0-9]{0,7})([LXBIJKAEDCMPQ])")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a binary table: its number, letter of its format, offset in a row in bytes, type, and null value."""

    number: int
    code: str
    offset: int
    dtype: np.dtype[Any]
    null: int | None


def find_columns(header: Header) -> Mapping[str, Column]:
    """Return the columns of a table.

    Raises
    ------
    ValueError
        If the header does not say what they are, or they do not fill the rows.
    """
    found: dict[str, Column] = {}
    offset = 0
    for number in range(1, (header.integer("TFIELDS") or 0) + 1):
        match = _TFORM.match(header.text(f"TFORM{number}") or "")
        if match is None:
            raise ValueError(f"has no format TFORM{number} of a column")
        count, code = int(match[1] or 1), match[2]
        name = (header.text(f"TTYPE{number}") or "").lower()
        if not name or name in found:
            raise ValueError(f"has {'two columns ' + name if name else f'no name TTYPE{number} of a column'}")
        base = {"A": f"S{count}", "X": "u1"}.get(code) or _COLUMN_TYPES[code]
        shape = {"A": (), "X": ((count + 7) // 8,)}.get(code, (count,) if count != 1 else ())
        null = header.integer(f"TNULL{number}") if code in "BIJK" else None
        dtype = np.dtype((base, shape) if shape else base)  # (S0, ()) is not a type
        column = Column(number, code, offset, dtype, null)
        found[name] = column
        offset += column.dtype.itemsize
    if offset != header.integer("NAXIS1"):
        raise ValueError(f"has rows of {header.integer('NAXIS1')} bytes, but its columns have {offset}")
    return found


@functools.lru_cache(maxsize=64)
def find_renamed(known: tuple[str, ...], absent: tuple[str, ...]) -> tuple[str, str] | None:
    """Return a name that is absent, and one that is there and differs from it in one bit; None if there is no such."""
    return next(((name, other) for name in absent for other in known if is_one_bit_off(name, other)), None)


def _find_kind(column: Column, header: Header) -> str:
    """Return the NumPy kind of type that a column has after decoding."""
    if column.code in _KINDS:
        return _KINDS[column.code]
    factor, zero = header.number(f"TSCAL{column.number}"), header.number(f"TZERO{column.number}")
    dtype = column.dtype.base
    return dtype.kind if factor is zero is None else scale(np.empty(0, dtype), factor, zero).dtype.kind


def holds(column: Column, model: Model, header: Header) -> bool:
    """Whether a column may be read as what a model allows."""
    too_long = column.code == "A" and column.dtype.itemsize > _MAX_TEXT
    return not too_long and model.has(column.dtype.shape) and _find_kind(column, header) in model.kinds


def decode(values: AnyArray, column: Column, header: Header) -> AnyArray:
    """Decode a column: text is stripped, logical values are bool, numbers are scaled, null ones left out."""
    if column.code == "L":
        return np.asarray(values == b"T")
    if column.code == "A":
        return np.char.strip(np.char.decode(values, "ascii", "replace"))
    if column.code in "BIJKEDCM":
        scaled = scale(values, header.number(f"TSCAL{column.number}"), header.number(f"TZERO{column.number}"))
        return scaled if column.null is None else leave_out(scaled, values == column.null)
    return values


def leave_out(decoded: AnyArray, null: AnyArray) -> AnyArray:
    """Return numbers without those that are null: NaN in place of them, or a masked array of whole numbers."""
    if not null.any():
        return decoded
    return np.where(null, np.nan, decoded) if decoded.dtype.kind == "f" else np.ma.MaskedArray(decoded, null)


def scale(values: AnyArray, factor: float | None, zero: float | None) -> AnyArray:
    """Scale numbers; where that only makes signed integers unsigned, or unsigned ones signed, they stay integers."""
    factor, zero = factor or 1.0, zero or 0.0
    if (factor, zero) == (1.0, 0.0):
        return values
    kind, size = values.dtype.kind, values.dtype.itemsize
    top = 1 << 8 * size - 1
    if factor == 1 and kind in "iu" and zero == (top if kind == "i" else -top):
        # FITS has no unsigned integers but bytes, and no signed bytes: both are written with the highest bit flipped.
        unsigned = values.astype(values.dtype.newbyteorder("=")).view(f"u{size}")
        flipped: AnyArray = unsigned ^ np.array(top, unsigned.dtype)
        return flipped if kind == "i" else flipped.view(f"i{size}")
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(values.astype(np.complex128 if kind == "c" else np.float64) * factor + zero)
