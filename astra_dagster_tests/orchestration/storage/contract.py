"""What records expect of a storage: a contract that every storage keeps, and a stricter one for those in batches.

A subclass says which storage an instance has. As in the stores of zarr, whoever writes a storage has it tested by one
class of a few lines: see `test_contract`.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.definitions.partitions.subset import DefaultPartitionsSubset

from astra_dagster.orchestration.storage.batches import BatchedEventLogStorage
from astra_dagster_tests.orchestration.homes import home
from astra_dagster_tests.orchestration.storage.events import (
    CHECKS,
    RUNS,
    START,
    Chance,
    check_planned,
    materialisations,
)


def store(instance: dg.DagsterInstance, events: Sequence[dg.EventLogEntry]) -> None:
    """Write a batch of events."""
    instance.event_log_storage.store_event_batch(events)


class StorageContract:
    """What records expect of any storage, Dagster's own included.

    Attributes
    ----------
    database
        "sqlite" or "postgresql".
    ours
        Whether it is a storage of this package.
    """

    database: ClassVar[str]
    ours: ClassVar[bool]

    @pytest.fixture
    def instance(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
    ) -> Iterator[dg.DagsterInstance]:
        monkeypatch.setenv("DAGSTER_HOME", str(home(tmp_path / "home", request, self.database, ours=self.ours)))
        with dg.DagsterInstance.get() as instance:
            assert isinstance(instance.event_log_storage, BatchedEventLogStorage) == self.ours
            yield instance

    def test_records_are_read_as_they_were_written(self, instance: dg.DagsterInstance) -> None:
        events = materialisations(RUNS[0], 30)
        store(instance, events[:20])
        store(instance, events[20:])
        written = [event.get_dagster_event().partition for event in events]
        found = instance.fetch_materializations(dg.AssetKey("a"), limit=99, ascending=True).records
        assert [record.partition_key for record in found] == written
        ids = [record.storage_id for record in found]
        assert ids == sorted(set(ids))
        assert set(instance.get_materialized_partitions(dg.AssetKey("a"))) == set(written)
        latest = instance.event_log_storage.get_latest_storage_id_by_partition(
            dg.AssetKey("a"), dg.DagsterEventType.ASSET_MATERIALIZATION
        )
        assert latest == dict(zip(written, ids, strict=True))
        assert [entry.user_message for entry in instance.all_logs(RUNS[0])] == [e.user_message for e in events]

    def test_nothing_is_written_of_an_empty_batch(self, instance: dg.DagsterInstance) -> None:
        store(instance, [])
        assert instance.event_log_storage.get_maximum_record_id() in (None, 0)

    def test_other_processes_get_the_same_storage(self, instance: dg.DagsterInstance) -> None:
        with dg.DagsterInstance.from_ref(instance.get_ref()) as other:
            assert type(other.event_log_storage) is type(instance.event_log_storage)
            assert other.run_storage.supports_bucket_queries == instance.run_storage.supports_bucket_queries
            other.upgrade()
            store(other, materialisations("one", 3))
        assert len(instance.fetch_materializations(dg.AssetKey("a"), limit=9).records) == 3

    def test_watchers_see_every_event_of_a_batch(self, instance: dg.DagsterInstance) -> None:
        seen: list[str | None] = []
        instance.watch_event_logs(RUNS[0], None, lambda event, _: seen.append(event.get_dagster_event().partition))
        events = materialisations(RUNS[0], 40)
        for start in range(0, 40, 10):
            store(instance, events[start : start + 10])
        for _ in range(300):
            if len(seen) == len(events):
                break
            time.sleep(0.1)
        instance.event_log_storage.dispose()
        assert seen == [event.get_dagster_event().partition for event in events]


class BatchedStorageContract(StorageContract):
    """What records expect of a storage that writes in batches, besides."""

    ours = True

    def test_partition_keys_are_in_the_order_of_their_text(self, instance: dg.DagsterInstance) -> None:
        """So a range takes what was found later, too."""
        for late in (["DR17/b", "DR17/a/10"], ["DR13/z"], ["DR17/a/2", "DR17/a"]):
            instance.add_dynamic_partitions("files", late)
        keys = ["DR13/z", "DR17/a", "DR17/a/10", "DR17/a/2", "DR17/b"]
        assert list(instance.get_dynamic_partitions("files")) == keys
        for ascending in (True, False):
            found: list[str] = []
            cursor, more = None, True
            while more:
                page = instance.event_log_storage.get_paginated_dynamic_partitions("files", 2, ascending, cursor)
                found, cursor, more = [*found, *page.results], page.cursor, page.has_more
                assert 0 < len(page.results) <= 2
            assert found == (keys if ascending else keys[::-1])
        assert instance.event_log_storage.get_paginated_dynamic_partitions("none", 2, ascending=True).results == []

    @pytest.mark.parametrize("others", [False, True])
    def test_a_batch_is_one_transaction_in_each_database(self, instance: dg.DagsterInstance, others: bool) -> None:
        chance = Chance(0)
        events = materialisations(RUNS[0], 20)
        if others:
            planned = check_planned(RUNS[0], START, CHECKS[0], None)
            events[10:10] = [planned, chance.said(RUNS[0]), chance.step(RUNS[0])]
        store(instance, materialisations(RUNS[0], 1))  # a database of its own for the run
        commits = 0

        def count(_: sa.Connection) -> None:
            nonlocal commits
            commits += 1

        sa.event.listen(sa.Engine, "commit", count)
        try:
            store(instance, events)
        finally:
            sa.event.remove(sa.Engine, "commit", count)
        assert commits == (2 if instance.event_log_storage.is_run_sharded else 1)
        assert [record.user_message for record in instance.all_logs(RUNS[0])][1:] == [e.user_message for e in events]

    def test_all_of_a_batch_or_nothing(self, instance: dg.DagsterInstance) -> None:
        planned = check_planned(RUNS[0], START, CHECKS[0], DefaultPartitionsSubset({"one"}))
        events = [*materialisations(RUNS[0], 5), planned, *materialisations(RUNS[1], 5), planned]
        with pytest.raises(sa.exc.IntegrityError):  # the same check cannot be planned twice
            store(instance, events)
        for run_id in RUNS[:2]:
            assert list(instance.all_logs(run_id)) == []
        assert instance.fetch_materializations(dg.AssetKey("a"), limit=9).records == []
        assert instance.get_asset_records() == []
        store(instance, events[:-1])
        assert len(instance.fetch_materializations(dg.AssetKey("a"), limit=99).records) == 10

    @pytest.mark.parametrize("single", [False, True])
    def test_ids_are_seen_in_their_order(self, instance: dg.DagsterInstance, single: bool) -> None:
        """Who asks for what came after the last id that was seen, as sensors do, misses nothing."""
        middle, go_on = threading.Event(), threading.Event()
        storage = instance.event_log_storage
        inner = storage._store_asset_event_tags

        def waiting(*arguments: Any) -> None:
            inner(*arguments)
            middle.set()
            assert go_on.wait(60)

        storage._store_asset_event_tags = waiting
        ref = instance.get_ref()
        with (
            dg.DagsterInstance.from_ref(ref) as other,
            dg.DagsterInstance.from_ref(ref) as reader,
            ThreadPoolExecutor() as pool,
        ):
            slow = pool.submit(store, instance, materialisations(RUNS[0], 3))
            assert middle.wait(60)
            events = materialisations(RUNS[1], 1 if single else 2)
            fast = pool.submit(other.store_event, events[0]) if single else pool.submit(store, other, events)
            with pytest.raises(TimeoutError):
                fast.result(timeout=1)
            assert reader.fetch_materializations(dg.AssetKey("a"), limit=9).records == []
            go_on.set()
            slow.result(60)
            fast.result(60)
            found = reader.fetch_materializations(dg.AssetKey("a"), limit=9, ascending=True).records
        assert [record.run_id for record in found] == [RUNS[0]] * 3 + [RUNS[1]] * len(events)
