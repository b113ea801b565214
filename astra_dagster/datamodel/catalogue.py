"""Data IDs from tables: allVisit, allStar, spAll, and one's own lists of planned observations.

A row is what a catalogue says of one file, whether the file is there or not. Columns are found by their SDSS names, by
ours, and by what they are called elsewhere. What becomes of the data IDs is not decided here.
"""

import csv
import io
import math
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from itertools import islice, zip_longest
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from astra_dagster import files
from astra_dagster.arrays import AnyArray
from astra_dagster.datamodel.keys import ABSENT, RENAMED, Key
from astra_dagster.datamodel.products import DataID, Product
from astra_dagster.datamodel.releases import releases
from astra_dagster.datamodel.templates import Template
from astra_dagster.errors import AstraError, CatalogueError, nearest

if TYPE_CHECKING:  # slow to import
    from pyarrow.parquet import ParquetFile

ALIASES = {"mjd": ("mjd5",), "telescope": ("telescop",), "obj": ("apogee_id", "object"), "ifu": ("ifudsgn",)}
"""Columns that give a part under another name than SDSS's or ours; neither case nor underscores matter."""

_PATHS = ("path", "relative_path", "file", "filename")
_MISSING = frozenset(["", ABSENT, "--", "nan", "null", "none", "n/a"])
_SHOWN = 20

_MAX_ROWS = 20_000_000  # three times those of the longest catalogue, spAll
_MAX_TEXT = 1 << 29  # bytes of a table in text or XML, which is held in memory
_MAX_WIDTH, _MAX_CELL = 1_000_000, 10_000  # bytes of a row, and of one value in a column that is asked for
_MAX_HEADER = 2000 * 2880  # bytes
_MAX_UNPACKED = 1 << 35  # bytes of a table that was compressed: twice the largest, spAll
_MAX_RATIO, _SPARE = 100, 1 << 26  # to how many times its size a table unpacks; a small one may do so to 64 MB


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that gives no data ID, with the reason; the first row is 1."""

    row: int
    reason: str

    def __str__(self) -> str:
        return f"row {self.row}: {self.reason}"


def keys_from_table(path: Path, product: Product, release: str | None = None) -> tuple[list[DataID], list[Rejected]]:
    """Data IDs of the files that a table lists.

    Parameters
    ----------
    path
        FITS (its first table), VOTable, Parquet, or text with a header line (CSV, ECSV), plain or compressed with
        gzip, bzip2, xz or zip.
    release
        Release of every row. Without it the table must have a column ``release``; with both they must agree.

    Returns
    -------
    data_ids, rejected
        Each data ID once, in the order of the table; and the rows that give none.

    Raises
    ------
    CatalogueError, UnknownReleaseError, UnknownProductError
        If the table cannot be read or lacks a column that is needed; if there is no such release, or product in it.
    """
    if release is not None:
        product.template(release)
    with ExitStack() as stack:
        table = _open(path, stack)
        of_row = table.texts("release") or (None if release is None else [release] * table.rows)
        if of_row is None:
            raise CatalogueError("the table has no column release", path=path, hint="add it, or name one release")
        readers = {text: _reader(table, product, text, release) for text in dict.fromkeys(of_row)}
        made = [table.broken.get(i) or readers[text](i) for i, text in enumerate(of_row)]
    found = dict.fromkeys(item for item in made if isinstance(item, DataID))
    return list(found), [Rejected(i, item) for i, item in enumerate(made, start=1) if isinstance(item, str)]


def _reader(table: "_Table", product: Product, text: str, wanted: str | None) -> Callable[[int], DataID | str]:
    """What gives for each row that names a release so its data ID, or why it has none."""
    name = {known.casefold(): known for known in releases()}.get((text or wanted or "").casefold())
    if name is None:
        return lambda _: f"no release {text[:60]!r}; {nearest(text, releases())}" if text else "no release"
    if wanted not in (None, name):
        return lambda _: f"is of {name}, not of {wanted}"
    try:
        template = product.template(name)
    except AstraError as error:
        reason = str(error)
        return lambda _: reason
    by_location = _by_location(template)
    columns = {part: _column(table, part, by_location) for part in template.keys.values()}
    missing = [part for part, texts in columns.items() if texts is None and not part.optional]
    paths = table.texts(*_PATHS) if missing else None
    if missing and not any("/" in path for path in paths or ()):
        there = ", ".join(table.names[:_SHOWN]) + (", ..." if table.names[_SHOWN:] else "")
        raise CatalogueError(
            f"the table has no column {', '.join(part.name for part in missing)}, which {product.name} in {name} needs",
            path=table.path,
            hint=f"it has {there}; add it, or a column path with whole paths below SAS_BASE_DIR",
        )
    given = {part: texts for part, texts in columns.items() if texts is not None}
    run2d = template.versions.get("run2d")
    made_with = (run2d and table.texts("run2d")) or [""] * table.rows
    data_id = cache(lambda row: _data_id(product, name, dict(zip(given, row, strict=True)), by_location))

    def read(i: int) -> DataID | str:
        try:
            if paths is not None:
                return product.parse_path(paths[i], name) if paths[i] else "no path"
            if made_with[i] not in ("", run2d):
                return f"run2d is {made_with[i][:60]}, and that of {name} is {run2d}"
            return data_id(tuple(texts[i] for texts in given.values()))
        except AstraError as error:
            return str(error)

    return read


def _data_id(product: Product, release: str, row: Mapping[Key, str], by_location: bool) -> DataID | str:
    empty = [part.name for part, text in row.items() if not text and not part.optional]
    if empty:
        return f"no {', '.join(empty)}"
    values = {
        # Programs that know no missing integers write whole numbers with decimals.
        part.name: re.sub(r"\.0*$", "", text) if part.numeric or part.sdss_name == "fieldid" else text
        for part, text in row.items()
        if text
    }
    one_metre = values.get("telescope") == "apo1m"
    if one_metre and {"plate", "fibre"} <= values.keys():
        return f"the 1-m telescope has no plates; what it saw is {product.name}-1m"
    if by_location and not one_metre and not values["field"].isdigit():
        return f"field cannot be {values['field'][:60]!r}; before DR16 it is the number in LOCATION_ID"
    return product.data_id(release, **values)


def _names(part: Key) -> list[str]:
    """What the column of a part may be called, the preferred name first."""
    sdss = (name for name, ours in RENAMED.items() if ours == part.name and name.isidentifier())
    return list(dict.fromkeys((part.name, part.sdss_name, *sdss, *ALIASES.get(part.name, ()), f"{part.name}_id")))


def _column(table: "_Table", part: Key, by_location: bool) -> list[str] | None:
    """Texts of the column that gives a part, None if there is none."""
    texts = table.texts(*_names(part))
    if part.name == "telescope" and texts is None:
        composed = table.texts("visit_id", "apstar_id")  # apogee.apo25m.s.r5.5633.55932.296
        return None if composed is None else [f"{text}..".split(".")[1] for text in composed]
    numbers = table.texts("location_id") if part.name == "field" and by_location else None
    if numbers is None:
        return texts
    # Of the 1-m telescope all is at location 1, and lies in a folder that is named after the field.
    return [t if n in ("", "1") else n for n, t in zip(numbers, texts or [""] * table.rows, strict=True)]


def _by_location(template: Template) -> bool:
    """Whether what the template calls field is a number and not the field's name: so with stars until DR16."""
    apogee = "apogee/spectro" in template.shape and not template.product.endswith("-1m")
    return apogee and "field" in template.keys and bool(re.match("DR1[0-5]$", releases()[template.release].tree))


@dataclass
class _Table:
    """An open table; what it gives are texts."""

    path: Path
    names: Sequence[str]
    values: Callable[[str], Any]
    rows: int
    broken: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rows > _MAX_ROWS:
            raise ValueError(f"it has {self.rows} rows, and no catalogue has more than {_MAX_ROWS}")

    def texts(self, *wanted: str) -> list[str] | None:
        """Texts of the first of these columns that there is."""
        known = {_folded(name): name for name in reversed(self.names)}
        name = next((known[key] for key in map(_folded, wanted) if key in known), None)
        try:
            return None if name is None else _as_texts(self.values(name))
        except Exception as error:
            raise CatalogueError(f"column {name} cannot be read: {error}", path=self.path) from error


def _folded(name: str) -> str:
    return re.sub(r"[\W_]", "", name).casefold()


def _as_texts(values: Sequence[object] | AnyArray) -> list[str]:
    array: Any = np.ma.asarray(values, dtype=object if isinstance(values, tuple) else None)
    if array.ndim != 1:
        raise ValueError("it holds several values a row")
    if array.dtype.kind == "f":  # whole numbers, as far as the type holds them exactly
        info, numbers = np.finfo(array.dtype), array.filled(np.nan).tolist()
        exact = 2.0 ** (info.nmant + 1)
        texts = [str(int(v)) if abs(v) < exact and v == int(v) else f"{v:.{info.precision}g}" for v in numbers]
    else:
        texts = [v.decode(errors="replace") if isinstance(v, bytes) else str(v) for v in array.tolist()]
    return ["" if text.casefold() in _MISSING else text for text in (text.strip(" \t\r\n\0") for text in texts)]


def _open(path: Path, stack: ExitStack) -> _Table:
    """Open a table for as long as the stack lasts; its contents say what it is."""
    try:
        stream: BinaryIO = stack.enter_context(files.open_file(path))
        form = files.compression(stream.read(8))
        stream.seek(0)
        if form is not None:
            stream = _unpacked(stream, form, path, stack)
        head = stream.read(512).removeprefix(b"\xef\xbb\xbf").lstrip()
        stream.seek(0)
        if head.startswith(b"SIMPLE"):
            return _fits(path, stream, stack)
        if head.startswith(b"PAR1"):
            from pyarrow import parquet

            file = stack.enter_context(parquet.ParquetFile(stream))
            names = file.schema_arrow.names
            return _Table(path, names, lambda name: tuple(_parquet_column(file, name)), file.metadata.num_rows)
        files.check_size(os.fstat(stream.fileno()).st_size, _MAX_TEXT, path)
        if head.startswith(b"<"):
            return _votable(path, stream.read())
        return _text(path, stream.read().decode("utf-8-sig", errors="replace"))
    except Exception as error:
        raise CatalogueError(f"no table can be read: {getattr(error, 'strerror', None) or error}", path=path) from error


def _unpacked(stream: BinaryIO, form: str, path: Path, stack: ExitStack) -> BinaryIO:
    """A compressed table in a temporary file: the largest do not fit into memory."""
    largest = min(_MAX_UNPACKED, _SPARE + _MAX_RATIO * os.fstat(stream.fileno()).st_size)
    made = stack.enter_context(NamedTemporaryFile(prefix="astra-"))  # noqa: SIM115 (the stack is its context)
    for piece in files.unpack(stream, form):
        if made.tell() + len(piece) > largest:
            raise ValueError(f"it unpacks to more than {largest} bytes, as no table does")
        made.write(piece)
    made.flush()
    return stack.enter_context(files.open_file(made.name))


def _votable(path: Path, contents: bytes) -> _Table:
    from astropy.table import Table

    # These would be fetched from anywhere, and unpacked to any size.
    if b"\0" in contents or re.search(rb"<(?:\w+:)?STREAM\b[^>]*\b(?:href|encoding\s*=\s*.(?!base64))", contents):
        raise ValueError("it is a VOTable whose data are elsewhere or compressed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # VOTables break their standard in many harmless ways
        made = Table.read(io.BytesIO(contents), format="votable", use_names_over_ids=True)
    return _Table(path, made.colnames, made.__getitem__, len(made))


def _parquet_column(file: "ParquetFile", name: str) -> list[Any]:
    values: list[Any] = file.read(columns=[name]).column(0).to_pylist()
    return ["" if value is None else value for value in values]


def _fits(path: Path, stream: BinaryIO, stack: ExitStack) -> _Table:
    """The first table of a FITS file; an allStar has gigabytes, so only what is asked for is read."""
    from astropy.io import fits

    _check_headers(stream)
    hdus = stack.enter_context(fits.open(stream, character_as_bytes=True))
    hdu = next((item for item in islice(hdus, _SHOWN) if isinstance(item, fits.BinTableHDU)), None)
    if hdu is None:
        raise ValueError("it holds no table")
    width = int(hdu.header["NAXIS1"])  # the data are not touched for it
    if width > _MAX_WIDTH:
        raise ValueError(f"it has rows of {width} bytes, and no catalogue has longer ones than {_MAX_WIDTH}")

    def values(name: str) -> AnyArray:
        column = hdu.columns[name]
        if column.format.lstrip("0123456789")[:1] in ("P", "Q") or column.dtype.itemsize > _MAX_CELL:
            raise ValueError("it holds several values a row, or very long ones")
        return hdu.data.field(name) if column.null is None else np.ma.masked_equal(hdu.data.field(name), column.null)

    return _Table(path, hdu.columns.names, values, int(hdu.header["NAXIS2"]))


def _check_headers(stream: BinaryIO) -> None:
    """Check that each header ends, up to that of the first table: astropy looks for its end in all of the file."""
    from astropy.io import fits

    for _ in range(_SHOWN):
        raw = b""
        while not any(raw[i : i + 80] == b"END".ljust(80) for i in range(max(len(raw) - 2880, 0), len(raw), 80)):
            block = stream.read(2880)
            if len(block) < 2880 or len(raw) > _MAX_HEADER:
                raise ValueError("it has a header that does not end, or no table")
            raw += block
        header = fits.Header.fromstring(raw.decode("ascii", errors="replace"))
        if header.get("XTENSION") == "BINTABLE":
            break
        cells = math.prod(header[f"NAXIS{i}"] for i in range(1, header["NAXIS"] + 1)) if header["NAXIS"] else 0
        size = abs(header["BITPIX"]) // 8 * header.get("GCOUNT", 1) * (header.get("PCOUNT", 0) + cells)
        stream.seek(-(-size // 2880) * 2880, os.SEEK_CUR)
    stream.seek(0)


def _text(path: Path, text: str) -> _Table:
    """A table in text, row by row and untyped: a row of another length than the header costs itself only."""
    lines = [line.strip(" ") for line in re.split("\r\n?|\n", text) if line.strip() and not line.startswith("#")]
    if not lines:
        raise ValueError("it is empty")
    delimiter = next((mark for mark in ",\t;| " if mark in lines[0]), ",")
    header, *rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    n = len(header)
    broken = {i: f"{len(r)} values, and {n} columns" for i, r in enumerate(rows) if len(r) < n or any(r[n:])}
    columns = dict(zip(header, zip_longest(*rows, fillvalue=""), strict=False))
    return _Table(path, header, lambda name: columns.get(name, ()), len(rows), broken)
