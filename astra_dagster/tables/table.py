"""The layout of a task's table: its columns, how it is put together from rows, and its Parquet file.

A table has one row for each spectrum, sorted by partition key. Its columns are the key, its parts, the number of the
spectrum in its file, the results with their units, and the provenance. Parts that are numbers are columns of numbers.
"""

import bisect
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from astra_dagster.datamodel.keys import ABSENT
from astra_dagster.files import open_file
from astra_dagster.outputs.store import OutputStore
from astra_dagster.outputs.table_head import TableHead
from astra_dagster.tables import column_types as kinds
from astra_dagster.tables.rows import Rows
from astra_dagster.tables.table_columns import (
    KEY,
    NUMBERS,
    PART,
    PROVENANCE,
    SPECTRUM,
    UCDS,
    WHICH,
    WHOLE,
    part_names,
)
from astra_dagster.tasks.columns import Column
from astra_dagster.tasks.task import Task

GROUP = 2**14
"""Number of rows in a group of the Parquet file: what is read at least of a table in which some keys are looked up."""

HASHED = 2**16
"""Number of rows that are hashed together; another number would make other hashes of the same tables."""

GROUPS, HEAD = "groups", "head"
"""Names of metadata of the Parquet file: keys of the groups, and a hash of all metadata."""

IDENTITIES = pa.schema([(KEY, pa.string()), ("data_version", pa.string())])
"""Columns from which it is seen whether the rows of a partition are up to date."""


def head_of(store: OutputStore) -> TableHead:
    """What the table of a task with these parameters says of its origin."""
    task = store.task
    return TableHead(task.family, task.version, store.digest, store.parameters.as_dict())


def read_table(store: OutputStore, path: Path) -> pa.Table | None:
    """Read an earlier table of this task with these parameters; None if there is none that can be used."""
    try:
        with open_file(path) as stream:
            table = pq.read_table(stream, page_checksum_verification=True, partitioning=None)
        # Check sums cover the rows alone.
        sound = _is_of(store, table.schema) and _decode(table.schema).get("version") == hash_table(table)
        return table if sound else None
    except (OSError, ValueError, KeyError, pa.ArrowException):  # not there, or damaged
        return None


def read_rows(store: OutputStore, path: Path, keys: Iterable[str]) -> pa.Table | None:
    """Read the rows of some partitions of an earlier table, and few others of it; None as for `read_table`.

    Compared are the check sums of the pages that are read, and that of what the table says of itself. A table of the
    time before it had the latter is read as a whole.
    """
    wanted = sorted(keys)
    try:
        with open_file(path) as stream, pq.ParquetFile(stream, page_checksum_verification=True) as file:
            if not _is_of(store, file.schema_arrow):
                return None
            about = _decode(file.schema_arrow)
            if about.get(HEAD) != _hash_head(file.schema_arrow):
                table = read_table(store, path)
            else:
                table = file.read_row_groups(_find_groups(json.loads(about[GROUPS]), wanted))
                if not table.schema.equals(file.schema_arrow, check_metadata=True):  # the file has it twice
                    return None
        return None if table is None else table.filter(pc.is_in(table[KEY], value_set=pa.array(wanted, pa.string())))
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return None


def _is_of(store: OutputStore, schema: pa.Schema) -> bool:
    """Whether a table is one of this task with these parameters, and has the columns that all of its tables have."""
    columns = {KEY, *part_names(store.task.domain), SPECTRUM, *PROVENANCE}
    return head_of(store).is_of(_decode(schema)) and columns <= set(schema.names)


def _list_groups(keys: pa.ChunkedArray) -> list[list[str]]:
    """Return the first and the last key of each group in the order of texts, which is not quite that of rows.

    The file has this too, as statistics; but to look at those of a damaged file ends the process.
    """
    parts = (keys.slice(start, GROUP) for start in range(0, len(keys), GROUP))
    return [[extreme.as_py() for extreme in pc.min_max(part).values()] for part in parts]


def _find_groups(groups: Sequence[Sequence[str]], wanted: Sequence[str]) -> list[int]:
    """Return which groups may have some of these sorted keys."""
    places = (bisect.bisect_left(wanted, first) for first, _ in groups)
    return [i for i, at in enumerate(places) if at < len(wanted) and wanted[at] <= groups[i][1]]


def read_identities(store: OutputStore, path: Path) -> tuple[pa.Schema, pa.Table] | None:
    """Read the columns of an earlier table and the identity of each row, and no results; None as for `read_table`."""
    try:
        with open_file(path) as stream, pq.ParquetFile(stream) as file:
            schema = file.schema_arrow
            if not head_of(store).is_of(_decode(schema)):
                return None
            return schema, list_identities(file.read(IDENTITIES.names))
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return None


def read_head(path: Path, rows: int) -> list[dict[str, Any]]:
    """Read the first rows of a table."""
    with open_file(path) as stream, pq.ParquetFile(stream) as file:
        return next((batch.to_pylist() for batch in file.iter_batches(batch_size=rows)), [])


def list_identities(table: pa.Table | None) -> pa.Table:
    """Return partition key and data version of each row."""
    if table is None:
        return IDENTITIES.empty_table()
    return pa.table([table[KEY], table["data_version"]], schema=IDENTITIES)


def is_mixed(schema: pa.Schema) -> bool:
    """Whether a column of the table has values of several kinds."""
    return any(b"mixed" in (field.metadata or {}) for field in schema)


def assemble(
    store: OutputStore, kept: pa.Table | None, read: Sequence[Rows], wanted: pa.Table
) -> tuple[pa.ChunkedArray, pa.Table]:
    """Join rows of an earlier table and rows that were read, in the order of `wanted`.

    Returns
    -------
    keys, table
        Partition key of each row, and the table.
    """
    results = {name: kept[field.name] for name, field in find_results(kept.schema)} if kept is not None else {}
    names = store.task.promised or _find_valued(results, read)
    known = list_identities(kept)
    columns: dict[str, pa.ChunkedArray] = {
        KEY: pa.chunked_array([*known[KEY].chunks, *(rows.keys for rows in read)], pa.string()),
        SPECTRUM: _chain(kept, SPECTRUM, (rows.spectra for rows in read), pa.int32()),
        "data_version": _chain(kept, "data_version", (rows.versions for rows in read), pa.string()),
        "input_version": _chain(kept, "input_version", (rows.inputs for rows in read), pa.string()),
    }
    marks: dict[str, dict[str, str]] = {}
    for name in names:
        found = kinds.NONE.union(*(rows.found.get(name, kinds.NONE) for rows in read))
        found |= kinds.find_column_kinds(results[name]) if name in results else kinds.NONE
        kind = kinds.arrow_type(found)
        pieces = results[name].chunks if name in results else [pa.nulls(len(known), kind)]
        pieces = [*pieces, *(rows.results.get(name, pa.nulls(len(rows.keys), kind)) for rows in read)]
        columns[f"result {name}"] = pa.chunked_array([kinds.convert(piece, kind) for piece in pieces], kind)
        marks[name] = {"mixed": "true"} if kinds.is_mixed(found) else {} if found else {"empty": "true"}
    table = pa.table(columns)
    place = pc.index_in(table[KEY], value_set=wanted[KEY].combine_chunks()).to_numpy()
    if (np.diff(place) < 0).any():
        table = table.take(np.argsort(place, kind="stable"))
    return table[KEY], _label(store, table, names, marks)


def find_results(schema: pa.Schema) -> list[tuple[str, pa.Field]]:
    """Return the name of each result that a table has, and its column."""
    found = [((field.metadata or {}).get(b"result"), field) for field in schema]
    return [(name.decode(), field) for name, field in found if name is not None]


def find_numbers(task: Task, schema: pa.Schema) -> list[tuple[str, pa.Field]]:
    """Return those of `find_results` that are single numbers, without what says what the object is."""
    known = task.result_columns
    return [
        (name, field)
        for name, field in find_results(schema)
        if (pa.types.is_integer(field.type) or pa.types.is_floating(field.type))
        and not (name in known and known[name].identity)
    ]


def _find_valued(results: Mapping[str, pa.ChunkedArray], read: Sequence[Rows]) -> tuple[str, ...]:
    """Return the names of results that have a value in any row, for a task that promises no columns."""
    found = {name for name, column in results.items() if column.null_count < len(column)}
    found.update(name for rows in read for name, of in rows.found.items() if of)
    return tuple(sorted(found))


def _chain(kept: pa.Table | None, name: str, read: Iterable[pa.Array], kind: pa.DataType) -> pa.ChunkedArray:
    return pa.chunked_array([*(kept[name].chunks if kept is not None else ()), *read], kind)


def _label(
    store: OutputStore, table: pa.Table, names: Sequence[str], marks: Mapping[str, Mapping[str, str]]
) -> pa.Table:
    """Make the table with all its columns from key, spectrum, versions and results."""
    parts = part_names(store.task.domain)
    split = pc.split_pattern(table[KEY], "/")
    fields: list[tuple[pa.ChunkedArray, pa.Field]] = []

    def add(column: pa.ChunkedArray, name: str, description: str, unit: str = "", **more: str) -> None:
        about = {"description": description, "unit": unit, "ucd": UCDS.get(name, ""), **more}
        fields.append((column, pa.field(name, column.type, metadata={n: text for n, text in about.items() if text})))

    add(table[KEY], KEY, WHOLE)
    for i, name in enumerate(parts):
        add(_make_part(pc.list_element(split, i), name), name, PART)
    add(table[SPECTRUM], SPECTRUM, WHICH)
    labels = make_unique(names, taken=(KEY, *parts, SPECTRUM, *PROVENANCE))
    for name, label in zip(names, labels, strict=True):
        known = store.task.result_columns.get(name, Column())
        add(table[f"result {name}"], label, known.text, known.unit, result=name, ucd=known.ucd, **marks[name])
    constant = {"digest": store.digest, "code_version": store.task.version}
    for name, description in PROVENANCE.items():
        add(pa.repeat(constant[name], len(table)) if name in constant else table[name], name, description)
    return pa.table(
        [column for column, _ in fields], schema=pa.schema([field for _, field in fields], head_of(store).metadata())
    )


def _make_part(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """Return a part of keys as numbers if it is one, missing where a key has none; else as text."""
    if name not in NUMBERS:
        return column
    try:
        return pc.if_else(pc.equal(column, ABSENT), None, column).cast(pa.int64())
    except pa.ArrowInvalid:  # more digits than a number holds
        return column


def make_unique(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """Change names so that they differ from each other and from those taken, even in lower case."""
    known = {name.lower() for name in taken}
    found = []
    for name in names:
        label, number = name, 1
        while label.lower() in known:
            label, number = f"result_{name}" if number == 1 else f"result_{name}_{number}", number + 1
        known.add(label.lower())
        found.append(label)
    return found


def hash_table(table: pa.Table) -> str:
    """Return a hash of a table's contents, in which the data version of an output represents its results."""
    hashed = hashlib.sha256(_describe(table.schema, ["version", GROUPS, HEAD]))
    names = [KEY, *PROVENANCE]  # from which all others follow
    for start in range(0, len(table), HASHED):
        part = table.slice(start, HASHED)
        texts = [*(part[name] for name in names), part[SPECTRUM].cast(pa.string())]
        hashed.update("\n".join(pc.binary_join_element_wise(*texts, " ").to_pylist()).encode())
    return hashed.hexdigest()[:16]


def _describe(schema: pa.Schema, without: Sequence[str]) -> bytes:
    about = {name: text for name, text in _decode(schema).items() if name not in without}
    described = [(field.name, kinds.kind_name(field.type), sorted(_decode(field).items())) for field in schema]
    return json.dumps([described, sorted(about.items())]).encode()


def _hash_head(schema: pa.Schema) -> str:
    """Return a hash of what a table says of itself, its columns and its groups, which is known without its rows."""
    return hashlib.sha256(_describe(schema, [HEAD])).hexdigest()[:16]


def _decode(of: pa.Field | pa.Schema) -> dict[str, str]:
    return {name.decode(): text.decode() for name, text in (of.metadata or {}).items()}


def write_parquet(stream: BinaryIO, table: pa.Table, version: str) -> None:
    """Write a table as Parquet. One version of pyarrow writes the same bytes for the same table."""
    about = {**_decode(table.schema), "version": version, GROUPS: json.dumps(_list_groups(table[KEY]))}
    about.pop(HEAD, None)
    schema = table.schema.with_metadata({**about, HEAD: _hash_head(table.schema.with_metadata(about))})
    with pq.ParquetWriter(
        stream,
        schema,
        version="2.6",
        data_page_version="1.0",
        compression="zstd",
        compression_level=3,
        write_page_checksum=True,
    ) as writer:
        for start in range(0, len(table), GROUP):  # a group is one piece, as pages end where pieces end
            part = table.slice(start, GROUP).combine_chunks().replace_schema_metadata(schema.metadata)
            writer.write_table(part, row_group_size=GROUP)
