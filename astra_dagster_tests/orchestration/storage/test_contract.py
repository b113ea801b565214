"""The storages keep their contract, and the batched ones answer every question as Dagster's own do."""

import inspect
import itertools
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.event_api import PartitionKeyFilter, RunStatusChangeRecordsFilter
from dagster._core.events import (
    ASSET_CHECK_EVENTS,
    ASSET_EVENTS,
    BATCH_WRITABLE_EVENTS,
    EVENT_TYPE_TO_PIPELINE_RUN_STATUS,
    DagsterEventBatchMetadata,
    DagsterEventType,
)
from dagster._core.instance import MayHaveInstanceWeakref
from dagster._core.loader import LoadingContextForTest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.dagster_run import DagsterRun
from dagster._core.storage.event_log.base import EventLogCursor, EventLogStorage
from dagster._core.storage.event_log.schema import SqlEventLogStorageMetadata
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

from astra_dagster.orchestration.storage.batches import TOGETHER, BatchedEventLogStorage
from astra_dagster.orchestration.storage.packing import unpack
from astra_dagster_tests.orchestration.homes import home
from astra_dagster_tests.orchestration.storage.contract import BatchedStorageContract, StorageContract
from astra_dagster_tests.orchestration.storage.events import ASSETS, CHECKS, PARTITIONS, RUNS, UNKNOWN, Chance

OF_ASSETS = [
    DagsterEventType.ASSET_MATERIALIZATION,
    DagsterEventType.ASSET_OBSERVATION,
    DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
]
STATUSES = ["PIPELINE_STARTING", "PIPELINE_START", "PIPELINE_SUCCESS", "PIPELINE_FAILURE"]
WRITES = {"store_event", "store_event_batch", "delete_events", "upgrade", "reindex_events", "reindex_assets", "wipe"}
WRITES |= {"wipe_asset", "wipe_asset_partitions", "wipe_asset_cached_status", "update_asset_cached_status_data"}
WRITES |= {"add_dynamic_partitions", "delete_dynamic_partition", "initialize_concurrency_limit_to_default"}
WRITES |= {"set_concurrency_slots", "delete_concurrency_limit", "claim_concurrency_slot", "check_concurrency_claim"}
WRITES |= {"free_concurrency_slots_for_run", "free_concurrency_slot_for_step"}
ELSEWHERE = {"watch", "end_watch", "dispose", "optimize_for_webserver", "alembic_version"}
DEF = dg.StaticPartitionsDefinition(PARTITIONS)


def happen(instance: dg.DagsterInstance, seed: int, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Let a made-up history happen: events, singly and in batches, and what people do to an instance.

    Returns what is known of the assets after each batch.
    """
    known = []
    chance, storage = Chance(seed), instance.event_log_storage
    clock = "dagster._core.storage.event_log.sql_event_log.get_current_timestamp"
    monkeypatch.setattr(clock, lambda: chance.time + 0.0001)
    for run_id in RUNS:
        instance.run_storage.add_run(DagsterRun("job", run_id))
    storage.add_dynamic_partitions("files", PARTITIONS)
    for i in range(25):
        batch, name = chance.batch(), str(uuid.uuid4())
        for n, event in enumerate(batch, start=1):
            instance.handle_new_event(event, batch_metadata=DagsterEventBatchMetadata(name, n == len(batch)))
        known.append([record.asset_entry for record in storage.get_asset_records()])
        run_id = chance.random.choice(RUNS)
        instance.handle_new_event(chance.status(run_id, chance.random.choice(STATUSES)))
        match i:
            case 8:
                storage.wipe_asset(ASSETS[0])
            case 13:
                storage.delete_events(RUNS[0])
            case 15:
                storage.delete_dynamic_partition("files", PARTITIONS[2])
            case 18:
                storage.wipe_asset(ASSETS[1])
                storage.wipe_asset_cached_status(ASSETS[2])
    return known


def filters(storage: EventLogStorage) -> list[dict[str, Any]]:
    newest = storage.get_maximum_record_id() or 0
    times = Chance(0).time
    return [
        {},
        {"asset_partitions": PARTITIONS[:2]},
        {"after_cursor": newest // 3, "before_cursor": newest // 2},
        {"after_timestamp": times + 20, "before_timestamp": times + 60},
        {"storage_ids": list(range(1, newest, 3))},
    ]


def pages(fetch: Callable[..., Any], *, ascending: bool) -> list[Any]:
    found, cursor = [], None
    while True:
        page = fetch(limit=7, cursor=cursor, ascending=ascending)
        found.append((page.records, page.cursor, page.has_more))
        cursor = page.cursor
        if not page.has_more:
            return found


def asked_of_events(storage: EventLogStorage) -> dict[str, Any]:
    """What is asked of the events of assets."""
    newest = storage.get_maximum_record_id() or 0
    pairs = list(itertools.product([*ASSETS, UNKNOWN], OF_ASSETS))
    both = (True, False)
    return {
        "get_maximum_record_id": newest,
        "get_event_records": [
            storage.get_event_records(dg.EventRecordsFilter(kind, asset, **more), limit, ascending=ascending)
            for asset, kind in pairs
            for more in filters(storage)
            for limit in (None, 5)
            for ascending in both
        ],
        "fetch_materializations": [
            pages(lambda a=asset, **named: storage.fetch_materializations(a, **named), ascending=ascending)
            for asset in [*ASSETS, UNKNOWN, dg.AssetRecordsFilter(ASSETS[0], PARTITIONS[1:3])]
            for ascending in both
        ],
        "fetch_failed_materializations": [storage.fetch_failed_materializations(asset, 10) for asset in ASSETS],
        "fetch_observations": [
            pages(lambda a=asset, **named: storage.fetch_observations(a, **named), ascending=ascending)
            for asset in [*ASSETS, dg.AssetRecordsFilter(ASSETS[1], after_storage_id=newest // 2)]
            for ascending in both
        ],
        "fetch_run_status_changes": [
            pages(lambda w=wanted, **named: storage.fetch_run_status_changes(w, **named), ascending=ascending)
            for kind in map(DagsterEventType, STATUSES)
            for wanted in (kind, RunStatusChangeRecordsFilter(kind, after_timestamp=Chance(0).time + 50))
            for ascending in both
        ],
        "get_asset_event_summary_records": [
            storage.get_asset_event_summary_records(kind, **more)
            for kind in OF_ASSETS
            for more in (
                {},
                {"asset_key": ASSETS[0], "limit": 4, "ascending": True},
                {"run_id": RUNS[1], "after_storage_id": newest // 4},
                {"storage_ids": list(range(1, newest, 2)), "before_storage_id": newest // 2},
            )
        ],
        "get_materialized_partitions": [
            storage.get_materialized_partitions(asset, before_cursor=before, after_cursor=after)
            for asset in [*ASSETS, UNKNOWN]
            for before, after in ((None, None), (newest // 2, None), (None, newest // 2))
        ],
        "get_latest_storage_id_by_partition": [
            storage.get_latest_storage_id_by_partition(asset, kind, some, after_cursor=after)
            for asset, kind in pairs
            for some in (None, set(PARTITIONS[:3]))
            for after in (None, newest // 2)
        ],
        "get_latest_tags_by_partition": [
            storage.get_latest_tags_by_partition(asset, kind, names, some, before_cursor=before)
            for asset, kind in pairs
            for names in (["dagster/data_version"], ["dagster/data_version", "dagster/partition/night"])
            for some in (None, PARTITIONS[:3])
            for before in (None, newest // 2)
        ],
        "get_event_tags_for_asset": [
            storage.get_event_tags_for_asset(asset, tags, only)
            for asset in [*ASSETS, UNKNOWN]
            for tags in (None, {"dagster/data_version": "v1"}, {"dagster/partition/night": "n1"})
            for only in (None, newest // 2)
        ],
        "get_asset_tags_to_index": storage.get_asset_tags_to_index({"dagster/data_version", "mine"}),
        "get_latest_asset_partition_materialization_attempts_without_materializations": [
            storage.get_latest_asset_partition_materialization_attempts_without_materializations(asset, after)
            for asset in ASSETS
            for after in (None, newest // 2)
        ],
        "get_latest_planned_materialization_info": [
            storage.get_latest_planned_materialization_info(asset, partition)
            for asset in [*ASSETS, UNKNOWN]
            for partition in [None, *PARTITIONS]
        ],
        "get_updated_data_version_partitions": [
            storage.get_updated_data_version_partitions(asset, PARTITIONS, since)
            for asset in ASSETS
            for since in range(0, newest, 40)
        ],
        "get_logs_for_all_runs_by_log_id": [
            storage.get_logs_for_all_runs_by_log_id(after, kind, limit)
            for after in (-1, newest // 2)
            for kind in (None, *OF_ASSETS)
            for limit in (None, 10)
        ],
    }


def asked_of_runs(storage: EventLogStorage) -> dict[str, Any]:
    """What is asked of the log of a run."""
    runs = [*RUNS, ""]
    kinds = [None, DagsterEventType.ASSET_MATERIALIZATION, {DagsterEventType.STEP_START, DagsterEventType.ENGINE_EVENT}]
    middle = EventLogCursor.from_storage_id(60).to_string()
    records = [
        storage.get_records_for_run(run_id, cursor, kind, limit, ascending=ascending)
        for run_id in runs
        for kind in kinds
        for limit in (None, 9)
        for ascending in (True, False)
        for cursor in (None, EventLogCursor.from_offset(3).to_string(), middle)
    ]
    return {
        "get_records_for_run": records,
        "get_logs_for_run": [storage.get_logs_for_run(run_id, of_type=kind) for run_id in runs for kind in kinds],
        "get_asset_partitions_for_run": [storage.get_asset_partitions_for_run(run_id) for run_id in runs],
        "get_asset_keys_for_run": [set(storage.get_asset_keys_for_run(run_id)) for run_id in runs],
        "get_stats_for_run": [storage.get_stats_for_run(run_id) for run_id in runs],
        "get_step_stats_for_run": [
            storage.get_step_stats_for_run(run_id, steps) for run_id in runs for steps in (None, ["a", "c"])
        ],
        "default_run_scoped_event_tailer_offset": storage.default_run_scoped_event_tailer_offset(),
    }


def asked_of_assets(instance: dg.DagsterInstance) -> dict[str, Any]:
    """What is asked of assets and partitions."""
    storage = instance.event_log_storage
    everything = [*ASSETS, UNKNOWN]
    with partition_loading_context(dynamic_partitions_store=instance):
        context = LoadingContextForTest(instance)
        status = storage.get_asset_status_cache_values([(asset, DEF) for asset in ASSETS], context)
    records = storage.get_asset_records()
    ids = sorted(record.storage_id for record in records)  # such an id has no meaning but its order
    return {
        "get_asset_records": [
            [(ids.index(record.storage_id), record.asset_entry) for record in found]
            for found in (records, storage.get_asset_records(ASSETS[:2]), storage.get_asset_records([UNKNOWN]))
        ],
        "get_latest_materialization_storage_ids": storage.get_latest_materialization_storage_ids(everything),
        "get_latest_materialization_events": storage.get_latest_materialization_events(everything),
        "get_freshness_state_records": storage.get_freshness_state_records(everything),
        "has_asset_key": [storage.has_asset_key(asset) for asset in everything],
        "all_asset_keys": storage.all_asset_keys(),
        "get_asset_keys": [storage.get_asset_keys(), storage.get_asset_keys(["x"]), storage.get_asset_keys(None, 2)],
        "get_asset_status_cache_values": [
            value and (value, sorted(value.deserialize_materialized_partition_subsets(DEF).get_partition_keys()))
            for value in status
        ],
        # In another order than Dagster's own, which is that of registration: see the contract.
        "get_dynamic_partitions": sorted(storage.get_dynamic_partitions("files")),
        "get_paginated_dynamic_partitions": len(
            storage.get_paginated_dynamic_partitions("files", 3, ascending=True).results
        ),
        "has_dynamic_partition": [storage.has_dynamic_partition("files", key) for key in PARTITIONS],
        "get_existing_dynamic_partitions": set(storage.get_existing_dynamic_partitions("files", PARTITIONS)),
    }


def asked_of_checks(storage: EventLogStorage) -> dict[str, Any]:
    """What is asked of asset checks; when a row was made is told by a clock of its own."""

    newest = storage.get_maximum_record_id() or 0
    return {
        "get_asset_check_execution_history": [
            [_timeless(record) for record in storage.get_asset_check_execution_history(check, 20, cursor, status, only)]
            for check in CHECKS
            for cursor in (None, 6)
            for status in (None, {AssetCheckExecutionRecordStatus.PLANNED})
            for only in (None, PartitionKeyFilter(key=PARTITIONS[0]))
        ],
        "get_latest_asset_check_execution_by_key": [
            {key: _timeless(record) for key, record in found.items()}
            for found in (storage.get_latest_asset_check_execution_by_key(CHECKS),)
        ],
        "get_asset_check_summary_records": {
            key: (_timeless(record.last_check_execution_record), record.last_run_id)
            for key, record in storage.get_asset_check_summary_records(CHECKS).items()
        },
        "get_asset_check_partition_info": [
            sorted(storage.get_asset_check_partition_info(CHECKS, after, keys), key=repr)
            for after in (None, newest // 2)
            for keys in (None, PARTITIONS[:1])
        ],
        "get_checkpointed_asset_check_state": storage.get_checkpointed_asset_check_state(CHECKS),
        "get_asset_check_state": storage.get_asset_check_state([(check, DEF) for check in CHECKS]),
    }


def _timeless(record: Any) -> Any:
    return record and record._replace(create_timestamp=0.0)


def abilities(storage: EventLogStorage) -> dict[str, Any]:
    """Properties, and the questions that have nothing to do with events."""
    names = [name for name, _ in inspect.getmembers(EventLogStorage, lambda member: isinstance(member, property))]
    return {
        **{name: getattr(storage, name) for name in names if not name.startswith("_")},
        **{name: getattr(storage, name)() for name in ("can_read_asset_status_cache", "can_write_asset_status_cache")},
        "get_concurrency_keys": storage.get_concurrency_keys(),
        "get_concurrency_run_ids": storage.get_concurrency_run_ids(),
        "get_concurrency_info": storage.get_concurrency_info("pool"),
        "get_concurrency_infos": storage.get_concurrency_infos(["pool"]),
        "get_pool_limits": storage.get_pool_limits(),
        "get_pool_config": storage.get_pool_config(),
    }


def tables(storage: SqlEventLogStorage, folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables, less the times that the database itself puts down, and less ids where none asks them.

    Texts that are packed are unpacked.
    """
    if storage.is_run_sharded:
        places = [f"sqlite:///{path}" for path in sorted((folder / "history" / "runs").glob("*.db"))]
    else:
        places = [storage.postgres_url]
    found = {}
    for place in places:
        engine = sa.create_engine(place, poolclass=sa.NullPool)
        with engine.connect() as connection:
            for table in SqlEventLogStorageMetadata.sorted_tables:
                clocks = {"create_timestamp", "update_timestamp", "migration_completed"}
                unasked = {"id"} if table.name == "asset_keys" else set()
                columns = [column for column in table.columns if column.name not in clocks | unasked]
                rows = connection.execute(sa.select(*columns).order_by(table.c.id)).all()
                found[f"{Path(place).name if storage.is_run_sharded else ''} {table.name}"] = [
                    tuple(unpack(value) if isinstance(value, bytes) else value for value in row) for row in rows
                ]
    return found


class TestStockSqlite(StorageContract):
    database, ours = "sqlite", False


class TestStockPostgresql(StorageContract):
    database, ours = "postgresql", False


class TestBatchedSqlite(BatchedStorageContract):
    database = "sqlite"


class TestBatchedPostgresql(BatchedStorageContract):
    database = "postgresql"


def test_no_question_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(home(tmp_path, request, "sqlite", ours=True)))
    with dg.DagsterInstance.get() as instance:
        asked = answers(instance).keys()
    public = {name for name in dir(EventLogStorage) if not name.startswith("_")}
    inherited = {name for name in dir(MayHaveInstanceWeakref) if not name.startswith("_")}
    assert public - inherited - asked == WRITES | ELSEWHERE, "Dagster asks more, or less, of a storage than it did"


def test_no_kind_of_event_is_left_out() -> None:
    """What Dagster writes in batches, and what it keeps beside the event: another kind needs a look at our code."""
    singly = {DagsterEventType.ASSET_FAILED_TO_MATERIALIZE, DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED}
    assert {*TOGETHER, *singly} == BATCH_WRITABLE_EVENTS
    assert {*TOGETHER} <= ASSET_EVENTS
    assert not {*TOGETHER} & {*ASSET_CHECK_EVENTS, *EVENT_TYPE_TO_PIPELINE_RUN_STATUS}


def answers(instance: dg.DagsterInstance) -> dict[str, Any]:
    storage = instance.event_log_storage
    return {
        **asked_of_events(storage),
        **asked_of_runs(storage),
        **asked_of_assets(instance),
        **asked_of_checks(storage),
        **abilities(storage),
    }


@pytest.mark.slow
@pytest.mark.parametrize(("database", "seed"), [("sqlite", 0), ("postgresql", 1)])
def test_every_question_has_the_same_answer(
    database: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    found, rows, known = {}, {}, {}
    for ours in (False, True):
        folder = home(tmp_path / str(ours), request, database, ours=ours)
        monkeypatch.setenv("DAGSTER_HOME", str(folder))
        with dg.DagsterInstance.get() as instance:
            assert isinstance(instance.event_log_storage, BatchedEventLogStorage) == ours
            # Connections are kept, as a web server keeps them: thousands of questions would each make their own.
            instance.optimize_for_webserver(statement_timeout=60_000, pool_recycle=3600, max_overflow=10)
            monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "10" if ours else "0")
            known[ours] = happen(instance, seed, monkeypatch)
            rows[ours] = tables(instance.event_log_storage, folder)
            found[ours] = answers(instance)
    assert known[True] == known[False]
    assert rows[True].keys() == rows[False].keys()
    for name in rows[False]:
        assert rows[True][name] == rows[False][name], name
    assert found[True].keys() == found[False].keys()
    for name in found[False]:
        assert found[True][name] == found[False][name], name
