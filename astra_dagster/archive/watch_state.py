"""What a watch remembers: one SQLite file, a product each, that one process at a time has open.

It may be thrown away at the cost of a full look. What is seen on disk is written into it by `watching`, and what has
become of that by whoever asked.
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
"""Version of the tables; a file of another one is thrown away."""

FIRST_WAIT, LONGEST_WAIT = 60.0, 21_600.0
"""Seconds after which a file whose run came to nothing is looked at again: twice as long each time, and at most so."""

_TABLES = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE folders (
    id INTEGER PRIMARY KEY,
    parent INTEGER,             -- NULL where a template starts
    release TEXT NOT NULL,
    path TEXT NOT NULL,
    depth INTEGER NOT NULL,     -- segments of the template that lead here
    mtime INTEGER,              -- its times when it was last listed, in nanoseconds; NULL if it never was
    ctime INTEGER,
    listed REAL,                -- when it was listed first with these times; NULL if it need not be listed again
    UNIQUE (release, path, depth)
);
CREATE INDEX folders_by_parent ON folders (parent);
CREATE TABLE files (
    folder INTEGER NOT NULL,
    name TEXT NOT NULL,
    size INTEGER NOT NULL,
    mtime INTEGER NOT NULL,
    since REAL NOT NULL,        -- since when it has been so
    until REAL,                 -- until when it is looked at whatever its folder says
    state INTEGER,              -- NULL if nothing is to be done about it
    offer INTEGER,              -- the run that was requested for it
    tries INTEGER NOT NULL DEFAULT 0,  -- runs for it that came to nothing
    due REAL,                   -- before when nothing is to be done about it
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
    """What is to be done about a file; a file about which there is nothing to do has none."""

    READY = 1
    """It is new or changed, and it is to be decided what becomes of it."""
    WAITING = 2
    """It has changed just now: it may still be written."""
    UNFINISHED = 3
    """It is shorter than it says itself."""
    IGNORED = 4
    """Its name is no file's of the product."""
    REQUESTED = 5
    """A run is requested for it, which has not ended."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A file as it was last seen, since when it has been so, and how many runs for it came to nothing."""

    folder: int
    release: str
    path: str
    size: int
    mtime_ns: int
    since: float
    tries: int = 0


class Watch:
    """The SQLite file, open for nobody else; a context manager.

    Parameters
    ----------
    path
        Where it lies; it is made if it is not there, and made anew if it is damaged or remembers another mirror.
    root
        Top of the mirror.
    clock
        Tells the time.

    Raises
    ------
    BusyError
        If it is open already.
    OutputError
        If it cannot be opened or made.
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
            # The lock is kept until the file is closed, or its process ends, however it ends.
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
        """Changes that are kept together or not at all; without any, nothing is written."""
        self.database.execute("BEGIN")
        try:
            yield self.database
        except BaseException:
            self.database.execute("ROLLBACK")
            raise
        self.database.execute("COMMIT")

    def fact(self, name: str) -> str | None:
        """Something that is remembered under a name."""
        return _fact(self.database, name)

    def note(self, name: str, value: str) -> None:
        """Remember something under a name; within a transaction."""
        self.database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", [name, value])

    def sightings(self, state: State, limit: int = -1) -> list[Sighting]:
        """Files in a state about which something may be done now, at most `limit` of them if that is given."""
        return self._sightings("state = ? AND ifnull(due, 0) <= ?", [state, self.clock()], limit)

    def requested(self, offer: int) -> list[Sighting]:
        """Files that a run was requested for, and that have not changed since."""
        return self._sightings("offer = ?", [offer])

    def _sightings(self, where: str, values: list[float], limit: int = -1) -> list[Sighting]:
        rows = self.database.execute(
            "SELECT folder, release, path || '/' || name, size, files.mtime, since, tries FROM files "  # noqa: S608
            f"JOIN folders ON folders.id = folder WHERE {where} ORDER BY folder, name LIMIT ?",
            [*values, limit],
        )
        return [Sighting(*row) for row in rows]

    def count(self, state: State, *, due: bool = True) -> int:
        """Number of files in a state about which something may be done now; or only later, if not `due`."""
        sign = "<=" if due else ">"
        query = f"SELECT count(*) FROM files WHERE state = ? AND ifnull(due, 0) {sign} ?"  # noqa: S608
        (count,) = self.database.execute(query, [state, self.clock()]).fetchone()
        return int(count)

    def mark(self, sightings: Iterable[Sighting], state: State | None, offer: int | None = None) -> None:
        """Set what is to be done about files; within a transaction. Those that have changed since are left alone.

        Nothing to be done (None) is the end of all tries; `offer` is the run that is requested for them.
        """
        self.database.executemany(
            "UPDATE files SET state = ?, offer = ?, due = NULL, tries = CASE WHEN ? THEN 0 ELSE tries END "
            "WHERE folder = ? AND name = ? AND size = ? AND mtime = ?",
            [(state, offer, state is None, *_place(sighting)) for sighting in sightings],
        )

    def try_again(self, sightings: Iterable[Sighting]) -> None:
        """Have it decided again what becomes of files, after a while that doubles each time; within a transaction."""
        now = self.clock()
        self.database.executemany(
            "UPDATE files SET state = ?, offer = NULL, due = ?, tries = tries + 1 "
            "WHERE folder = ? AND name = ? AND size = ? AND mtime = ?",
            [
                (State.READY, now + min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(sighting.tries, 20)), *_place(sighting))
                for sighting in sightings
            ],
        )

    def gone(self, limit: int = -1) -> list[tuple[str, str]]:
        """Release and path of files that are gone, at most `limit` of them; they are told until they are forgotten."""
        return self.database.execute("SELECT release, path FROM gone LIMIT ?", [limit]).fetchall()

    def look_again(self, path: Path) -> None:
        """Have it decided again what becomes of a file; within a transaction."""
        self.database.execute(
            "UPDATE files SET state = ? WHERE name = ? AND folder IN (SELECT id FROM folders WHERE path = ?)",
            [State.READY, path.name, str(path.parent)],
        )

    def forget(self, gone: Sequence[tuple[str, str]]) -> None:
        """Forget files that are gone; within a transaction."""
        self.database.executemany("DELETE FROM gone WHERE release = ? AND path = ?", gone)

    def offer(self, run_key: str, run: str) -> int:
        """Remember a run that is to be requested, until it has ended; within a transaction. Returns its number."""
        self.database.execute("INSERT OR IGNORE INTO offers (run_key, run) VALUES (?, ?)", [run_key, run])
        (number,) = self.database.execute("SELECT id FROM offers WHERE run_key = ?", [run_key]).fetchone()
        return int(number)

    def offers(self) -> list[tuple[int, str, str]]:
        """Number, key and description of the runs that are requested and have not ended, in their order."""
        return self.database.execute("SELECT id, run_key, run FROM offers ORDER BY id").fetchall()

    def ended(self, offer: int) -> None:
        """Forget a run that was requested; within a transaction."""
        self.database.execute("DELETE FROM offers WHERE id = ?", [offer])


class _Useless(Exception):
    """The file is of another format, of another mirror, or damaged."""


def _place(sighting: Sighting) -> tuple[int, str, int, int]:
    return sighting.folder, sighting.path.rpartition("/")[2], sighting.size, sighting.mtime_ns


def _fact(database: sqlite3.Connection, name: str) -> str | None:
    row = database.execute("SELECT value FROM facts WHERE name = ?", [name]).fetchone()
    return None if row is None else str(row[0])


def is_damage(error: sqlite3.Error) -> bool:
    """Whether an error says that the file is damaged, or no SQLite file at all."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def discard(path: Path) -> None:
    """Throw away what is remembered."""
    for name in (path, path.with_name(f"{path.name}-journal")):
        name.unlink(missing_ok=True)
