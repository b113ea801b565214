"""Dagster's SQLite storage with events written in batches: one transaction a batch and database.

Dagster's own commits each record by itself, several times over, and a commit waits for the disk. Everything else is
inherited: the same files, the same tables, the same answers, so that an instance may be switched to and fro. It is
named in ``dagster.yaml``; ``astra-dagster init`` writes one.

Uses what Dagster keeps to itself; the tests hold it to Dagster's own storage, query by query.
"""

import os
from collections.abc import Sequence
from typing import Any, Self

from dagster._core.events import DagsterEventType
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.event_log.sqlite import SqliteEventLogStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage, _event_logs_directory
from dagster._serdes import ConfigurableClassData

BATCH = 1000
"""Events that Dagster gathers before it has them written, unless DAGSTER_EVENT_BATCH_SIZE says otherwise."""

BATCHED = (
    DagsterEventType.ASSET_MATERIALIZATION,
    DagsterEventType.ASSET_OBSERVATION,
    DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
)
"""Kinds of events that are written together; batches that hold others go Dagster's own way."""


class BatchedSqliteEventLogStorage(SqliteEventLogStorage):
    """Event log in which a batch of asset events of one run is one transaction in each of its two databases."""

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Write events of one run, all of them or none."""
        alike = all(event.dagster_event_type in BATCHED and event.get_dagster_event().asset_key for event in events)
        if not alike or len({event.run_id for event in events}) != 1:
            super().store_event_batch(events)
            return
        rows = [self._event_to_row(event) for event in events]
        insert = SqlEventLogStorageTable.insert()
        # Each connection is a transaction, and Dagster's lock allows one at a time. The run's own log goes first, as in
        # Dagster's own: what is asked across runs comes from the index alone.
        with self.run_connection(events[0].run_id) as run:
            run.execute(insert, rows)
        with self.index_transaction() as index:
            returning = insert.returning(SqlEventLogStorageTable.c.id, sort_by_parameter_order=True)
            ids = [row[0] for row in index.execute(returning, rows)]
            self._store_asset_event_tags(index, events, ids)
            last = {event.get_dagster_event().asset_key: i for i, event in enumerate(events)}
            for i in last.values():
                self._store_asset_event(index, events[i], ids[i])


class BatchedSqliteStorage(DagsterSqliteStorage):
    """Dagster's SQLite storage with `BatchedSqliteEventLogStorage`; for ``storage: custom:`` in ``dagster.yaml``."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data=inst_data)
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", str(BATCH))
        self._event_log_storage = BatchedSqliteEventLogStorage(_event_logs_directory(base_dir))

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Any) -> Self:
        """Storage from its section of ``dagster.yaml``."""
        return cls.from_local(inst_data=inst_data, **config_value)
