"""Remove records that a later one of the same partition has replaced; the latest of each partition always stays.

Observations and planned events that came before the latest record go as well. What is said of an asset today does not
depend on any of them: neither plans, nor tables, nor the marks of the web UI. Its pages of history are shorter then.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg
import sqlalchemy as sa

from astra_dagster.errors import ConfigurationError
from astra_dagster.orchestration.internals import BACKFILL_ID_TAG, NOT_FINISHED_STATUSES, BulkActionStatus
from astra_dagster.orchestration.sources import asset_products
from astra_dagster.orchestration.storage.batches import EVENTS, TOGETHER, BatchedEventLogStorage
from astra_dagster.tasks import registry

WINDOW = 5000
"""Events that are removed in one transaction."""


@dataclass(frozen=True)
class EarlierRecords:
    """Events of an asset that its latest records have replaced.

    Attributes
    ----------
    count, size
        Their number, and the bytes of their texts in the database.
    """

    asset: str
    count: int
    size: int


def find_assets(names: Collection[str]) -> list[str]:
    """Return the names of the assets of these tasks and products; without any, all that have records.

    Raises
    ------
    AstraError
        If there is no such task or product.
    """
    products = {name: item for item in asset_products() for name in (item.name, item.asset_name)}
    chosen = [products[name].asset_name if name in products else registry.find_task(name).name for name in names]
    return sorted({*chosen} or {*registry.tasks(), *(item.asset_name for item in products.values())})


def survey(instance: dg.DagsterInstance, assets: Collection[str], older: float = 0.0) -> list[EarlierRecords]:
    """Count the events that can go; change nothing.

    Parameters
    ----------
    assets
        Names of assets of products and tasks.
    older
        Only events of more than so many days ago.

    Raises
    ------
    ConfigurationError
        If the records are kept by Dagster's own storage.
    """
    storage = _storage_of(instance)
    found = []
    for asset in assets:
        count = size = 0
        for wanted in _select(asset, older, _spared(instance)):
            sums = sa.select(sa.func.count(), sa.func.sum(sa.func.length(EVENTS.c.event))).where(wanted)
            with storage.index_connection() as index:
                number, length = index.execute(sums).one()
            count, size = count + number, size + (length or 0)
        if count:
            found.append(EarlierRecords(asset, count, size * (2 if storage.is_run_sharded else 1)))
    return found


def remove(instance: dg.DagsterInstance, found: Collection[EarlierRecords], older: float = 0.0) -> int:
    """Remove the events that can go of the assets that were found, and return their number."""
    storage = _storage_of(instance)
    removed = 0
    for asset in found:
        for wanted in _select(asset.asset, older, _spared(instance)):
            while rows := _take(storage, wanted):
                by_run: dict[str, list[dict[str, object]]] = {}
                for row in rows:
                    names = {"kind": row.dagster_event_type, "key": row.partition, "at": row.timestamp}
                    by_run.setdefault(row.run_id, []).append({**names, "asset": row.asset_key})
                storage.remove_from_runs(by_run)  # first, so that what is left of them is found again
                storage.remove_events([row.id for row in rows])
                removed += len(rows)
    return removed


def _take(storage: BatchedEventLogStorage, wanted: sa.ColumnElement[bool]) -> list[sa.Row[tuple[object, ...]]]:
    columns = (EVENTS.c[name] for name in ("id", "run_id", "dagster_event_type", "asset_key", "partition", "timestamp"))
    with storage.index_connection() as index:
        return list(index.execute(sa.select(*columns).where(wanted).order_by(EVENTS.c.id).limit(WINDOW)))


def _select(asset: str, older: float, spared: Collection[str]) -> Iterator[sa.ColumnElement[bool]]:
    """Conditions for the events of each type that a later record has replaced."""
    later = EVENTS.alias("later")
    key = dg.AssetKey(asset).to_string()
    for kind in TOGETHER:
        yield sa.and_(
            EVENTS.c.asset_key == key,
            EVENTS.c.dagster_event_type == kind.value,
            EVENTS.c.partition.is_not(None),
            EVENTS.c.timestamp < datetime.now(UTC).replace(tzinfo=None) - timedelta(days=older),
            EVENTS.c.run_id.not_in(spared),
            sa.exists().where(
                later.c.asset_key == key,
                later.c.dagster_event_type == dg.DagsterEventType.ASSET_MATERIALIZATION.value,
                later.c.partition == EVENTS.c.partition,
                later.c.id > EVENTS.c.id,
            ),
        )


def _spared(instance: dg.DagsterInstance) -> list[str]:
    """Runs that are not finished, and those of backfills that are not: Dagster counts what they have recorded."""
    runs = [run.run_id for run in instance.get_runs(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES))]
    under_way = (BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING, BulkActionStatus.FAILING)
    backfills = [backfill.backfill_id for status in under_way for backfill in instance.get_backfills(status=status)]
    if backfills:
        runs += [run.run_id for run in instance.get_runs(dg.RunsFilter(tags={BACKFILL_ID_TAG: backfills}))]
    return runs


def _storage_of(instance: dg.DagsterInstance) -> BatchedEventLogStorage:
    storage = instance.event_log_storage
    if not isinstance(storage, BatchedEventLogStorage):
        raise ConfigurationError(
            "records can be removed from the storage of this package only, and Dagster's own is in use",
            hint="`astra-dagster init` writes a dagster.yaml that names it, with the same database",
        )
    return storage
