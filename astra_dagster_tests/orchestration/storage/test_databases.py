"""Databases of the SQLite storage are made and opened without the scripts of Dagster's migrations, and are the same."""

import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from alembic.script import ScriptDirectory
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage

from astra_dagster.orchestration.storage.sqlite import BatchedSqliteStorage

DATABASES = ("history/runs.db", "history/runs/index.db", "history/runs/a-run.db", "schedules/schedules.db")


def make(kind: type[DagsterSqliteStorage], folder: Path) -> DagsterSqliteStorage:
    """A storage in a folder, with the database of one run."""
    storage = kind(str(folder))
    open_run(storage)
    return storage


def open_run(storage: DagsterSqliteStorage) -> None:
    with storage.event_log_storage.run_connection("a-run"):  # type: ignore[attr-defined]
        pass
    with storage.event_log_storage.index_connection():  # type: ignore[attr-defined]
        pass


def described(path: Path) -> list[tuple[object, ...]]:
    """Tables and indices of a database, the migration that it is at, and how it keeps its journal."""
    with closing(sqlite3.connect(path)) as database:
        return [
            *database.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name"),
            *database.execute("SELECT version_num FROM alembic_version"),
            *database.execute("PRAGMA journal_mode"),
        ]


def test_all_databases_are_those_of_dagster(tmp_path: Path) -> None:
    make(BatchedSqliteStorage, tmp_path / "ours")
    make(DagsterSqliteStorage, tmp_path / "stock")
    for name in DATABASES:
        assert described(tmp_path / "ours" / name) == described(tmp_path / "stock" / name)
    assert not [path.name for path in (tmp_path / "ours").rglob(".*")]


def test_what_is_there_is_opened_without_a_look_at_migrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(BatchedSqliteStorage, tmp_path)
    monkeypatch.setattr(ScriptDirectory, "from_config", lambda _: pytest.fail("reads the scripts"))
    storage = make(BatchedSqliteStorage, tmp_path)
    with storage.event_log_storage.run_connection("another"):  # type: ignore[attr-defined]
        pass
    assert described(tmp_path / "history/runs/another.db") == described(tmp_path / "history/runs/a-run.db")


@pytest.mark.parametrize("name", DATABASES)
def test_a_database_that_says_no_migration_is_left_to_dagster(name: str, tmp_path: Path) -> None:
    """As some versions of Dagster made them, and as an end in the middle of making one leaves it."""
    for kind, folder in ((BatchedSqliteStorage, tmp_path / "ours"), (DagsterSqliteStorage, tmp_path / "stock")):
        make(kind, folder)
        with closing(sqlite3.connect(folder / name)) as database:
            database.execute("DROP TABLE alembic_version")
            database.commit()
        make(kind, folder)
    assert described(tmp_path / "ours" / name) == described(tmp_path / "stock" / name)


def test_a_database_of_runs_from_before_a_table_gets_it(tmp_path: Path) -> None:
    make(BatchedSqliteStorage, tmp_path)
    runs = tmp_path / DATABASES[0]
    before = described(runs)
    with closing(sqlite3.connect(runs)) as database:
        database.execute("DROP TABLE instance_info")
        database.commit()
    make(BatchedSqliteStorage, tmp_path)
    assert described(runs) == before


def test_many_make_the_database_of_one_run(tmp_path: Path) -> None:
    """Each goes on with the one that was there first, and none takes away what another has written."""
    storages = [BatchedSqliteStorage(str(tmp_path)) for _ in range(8)]
    gate = threading.Barrier(len(storages))
    failed = []

    def write(storage: BatchedSqliteStorage, i: int) -> None:
        try:
            gate.wait()
            with storage.event_log_storage.run_connection("a-run") as connection:  # type: ignore[attr-defined]
                connection.exec_driver_sql("INSERT INTO event_logs (run_id, event) VALUES (?, ?)", (str(i), "{}"))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(storage, i)) for i, storage in enumerate(storages)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    with closing(sqlite3.connect(tmp_path / "history/runs/a-run.db")) as database:
        assert {row[0] for row in database.execute("SELECT run_id FROM event_logs")} == set("01234567")


def add_keys(storage: DagsterSqliteStorage, *keys: str) -> list[str]:
    storage.event_log_storage.add_dynamic_partitions("files", keys)
    return sorted(storage.event_log_storage.get_dynamic_partitions("files"))


def list_open(folder: Path) -> set[str]:
    """Names of the files below a folder that this process has open."""
    opened = psutil.Process().open_files()
    return {str(Path(file.path).relative_to(folder)) for file in opened if file.path.startswith(str(folder))}


def test_databases_stay_open_until_a_storage_is_disposed_of_but_not_those_of_runs(tmp_path: Path) -> None:
    """Dagster's web server watches the database of a run, in which nothing would change as long as it is open."""
    storage = make(BatchedSqliteStorage, tmp_path)
    assert storage.run_storage.get_runs_count() == 0
    assert storage.schedule_storage.all_instigator_state() == []
    kept = {name for name in DATABASES if "a-run" not in name}
    assert {name for name in list_open(tmp_path) if name.endswith(".db")} == kept
    for part in (storage.event_log_storage, storage.run_storage, storage.schedule_storage):
        part.dispose()
    assert list_open(tmp_path) == set()
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == set(DATABASES)


def test_databases_are_closed_when_python_ends(tmp_path: Path) -> None:
    """Their logs are then merged into them, so that a copy of the databases alone has everything."""
    code = f"""
from astra_dagster.orchestration.storage.sqlite import BatchedSqliteStorage
storage = BatchedSqliteStorage({str(tmp_path)!r})
storage.event_log_storage.add_dynamic_partitions("files", ["one"])
print(storage.event_log_storage.get_dynamic_partitions("files"))
with storage.event_log_storage.run_connection("a-run"):
    pass
assert storage.schedule_storage.all_instigator_state() == []
"""
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout == b"['one']\n"
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == set(DATABASES)
    assert add_keys(make(BatchedSqliteStorage, tmp_path)) == ["one"]


def test_a_database_that_was_replaced_is_opened_anew(tmp_path: Path) -> None:
    """As by somebody who moves it away, or puts a copy back, while the daemon runs."""
    storage = make(BatchedSqliteStorage, tmp_path / "here")
    assert add_keys(storage, "one") == ["one"]
    (tmp_path / "here").rename(tmp_path / "away")
    make(BatchedSqliteStorage, tmp_path / "here")
    assert add_keys(storage, "two") == ["two"]
    (tmp_path / "here").rename(tmp_path / "second")
    (tmp_path / "away").rename(tmp_path / "here")
    assert add_keys(storage, "three") == ["one", "three"]


def test_a_process_that_is_forked_has_databases_of_its_own(tmp_path: Path) -> None:
    """SQLite's connections must not be carried into another process, not even to be closed there."""
    storage = make(BatchedSqliteStorage, tmp_path)
    assert add_keys(storage, "one") == ["one"]

    def write() -> None:
        assert storage.event_log_storage._engines["index"].pool.checkedin() == 0  # type: ignore[attr-defined]
        assert add_keys(storage, "two") == ["one", "two"]
        os._exit(3)

    process = multiprocessing.get_context("fork").Process(target=write)
    process.start()
    process.join()
    assert process.exitcode == 3
    assert add_keys(storage, "three") == ["one", "three", "two"]
