"""Dagster's SQLite storage with events written in batches.

Everything but the writing is inherited, with the same files, tables and answers, so that an instance may be switched
from one to the other and back. ``astra-dagster init`` writes a ``dagster.yaml`` that names it. How a batch is written
is the business of `batches`; PostgreSQL has a module of its own, as its driver need not be installed.
"""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import sqlalchemy as sa
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable  # the table that rows are put into
from dagster._core.storage.event_log.sqlite import SqliteEventLogStorage  # the base class
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage, _event_logs_directory  # the same; its folder
from dagster._serdes import ConfigurableClassData  # says where dagster.yaml names the storage
from sqlalchemy.engine import Connection

from astra_dagster.errors import ConfigurationError
from astra_dagster.orchestration.storage.batches import INSERT, BatchedEventLogStorage


class _Transaction(threading.local):
    """The open databases of the batch that this thread is writing; None outside of a batch."""

    stack: ExitStack | None = None
    connections: dict[str, Connection]


class BatchedSqliteEventLogStorage(BatchedEventLogStorage, SqliteEventLogStorage):
    """An event log in which a batch is one transaction in the database of its run, and one in that of all runs."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._transaction = _Transaction()
        super().__init__(base_dir, inst_data)
        # Dagster holds this lock while a database is open; a batch has several open at once.
        self._db_lock = threading.RLock()  # type: ignore[assignment]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep databases open within the context, and commit them at its end, the last opened first."""
        mine = self._transaction
        with ExitStack() as stack:
            mine.stack, mine.connections = stack, {}
            try:
                # As in Dagster's own storage, a run's log is committed before the index, by which records are found.
                with self.index_connection():
                    yield
            finally:
                mine.stack = None

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        mine = self._transaction
        if mine.stack is None:
            with super()._connect(shard) as connection:
                yield connection
        else:
            if shard not in mine.connections:
                mine.connections[shard] = mine.stack.enter_context(super()._connect(shard))
            yield mine.connections[shard]

    def insert_in_index(self, index: Connection, rows: Sequence[Mapping[str, Any]]) -> Sequence[int]:
        """Insert rows of events, and return their ids, which are consecutive as the transaction locks the database."""
        index.execute(INSERT, rows)
        last = index.execute(sa.select(sa.func.max(SqlEventLogStorageTable.c.id))).scalar_one()
        return range(last - len(rows) + 1, last + 1)


class BatchedSqliteStorage(DagsterSqliteStorage):
    """Dagster's SQLite storage with `BatchedSqliteEventLogStorage`; for ``storage: custom:`` in ``dagster.yaml``."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data=inst_data)
        self._event_log_storage = BatchedSqliteEventLogStorage(_event_logs_directory(base_dir))

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        """Make the storage from its section of ``dagster.yaml``; ``~`` is the home folder, as in DAGSTER_HOME.

        Raises
        ------
        ConfigurationError
            If the path of its folder is not absolute, and so would differ from process to process.
        """
        folder = os.path.expanduser(config_value["base_dir"])  # noqa: PTH111 (no error for a user that is not there)
        if not os.path.isabs(folder):  # noqa: PTH117
            raise ConfigurationError(
                "the base_dir of the storage in dagster.yaml is not an absolute path",
                path=folder,
                hint="give it in full",
            )
        return cls.from_local(inst_data=inst_data, base_dir=folder)
