"""What a watch remembers of the files of a product: an SQLite file, which one process at a time has open.

The file may be thrown away at the cost of a look at all folders. `watching` writes what it sees on disk; its callers
write what became of the files.
"""

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from astra_dagster.errors import OutputError

FORMAT = 2
"""Version of the tables; a file that has another version is thrown away."""

FIRST_WAIT, LONGEST_WAIT = 60.0, 21_600.0
"""Seconds to wait before a file whose run produced nothing is tried again; each wait is twice the one before."""

_TABLES = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE folders (
    id INTEGER PRIMARY KEY,
    parent INTEGER,             -- NULL where a template starts
    release TEXT NOT NULL,
    path TEXT NOT NULL,
    depth INTEGER NOT NULL,     -- segments of the template that lead here
    mtime INTEGER,              -- its times before it was last listed, in nanoseconds; NULL if it never was
    ctime INTEGER,
    listed REAL,                -- when it was first listed with these times; NULL if it need not be listed again
    UNIQUE (release, path, depth)
);
CREATE INDEX folders_by_parent ON folders (parent);
CREATE TABLE files (
    folder INTEGER NOT NULL,
    name TEXT NOT NULL,
    size INTEGER NOT NULL,
    mtime INTEGER NOT NULL,
    since REAL NOT NULL,        -- when it was first seen with this size and modification time
    until REAL,                 -- until when it is examined even if its folder has not changed
    state INTEGER,              -- NULL if nothing is to be done about it
    offer INTEGER,              -- the run that was requested for it
    tries INTEGER NOT NULL DEFAULT 0,  -- number of runs for it that produced nothing
    due REAL,                   -- when something is to be done about it again
    PRIMARY KEY (folder, name)
) WITHOUT ROWID;
CREATE INDEX files_by_state ON files (state) WHERE state IS NOT NULL;
CREATE INDEX files_by_until ON files (until) WHERE until IS NOT NULL;
CREATE INDEX files_by_offer ON files (offer) WHERE offer IS NOT NULL;
CREATE TABLE gone (release TEXT NOT NULL, path TEXT NOT NULL, PRIMARY KEY (release, path)) WITHOUT ROWID;
CREATE TABLE offers (id INTEGER PRIMARY KEY, run_key TEXT NOT NULL UNIQUE, run TEXT NOT NULL);
"""


class BusyError(Exception):
    """Another process or thread has the file open."""


class State(IntEnum):
    """What is to be done about a file. A file about which nothing is to be done has no state."""

    READY = 1
    """The file is new or changed, and it has to be decided whether a run is requested for it."""
    WAITING = 2
    """The file has changed just now, and may still be being written."""
    UNFINISHED = 3
    """The file ends before what its own headers announce."""
    IGNORED = 4
    """The file's name is not one of the product."""
    REQUESTED = 5
    """A run was requested for the file, and has not ended."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A file as it was last seen, when it was first seen so, and the number of runs for it that produced nothing."""

    folder: int
    release: str
    path: str
    size: int
    mtime_ns: int
    since: float
    tries: int = 0


class Watch:
    """The SQLite file, locked for others while it is open; a context manager.

    Parameters
    ----------
    path
        Path of the file; it is made if missing, and made anew if it is damaged or belongs to another mirror.
    root
        Top of the mirror.
    clock
        Returns the time in seconds since 1970.

    Raises
    ------
    BusyError
        If the file is open already.
    OutputError
        If the file cannot be opened or made.
    """

    def __init__(self, path: Path, root: Path, clock: Callable[[], float] = time.time) -> None:
        self.path, self.clock = path, clock
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self.database = self._open(root)
            except _Useless:
                discard(path)
                self.database = self._open(root)
        except (OSError, sqlite3.Error) as error:
            raise OutputError(
                f"what the watch remembers cannot be opened: {error}", path=path, hint="see that it can be written"
            ) from error

    def _open(self, root: Path) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, timeout=0, isolation_level=None)
        try:
            # The lock is kept until the file is closed, or the process ends in whatever way.
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            database.execute("BEGIN EXCLUSIVE")
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version == 0 and not database.execute("SELECT 1 FROM sqlite_schema").fetchone():
                for statement in _TABLES.split(";\n"):
                    database.execute(statement)
                database.execute("INSERT INTO facts VALUES ('root', ?)", [str(root)])
                database.execute(f"PRAGMA user_version = {FORMAT}")
            elif version != FORMAT or _fact(database, "root") != str(root):
                raise _Useless
            database.execute("COMMIT")
        except sqlite3.Error as error:
            database.close()
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise BusyError from None
            if is_damage(error):
                raise _Useless from error
            raise
        except _Useless:
            database.close()
            raise
        return database

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.database.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Keep all changes made within the context, or none if an exception leaves it."""
        self.database.execute("BEGIN")
        try:
            yield self.database
        except BaseException:
            self.database.execute("ROLLBACK")
            raise
        self.database.execute("COMMIT")

    def fact(self, name: str) -> str | None:
        """Return the text that is remembered under a name; None if there is none."""
        return _fact(self.database, name)

    def note(self, name: str, value: str) -> None:
        """Remember a text under a name; within a transaction."""
        self.database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", [name, value])

    def sightings(self, state: State, limit: int = -1) -> list[Sighting]:
        """Return files in a state that are due now, at most `limit` of them if that is given."""
        return self._sightings("state = ? AND ifnull(due, 0) <= ?", [state, self.clock()], limit)

    def files_of_request(self, request: int) -> list[Sighting]:
        """Return the files for which a run was requested, and which have not changed since."""
        return self._sightings("offer = ?", [request])

    def _sightings(self, where: str, values: list[float], limit: int = -1) -> list[Sighting]:
        rows = self.database.execute(
            "SELECT folder, release, path || '/' || name, size, files.mtime, since, tries FROM files "  # noqa: S608
            f"JOIN folders ON folders.id = folder WHERE {where} ORDER BY folder, name LIMIT ?",
            [*values, limit],
        )
        return [Sighting(*row) for row in rows]

    def has_files(self, release: str) -> bool:
        """Whether any file of a release is remembered."""
        query = "SELECT 1 FROM files JOIN folders ON folders.id = folder WHERE release = ? LIMIT 1"
        return self.database.execute(query, [release]).fetchone() is not None

    def count(self, state: State, *, due: bool = True) -> int:
        """Count the files in a state that are due now, or, if not `due`, those that are due later."""
        sign = "<=" if due else ">"
        query = f"SELECT count(*) FROM files WHERE state = ? AND ifnull(due, 0) {sign} ?"  # noqa: S608
        (count,) = self.database.execute(query, [state, self.clock()]).fetchone()
        return int(count)

    def mark(self, sightings: Iterable[Sighting], state: State | None, request: int | None = None) -> None:
        """Set the state of files; within a transaction. Those that have changed since they were seen are left alone.

        The state None says that nothing is to be done, and ends all tries; `request` is the number of the run requested
        for the files.
        """
        self.database.executemany(
            "UPDATE files SET state = ?, offer = ?, due = NULL, tries = CASE WHEN ? THEN 0 ELSE tries END "
            "WHERE folder = ? AND name = ? AND size = ? AND mtime = ?",
            [(state, request, state is None, *_place(sighting)) for sighting in sightings],
        )

    def try_again(self, sightings: Iterable[Sighting]) -> None:
        """Make files ready again after a wait that doubles each time; within a transaction."""
        now = self.clock()
        self.database.executemany(
            "UPDATE files SET state = ?, offer = NULL, due = ?, tries = tries + 1 "
            "WHERE folder = ? AND name = ? AND size = ? AND mtime = ?",
            [
                (State.READY, now + min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(sighting.tries, 20)), *_place(sighting))
                for sighting in sightings
            ],
        )

    def gone_files(self, limit: int = -1) -> list[tuple[str, str]]:
        """Return release and path of at most `limit` files that are gone, and that `forget` was not called for."""
        return self.database.execute("SELECT release, path FROM gone LIMIT ?", [limit]).fetchall()

    def look_again(self, path: Path) -> None:
        """Make a file ready again, at once; within a transaction."""
        self.database.execute(
            "UPDATE files SET state = ? WHERE name = ? AND folder IN (SELECT id FROM folders WHERE path = ?)",
            [State.READY, path.name, str(path.parent)],
        )

    def forget(self, gone: Sequence[tuple[str, str]]) -> None:
        """Remove files from those that are gone; within a transaction."""
        self.database.executemany("DELETE FROM gone WHERE release = ? AND path = ?", gone)

    def add_request(self, run_key: str, run: str) -> int:
        """Remember a run that is to be requested, until it has ended, and return its number; within a transaction."""
        self.database.execute("INSERT OR IGNORE INTO offers (run_key, run) VALUES (?, ?)", [run_key, run])
        (number,) = self.database.execute("SELECT id FROM offers WHERE run_key = ?", [run_key]).fetchone()
        return int(number)

    def open_requests(self) -> list[tuple[int, str, str]]:
        """Return number, key and description of the runs that are requested and have not ended, in order of number."""
        return self.database.execute("SELECT id, run_key, run FROM offers ORDER BY id").fetchall()

    def forget_request(self, request: int) -> None:
        """Forget a requested run, which has ended; within a transaction."""
        self.database.execute("DELETE FROM offers WHERE id = ?", [request])


class _Useless(Exception):
    """The SQLite file has another format, belongs to another mirror, or is damaged."""


def _place(sighting: Sighting) -> tuple[int, str, int, int]:
    return sighting.folder, sighting.path.rpartition("/")[2], sighting.size, sighting.mtime_ns


def _fact(database: sqlite3.Connection, name: str) -> str | None:
    row = database.execute("SELECT value FROM facts WHERE name = ?", [name]).fetchone()
    return None if row is None else str(row[0])


def is_damage(error: sqlite3.Error) -> bool:
    """Whether an error says that a file is damaged, or not an SQLite file."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def discard(path: Path) -> None:
    """Throw away the SQLite file at `path`."""
    for name in (path, path.with_name(f"{path.name}-journal")):
        name.unlink(missing_ok=True)
