"""Read a side of a comparison: from its table where that is current, else from outputs; of the past from records."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from astra_dagster import settings
from astra_dagster.comparison.sides import Side, SideRequest, split_arrays
from astra_dagster.datamodel.products import DataID
from astra_dagster.errors import ComparisonError
from astra_dagster.files import open_file
from astra_dagster.orchestration.records import DagsterLedger, record_texts
from astra_dagster.orchestration.storage.past_records import past_results, records_since
from astra_dagster.outputs.pictures import shown_input, shown_output
from astra_dagster.outputs.record import Record
from astra_dagster.outputs.store import OutputStore
from astra_dagster.planning.ledger import Selection, select_keys
from astra_dagster.results.scan import list_columns
from astra_dagster.tables.collection import gather, table_path
from astra_dagster.tables.column_types import find_kinds, make_array
from astra_dagster.tables.table import find_results, list_identities, read_table
from astra_dagster.tables.table_columns import KEY, SPECTRUM, part_names
from astra_dagster.tasks.task import Task
from astra_dagster.viewer.shown import ShownSpectra

MOST_NEWER = 20_000
"""Most records that are looked at to tell whether a table is current; if there are more, all records are read."""

MARGIN = 3600.0
"""Seconds before a table was written from which on records are looked at: it may have taken long to make."""


def read_side(ledger: DagsterLedger, task: Task, request: SideRequest) -> Side:
    """Read the rows of a side of a comparison of a task's results.

    Raises
    ------
    ParameterError
        If there is no such parameter.
    ComparisonError
        If a kept table cannot be read.
    """
    mine = task.setting(request.parameters)
    store = OutputStore(settings.outputs_dir(), mine, mine.values())
    if request.path is not None:
        table, source = _read_kept(request.path), "a kept table"
    elif request.before is not None or request.code_version is not None:
        table, source = _read_past(ledger, store, request), "records, which keep four digits"
    else:
        table, source = _read_today(ledger, store, request)
    if request.releases:
        release = pc.list_element(pc.split_pattern(table[KEY], "/", max_splits=1), 0)
        table = table.filter(pc.is_in(release, value_set=pa.array(request.releases)))
    return make_side(request.name, store, table, source, request.parameters)


def make_side(name: str, store: OutputStore, table: pa.Table, source: str, parameters: Mapping[str, Any]) -> Side:
    """Make a side from its rows.

    Parameters
    ----------
    parameters
        Parameters other than the defaults, for the command that shows spectra.
    """
    task = store.task
    table = table.select(list_columns(store, table.schema))
    words = [task.name, *(word for item in parameters.items() for word in ("--set", "=".join(map(_write, item))))]
    of_spectra = task.output == "fits"

    def read(key: str) -> ShownSpectra:
        data_id = task.domain.parse_key(key)
        if isinstance(data_id, DataID) and not of_spectra:
            return shown_input(data_id, settings.sas_base_dir())
        return shown_output(store, data_id)

    return Side(
        name, split_arrays(table), part_names(task.domain), source, shlex.join(words) if of_spectra else "", read
    )


def _write(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _read_today(ledger: DagsterLedger, store: OutputStore, request: SideRequest) -> tuple[pa.Table, str]:
    """Return the rows as they are today, and where they are from."""
    path = table_path(store)
    table = read_table(store, path)
    newer = None if table is None else _count_newer(ledger, store, table, path)
    if table is not None and len(table) and newer == 0:
        return table, f"{len(table)} from the table"
    keys = select_keys(ledger, store.task.domain, Selection(request.releases or store.task.releases))
    made = gather(store, record_texts(ledger.instance, store.task, keys, every=False))
    stale = [f"the table is stale (newer results: {newer})"] if newer else []
    return made.table, ", ".join([*stale, *made.sources, *made.unread])


def _count_newer(ledger: DagsterLedger, store: OutputStore, table: pa.Table, path: Path) -> int | None:
    """Return the number of results that a table lacks; None if they are too many to say."""
    if (table.schema.metadata or {}).get(b"code_version", b"").decode() != store.task.version:
        return None
    records = records_since(ledger.instance, store.task, path.stat().st_mtime - MARGIN, MOST_NEWER)
    if records is None:
        return None
    latest: dict[str, Record] = {}
    for key, record in records:
        if record.digest == store.digest and record.code_version == store.task.version:
            latest.setdefault(key, record)
    had = list_identities(table)
    some = had.filter(pc.is_in(had[KEY], value_set=pa.array(list(latest), pa.string())))
    known = dict(zip(some[KEY].to_pylist(), some["data_version"].to_pylist(), strict=True))
    return len([key for key, record in latest.items() if known.get(key) != str(record)])


def _read_past(ledger: DagsterLedger, store: OutputStore, request: SideRequest) -> pa.Table:
    """Return the rows that records have, of another time or code version."""
    version = request.code_version

    def fits(record: Record) -> bool:
        return record.digest == store.digest and version in (None, record.code_version)

    before = request.before.timestamp() if request.before else None
    found = past_results(ledger.instance, store.task, fits, before)
    if not found:
        raise ComparisonError(
            f"no record of {store.task.name} is of {request.name}", hint="Dagster's records say what there was"
        )
    return _make_table(store, found)


def _make_table(store: OutputStore, found: Mapping[str, Mapping[str, Any]]) -> pa.Table:
    columns: list[pa.Array] = [pa.array(list(found), pa.string()), pa.array([0] * len(found), pa.int32())]
    fields = [pa.field(KEY, pa.string()), pa.field(SPECTRUM, pa.int32())]
    for name, column in store.task.result_columns.items():
        values = [row.get(name) for row in found.values()]
        kinds = find_kinds(values)
        if kinds:
            columns.append(make_array(values, kinds))
            about = {"result": name, "unit": column.unit, "description": column.description}
            fields.append(pa.field(name, columns[-1].type, metadata={n: text for n, text in about.items() if text}))
    return pa.table(columns, schema=pa.schema(fields))


def _read_kept(path: Path) -> pa.Table:
    try:
        with open_file(path) as stream:
            table = pq.read_table(stream, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise ComparisonError(f"this table cannot be read: {error}", path=path) from error
    if KEY not in table.column_names or not find_results(table.schema):
        raise ComparisonError("this is no table of results", path=path, hint="astra-dagster table makes them")
    return table
