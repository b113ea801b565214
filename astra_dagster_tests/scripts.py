"""What is done anew for every database that is opened or made, and for every definitions, done once a process."""

import contextlib
import functools
import os
import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory
from dagster._core.storage.event_log.sqlite import SqliteEventLogStorage

from astra_dagster.orchestration import component


def remember() -> None:
    """Have migration scripts loaded once, event logs copied from the first, and a task's definitions made once.

    SQLite does not wait for the disk: no test takes away the power.
    """
    _remember_scripts()
    _remember_tables()
    sa.event.listen(sa.Engine, "connect", _wait_for_no_disk)
    component.task_definitions = functools.lru_cache(maxsize=50)(component.task_definitions)


def _wait_for_no_disk(connection: object, _: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


def _remember_scripts() -> None:
    load = ScriptDirectory.from_config.__func__  # type: ignore[attr-defined]
    known: dict[str, ScriptDirectory] = {}

    def from_config(cls: Any, config: Config) -> ScriptDirectory:
        place = config.get_main_option("script_location") or ""
        if place not in known:
            known[place] = load(cls, config)
        return known[place]

    ScriptDirectory.from_config = classmethod(from_config)  # type: ignore[assignment, method-assign]


def _remember_tables() -> None:
    make = SqliteEventLogStorage._initdb
    empty: list[bytes] = []

    def make_or_copy(self: SqliteEventLogStorage, engine: sa.Engine, for_index_shard: bool = False) -> None:
        path = Path(str(engine.url.database))
        new = not path.exists()
        if new and empty:
            copy = path.with_suffix(f".{os.getpid()}")
            with contextlib.suppress(OSError):  # which is told by who fails next
                copy.write_bytes(empty[0])
                copy.rename(path)
                return
        make(self, engine, for_index_shard)
        if new:
            empty[:] = [path.read_bytes()]

    SqliteEventLogStorage._initdb = make_or_copy  # type: ignore[method-assign]
