"""Write events in batches: what the storages on SQLite and on PostgreSQL have in common.

Dagster's own storages commit each planned event and each record by itself, several times over, and a commit waits for
the disk. Here a batch is one transaction in each database to which it goes. Records, observations and planned events
are inserted together; other events of a batch go through Dagster's own code, inside the same transaction. The rows are
those that Dagster would have written, up to how a database holds their texts, so that everything that reads them is
inherited.

This uses internals of Dagster; tests compare it with Dagster's own storages, table by table and query by query.
"""

import functools
import itertools
import os
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import dagster as dg
import sqlalchemy as sa
from dagster._core.storage.event_log.schema import (  # the tables of events, with their tags, and of keys
    AssetEventTagsTable,
    DynamicPartitionsTable,
    SqlEventLogStorageTable,
)
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage  # the base class
from dagster._core.types.pagination import PaginatedResults, ValueIndexCursor  # pages of partition keys
from sqlalchemy.engine import Connection

from astra_dagster.orchestration.runs.signs_of_life import show_life
from astra_dagster.orchestration.storage.event_text import write_texts

BATCH = 1000
"""Number of events that Dagster collects before they are written, unless DAGSTER_EVENT_BATCH_SIZE is set."""

TOGETHER = (
    dg.DagsterEventType.ASSET_MATERIALIZATION,
    dg.DagsterEventType.ASSET_OBSERVATION,
    dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
)
"""Types of events that are inserted together."""

EVENTS = SqlEventLogStorageTable
"""The table of events."""

INSERT = EVENTS.insert()

_AFTER_SLASH = chr(ord("/") + 1)

_KEY = DynamicPartitionsTable.c.partition


def _select_keys(partitions_def_name: str) -> sa.Select[Any]:
    return sa.select(_KEY).where(DynamicPartitionsTable.c.partitions_def_name == partitions_def_name)


class BatchedEventLogStorage(SqlEventLogStorage):
    """An event log in which a batch of events is written whole or not at all.

    Attributes
    ----------
    collation
        Name that the database has for the order of texts by their bytes, which is Python's too.
    """

    collation: ClassVar[str]

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """Keep the connections of this thread open, and commit their changes when the context ends."""

    @abstractmethod
    def insert_in_index(self, index: Connection, rows: Sequence[Mapping[str, Any]]) -> Sequence[int]:
        """Insert rows of events, and return their ids in the order of the rows."""

    def remove_events(self, ids: Sequence[int]) -> None:
        """Remove events, with their tags, from the index of all runs."""
        with self.index_transaction() as index:
            index.execute(AssetEventTagsTable.delete().where(AssetEventTagsTable.c.event_id.in_(ids)))
            index.execute(EVENTS.delete().where(EVENTS.c.id.in_(ids)))

    def remove_from_runs(self, events: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Remove events, by run, where each run has a database of its own; by type, asset, partition and time."""

    def hold(self, text: str) -> str | bytes:
        """Return what the database holds for the text of an event that is inserted together with others."""
        return text

    def register_instance(self, instance: dg.DagsterInstance) -> None:
        """Belong to an instance from now on, which reads from the environment how many events are a batch."""
        super().register_instance(instance)
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", str(BATCH))

    def get_dynamic_partitions(self, partitions_def_name: str) -> Sequence[str]:
        """Return partition keys in the order of their text, in which people see and name ranges of them.

        Dagster has them in the order of their registration, so that a range leaves out what was found later.
        """
        self._check_partitions_table()
        with self.index_connection() as index:
            return sorted(index.scalars(_select_keys(partitions_def_name)))

    def get_paginated_dynamic_partitions(
        self, partitions_def_name: str, limit: int, ascending: bool, cursor: str | None = None
    ) -> PaginatedResults[str]:
        """Return some partition keys in the order of their text; the cursor has the last one before them."""
        self._check_partitions_table()
        last = None if cursor is None else ValueIndexCursor.from_cursor(cursor).value
        key = sa.collate(_KEY, self.collation)
        query = _select_keys(partitions_def_name)
        if last is not None:
            query = query.where(key > last if ascending else key < last)
        with self.index_connection() as index:
            found = index.scalars(query.order_by(key.asc() if ascending else key.desc()).limit(limit + 1)).all()
        page = found[:limit]
        after = ValueIndexCursor(value=page[-1] if page else last).to_string()
        return PaginatedResults(results=page, cursor=after, has_more=len(found) > limit)

    def match_dynamic_partitions(self, partitions_def_name: str, patterns: Sequence[str]) -> Sequence[str]:
        """Return the partition keys that match one of these patterns of LIKE, in the order of their text.

        SQLite takes no notice of upper and lower case.
        """
        self._check_partitions_table()
        query = _select_keys(partitions_def_name).where(sa.or_(sa.false(), *(_KEY.like(one) for one in patterns)))
        with self.index_connection() as index:
            return sorted(index.scalars(query))

    def first_of_each_release(self, partitions_def_name: str) -> list[str]:
        """Return the first partition key of each release; the others are not read."""
        self._check_partitions_table()
        table = DynamicPartitionsTable.c
        key = sa.collate(table.partition, self.collation)
        query = sa.select(sa.func.min(key)).where(table.partitions_def_name == partitions_def_name)
        found: list[str] = []
        with self.index_connection() as index:
            first = index.execute(query).scalar()
            while first is not None:
                found.append(first)
                first = index.execute(query.where(key >= first.partition("/")[0] + _AFTER_SLASH)).scalar()
        return found

    def first_of_each_stem(self, partitions_def_name: str) -> list[str] | None:
        """Return the first partition key of each stem, which is a key without its last part; they are in order.

        None if they cannot be had without reading about all keys.
        """
        return None

    def keys_of_stems(self, partitions_def_name: str, keys: Iterable[str]) -> list[str]:
        """Return all partition keys that have the stem of one of these keys; others are not read."""
        self._check_partitions_table()
        key = sa.collate(_KEY, self.collation)
        query = _select_keys(partitions_def_name)
        found: list[str] = []
        with self.index_connection() as index:
            for stem in dict.fromkeys(one.rpartition("/")[0] for one in keys):
                found += index.scalars(query.where(key >= f"{stem}/", key < stem + _AFTER_SLASH))
        return sorted(found)

    def store_event(self, event: dg.EventLogEntry) -> None:
        """Write one event. If it says that a run has started, this process is that of the run, and shows its life."""
        if event.dagster_event_type == dg.DagsterEventType.RUN_START and self.has_instance:
            show_life(self._instance, event.run_id)
        super().store_event(event)

    def store_event_batch(self, events: Sequence[dg.EventLogEntry]) -> None:
        """Write all events, in the order given, or none of them."""
        groups = [(together, list(group)) for together, group in itertools.groupby(events, is_inserted_together)]
        # Before the transaction, as this takes longer than all the rest, and other processes may wait for the lock.
        rows = [self._make_rows(group) if together else [] for together, group in groups]
        with self.transaction():
            for (together, group), prepared in zip(groups, rows, strict=True):
                if together:
                    self._insert(group, prepared)
                else:
                    for event in group:
                        self.store_event(event)

    def _make_rows(self, events: Sequence[dg.EventLogEntry]) -> list[Mapping[str, Any]]:
        """Return the rows of events of assets."""
        rows: list[Mapping[str, Any]] = []
        name = functools.cache(dg.AssetKey.to_string)
        for entry, text in zip(events, write_texts(events), strict=True):
            event = entry.get_dagster_event()
            row = {
                "run_id": entry.run_id,
                "event": self.hold(text),
                "dagster_event_type": event.event_type_value,
                "timestamp": self._event_insert_timestamp(entry),  # type: ignore[no-untyped-call]
                "step_key": event.step_key,
                "asset_key": name(asset) if (asset := event.asset_key) else None,
                "partition": event.partition or None,
            }
            rows.append(row)
        return rows

    def _insert(self, events: Sequence[dg.EventLogEntry], rows: Sequence[Mapping[str, Any]]) -> None:
        if self.is_run_sharded:  # each run has a database, in addition to the index of all runs
            by_run: dict[str, list[Mapping[str, Any]]] = {}
            for row in rows:
                by_run.setdefault(row["run_id"], []).append(row)
            for run_id, of_run in by_run.items():
                with self.run_connection(run_id) as run:
                    run.execute(INSERT, of_run)
        # Each type of event sets other columns of the asset's row, so that the last of each type is needed, in order.
        last: dict[str, dict[str, int]] = {}
        for i, row in enumerate(rows):
            last.setdefault(row["asset_key"], {})[row["dagster_event_type"]] = i
        with self.index_transaction() as index:
            ids = self.insert_in_index(index, rows)
            self._store_asset_event_tags(index, events, ids)
            for kinds in last.values():
                for i in sorted(kinds.values()):
                    self._store_asset_event(index, events[i], ids[i])


def is_inserted_together(event: dg.EventLogEntry) -> bool:
    """Whether an event is of a type that is inserted together with others."""
    return event.dagster_event_type in TOGETHER and event.get_dagster_event().asset_key is not None
