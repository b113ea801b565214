"""Dagster's own tests of storages, run against those of this package; `.ci/release` runs them.

Dagster has them in its source distribution, in the package ``dagster_tests``, which must be importable. Here is only
which storage they are to test. The ordinary suite does not collect this file, as its name does not begin with test.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from unittest.mock import MagicMock

import dagster as dg
import pytest

for name in ("dagster_test", "dagster_test.utils", "dagster_test.utils.data_factory"):
    sys.modules.setdefault(name, MagicMock())  # it is not published; only tests of other storages use it

from dagster_tests.storage_tests.utils import event_log_storage, partition_status_cache  # noqa: E402

from astra_dagster.orchestration.storage.batches import BatchedEventLogStorage  # noqa: E402
from astra_dagster_tests.postgresql import server  # noqa: E402

STORAGES = {"sqlite": "BatchedSqliteStorage", "postgresql": "BatchedPostgresStorage"}

IN_ORDER_OF_TEXT = pytest.mark.xfail(
    raises=AssertionError, strict=True, reason="our storages give dynamic partitions in the order of their text"
)


def opened(database: str, folder: Path, config: Mapping[str, object]) -> Iterator[dg.DagsterInstance]:
    """Open an instance with our storage."""
    custom = {"module": f"astra_dagster.orchestration.storage.{database}", "class": STORAGES[database]}
    overrides = {"storage": {"custom": {**custom, "config": config}}}
    with dg.instance_for_test(overrides=overrides, temp_dir=str(folder)) as instance:
        assert isinstance(instance.event_log_storage, BatchedEventLogStorage)
        yield instance


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Callable[[], str]]:
    """URL of an empty database at each call."""
    with server() as database:
        yield database


class OnSqlite:
    """Has the tests of a class run on SQLite."""

    __test__ = True

    @pytest.fixture
    def instance(self, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
        """An instance with our storage on SQLite."""
        yield from opened("sqlite", tmp_path, {"base_dir": str(tmp_path), "compact": True})

    @pytest.fixture
    def storage(self, instance: dg.DagsterInstance) -> BatchedEventLogStorage:
        """Our event log, under the name that Dagster's tests know."""
        return instance.event_log_storage

    def can_wipe_asset_partitions(self) -> bool:
        """Whether records of single partitions can be removed; Dagster's own storages cannot either."""
        return False


class OnPostgreSQL(OnSqlite):
    """Has the tests of a class run on PostgreSQL."""

    @pytest.fixture
    def instance(self, tmp_path: Path, postgresql: Callable[[], str]) -> Iterator[dg.DagsterInstance]:
        """An instance with our storage on PostgreSQL."""
        yield from opened("postgresql", tmp_path, {"postgres_url": postgresql()})


class EventLog(event_log_storage.TestEventLogStorage):
    """Dagster's tests of an event log, less what is different here on purpose."""

    @IN_ORDER_OF_TEXT
    def test_add_dynamic_partitions(self, storage: BatchedEventLogStorage) -> None:
        """Dagster gives keys in the order in which they were added."""
        super().test_add_dynamic_partitions(storage)

    @IN_ORDER_OF_TEXT
    def test_dynamic_store_pagination(self, storage: BatchedEventLogStorage) -> None:
        """Dagster gives pages of keys in the order in which they were added."""
        super().test_dynamic_store_pagination(storage)


class TestEventLogOnSqlite(OnSqlite, EventLog):
    """The event log on SQLite."""

    def supports_multiple_event_type_queries(self) -> bool:
        """Whether a query may be for several types of events; not on SQLite, as in Dagster's own storage."""
        return False


class TestEventLogOnPostgreSQL(OnPostgreSQL, EventLog):
    """The event log on PostgreSQL."""


class TestPartitionStatusOnSqlite(OnSqlite, partition_status_cache.TestPartitionStatusCache):
    """The cache of the states of partitions, on SQLite."""


class TestPartitionStatusOnPostgreSQL(OnPostgreSQL, partition_status_cache.TestPartitionStatusCache):
    """The cache of the states of partitions, on PostgreSQL."""
