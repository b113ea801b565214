"""Dagster's SQLite storage with events written in batches.

Everything but the writing is inherited, with the same files, tables and answers. ``astra-dagster init`` writes a
``dagster.yaml`` that names it, with ``compact: true``: texts of events are packed, and this storage alone reads them.
Without it an instance may be switched to Dagster's own storage and back. Here both are read. How a batch is written is
the business of `batches`; PostgreSQL has a module of its own, as its driver need not be installed.
"""

import atexit
import functools
import os
import sqlite3
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, Self

import dagster as dg
import sqlalchemy as sa
from dagster._config import StringSource, UserConfigSchema  # what dagster.yaml may say of a storage
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable  # the table that rows are put into
from dagster._core.storage.event_log.sqlite import SqliteEventLogStorage  # the base class
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME  # that of all runs
from dagster._core.storage.runs import SqliteRunStorage  # the base class of the storage of runs
from dagster._core.storage.schedules import SqliteScheduleStorage  # the base class of the storage of schedules
from dagster._core.storage.sqlite import (  # how long Dagster waits for a locked database, and where one is
    SQLITE_BUSY_TIMEOUT_SECONDS,
    create_db_conn_string,
)
from dagster._core.storage.sqlite_storage import (  # the base class, and its folders
    DagsterSqliteStorage,
    _event_logs_directory,
    _runs_directory,
    _schedule_directory,
)
from dagster._serdes import ConfigurableClassData  # says where dagster.yaml names the storage
from sqlalchemy.engine import Connection

from astra_dagster.errors import ConfigurationError
from astra_dagster.files import read_file
from astra_dagster.orchestration.storage.batches import INSERT, BatchedEventLogStorage
from astra_dagster.orchestration.storage.packing import pack, unpack

ENGINES = 8
"""Number of databases whose statements are kept compiled: that of all runs, and those of the runs used last."""

STEMS = 30_000
"""Most stems of partition keys, such as plates in nights, that are looked up one by one; DR17 has a third as many."""

REMOVE = SqlEventLogStorageTable.delete().where(
    SqlEventLogStorageTable.c.asset_key == sa.bindparam("asset"),
    SqlEventLogStorageTable.c.dagster_event_type == sa.bindparam("kind"),
    SqlEventLogStorageTable.c.partition == sa.bindparam("key"),
    SqlEventLogStorageTable.c.timestamp == sa.bindparam("at"),
)
"""Removes an event from the database of its run, in which it has another id."""

_FIRST_OF_STEMS = sa.text("""
    WITH RECURSIVE firsts (key) AS (
        SELECT min(partition) FROM dynamic_partitions WHERE partitions_def_name = :name
        UNION ALL
        SELECT (
            SELECT min(partition) FROM dynamic_partitions
            WHERE partitions_def_name = :name AND partition > rtrim(key, replace(key, '/', '')) || char(1114111)
        )
        FROM firsts WHERE key LIKE '%/%'
        LIMIT :most
    )
    SELECT key FROM firsts WHERE key IS NOT NULL
""")
"""The first key of each stem: each is the least after all texts that begin with the stem of the one before."""


_KEPT: "weakref.WeakSet[sa.Engine]" = weakref.WeakSet()
"""Engines that keep a connection open."""


def _make_engine(url: str, *, keep: bool) -> sa.Engine:
    """Make an engine for the database of this URL.

    Parameters
    ----------
    keep
        Whether one connection stays open between uses, which saves most of the time of a statement: SQLite reads the
        tables of a database that it opens, and merges its log into one that nobody else has open. It is opened anew if
        the file is not the same as before, and never used by a process that was forked.
    """
    pool = {"poolclass": sa.QueuePool, "pool_size": 1, "max_overflow": -1} if keep else {"poolclass": sa.NullPool}
    engine = sa.create_engine(
        url,
        connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": not keep},
        **pool,
    )
    if keep:
        path = str(engine.url.database)
        sa.event.listen(engine, "connect", lambda _, record: record.info.update(file=_identify(path)))
        sa.event.listen(engine, "checkout", functools.partial(_refuse_another_file, path))
        _KEPT.add(engine)
    return engine


def _identify(path: str) -> tuple[int, int] | None:
    """Return what tells the file of a path from any other that exists; None if there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 (for each statement)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _refuse_another_file(path: str, connection: object, record: Any, _: object) -> None:
    if record.info.get("file") != _identify(path):
        raise sa.exc.DisconnectionError("the file of the database was replaced")


def _forget_connections(*, close: bool = False) -> None:
    for engine in list(_KEPT):
        engine.dispose(close=close)


atexit.register(_forget_connections, close=True)
os.register_at_fork(after_in_child=_forget_connections)


class _Text(sa.Text):
    """A column of texts, in which some may be packed."""

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Callable[[Any], Any]:
        return lambda value: unpack(value) if isinstance(value, bytes) else value


def _is_ready(path: str | Path, table: str = "alembic_version") -> bool:
    """Whether a database says which migration it is at, and has a table; Dagster then leaves it as it is.

    Dagster reads the scripts of all its migrations to find that out, which takes 0.05 s for each database.
    """
    if not Path(path).exists():
        return False
    try:
        with closing(sqlite3.connect(path)) as database:
            there = database.execute("SELECT 1 FROM sqlite_master WHERE name = ?", [table]).fetchone()
            return bool(there and database.execute("SELECT version_num FROM alembic_version").fetchone())
    except sqlite3.Error:
        return False


class _Transaction(threading.local):
    """The open databases of the batch that this thread is writing; None outside of a batch."""

    stack: ExitStack | None = None
    connections: dict[str, Connection]


class BatchedSqliteEventLogStorage(BatchedEventLogStorage, SqliteEventLogStorage):
    """An event log in which a batch is one transaction in the database of its run, and one in that of all runs."""

    collation = "BINARY"
    _empty: ClassVar[bytes] = b""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None, *, compact: bool = False) -> None:
        self.compact = compact
        self._transaction = _Transaction()
        self._engines: dict[str, sa.Engine] = {}
        self._tables: set[str] = set()
        super().__init__(base_dir, inst_data)
        # Dagster holds this lock while a database is open; a batch has several open at once.
        self._db_lock = threading.RLock()  # type: ignore[assignment]

    def has_table(self, table_name: str) -> bool:
        """Whether the database of all runs has a table; what it once has, it keeps."""
        if table_name not in self._tables and super().has_table(table_name):
            self._tables.add(table_name)
        return table_name in self._tables

    def first_of_each_stem(self, partitions_def_name: str) -> list[str] | None:
        """Return the first partition key of each stem; None if they are too many, or keys have unlike numbers of parts.

        The index is searched once for each of at most `STEMS` stems, which takes some microseconds. A key with fewer
        parts, which is invalid, would hide others that begin with its stem.
        """
        self._check_partitions_table()
        with self.index_connection() as index:
            found = list(index.scalars(_FIRST_OF_STEMS, {"name": partitions_def_name, "most": STEMS + 1}))
        alike = len({key.count("/") for key in found}) <= 1 and "/" in "".join(found[:1])
        return found if not found or (alike and len(found) <= STEMS) else None

    def remove_from_runs(self, events: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Remove events from the databases of their runs, by type, asset, partition and time."""
        for run_id, of_run in events.items():
            if Path(self.path_for_shard(run_id)).exists():  # else the run was removed
                with self.run_connection(run_id) as run:
                    run.execute(REMOVE, of_run)

    def hold(self, text: str) -> str | bytes:
        """Return the text, packed if the database is to be compact."""
        return pack(text) if self.compact else text

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
            with self._open(shard) as connection:
                yield connection
        else:
            if shard not in mine.connections:
                mine.connections[shard] = mine.stack.enter_context(self._open(shard))
            yield mine.connections[shard]

    @contextmanager
    def _open(self, shard: str) -> Iterator[Connection]:
        """Open a database, as Dagster does, but with an engine that knows its statements from the time before.

        Dagster makes an engine each time, and SQLAlchemy then compiles each statement anew, which takes longer than
        the database.
        """
        if shard not in self._initialized_dbs:
            if shard != INDEX_SHARD_NAME and not Path(self.path_for_shard(shard)).exists():
                self._make_database(Path(self.path_for_shard(shard)))
            with super()._connect(shard):  # which makes the tables, if they are not there
                pass
        with self._db_lock:
            engine = self._engines.pop(shard, None) or self._make_engine(shard)
            self._engines[shard] = engine
            while len(self._engines) > ENGINES:
                self._engines.pop(next(iter(self._engines))).dispose()
            with engine.connect() as connection, connection.begin():
                yield connection

    def dispose(self) -> None:
        """Close what is open."""
        super().dispose()
        for engine in self._engines.values():
            engine.dispose()

    def _initdb(self, engine: sa.Engine, for_index_shard: bool = False) -> None:
        if not _is_ready(str(engine.url.database)):
            super()._initdb(engine, for_index_shard)

    def _make_database(self, path: Path) -> None:
        """Copy the database of a run without events, which takes a hundredth of the time of making another one."""
        kept = BatchedSqliteEventLogStorage
        if not kept._empty:
            with tempfile.TemporaryDirectory() as folder:
                made = Path(folder, "empty.db")
                super()._initdb(sa.create_engine(f"sqlite:///{made}", poolclass=sa.NullPool))
                kept._empty = read_file(made)
        new = path.with_name(f".{path.stem}-{os.getpid()}-{threading.get_ident()}")
        with suppress(OSError):  # another process was faster; or Dagster makes it, or says why it cannot
            new.write_bytes(kept._empty)
            path.hardlink_to(new)
        with suppress(OSError):
            new.unlink()

    def _make_engine(self, shard: str) -> sa.Engine:
        # Dagster's web server watches the databases of runs, in which nothing would change while they are open.
        engine = _make_engine(self.conn_string_for_shard(shard), keep=shard == INDEX_SHARD_NAME)
        engine.dialect.colspecs = {**engine.dialect.colspecs, sa.Text: _Text}
        return engine

    def insert_in_index(self, index: Connection, rows: Sequence[Mapping[str, Any]]) -> Sequence[int]:
        """Insert rows of events, and return their ids, which are consecutive as the transaction locks the database."""
        index.execute(INSERT, rows)
        last = index.execute(sa.select(sa.func.max(SqlEventLogStorageTable.c.id))).scalar_one()
        return range(last - len(rows) + 1, last + 1)


class _Kept:
    """A storage with one database, which stays open, and whose statements stay compiled."""

    _conn_string: str

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with self._engine.connect() as connection, connection.begin():
            yield connection

    @functools.cached_property
    def _engine(self) -> sa.Engine:
        return _make_engine(self._conn_string, keep=True)

    def dispose(self) -> None:
        """Close the database."""
        self._engine.dispose()


class _RunStorage(_Kept, SqliteRunStorage):
    """Dagster's storage of runs, which is opened faster."""

    @classmethod
    def from_local(cls, base_dir: str, inst_data: ConfigurableClassData | None = None) -> Self:
        if _is_ready(Path(base_dir, "runs.db"), "instance_info"):
            return cls(create_db_conn_string(base_dir, "runs"), inst_data)
        return super().from_local(base_dir, inst_data)


class _ScheduleStorage(_Kept, SqliteScheduleStorage):
    """Dagster's storage of schedules and sensors, which is opened faster."""

    @classmethod
    def from_local(cls, base_dir: str, inst_data: ConfigurableClassData | None = None) -> SqliteScheduleStorage:
        if _is_ready(Path(base_dir, "schedules.db")):
            return cls(create_db_conn_string(base_dir, "schedules"), inst_data)
        return super().from_local(base_dir, inst_data)


class BatchedSqliteStorage(DagsterSqliteStorage):
    """Dagster's SQLite storage with `BatchedSqliteEventLogStorage`; for ``storage: custom:`` in ``dagster.yaml``.

    Parameters
    ----------
    base_dir
        Folder of the databases.
    compact
        Whether the texts of events are packed, so that a database takes a quarter of the bytes, and Dagster's own
        storage cannot read it.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None, *, compact: bool = False) -> None:
        self.base_dir = base_dir
        self._run_storage = _RunStorage.from_local(_runs_directory(base_dir))
        self._event_log_storage = BatchedSqliteEventLogStorage(_event_logs_directory(base_dir), compact=compact)
        self._schedule_storage = _ScheduleStorage.from_local(_schedule_directory(base_dir))
        self._inst_data = inst_data
        # That of the base class would make all of Dagster's storages, to be thrown away.
        super(DagsterSqliteStorage, self).__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """Return what its section of ``dagster.yaml`` may say."""
        return {"base_dir": StringSource, "compact": dg.Field(bool, default_value=False)}

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
        return cls(folder, inst_data, compact=config_value.get("compact", False))
