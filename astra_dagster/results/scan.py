"""Results of any number of partitions as a lazy frame of polars, over the table of the task where that is current."""

import importlib
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from astra_dagster.errors import ConfigurationError, TooManyRowsError
from astra_dagster.outputs.store import OutputStore
from astra_dagster.tables.collection import Records, compare, table_path
from astra_dagster.tables.rows import read_outputs
from astra_dagster.tables.table import IDENTITIES, assemble, find_results, is_mixed, read_identities
from astra_dagster.tables.table_columns import KEY, SPECTRUM


def find_library(name: str) -> Any:
    """Import a table library, which need not be installed.

    Raises
    ------
    ConfigurationError
        If it is not.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigurationError(f"{name} is not installed", hint=f"pip install {name}") from error


def list_columns(store: OutputStore, schema: pa.Schema) -> list[str]:
    """Return the columns of a table that results have: the key, the spectrum if a file has several, and the results."""
    first = [KEY, SPECTRUM] if store.several else [KEY]
    return [*first, *(field.name for _, field in find_results(schema))]


def scan(store: OutputStore, records: Records, limit: int) -> Any:
    """Return a polars LazyFrame of the results of these records.

    Of the table only keys and versions are read here; the frame reads its columns when it is collected. Rows that the
    table lacks are read from outputs, and come last.

    Parameters
    ----------
    limit
        Most outputs that are read.

    Raises
    ------
    ConfigurationError
        If polars is not installed.
    TooManyRowsError
        If the table lacks more than that.
    """
    polars = find_library("polars")
    before = read_identities(store, table_path(store))
    had = IDENTITIES.empty_table() if before is None else before[1]
    wanted, same, todo = compare(store, records, had)
    if before is not None and len(todo) and is_mixed(before[0]):  # its types may differ with the other rows
        before, todo = None, wanted
    if len(todo) > limit:
        raise TooManyRowsError(
            f"{len(todo)} outputs of {store.task.name} are not in its table, more than the {limit} that are read",
            hint=f"run astra-dagster table {store.task.name} first",
        )
    frames = []
    if before is not None:
        frame = polars.scan_parquet(table_path(store)).select(list_columns(store, before[0]))
        if not pc.all(same, min_count=0).as_py():
            frame = frame.join(polars.from_arrow(had.filter(same).select([KEY])).unique().lazy(), on=KEY, how="semi")
        frames.append(frame)
    if before is None or len(todo):
        _, read = assemble(store, None, list(read_outputs(store, todo)), todo)
        frames.append(polars.from_arrow(read.select(list_columns(store, read.schema))).lazy())
    return polars.concat(frames, how="diagonal_relaxed")
