"""Read FITS files: where the HDUs lie, and single arrays from them.

Only what is asked for is decoded. Headers are parsed by `header`. Which HDU of a product holds what is known to the
readers in `spectra`: they say which shapes and types the data model has, and no byte is read of an array with others.
astropy does the same and far more, but takes ten times as long for a file; every test of this module compares with it.

Standard: https://fits.gsfc.nasa.gov/fits_standard.html (version 4.0).
"""

import functools
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from astra_dagster import files
from astra_dagster.arrays import AnyArray
from astra_dagster.errors import CutShortError, InputMissingError, SpectrumFileError, UnreachableError
from astra_dagster.fits.header import CARD, Header
from astra_dagster.fits.model import Model, say_lengths

BLOCK = 2880

LARGEST = 1 << 28
"""Largest size in bytes of an array, a table, or an unpacked file: five times that of the largest real files."""

_MAX_HEADER = 2000 * BLOCK
_MAX_KNOWN = 20 * BLOCK  # bytes of a header that is cached for the next file
_MAX_HDUS = 10_000
_MAX_COLUMNS = 999  # by the standard
_MAX_TEXT = 1000  # characters of a text in a table
_IMAGE_TYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
_COLUMN_TYPES = {
    **{"L": "S1", "B": "u1", "I": ">i2", "J": ">i4", "K": ">i8"},
    **{"E": ">f4", "D": ">f8", "C": ">c8", "M": ">c16"},
    **{"P": "V8", "Q": "V16"},  # pointers into the heap, which is not read
}
_KINDS = {"L": "b", "A": "U", "X": "u", "P": "V", "Q": "V"}  # kinds of type after decoding, where NumPy's differs
_END = b"END" + b" " * (CARD - 3)
_TFORM = re.compile(r"([0-9]{0,7})([LXBIJKAEDCMPQ])")


@functools.lru_cache(maxsize=256)
def _parse_header(raw: bytes) -> Header:
    return Header(raw)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a binary table: its number, the letter of its format, its offset in a row in bytes, and its type."""

    number: int
    code: str
    offset: int
    dtype: np.dtype[Any]


@dataclass(frozen=True, slots=True)
class HDU:
    """A header and data unit; `kind` is "image", "table" or "other", `offset` and `size` of the data are in bytes."""

    index: int
    kind: str
    header: Header
    shape: tuple[int, ...]
    offset: int
    size: int

    @property
    def name(self) -> str:
        """Value of EXTNAME; empty if there is none."""
        return self.header.text("EXTNAME") or ""

    def columns(self) -> Mapping[str, Column]:
        """Return the columns of a table by name in lower case."""
        return _known_columns(self.header) if len(self.header.raw) <= _MAX_KNOWN else _find_columns(self.header)


def _find_columns(header: Header) -> Mapping[str, Column]:
    found: dict[str, Column] = {}
    offset = 0
    for number in range(1, min(header.integer("TFIELDS") or 0, _MAX_COLUMNS) + 1):
        match = _TFORM.match(header.text(f"TFORM{number}") or "")
        if match is None:
            break
        count, code = int(match[1] or 1), match[2]
        name = (header.text(f"TTYPE{number}") or "").lower()
        base = {"A": f"S{count}", "X": "u1"}.get(code) or _COLUMN_TYPES[code]
        shape = {"A": (), "X": ((count + 7) // 8,)}.get(code, (count,) if count != 1 else ())
        column = Column(number, code, offset, np.dtype((base, shape) if shape else base))  # (S0, ()) is not a type
        found.setdefault(name, column)
        offset += column.dtype.itemsize
    return found


_known_columns = functools.lru_cache(maxsize=64)(_find_columns)


class FitsFile:
    """A FITS file open for reading; a context manager that closes it.

    Every error is an `AstraError` that names the file, the HDU and what was expected there.

    Raises
    ------
    InputMissingError
        If there is no such file.
    SpectrumFileError
        If the file cannot be read, or is not FITS.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._hdus: list[HDU] = []
        self._descriptor = -1
        self._contents = b""
        try:
            self._open()
        except FileNotFoundError as error:
            raise InputMissingError("the file is not there", path=path) from error
        except PermissionError as error:
            raise UnreachableError("permission denied", path=path, hint="ask its owner") from error
        except files.WrongFileError as error:
            raise SpectrumFileError(str(error.strerror), path=path) from error
        except OSError as error:
            raise UnreachableError(f"cannot be read: {error.strerror}", path=path) from error
        except ValueError as error:
            raise SpectrumFileError(f"cannot be read: {error}", path=path, hint="fetch it again") from error
        if self.size == 0:
            self.close()
            raise CutShortError("not a FITS file: it is empty", path=path, hint="fetch it again")

    def _open(self) -> None:
        form = self.path.suffix.removeprefix(".")
        if form == "fz":
            raise SpectrumFileError("compressed with fpack", path=self.path, hint="unpack it with funpack")
        if form in ("gz", "bz2", "zip"):
            with files.open_file(self.path) as stream:
                self._contents = files.unpack_file(stream, form, LARGEST, self.path)
            self.size = len(self._contents)
        else:
            self._descriptor = files.open_descriptor(self.path)
            self.size = os.fstat(self._descriptor).st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; closing it again does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def hdu(self, index: int, expected: str = "") -> HDU:
        """Return an HDU by its number, counted from 0; `expected` says in error messages what it should hold."""
        while len(self._hdus) <= index:
            found = self._next()
            if found is None:
                raise self.error(index, f"is missing: the file has {len(self._hdus)} HDUs", expected)
            self._hdus.append(found)
        return self._hdus[index]

    def hdus(self) -> list[HDU]:
        """Return all HDUs. Their headers are read, their data are not."""
        while (found := self._next()) is not None:
            self._hdus.append(found)
        return self._hdus

    def image(self, index: int, expected: str, model: Model) -> AnyArray:
        """Read the array of an image HDU, in the file's own type and byte order.

        Numbers that the header says are scaled are returned as float64; or as integers, if the scale only makes signed
        integers unsigned, or unsigned ones signed.

        Parameters
        ----------
        expected
            What the HDU should hold, for error messages.
        model
            Types and shapes that the array may have. Nothing is read of an image that has another.
        """
        hdu = self.hdu(index, expected)
        if hdu.kind != "image" or 0 in hdu.shape or not hdu.shape:
            raise self.error(index, "holds no image", expected)
        if not model.has(hdu.shape):
            raise self.error(index, f"has shape {_say_shape(hdu.shape)}, not {model.shape}", expected)
        dtype = np.dtype(_IMAGE_TYPES[self._integer(hdu.header, "BITPIX", index)])
        scale, zero = hdu.header.number("BSCALE"), hdu.header.number("BZERO")
        made = dtype if scale is zero is None else _scale(np.empty(0, dtype), scale, zero).dtype
        if made.kind not in model.kinds:
            raise self.error(index, f"holds numbers of type {made.name}, not {model.type}", expected)
        array = np.frombuffer(self._read(hdu, math.prod(hdu.shape) * dtype.itemsize, expected), dtype)
        return _scale(array, scale, zero).reshape(hdu.shape)

    def table(
        self,
        index: int,
        columns: Mapping[str, Model],
        expected: str,
        *,
        rows: range,
        width: int,
        optional: Mapping[str, Model] | None = None,
    ) -> dict[str, AnyArray]:
        """Read columns of a binary table, by name in lower case.

        Text is decoded and stripped, logical columns are bool, bits stay packed in bytes, numbers are as in images.

        Parameters
        ----------
        columns
            Columns that the table must have, and what each may hold.
        expected
            What the HDU should hold, for error messages.
        rows
            Allowed numbers of rows. Nothing is read of a table that has another.
        width
            Largest number of bytes in a row, all columns together. Nothing is read of a table that has more.
        optional
            Columns that are read only if the table has them, and they hold what is given here.
        """
        hdu = self.hdu(index, expected)
        if hdu.kind != "table" or len(hdu.shape) != 2:
            raise self.error(index, "holds no binary table", expected)
        count, size = hdu.shape
        known = hdu.columns()
        missing = [name for name in columns if name not in known]
        if missing:
            raise self.error(index, f"has no column {', '.join(missing)}", expected)
        for name, model in columns.items():
            if not _holds(known[name], model, hdu.header):
                found = f"shape {known[name].dtype.shape} and format {known[name].code}"
                problem = f"has a column {name} of {found}, not of {model.shape} and {model.type}, in each row"
                raise self.error(index, problem, expected)
        wanted = {name: known[name] for name in columns}
        for name, model in (optional or {}).items():
            if name in known and _holds(known[name], model, hdu.header):
                wanted[name] = known[name]
        if not wanted:
            return {}
        if count not in rows:
            raise self.error(index, f"has {count} rows, not {say_lengths(rows)}", expected)
        if size > width:
            raise self.error(index, f"has rows of {size} bytes, where at most {width} are expected", expected)
        if any(column.offset + column.dtype.itemsize > size for column in wanted.values()):
            raise self.error(index, f"has rows of {size} bytes, which do not fit its columns", expected)
        layout = np.dtype(
            {
                "names": list(wanted),
                "formats": [column.dtype for column in wanted.values()],
                "offsets": [column.offset for column in wanted.values()],
                "itemsize": size,
            }
        )
        records = np.frombuffer(self._read(hdu, count * size, expected), layout, count=count)
        return {name: _decode(records[name], column, hdu.header) for name, column in wanted.items()}

    def error(
        self, index: int, problem: str, expected: str = "", kind: type[SpectrumFileError] = SpectrumFileError
    ) -> SpectrumFileError:
        """Make an error that names the HDU, the problem and what was expected."""
        what = f" ({expected})" if expected else ""
        hint = "fetch it again" if kind is CutShortError else None
        return kind(f"HDU {index}{what} {problem}", path=self.path, hint=hint)

    def _next(self) -> HDU | None:
        """Read the HDU after the last known one, without its data; None at the end of the file."""
        index = len(self._hdus)
        last = self._hdus[-1] if self._hdus else None
        start = last.offset + -(-last.size // BLOCK) * BLOCK if last else 0
        if last is not None and start >= self.size:
            return None
        if index == _MAX_HDUS:
            raise self.error(index, f"is one too many: at most {_MAX_HDUS} are expected")
        raw = self._header(start, index)
        if not raw:
            return None
        # The headers of extensions are mostly the same, card for card, in all files of a product.
        header = _parse_header(raw) if index and len(raw) <= _MAX_KNOWN else Header(raw)
        bits = self._integer(header, "BITPIX", index)
        axes = self._integer(header, "NAXIS", index)
        if bits not in _IMAGE_TYPES or not 0 <= axes <= 999:
            raise self.error(index, f"has an impossible BITPIX {bits} or NAXIS {axes}")
        shape = tuple(self._integer(header, f"NAXIS{i}", index) for i in range(axes, 0, -1))
        heap = 0 if index == 0 else header.integer("PCOUNT") or 0
        groups = 1 if index == 0 else header.integer("GCOUNT") or 1
        if min(shape, default=0) < 0 or heap < 0 or groups != 1:
            raise self.error(index, "has an impossible NAXISn, PCOUNT or GCOUNT")
        size = abs(bits) // 8 * (math.prod(shape) + heap) if shape else 0
        return HDU(index, _find_hdu_kind(header) if index else "image", header, shape, start + len(raw), size)

    def _header(self, start: int, index: int) -> bytes:
        read: list[bytes] = []
        for place in range(0, _MAX_HEADER, 5 * BLOCK):
            more = self._pread(5 * BLOCK, start + place)
            if not read and not more.startswith(b"XTENSION=" if index else b"SIMPLE  ="):
                if index:  # special records may follow the last HDU, and are ignored
                    return b""
                raise SpectrumFileError(
                    "not a FITS file: it does not begin with SIMPLE", path=self.path, hint="fetch it again"
                )
            end = more.find(_END)
            while end >= 0 and end % CARD:
                end = more.find(_END, end + 1)
            stop = -(-(end + CARD) // BLOCK) * BLOCK
            if end >= 0 and stop <= len(more):
                return b"".join((*read, more[:stop])) if read else more[:stop]
            if len(more) < 5 * BLOCK:
                break
            read.append(more)
        raise self.error(index, "is cut short: its header does not end", kind=CutShortError)

    def _integer(self, header: Header, keyword: str, index: int) -> int:
        value = header.integer(keyword)
        if value is None:
            raise self.error(index, f"has no whole number {keyword} in its header")
        return value

    def _read(self, hdu: HDU, size: int, expected: str) -> bytes:
        if size > LARGEST:
            raise self.error(hdu.index, f"has {size} bytes, where at most {LARGEST} are expected", expected)
        there = self.size - hdu.offset
        contents = self._pread(size, hdu.offset) if size <= there else b""
        if len(contents) < size:
            problem = f"is cut short: {max(there, 0)} of its {size} bytes are there"
            raise self.error(hdu.index, problem, expected, CutShortError)
        return contents

    def _pread(self, size: int, offset: int) -> bytes:
        if self._descriptor < 0:
            return self._contents[offset : offset + size]
        try:
            return os.pread(self._descriptor, size, offset)
        except OSError as error:
            raise UnreachableError(f"cannot be read: {error.strerror}", path=self.path) from error


def _find_hdu_kind(header: Header) -> str:
    return {"IMAGE": "image", "BINTABLE": "table"}.get(header.text("XTENSION") or "", "other")


def _say_shape(shape: tuple[int, ...]) -> str:
    return str(shape) if len(shape) <= 8 else f"of {len(shape)} axes"


def _find_kind(column: Column, header: Header) -> str:
    """Return the NumPy kind of type that a column has after decoding."""
    if column.code in _KINDS:
        return _KINDS[column.code]
    scale, zero = header.number(f"TSCAL{column.number}"), header.number(f"TZERO{column.number}")
    dtype = column.dtype.base
    return dtype.kind if scale is zero is None else _scale(np.empty(0, dtype), scale, zero).dtype.kind


def _holds(column: Column, model: Model, header: Header) -> bool:
    too_long = column.code == "A" and column.dtype.itemsize > _MAX_TEXT
    return not too_long and model.has(column.dtype.shape) and _find_kind(column, header) in model.kinds


def _decode(values: AnyArray, column: Column, header: Header) -> AnyArray:
    if column.code == "L":
        return np.asarray(values == b"T")
    if column.code == "A":
        return np.char.strip(np.char.decode(values, "ascii", "replace"))
    if column.code in "BIJKEDCM":
        return _scale(values, header.number(f"TSCAL{column.number}"), header.number(f"TZERO{column.number}"))
    return values


def _scale(values: AnyArray, scale: float | None, zero: float | None) -> AnyArray:
    scale, zero = scale or 1.0, zero or 0.0
    if (scale, zero) == (1.0, 0.0):
        return values
    kind, size = values.dtype.kind, values.dtype.itemsize
    top = 1 << 8 * size - 1
    if scale == 1 and kind in "iu" and zero == (top if kind == "i" else -top):
        # FITS has no unsigned integers but bytes, and no signed bytes: both are written with the highest bit flipped.
        unsigned = values.astype(values.dtype.newbyteorder("=")).view(f"u{size}")
        flipped: AnyArray = unsigned ^ np.array(top, unsigned.dtype)
        return flipped if kind == "i" else flipped.view(f"i{size}")
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(values.astype(np.complex128 if kind == "c" else np.float64) * scale + zero)
