"""Collections: the results of all outputs of a task with one set of parameters as a table, in Parquet and in FITS.

A table lies beside the outputs of which it is made, ``<root>/<task>/<parameters digest>/<task>_table.parquet``. With
one version of pyarrow its bytes are the same whether it is made anew, or from an earlier table in which only the rows
of new and changed outputs are replaced. Its columns are defined in `table`; where the records of outputs come from is
not known here.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from astra_dagster.errors import AstraError, OutputError
from astra_dagster.fits.reader import FitsFile
from astra_dagster.outputs.atomic import replacing
from astra_dagster.outputs.document import READABLE
from astra_dagster.outputs.layout import table_name
from astra_dagster.outputs.record import Record, find_record, make_pattern
from astra_dagster.outputs.store import OutputStore
from astra_dagster.tables.rows import read_outputs
from astra_dagster.tables.table import (
    IDENTITIES,
    assemble,
    hash_table,
    head_of,
    is_mixed,
    list_identities,
    read_rows,
    read_table,
    write_parquet,
)
from astra_dagster.tables.table_fits import write_fits

AT_ONCE = 50_000
"""Number of records that are compared at a time."""

Records = Mapping[str, Record] | Iterable[tuple[str, Record | str]]
"""Latest record by partition key, or keys with records or their texts, one after another."""


@dataclass(frozen=True)
class Collection:
    """A table that is up to date.

    Attributes
    ----------
    parquet, fits
        Paths of the table; `fits` is None if no FITS table was asked for.
    version
        Hash of the table's contents.
    schema
        Columns of the table; the metadata of a field hold its unit and description.
    rows, partitions
        Number of rows, and of partitions.
    new, changed, dropped
        Number of partitions that are new in the table, that have changed in it, and that are not in it any longer.
    unreadable
        Key of each output that was left out because it could not be read, and the reason.
    """

    parquet: Path
    fits: Path | None
    version: str
    schema: pa.Schema
    rows: int
    partitions: int
    new: int
    changed: int
    dropped: int
    unreadable: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Gathered:
    """The rows of a table as it would be today.

    Attributes
    ----------
    keys, table
        Partition key of each row, and the table.
    had, todo
        Key and data version of each row of the earlier table, and of each output that it lacks.
    version_before
        Version of the earlier table; None if there was none.
    kept
        Number of rows that are those of the earlier table.
    unreadable
        Key of each output that was left out because it could not be read, and the reason.
    """

    keys: pa.ChunkedArray
    table: pa.Table
    had: pa.Table
    todo: pa.Table
    version_before: str | None
    kept: int
    unreadable: tuple[tuple[str, str], ...]

    @property
    def sources(self) -> list[str]:
        """Where the rows are from, in words: how many from the earlier table, and how many from outputs."""
        read = len(self.table) - self.kept
        kept = [f"{self.kept} from the table"] if self.kept else []
        return [*kept, *([f"{read} from outputs"] if read or not kept else [])]

    @property
    def unread(self) -> list[str]:
        """How many outputs were left out, in words; empty if none was."""
        return [f"{len(self.unreadable)} outputs cannot be read"] if self.unreadable else []


def table_path(store: OutputStore, suffix: str = "parquet") -> Path:
    """Where the table of a task with these parameters lies."""
    return store.folder / table_name(store.task.family, suffix)


def collect(
    store: OutputStore,
    records: Records,
    *,
    fits: bool = True,
    overwrite: bool = False,
    progress: Callable[[int], object] | None = None,
) -> Collection:
    """Bring the table of a task with these parameters up to date.

    Rows that an earlier table has are kept; only new and changed outputs are read.

    Parameters
    ----------
    store
        Outputs of the task with its parameters.
    records
        Latest record by partition key, or an iterable of keys and records, or their texts. Records of another code
        version are ignored. Records of other parameters are ignored too, but the rows of such a partition stay that an
        earlier table has, as long as its output exists.
    fits
        Whether to write the table as FITS as well. If not, an outdated FITS table is removed.
    overwrite
        Whether to read all outputs again.
    progress
        Called with the number of outputs that were read since the last call.

    Raises
    ------
    OutputError
        If the table cannot be written. An output that cannot be read raises no error: it is left out, and listed.
    """
    store.prepare()
    path = table_path(store)
    made = gather(store, records, overwrite=overwrite, progress=progress)
    version = hash_table(made.table)
    if version != made.version_before or overwrite:
        with replacing(path) as stream:
            write_parquet(stream, made.table, version)
    _update_fits(store, made.table, version, fits, overwrite)
    there, known = pc.unique(made.keys), pc.unique(made.had["key"])
    done = made.todo.filter(pc.is_in(made.todo["key"], value_set=there))["key"]
    changed = _count(done, known)
    return Collection(
        path,
        table_path(store, "fits") if fits else None,
        version,
        made.table.schema,
        rows=len(made.table),
        partitions=len(there),
        new=len(done) - changed,
        changed=changed,
        dropped=len(known) - _count(known, there),
        unreadable=made.unreadable,
    )


def gather(
    store: OutputStore,
    records: Records,
    *,
    keys: Iterable[str] | None = None,
    overwrite: bool = False,
    progress: Callable[[int], object] | None = None,
) -> Gathered:
    """Join the rows of an earlier table that are up to date, and those read from outputs; write nothing.

    Parameters
    ----------
    keys
        Partitions that the records are of, if these are some of many: then little else of the table is read.
    overwrite, progress
        As of `collect`.
    """
    path = table_path(store)
    before = read_table(store, path) if keys is None else read_rows(store, path, keys)
    had = list_identities(before)
    wanted, same, todo = compare(store, records, had)
    dropped = not pc.all(same, min_count=0).as_py()
    kept = before.filter(same) if before is not None and dropped else before
    # A table does not say which value of a mixed column had which kind, and without some rows the type may differ.
    some = keys is not None or dropped or len(todo) > 0
    anew = before is not None and (overwrite or (some and is_mixed(before.schema)))
    if anew:
        kept = None
    version_before = None if before is None else before.schema.metadata[b"version"].decode()
    del before
    read = []
    for rows in read_outputs(store, wanted if anew else todo):
        read.append(rows)
        if progress is not None:
            progress(rows.outputs)
    keys, table = assemble(store, kept, read, wanted)
    unreadable = tuple(problem for rows in read for problem in rows.problems)
    return Gathered(keys, table, had, todo, version_before, 0 if kept is None else len(kept), unreadable)


def compare(store: OutputStore, records: Records, had: pa.Table) -> tuple[pa.Table, pa.BooleanArray, pa.Table]:
    """Compare the rows of an earlier table with records.

    Parameters
    ----------
    had
        Key and data version of each row of the earlier table.

    Returns
    -------
    wanted
        Key and data version of each partition that belongs to the table, in its order.
    same
        For each row of the earlier table whether it is up to date.
    todo
        Those of `wanted` that the earlier table lacks.
    """
    wanted = _list_wanted(store, records, had)
    same = pc.is_in(_join(had), value_set=_join(wanted))
    return wanted, same, wanted.filter(pc.invert(pc.is_in(_join(wanted), value_set=_join(had))))


def _list_wanted(store: OutputStore, records: Records, had: pa.Table) -> pa.Table:
    """Return key and data version of each partition that belongs to the table, sorted by the parts of the key."""
    pairs = iter(records.items() if isinstance(records, Mapping) else records)
    batches = []
    while chunk := list(islice(pairs, AT_ONCE)):
        known = pa.record_batch(
            [pa.array([str(pair[i]) for pair in chunk], pa.string()) for i in range(2)], schema=IDENTITIES
        )
        current = pc.match_substring_regex(known["data_version"], make_pattern(store.digest, store.task.version))
        batches.append(known.filter(current))
        batches.append(_find_last_run_otherwise(store, known.filter(pc.invert(current)), had))
    table = pa.Table.from_batches(batches, IDENTITIES).combine_chunks()
    order = pc.sort_indices(pc.replace_substring(table["key"], "/", "\0"))  # sorts part by part, as no part holds a 0
    return table.take(order).combine_chunks()


def _find_last_run_otherwise(store: OutputStore, known: pa.RecordBatch, had: pa.Table) -> pa.RecordBatch:
    """Return those partitions last run with other parameters whose output with these exists, in the table or not."""
    records = ((key, Record.parse(text)) for key, text in zip(*known.to_pydict().values(), strict=True))
    keys = [key for key, record in records if record is not None and record.digest != store.digest]
    of_table = had.filter(pc.is_in(had["key"], value_set=pa.array(keys, pa.string()))) if keys else had.slice(0, 0)
    versions = dict(zip(*of_table.to_pydict().values(), strict=True))
    kept: list[tuple[str, str]] = []
    for key in keys:
        record = Record.parse(versions.get(key, ""))
        try:
            size = store.path(store.task.domain.parse_key(key)).stat().st_size
        except (OSError, AstraError):
            continue
        if record is None or (record.size, record.code_version) != (size, store.task.version):
            record = find_record(store, key)
        if record is not None and record.layout in READABLE:
            kept.append((key, str(record)))
    return pa.record_batch([pa.array([pair[i] for pair in kept], pa.string()) for i in range(2)], schema=IDENTITIES)


def _join(known: pa.Table) -> pa.Array:
    return pc.binary_join_element_wise(known["key"], known["data_version"], " ").combine_chunks()


def _count(keys: pa.Array, among: pa.Array) -> int:
    return int(pc.sum(pc.is_in(keys, value_set=among)).as_py() or 0)


def _update_fits(store: OutputStore, table: pa.Table, version: str, wanted: bool, overwrite: bool) -> None:
    path = table_path(store, "fits")
    current = _read_fits_version(path) == version
    if not wanted and not current:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"an outdated table cannot be removed: {error.strerror}", path=path) from error
    if wanted and (overwrite or not current):
        with replacing(path) as stream:
            write_fits(stream, table, store.task.family, head_of(store).cards(version))


def _read_fits_version(path: Path) -> str | None:
    try:
        with FitsFile(path) as file:
            return file.hdu(0).header.text("VERSION")
    except AstraError:
        return None
