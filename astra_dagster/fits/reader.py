"""Read FITS files: where the HDUs lie, and single arrays from them.

Only what is asked for is decoded. Headers are parsed by `header`. Which HDU of a product holds what is known to the
readers in `spectra`: they say which shapes and types the data model has, and no byte is read of an array with others.
astropy does the same and far more, but takes ten times as long for a file; every test of this module compares with it.

Standard: https://fits.gsfc.nasa.gov/fits_standard.html (version 4.0).
"""

import functools
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from astra_dagster import files
from astra_dagster.arrays import AnyArray
from astra_dagster.errors import CutShortError, InputMissingError, SpectrumFileError, UnreachableError
from astra_dagster.fits.decoding import Column, decode, find_columns, find_renamed, holds, leave_out, scale
from astra_dagster.fits.hdu import HDU
from astra_dagster.fits.header import BLOCK, CARD, Header
from astra_dagster.fits.model import Model, say_lengths
from astra_dagster.fits.structure import add_up, find_damage, find_garbage, read_sizes

FETCH = "fetch it again"

LARGEST = 1 << 28
"""Largest size in bytes of an array, a table, or an unpacked file: five times that of the largest real files."""

_MAX_HEADER = 2000 * BLOCK
_MAX_KNOWN = 20 * BLOCK  # bytes of a header that is cached for the next file
_MAX_PADDING = 10 * BLOCK  # by the standard a record has ten blocks at most
_MAX_HDUS = 10_000
_IMAGE_TYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
_END = b"END" + b" " * (CARD - 3)
_known_damage = functools.lru_cache(maxsize=64)(find_damage)
_known_columns = functools.lru_cache(maxsize=64)(find_columns)


class FitsFile:
    """A FITS file open for reading; a context manager that closes it.

    All headers are read at once, so that a file which was cut short is recognised whatever is read of it. What is read
    is compared with the checksums of its HDU, if it has any. Every error is an `AstraError` that names the file, the
    HDU and what was expected there.

    Parameters
    ----------
    hint
        What to do about a file that is damaged.
    unpacked
        Whether a compressed file is unpacked; if not, it is refused.

    Raises
    ------
    InputMissingError
        If there is no such file.
    SpectrumFileError
        If the file cannot be read, is not FITS, or is damaged in a way that can be seen from its headers.
    CutShortError
        If it ends before what its headers announce.
    """

    def __init__(self, path: Path, hint: str = FETCH, *, unpacked: bool = True) -> None:
        self.path = path
        self.hint = hint
        self._unpacked = unpacked
        self._hdus: list[HDU] = []
        self._columns: dict[int, Mapping[str, Column]] = {}
        self._descriptor = -1
        self._contents = b""
        try:
            self._open_or_raise(path, hint)
            if self.size == 0:
                raise CutShortError("incomplete: the file is empty", path=path, hint=hint)
            self._find_hdus()
        except BaseException:
            self.close()
            raise

    def _open_or_raise(self, path: Path, hint: str) -> None:
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
            raise SpectrumFileError(f"cannot be read: {error}", path=path, hint=hint) from error

    def _open(self) -> None:
        """Open the file, and unpack it if its first bytes are those of a compressed one, whatever its name is."""
        if self.path.suffix == ".fz":
            raise SpectrumFileError("compressed with fpack", path=self.path, hint="unpack it with funpack")
        self._descriptor = files.open_descriptor(self.path)
        form = files.recognise_compression(os.pread(self._descriptor, 8, 0))
        if form is None:
            self.size = os.fstat(self._descriptor).st_size
            return
        if not self._unpacked:
            raise SpectrumFileError(f"compressed: {form}", path=self.path)
        descriptor, self._descriptor = self._descriptor, -1
        with os.fdopen(descriptor, "rb") as stream:
            self._contents = files.unpack_file(stream, form, LARGEST, self.path)
        self.size = len(self._contents)

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
        if index >= len(self._hdus):
            raise self.error(index, f"is missing: the file has {len(self._hdus)} HDUs", expected)
        return self._hdus[index]

    def hdus(self) -> list[HDU]:
        """Return all HDUs. Their headers are read, their data are not."""
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
        self._check_header(hdu, expected)
        if not model.has(hdu.shape):
            raise self.error(index, f"has shape {_say_shape(hdu.shape)}, not {model.shape}", expected)
        dtype = np.dtype(_IMAGE_TYPES[hdu.sizes.bits])
        factor, zero = hdu.header.number("BSCALE"), hdu.header.number("BZERO")
        made = dtype if factor is zero is None else scale(np.empty(0, dtype), factor, zero).dtype
        if made.kind not in model.kinds:
            raise self.error(index, f"holds numbers of type {made.name}, not {model.type}", expected)
        count = math.prod(hdu.shape)
        array = np.frombuffer(self._read(hdu, count * dtype.itemsize, expected), dtype, count)
        decoded = scale(array, factor, zero).reshape(hdu.shape)
        null = hdu.header.integer("BLANK") if dtype.kind in "iu" else None
        if null is not None:
            decoded = leave_out(decoded, (array == null).reshape(hdu.shape))
            if isinstance(decoded, np.ma.MaskedArray):
                raise self.error(index, "has pixels that are blank", expected)
        return decoded

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
        Where whole numbers are null, the array is a masked one.

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
        known = self.columns(index, expected)
        count, size = hdu.shape
        missing = [name for name in columns if name not in known]
        if missing:
            raise self.error(index, f"has no column {', '.join(missing)}", expected)
        for name, model in columns.items():
            if not holds(known[name], model, hdu.header):
                found = f"shape {known[name].dtype.shape} and format {known[name].code}"
                problem = f"has a column {name} of {found}, not of {model.shape} and {model.type}, in each row"
                raise self.error(index, problem, expected)
        wanted = {name: known[name] for name in columns}
        for name, model in (optional or {}).items():
            if name in known and holds(known[name], model, hdu.header):
                wanted[name] = known[name]
            elif name in known and known[name].code in "CM":
                raise self.error(index, f"has a column {name} of complex numbers", expected, damaged=True)
        absent = tuple(name for name in (optional or {}) if name not in known)
        if renamed := find_renamed(tuple(known), absent):
            raise self.error(
                index, f"has a column {renamed[1]}, where {renamed[0]} is expected", expected, damaged=True
            )
        if not wanted:
            return {}
        if count not in rows:
            raise self.error(index, f"has {count} rows, not {say_lengths(rows)}", expected)
        if size > width:
            raise self.error(index, f"has rows of {size} bytes, where at most {width} are expected", expected)
        layout = np.dtype(
            {
                "names": list(wanted),
                "formats": [column.dtype for column in wanted.values()],
                "offsets": [column.offset for column in wanted.values()],
                "itemsize": size,
            }
        )
        records = np.frombuffer(self._read(hdu, count * size, expected), layout, count=count)
        decoded = {name: decode(records[name], column, hdu.header) for name, column in wanted.items()}
        for name in columns:
            if isinstance(decoded[name], np.ma.MaskedArray):
                raise self.error(index, f"has rows in which the column {name} is null", expected)
        return decoded

    def columns(self, index: int, expected: str = "") -> Mapping[str, Column]:
        """Return the columns of a binary table, by name in lower case."""
        hdu = self.hdu(index, expected)
        if hdu.kind != "table":
            raise self.error(index, "holds no binary table", expected)
        if index in self._columns:
            return self._columns[index]
        self._check_header(hdu, expected)
        short = len(hdu.header.raw) <= _MAX_KNOWN
        try:
            self._columns[index] = (_known_columns if short else find_columns)(hdu.header)
        except ValueError as error:
            raise self.error(index, str(error), expected, damaged=True) from error
        return self._columns[index]

    def _check_header(self, hdu: HDU, expected: str) -> None:
        short = len(hdu.header.raw) <= _MAX_KNOWN
        if problem := (_known_damage if short else find_damage)(hdu.header):
            raise self.error(hdu.index, problem, expected, damaged=True)

    def verify(self) -> None:
        """Check the headers of all HDUs, and compare all data with the checksums in their headers, if there are any.

        Raises
        ------
        SpectrumFileError
            If a header is damaged, or data do not agree with their checksum.
        """
        for hdu in self._hdus:
            if hdu.kind == "table":
                self.columns(hdu.index)
            elif hdu.index:
                self._check_header(hdu, "")
            self._read(hdu, hdu.size, "")

    def error(
        self,
        index: int,
        problem: str,
        expected: str = "",
        kind: type[SpectrumFileError] = SpectrumFileError,
        *,
        damaged: bool = False,
    ) -> SpectrumFileError:
        """Make an error that names the HDU, the problem and what was expected, and for damage what to do."""
        what = f" ({expected})" if expected else ""
        again = self.hint if self.hint != FETCH else f"{FETCH}, with --overwrite"  # what is there seems to be whole
        hint = self.hint if kind is CutShortError else again if damaged else None
        return kind(f"HDU {index}{what} {problem}", path=self.path, hint=hint)

    def _find_hdus(self) -> None:
        """Read the headers of all HDUs, and check that each begins where the one before it ends."""
        start = 0
        while start < self.size and not (self._hdus and self._is_padding(start)):
            index = len(self._hdus)
            if index == _MAX_HDUS:
                raise self.error(index, f"is one too many: at most {_MAX_HDUS} are expected")
            raw = self._header(start, index)
            try:
                sizes = read_sizes(raw, primary=index == 0)
            except ValueError as error:
                raise self.error(index, str(error), damaged=True) from error
            own = None if index and len(raw) <= _MAX_KNOWN else Header(raw)
            hdu = HDU(index, raw, sizes, start + len(raw), own)
            if hdu.size > LARGEST:
                problem = f"has {hdu.size} bytes, where at most {LARGEST} are expected"
                raise self.error(index, problem, damaged=True)
            self._hdus.append(hdu)
            start = hdu.end
        if start > self.size:
            problem = f"is incomplete: the file ends at byte {self.size}, the HDU at byte {start}"
            raise self.error(len(self._hdus) - 1, problem, kind=CutShortError)
        self._check_primary()

    def _is_padding(self, start: int) -> bool:
        """Whether nothing but NULs or blanks follows, to fill a record of a tape."""
        rest = self.size - start
        return rest < _MAX_PADDING and not self._pread(rest, start).strip(b"\0 ")

    def _check_primary(self) -> None:
        """Check the header of the first HDU, from which readers take what they tell of the object."""
        hdu = self._hdus[0]
        if problem := find_garbage(hdu.header.raw):
            raise self.error(0, problem, damaged=True)
        if not hdu.size and b"CHECKSUM" in hdu.header.raw:
            self._verify(hdu, b"")

    def _verify(self, hdu: HDU, data: bytes) -> None:
        """Compare an HDU with the checksums in its header; `data` has the padding."""
        wanted, data_sum = hdu.header.text("DATASUM"), add_up(data)
        if wanted and wanted != str(data_sum):
            raise self.error(hdu.index, "does not agree with the DATASUM in its header", damaged=True)
        if hdu.header.text("CHECKSUM") and add_up(hdu.header.raw, data_sum) not in (0, 0xFFFFFFFF):
            raise self.error(hdu.index, "does not agree with the CHECKSUM in its header", damaged=True)

    def _header(self, start: int, index: int) -> bytes:
        read: list[bytes] = []
        for place in range(0, _MAX_HEADER, 5 * BLOCK):
            more = self._pread(5 * BLOCK, start + place)
            begin = b"XTENSION=" if index else b"SIMPLE  ="
            if not read and more[: len(begin)] != begin[: len(more)]:
                if index:
                    problem = f"does not begin at byte {start}, where the HDU before it ends by its header"
                    raise self.error(index, problem, damaged=True)
                raise SpectrumFileError(
                    "not a FITS file: it does not begin with SIMPLE", path=self.path, hint=self.hint
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
        raise self.error(index, "is incomplete: its header does not end", kind=CutShortError)

    def _read(self, hdu: HDU, size: int, expected: str) -> bytes:
        """Read the data of an HDU, of which the first `size` bytes are wanted; compare them with its checksums."""
        has_sums = b"DATASUM " in hdu.raw or b"CHECKSUM" in hdu.raw
        whole = has_sums or size == hdu.size
        wanted = hdu.end - hdu.offset if whole else size
        contents = self._pread(wanted, hdu.offset)
        if len(contents) < wanted:  # it was as long as that when it was opened
            raise self.error(hdu.index, "is incomplete: the file was changed as it was read", expected, CutShortError)
        if whole and contents[hdu.size :].strip(b"\0 "):
            raise self.error(hdu.index, "has data beyond the end that its header gives them", expected, damaged=True)
        if has_sums:
            self._verify(hdu, contents)
        return contents

    def _pread(self, size: int, offset: int) -> bytes:
        if self._descriptor < 0:
            return self._contents[offset : offset + size]
        try:
            return os.pread(self._descriptor, size, offset)
        except OSError as error:
            raise UnreachableError(f"cannot be read: {error.strerror}", path=self.path) from error


def _say_shape(shape: tuple[int, ...]) -> str:
    return str(shape) if len(shape) <= 8 else f"of {len(shape)} axes"
