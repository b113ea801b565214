"""Records of the past: those of some stretch of time, and the results that stand in them."""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

import dagster as dg

from astra_dagster.orchestration.internals import DATA_VERSION_TAG
from astra_dagster.orchestration.records import BATCH
from astra_dagster.outputs.record import Record
from astra_dagster.tasks.task import Task


def past_results(
    instance: dg.DagsterInstance, task: Task, fits: Callable[[Record], bool], before: float | None
) -> dict[str, Mapping[str, Any]]:
    """Return single values of the results in the latest record of each partition that fits, by key and column.

    Numbers have the few digits that records keep; of several spectra a file it is the first.

    Parameters
    ----------
    before
        Time in seconds since 1970 from which on records are passed over; None for none.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for made, record in _walk_records(instance, task, before_timestamp=before):
        if made.partition not in found and made.partition is not None and fits(record):
            values = {name: made.metadata[name].value for name in task.result_columns if name in made.metadata}
            found[made.partition] = {n: v for n, v in values.items() if isinstance(v, (bool, int, float, str))}
    return found


def records_since(instance: dg.DagsterInstance, task: Task, time: float, most: int) -> list[tuple[str, Record]] | None:
    """Return keys and records that were made after a time, the newest first; None if there are more than `most`."""
    walk = _walk_records(instance, task, after_timestamp=time)
    found = [(made.partition, record) for made, record in islice(walk, most + 1) if made.partition is not None]
    return found if len(found) <= most else None


def _walk_records(
    instance: dg.DagsterInstance, task: Task, **between: float | None
) -> Iterator[tuple[dg.AssetMaterialization, Record]]:
    """Yield all records of a task in a stretch of time, the newest first."""
    wanted = dg.AssetRecordsFilter(asset_key=dg.AssetKey(task.name), **between)  # type: ignore[arg-type]
    cursor: str | None = None
    while True:
        page = instance.fetch_materializations(wanted, limit=BATCH, cursor=cursor)
        for event in page.records:
            made = event.asset_materialization
            record = Record.parse((made.tags or {}).get(DATA_VERSION_TAG, "")) if made else None
            if made is not None and record is not None:
                yield made, record
        if not page.has_more:
            return
        cursor = page.cursor
