"""Watching the files of a product on disk: which are new or changed since the last look, and which are gone.

A folder is listed only when its times have changed. Writing into a file that is there changes no folder, so that files
which came or changed within the last day are looked at one by one as well; what is changed in place later than that
takes a full look to be found. What is remembered from look to look is kept by `watch_state`; what becomes of the
findings is not decided here.
"""

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from astra_dagster.archive.discovery import Skipped, list_folder, starting_folders
from astra_dagster.archive.watch_state import State, Watch
from astra_dagster.datamodel.products import Product
from astra_dagster.datamodel.templates import Template
from astra_dagster.errors import ConfigurationError, UnknownProductError, UnreachableError, UnresolvableTemplateError
from astra_dagster.presence import status_of

RECENT = 86_400.0
"""Seconds for which a file that came or changed is looked at whatever its folder says."""

SKEW = 3_600.0
"""By how many seconds the clock of the file system may differ from ours.

What came into a folder right after it was listed may have left the folder's times as they were. A folder that has
changed within this time is listed once more at a later look.
"""

COARSE = 2.0
"""Seconds within which two changes of a folder may leave it the same times."""

TEMPORARY = (".part", ".partial", ".filepart", ".tmp", ".temp", ".download", ".crdownload", ".aria2", ".swp", "~")
"""Ends of the names that programs give to what they are still writing. Others, like rsync, use hidden names."""


@dataclass
class Look:
    """What one look was like.

    Attributes
    ----------
    folders, listed
        How many folders are watched, and how many of them were listed.
    unreachable
        Folders that could not be examined: nothing is concluded about the files in them.
    skipped
        What looks like a part of the product's path and is none, in the folders that were listed.
    complete
        Whether there was time for everything.
    """

    folders: int = 0
    listed: int = 0
    unreachable: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    complete: bool = True


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder to be listed, with its times; `same` if it was listed before with the same."""

    id: int
    path: str
    depth: int
    status: os.stat_result
    same: bool = False


def look_at(
    watch: Watch,
    product: Product,
    releases: Iterable[str],
    root: Path,
    *,
    settle: float,
    deadline: float = float("inf"),
) -> Look:
    """Look at what has changed on disk, and remember it.

    Parameters
    ----------
    releases
        Where to look; those that have no path for the product are left out.
    root
        Top of the mirror.
    settle
        Seconds for which a file must not have changed to be `State.READY`.
    deadline
        When to stop, on the monotonic clock: what is left is done at the next look.
    """
    look = Look()
    looked = set()
    with watch.transaction():
        for release in releases:
            try:
                template = product.template(release)
            except (UnknownProductError, UnresolvableTemplateError, ConfigurationError):
                continue
            looked.add(release)
            _Walk(watch, look, release, template, root, settle, deadline).go()
        _look_again(watch, looked, settle)
    return look


def is_recent(watch: Watch, since: float) -> bool:
    """Whether something that has been so since then came within the last day."""
    return watch.clock() - since < RECENT


def _look_again(watch: Watch, releases: set[str], settle: float) -> None:
    """Look at single files: at those that are to wait, and at those of the last day."""
    now = watch.clock()
    query = (
        "SELECT folder, name, release, path, size, files.mtime, since, state FROM files "
        "JOIN folders ON folders.id = folder WHERE "
    )
    rows = watch.database.execute(query + "state IN (?, ?)", [State.WAITING, State.UNFINISHED]).fetchall()
    rows += watch.database.execute(query + "until > ?", [now]).fetchall()
    changed: list[Row] = []
    ready: list[tuple[State, int, str]] = []
    for folder, name, release, path, size, mtime, since, state in dict.fromkeys(rows):
        if release not in releases:
            continue
        try:
            status = os.stat(f"{path}/{name}")  # noqa: PTH116 (of many thousand files)
        except OSError:
            continue  # its folder has changed as well, or cannot be reached
        if (status.st_size, status.st_mtime_ns) != (size, mtime):
            changed.append(_seen(folder, name, status, now, settle, first=False))
        elif (state == State.WAITING and (now - mtime / 1e9 >= settle or now - since >= settle)) or (
            state == State.UNFINISHED and now - since > RECENT  # then it is broken
        ):
            ready.append((State.READY, folder, name))
    _keep(watch, changed)
    watch.database.executemany("UPDATE files SET state = ? WHERE folder = ? AND name = ?", ready)


Row = tuple[int, str, int, int, float, float | None, State]


def _seen(folder: int, name: str, status: os.stat_result, now: float, settle: float, *, first: bool) -> Row:
    """What to remember of a file that is new or changed; `first` if it was there when the watch began."""
    since = min(now, max(status.st_mtime, status.st_ctime)) if first else now
    state = State.READY if now - status.st_mtime >= settle else State.WAITING
    return folder, name, status.st_size, status.st_mtime_ns, since, None if first else now + RECENT, state


def _keep(watch: Watch, rows: Sequence[Row]) -> None:
    watch.database.executemany(
        "INSERT OR REPLACE INTO files (folder, name, size, mtime, since, until, state) VALUES (?, ?, ?, ?, ?, ?, ?)",
        rows,
    )


@dataclass
class _Walk:
    """One look at the folders of one release."""

    watch: Watch
    look: Look
    release: str
    template: Template
    root: Path
    settle: float
    deadline: float

    def go(self) -> None:
        """List what has changed, and what is found there, as long as there is time."""
        self.database = self.watch.database
        shape = f"{self.template.roots} {[segment.pattern for segment in self.template.segments]}"
        seen = self.watch.fact(f"seen {self.release}")
        self.first = seen != shape
        if seen is not None and self.first:  # a release of one's own that is another one now
            self._forget_release()
        todo = self._changed()
        while todo:
            todo += self._list(todo.pop())
            if todo and time.monotonic() > self.deadline:
                self.look.complete = False
                return
        if self.first:
            self.watch.note(f"seen {self.release}", shape)

    def _changed(self) -> list[_Folder]:
        """Folders to list."""
        now = self.watch.clock()
        query = "SELECT id, path, depth, mtime, ctime, listed FROM folders WHERE release = ?"
        rows = self.database.execute(query, [self.release]).fetchall()
        self.look.folders += len(rows)
        todo, stat = [], os.stat
        for number, path, depth, mtime, ctime, listed in rows:
            try:
                status = stat(path)
            except OSError:
                # If it was removed, the folder above has changed, and that it is gone is found there. Otherwise a disk
                # is not there at the moment.
                self.look.unreachable.append(path)
                continue
            same = status.st_mtime_ns == mtime and status.st_ctime_ns == ctime
            if not same or (listed is not None and not 0 <= now - listed < COARSE):
                todo.append(_Folder(number, path, depth, status, same))
        known = {path for _, path, depth, *_ in rows if depth == 0}
        starts = [str(start) for start in starting_folders(self.template, self.root)]
        return todo + self._new(None, [(start, 0) for start in starts if start not in known])

    def _new(self, parent: int | None, places: Iterable[tuple[str, int]]) -> list[_Folder]:
        """Folders that are new, and are now remembered."""
        found = []
        for path, depth in places:
            try:
                status = status_of(path)
            except UnreachableError:
                self.look.unreachable.append(path)
                continue  # it is new at the next look again, for its parent is not done with
            if status is None:
                continue  # not there yet, or not any more
            row = [parent, self.release, path, depth]
            cursor = self.database.execute(
                "INSERT INTO folders (parent, release, path, depth) VALUES (?, ?, ?, ?)", row
            )
            found.append(_Folder(int(cursor.lastrowid or 0), path, depth, status))
        self.look.folders += len(found)
        return found

    def _list(self, folder: _Folder) -> list[_Folder]:
        """List a folder; returns what is new of the folders in it."""
        files: dict[str, os.stat_result | None] = {}
        try:
            below, entries = list_folder(folder.path, folder.depth, self.template, {}, self.look.skipped)
            for entry in entries:
                if not entry.name.startswith(".") and not entry.name.endswith(TEMPORARY):
                    files[entry.name] = _status(entry)
        except (OSError, UnreachableError):
            self.look.unreachable.append(folder.path)
            return []
        self.look.listed += 1
        query = "SELECT path, depth, id FROM folders WHERE parent = ?"
        known = {(path, depth): number for path, depth, number in self.database.execute(query, [folder.id])}
        for place in known.keys() - set(below):
            if not os.path.islink(place[0]):  # noqa: PTH114 (else its disk is not there at the moment)
                self._remove(known[place])
        found = self._new(folder.id, (place for place in below if place not in known))
        self._compare(folder, files)
        done = len(known.keys() & set(below)) + len(found) == len(below) and None not in files.values()
        # The times are from before the listing: what came since then gives others.
        times, now = folder.status, self.watch.clock()
        sure = done and (folder.same or now - max(times.st_mtime, times.st_ctime) > SKEW)
        self.database.execute(
            "UPDATE folders SET mtime = ?, ctime = ?, listed = ? WHERE id = ?",
            [times.st_mtime_ns, times.st_ctime_ns, None if sure else now, folder.id],
        )
        return found

    def _compare(self, folder: _Folder, files: dict[str, os.stat_result | None]) -> None:
        """Remember what is new or changed of the files in a folder, and which are gone."""
        query = "SELECT name, size, mtime, state FROM files WHERE folder = ?"
        before = {name: (size, mtime, state) for name, size, mtime, state in self.database.execute(query, [folder.id])}
        now = self.watch.clock()
        changed = []
        for name, status in files.items():
            known = before.pop(name, None)
            if status and (known is None or known[:2] != (status.st_size, status.st_mtime_ns)):
                changed.append(_seen(folder.id, name, status, now, self.settle, first=self.first))
        _keep(self.watch, changed)
        for name, (_, _, state) in before.items():
            self.database.execute("DELETE FROM files WHERE folder = ? AND name = ?", [folder.id, name])
            if state != State.IGNORED:
                gone = [self.release, f"{folder.path}/{name}"]
                self.database.execute("INSERT OR IGNORE INTO gone VALUES (?, ?)", gone)

    def _remove(self, number: int) -> None:
        """Forget a folder that is not there any more, with all below it."""
        numbers = [number]
        for above in numbers:
            numbers += [row[0] for row in self.database.execute("SELECT id FROM folders WHERE parent = ?", [above])]
        for one in numbers:
            self.database.execute(
                "INSERT OR IGNORE INTO gone SELECT release, path || '/' || name FROM files "
                "JOIN folders ON folders.id = folder WHERE folder = ? AND ifnull(state, 0) != ?",
                [one, State.IGNORED],
            )
            self.database.execute("DELETE FROM files WHERE folder = ?", [one])
            self.database.execute("DELETE FROM folders WHERE id = ?", [one])
        self.look.folders -= len(numbers)

    def _forget_release(self) -> None:
        mine = "SELECT id FROM folders WHERE release = ?"
        self.database.execute(f"DELETE FROM files WHERE folder IN ({mine})", [self.release])  # noqa: S608
        self.database.execute("DELETE FROM folders WHERE release = ?", [self.release])


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat()
    except OSError:  # it went away just now, or cannot be examined
        return None
