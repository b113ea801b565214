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
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from astra_dagster.datamodel.keys import ABSENT, ONE_METRE, RENAMED, Key
from astra_dagster.datamodel.products import DataID, Product
from astra_dagster.datamodel.releases import releases
from astra_dagster.datamodel.templates import Template
from astra_dagster.errors import AstraError, CatalogueError, nearest

if TYPE_CHECKING:  # slow to import
    from pyarrow.parquet import ParquetFile

ALIASES = {"mjd": ("mjd5",), "telescope": ("telescop",), "obj": ("apogee_id", "object"), "ifu": ("ifudsgn",)}
"""Further names of the column that gives a part; case and underscores are ignored."""

_PATHS = ("path", "relative_path", "file", "filename")
_MISSING = frozenset(["", ABSENT, "--", "nan", "null", "none", "n/a"])
_SHOWN = 20

_MAX_ROWS = 20_000_000  # three times as many as the longest catalogue, spAll, has
_MAX_TEXT = 1 << 29  # bytes of a table in text or XML, which is read into memory as a whole
_MAX_WIDTH, _MAX_CELL = 1_000_000, 10_000  # bytes of a row, and of one value in a column that is asked for
_MAX_HEADER = 2000 * 2880  # bytes
_MAX_UNPACKED = 1 << 35  # bytes of a table that was compressed: twice the largest, spAll
_MAX_RATIO, _SPARE = 100, 1 << 26  # a table unpacks to at most 100 times its size, and to 64 MB more


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row of a table that identifies no file, with the reason; rows are counted from 1."""

    row: int
    reason: str

    def __str__(self) -> str:
        return f"row {self.row}: {self.reason}"


def keys_from_table(path: Path, product: Product, release: str | None = None) -> tuple[list[DataID], list[Rejected]]:
    """Read the data IDs of the files that a table lists.

    Parameters
    ----------
    path
        FITS (its first table), VOTable, Parquet, or text with a header line (CSV, ECSV), plain or compressed with
        gzip, bzip2, xz or zip.
    release
        Release of every row. Without it the table must have a column ``release``; where both are given they must agree.

    Returns
    -------
    data_ids, rejected
        Each data ID once, in the order of the table; and the rows that identify no file.

    Raises
    ------
    CatalogueError, UnknownReleaseError, UnknownProductError
        If the table cannot be read or lacks a column that is needed; if the release is unknown or lacks the product.
    """
    if release is not None:
        release = product.template(release).release
    with ExitStack() as stack:
        table = open_table(path, stack)
        of_row = table.texts("release") or (None if release is None else [release] * table.rows)
        if of_row is None:
            raise CatalogueError("the table has no column release", path=path, hint="add it, or name one release")
        readers = {text: _make_reader(table, product, text, release) for text in dict.fromkeys(of_row)}
        made = [table.broken.get(i) or readers[text](i) for i, text in enumerate(of_row)]
    found = dict.fromkeys(item for item in made if isinstance(item, DataID))
    return list(found), [Rejected(i, item) for i, item in enumerate(made, start=1) if isinstance(item, str)]


def read_column(path: Path, product: Product, release: str, column: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """Read a column of a table whose rows are of files of a product, as texts.

    Returns
    -------
    names, values
        Names of the parts of a key that the table has columns of; and the values by the texts of these parts, put
        together by `join_parts`. Of rows with the same parts the first counts; rows without a value are left out, and
        those of other releases.

    Raises
    ------
    CatalogueError, UnknownReleaseError, UnknownProductError
        If the table cannot be read or lacks a column that is needed; if the release is unknown or lacks the product.
    """
    template = product.template(release)
    with ExitStack() as stack:
        table = open_table(path, stack)
        columns = {part: _read_column(table, part, _has_location_ids(template)) for part in template.keys.values()}
        given = {part.name: texts for part, texts in columns.items() if texts is not None}
        values = table.texts(column)
        if values is None or not given:
            missing = column if values is None else f"of a part of the keys of {product.name}"
            hint = f"it has {', '.join(table.names[:_SHOWN])}"
            raise CatalogueError(f"the table has no column {missing}", path=path, hint=hint)
        of_row = table.texts("release") or [""] * table.rows
    found: dict[str, str] = {}
    for text, value, *parts in zip(of_row, values, *given.values(), strict=True):
        if value and text.casefold() in ("", release.casefold()):
            found.setdefault(join_parts(parts), _strip_decimals(value))
    return tuple(given), found


def join_parts(texts: Iterable[str]) -> str:
    """Put parts of a key together, alike whether or not numbers are padded."""
    texts = ("" if text == ABSENT else _strip_decimals(text) for text in texts)
    return "/".join(text.lstrip("0") if text.isdigit() else text for text in texts)


def _strip_decimals(text: str) -> str:
    """Return a whole number without decimals, with which programs write it that cannot mark an integer as missing."""
    return re.sub(r"^(-?[0-9]+)\.0*$", r"\1", text) if "." in text else text


def _make_reader(table: "OpenTable", product: Product, text: str, wanted: str | None) -> Callable[[int], DataID | str]:
    """Make a function that returns the data ID of a row by its number, or the reason why the row has none.

    It serves the rows that write the release as `text`; `wanted` is the release that the caller asks for.
    """
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
    by_location = _has_location_ids(template)
    columns = {part: _read_column(table, part, by_location) for part in template.keys.values()}
    missing = [part for part, texts in columns.items() if texts is None and not part.optional]
    paths = table.texts(*_PATHS) if missing else None
    if missing and not any("/" in path for path in paths or ()):
        there = f"it has {', '.join(table.names[:_SHOWN])}{', ...' if table.names[_SHOWN:] else ''}; "
        known = {_fold_name(other) for part in template.keys.values() for other in list_names(part)}
        if table.is_text and known.isdisjoint(map(_fold_name, table.names)):
            there = ""  # whatever it is, it is no such table, and what is in it is nobody's business
        raise CatalogueError(
            f"the table has no column {', '.join(part.name for part in missing)}, which {product.name} in {name} needs",
            path=table.path,
            hint=f"{there}add it, or a column path with whole paths below SAS_BASE_DIR",
        )
    given = {part: texts for part, texts in columns.items() if texts is not None}
    run2d = template.versions.get("run2d")
    made_with = (run2d and table.texts("run2d")) or [""] * table.rows
    data_id = cache(lambda row: _make_data_id(product, name, dict(zip(given, row, strict=True)), by_location))

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


def _make_data_id(product: Product, release: str, row: Mapping[Key, str], by_location: bool) -> DataID | str:
    empty = [part.name for part, text in row.items() if not text and not part.optional]
    if empty:
        return f"no {', '.join(empty)}"
    values = {
        # Programs that cannot mark an integer as missing write whole numbers with decimals.
        part.name: re.sub(r"\.0*$", "", text) if part.numeric or part.sdss_name == "fieldid" else text
        for part, text in row.items()
        if text
    }
    one_metre = values.get("telescope") == ONE_METRE
    if one_metre and {"plate", "fibre"} <= values.keys():
        return f"the 1-m telescope has no plates; what it saw is {product.name}-1m"
    if by_location and not one_metre and not values["field"].isdigit():
        return f"field cannot be {values['field'][:60]!r}; before DR16 it is the number in LOCATION_ID"
    return product.data_id(release, **values)


def list_names(part: Key) -> list[str]:
    """List the names that the column of a part may have, the preferred name first."""
    sdss = (name for name, ours in RENAMED.items() if ours == part.name and name.isidentifier())
    return list(dict.fromkeys((part.name, part.sdss_name, *sdss, *ALIASES.get(part.name, ()), f"{part.name}_id")))


def _read_column(table: "OpenTable", part: Key, by_location: bool) -> list[str] | None:
    """Read the column that gives a part, as texts; None if the table has no such column."""
    texts = table.texts(*list_names(part))
    if part.name == "telescope" and texts is None:
        composed = table.texts("visit_id", "apstar_id")  # apogee.apo25m.s.r5.5633.55932.296
        return None if composed is None else [f"{text}..".split(".")[1] for text in composed]
    numbers = table.texts("location_id") if part.name == "field" and by_location else None
    if numbers is None:
        return texts
    # Everything from the 1-m telescope has location 1, and lies in a folder that is named after the field.
    return [t if n in ("", "1") else n for n, t in zip(numbers, texts or [""] * table.rows, strict=True)]


def _has_location_ids(template: Template) -> bool:
    """Whether the template's key ``field`` is the number LOCATION_ID, as for stars before DR16, and not a name."""
    apogee = "apogee/spectro" in template.shape and not template.product.endswith("-1m")
    return apogee and "field" in template.keys and bool(re.match("DR1[0-5]$", releases()[template.release].tree))


@dataclass
class OpenTable:
    """An open table, whose columns are read as texts."""

    path: Path
    names: Sequence[str]
    values: Callable[[str], Any]
    rows: int
    broken: Mapping[int, str] = field(default_factory=dict)
    is_text: bool = False

    def __post_init__(self) -> None:
        if self.rows > _MAX_ROWS:
            raise ValueError(f"it has {self.rows} rows, and no catalogue has more than {_MAX_ROWS}")

    def texts(self, *wanted: str) -> list[str] | None:
        """Read the first of these columns that the table has, as texts; None if it has none of them."""
        known = {_fold_name(name): name for name in reversed(self.names)}
        name = next((known[key] for key in map(_fold_name, wanted) if key in known), None)
        try:
            return None if name is None else _as_texts(self.values(name))
        except Exception as error:
            raise CatalogueError(f"column {name} cannot be read: {error}", path=self.path) from error


def _fold_name(name: str) -> str:
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


def open_table(path: Path, stack: ExitStack) -> OpenTable:
    """Open a table until the stack is closed. Its format is recognised by its first bytes."""
    try:
        stream: BinaryIO = stack.enter_context(files.open_file(path))
        form = files.recognise_compression(stream.read(8))
        stream.seek(0)
        if form is not None:
            stream = _unpack(stream, form, path, stack)
        head = stream.read(512).removeprefix(b"\xef\xbb\xbf").lstrip()
        stream.seek(0)
        if head.startswith(b"SIMPLE"):
            return _open_fits(path, stream, stack)
        if head.startswith(b"PAR1"):
            from pyarrow import parquet

            file = stack.enter_context(parquet.ParquetFile(stream))
            names = file.schema_arrow.names
            return OpenTable(path, names, lambda name: tuple(_read_parquet_column(file, name)), file.metadata.num_rows)
        files.check_size(os.fstat(stream.fileno()).st_size, _MAX_TEXT, path)
        if head.startswith(b"<"):
            return _open_votable(path, stream.read())
        return _open_text(path, stream.read().decode("utf-8-sig", errors="replace"))
    except Exception as error:
        raise CatalogueError(f"no table can be read: {getattr(error, 'strerror', None) or error}", path=path) from error


def _unpack(stream: BinaryIO, form: str, path: Path, stack: ExitStack) -> BinaryIO:
    """Unpack a compressed table into a temporary file, as the largest do not fit into memory."""
    largest = min(_MAX_UNPACKED, _SPARE + _MAX_RATIO * os.fstat(stream.fileno()).st_size)
    made = stack.enter_context(NamedTemporaryFile(prefix="astra-"))  # noqa: SIM115 (the stack is its context)
    for piece in files.unpack(stream, form):
        if made.tell() + len(piece) > largest:
            raise ValueError(f"it unpacks to more than {largest} bytes, as no table does")
        made.write(piece)
    made.flush()
    return stack.enter_context(files.open_file(made.name))


def _open_votable(path: Path, contents: bytes) -> OpenTable:
    from astropy.table import Table

    # Such data would be fetched from any address, and would unpack to any size.
    if b"\0" in contents or re.search(rb"<(?:\w+:)?STREAM\b[^>]*\b(?:href|encoding\s*=\s*.(?!base64))", contents):
        raise ValueError("it is a VOTable whose data are elsewhere or compressed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # VOTables break their standard in many harmless ways
        try:
            made = Table.read(io.BytesIO(contents), format="votable", use_names_over_ids=True)
        except Exception as error:  # whose message may quote what is in the file
            raise ValueError(f"it is no VOTable ({type(error).__name__})") from None
    return OpenTable(path, made.colnames, made.__getitem__, len(made))


def _read_parquet_column(file: "ParquetFile", name: str) -> list[Any]:
    values: list[Any] = file.read(columns=[name]).column(0).to_pylist()
    return ["" if value is None else value for value in values]


def _open_fits(path: Path, stream: BinaryIO, stack: ExitStack) -> OpenTable:
    """Open the first table of a FITS file. Columns are read when asked for: an allStar file has gigabytes."""
    from astropy.io import fits

    _check_headers(stream)
    hdus = stack.enter_context(fits.open(stream, character_as_bytes=True))
    hdu = next((item for item in islice(hdus, _SHOWN) if isinstance(item, fits.BinTableHDU)), None)
    if hdu is None:
        raise ValueError("it holds no table")
    width = int(hdu.header["NAXIS1"])  # this does not read the data
    if width > _MAX_WIDTH:
        raise ValueError(f"it has rows of {width} bytes, and no catalogue has longer ones than {_MAX_WIDTH}")

    def values(name: str) -> AnyArray:
        column = hdu.columns[name]
        if column.format.lstrip("0123456789")[:1] in ("P", "Q") or column.dtype.itemsize > _MAX_CELL:
            raise ValueError("it holds several values a row, or very long ones")
        return hdu.data.field(name) if column.null is None else np.ma.masked_equal(hdu.data.field(name), column.null)

    return OpenTable(path, hdu.columns.names, values, int(hdu.header["NAXIS2"]))


def _check_headers(stream: BinaryIO) -> None:
    """Check that the headers up to that of the first table end; else astropy would read the whole file for the end."""
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


def _open_text(path: Path, text: str) -> OpenTable:
    """Read a table in text, as untyped rows. A row that is longer or shorter than the header spoils itself only."""
    lines = [line.strip(" ") for line in re.split("\r\n?|\n", text) if line.strip() and not line.startswith("#")]
    if not lines:
        raise ValueError("it is empty")
    delimiter = next((mark for mark in ",\t;| " if mark in lines[0]), ",")
    header, *rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    n = len(header)
    broken = {i: f"{len(r)} values, and {n} columns" for i, r in enumerate(rows) if len(r) < n or any(r[n:])}
    columns = dict(zip(header, zip_longest(*rows, fillvalue=""), strict=False))
    return OpenTable(path, header, lambda name: columns.get(name, ()), len(rows), broken, is_text=True)
