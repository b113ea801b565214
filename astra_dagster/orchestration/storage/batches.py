"""Events written in batches: what the storages on SQLite and on PostgreSQL have in common.

Dagster's own storages commit each planned event and each record by itself, several times over, and a commit waits for
the disk. Here a batch is one transaction in each database that it goes to. Records, observations and planned events are
inserted together; whatever else is in a batch goes through Dagster's own code, inside the same transaction. The rows
are those that Dagster would have written, so that everything that reads them is inherited.

Uses what Dagster keeps to itself; the tests hold it to Dagster's own storages, table by table and query by query.
"""

import itertools
import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import dagster as dg
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable  # the table that rows are put into
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage  # what is subclassed
from sqlalchemy.engine import Connection

from astra_dagster.orchestration.runs.signs_of_life import show_life

BATCH = 1000
"""Events that Dagster gathers before it has them written, unless DAGSTER_EVENT_BATCH_SIZE says otherwise."""

TOGETHER = (
    dg.DagsterEventType.ASSET_MATERIALIZATION,
    dg.DagsterEventType.ASSET_OBSERVATION,
    dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
)
"""Kinds of events that are inserted together."""

INSERT = SqlEventLogStorageTable.insert()


class BatchedEventLogStorage(SqlEventLogStorage):
    """Event log in which a batch of events is written whole or not at all."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """Until it ends, this thread's connections are kept open, and their changes are committed at its end."""

    @abstractmethod
    def insert_in_index(self, index: Connection, rows: Sequence[Mapping[str, Any]]) -> Sequence[int]:
        """Insert rows of events, and return their ids in the order of the rows."""

    def register_instance(self, instance: dg.DagsterInstance) -> None:
        """Belong to an instance from now on, which reads from the environment how many events are a batch."""
        super().register_instance(instance)
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", str(BATCH))

    def store_event(self, event: dg.EventLogEntry) -> None:
        """Write one event; the process that says of a run that it has started is the one that the run is in."""
        if event.dagster_event_type == dg.DagsterEventType.RUN_START and self.has_instance:
            show_life(self._instance, event.run_id)
        super().store_event(event)

    def store_event_batch(self, events: Sequence[dg.EventLogEntry]) -> None:
        """Write events, all of them or none, in the order given."""
        groups = [(together, list(group)) for together, group in itertools.groupby(events, inserted_together)]
        # Before the transaction, for this takes longer than all the rest, and others may be waiting for their turn.
        rows = [[self._event_to_row(event) for event in group] if together else [] for together, group in groups]
        with self.transaction():
            for (together, group), prepared in zip(groups, rows, strict=True):
                if together:
                    self._insert(group, prepared)
                else:
                    for event in group:
                        self.store_event(event)

    def _insert(self, events: Sequence[dg.EventLogEntry], rows: Sequence[Mapping[str, Any]]) -> None:
        if self.is_run_sharded:  # a database a run, besides the one that is asked across runs
            by_run: dict[str, list[Mapping[str, Any]]] = {}
            for row in rows:
                by_run.setdefault(row["run_id"], []).append(row)
            for run_id, of_run in by_run.items():
                with self.run_connection(run_id) as run:
                    run.execute(INSERT, of_run)
        # Each kind of event sets other columns of the asset's row: the last one of each kind counts, in their order.
        last: dict[str, dict[str, int]] = {}
        for i, row in enumerate(rows):
            last.setdefault(row["asset_key"], {})[row["dagster_event_type"]] = i
        with self.index_transaction() as index:
            ids = self.insert_in_index(index, rows)
            self._store_asset_event_tags(index, events, ids)
            for kinds in last.values():
                for i in sorted(kinds.values()):
                    self._store_asset_event(index, events[i], ids[i])


def inserted_together(event: dg.EventLogEntry) -> bool:
    """Whether an event is one of those that are inserted together."""
    return event.dagster_event_type in TOGETHER and event.get_dagster_event().asset_key is not None
