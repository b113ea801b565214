"""Watch the files of a product on disk: which are new or changed since the last look, and which are gone.

A folder is listed only when its times have changed. Writing into an existing file does not change its folder; so files
that came or changed within the last day are examined one by one as well, and a file that is changed in place later is
found only by a search of all folders. What is remembered from look to look is kept by `watch_state`; what becomes of
the findings is not decided here.
"""

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from astra_dagster.archive.discovery import Skipped, list_folder, starting_folders
from astra_dagster.archive.links import Links
from astra_dagster.archive.reductions import describe_reductions
from astra_dagster.archive.watch_state import State, Watch
from astra_dagster.datamodel.products import Product
from astra_dagster.datamodel.templates import Template
from astra_dagster.errors import (
    ConfigurationError,
    LinkOutsideError,
    UnknownProductError,
    UnreachableError,
    UnresolvableTemplateError,
)
from astra_dagster.presence import status_of

RECENT = 86_400.0
"""Seconds for which a file that came or changed is examined even if its folder has not changed."""

SKEW = 3_600.0
"""Seconds by which the clock of the file system may differ from ours.

A file that came into a folder right after it was listed may have left the folder's times unchanged. So a folder that
has changed within this time is listed once more at a later look.
"""

COARSE = 2.0
"""Seconds within which two changes of a folder may result in the same times."""

TEMPORARY = (".part", ".partial", ".filepart", ".tmp", ".temp", ".download", ".crdownload", ".aria2", ".swp", "~")
"""Endings of file names that programs use while they write a file. Others, like rsync, use hidden names."""


@dataclass
class Look:
    """What one look at the disk covered.

    Attributes
    ----------
    folders, listed
        Number of folders that are watched, and number of those that were listed.
    unreachable
        Folders that could not be examined: nothing is concluded about the files in them.
    skipped
        Entries of the listed folders that look like a part of the product's path and are none.
    elsewhere
        Notes on releases of which there is no file, and other reductions are; only when a folder of theirs was listed.
    complete
        Whether the look covered everything before its deadline.
    """

    folders: int = 0
    listed: int = 0
    unreachable: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    complete: bool = True


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder to be listed, with its status; `same` says that its times are those of the last listing."""

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
    """Find what has changed on disk since the last look, and remember it.

    Parameters
    ----------
    releases
        Releases whose files are looked at; those that have no path for the product are left out.
    root
        Top of the mirror.
    settle
        Seconds without a change after which a file is `State.READY`.
    deadline
        When to stop, on the monotonic clock; the next look continues from there.
    """
    look = Look()
    looked = set()
    links = Links(root)
    with watch.transaction():
        for release in releases:
            try:
                template = product.template(release)
            except (UnknownProductError, UnresolvableTemplateError, ConfigurationError):
                continue
            looked.add(release)
            before = look.listed
            _Walk(watch, look, release, template, root, links, settle, deadline).run()
            if look.complete and look.listed > before and not watch.has_files(release):
                text, hint = describe_reductions(product, [release], root)
                look.elsewhere += [f"{product.name} in {release}: nothing found; {text}; {hint}"] if text else []
        _look_again(watch, looked, settle)
    return look


def is_recent(watch: Watch, since: float) -> bool:
    """Whether the time `since`, in seconds since 1970, is within the last day."""
    return watch.clock() - since < RECENT


def _look_again(watch: Watch, releases: set[str], settle: float) -> None:
    """Examine single files: those that are waiting or unfinished, and those that came or changed in the last day."""
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
            changed.append(_make_row(folder, name, status, now, settle, first=False))
        elif (state == State.WAITING and (now - mtime / 1e9 >= settle or now - since >= settle)) or (
            state == State.UNFINISHED and now - since > RECENT  # it is broken, and not still growing
        ):
            ready.append((State.READY, folder, name))
    _keep(watch, changed)
    watch.database.executemany("UPDATE files SET state = ? WHERE folder = ? AND name = ?", ready)


Row = tuple[int, str, int, int, float, float | None, State]


def _make_row(folder: int, name: str, status: os.stat_result, now: float, settle: float, *, first: bool) -> Row:
    """Make the row that is remembered of a new or changed file; `first` if it was there when the watch began."""
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
    """One look at the folders of one release; `run` does it."""

    watch: Watch
    look: Look
    release: str
    template: Template
    root: Path
    links: Links
    settle: float
    deadline: float

    def run(self) -> None:
        """List the folders that have changed, and the new folders in them, until the deadline."""
        self.database = self.watch.database
        shape = f"{self.template.roots} {[segment.pattern for segment in self.template.segments]}"
        seen = self.watch.fact(f"seen {self.release}")
        self.first = seen != shape
        if seen is not None and self.first:  # a release of the configuration file, which was redefined
            self._forget_release()
        todo = self._find_changed()
        while todo:
            todo += self._list(todo.pop())
            if todo and time.monotonic() > self.deadline:
                self.look.complete = False
                return
        if self.first:
            self.watch.note(f"seen {self.release}", shape)

    def _find_changed(self) -> list[_Folder]:
        """Return the folders that must be listed."""
        now = self.watch.clock()
        query = "SELECT id, path, depth, mtime, ctime, listed FROM folders WHERE release = ?"
        rows = self.database.execute(query, [self.release]).fetchall()
        self.look.folders += len(rows)
        todo, stat = [], os.stat
        for number, path, depth, mtime, ctime, listed in rows:
            try:
                status = stat(path)
            except OSError:
                # A folder that was removed is found to be gone when the folder above, which has changed, is listed.
                # Otherwise its disk is away at the moment.
                self.look.unreachable.append(path)
                continue
            same = status.st_mtime_ns == mtime and status.st_ctime_ns == ctime
            if not same or (listed is not None and not 0 <= now - listed < COARSE):
                todo.append(_Folder(number, path, depth, status, same))
        known = {path for _, path, depth, *_ in rows if depth == 0}
        starts = [str(start) for start in starting_folders(self.template, self.root)]
        return todo + self._add_new(None, [(start, 0) for start in starts if start not in known])

    def _add_new(self, parent: int | None, places: Iterable[tuple[str, int]]) -> list[_Folder]:
        """Remember folders that are new, and return them."""
        found = []
        for path, depth in places:
            try:
                status = status_of(path)
            except UnreachableError:
                self.look.unreachable.append(path)
                continue  # the next look finds it again, as its parent must be listed once more
            if status is None:
                continue  # it does not exist yet, or no longer
            row = [parent, self.release, path, depth]
            cursor = self.database.execute(
                "INSERT INTO folders (parent, release, path, depth) VALUES (?, ?, ?, ?)", row
            )
            found.append(_Folder(int(cursor.lastrowid or 0), path, depth, status))
        self.look.folders += len(found)
        return found

    def _list(self, folder: _Folder) -> list[_Folder]:
        """List a folder, remember what has changed in it, and return the new folders in it."""
        files: dict[str, os.stat_result | None] = {}
        try:
            self.links.check(folder.path)
            below, entries = list_folder(folder.path, folder.depth, self.template, {}, self.look.skipped)
            for entry in entries:
                if not entry.name.startswith(".") and not entry.name.endswith(TEMPORARY):
                    files[entry.name] = self._read_status(entry)
        except LinkOutsideError as error:
            self.look.skipped.append(Skipped(Path(folder.path), error.without_key(), error))
            return []  # the next look finds it again, as its times are not remembered
        except (OSError, UnreachableError):
            self.look.unreachable.append(folder.path)
            return []
        self.look.listed += 1
        query = "SELECT path, depth, id FROM folders WHERE parent = ?"
        known = {(path, depth): number for path, depth, number in self.database.execute(query, [folder.id])}
        for place in known.keys() - set(below):
            if not os.path.islink(place[0]):  # noqa: PTH114 (behind a link, its disk may be away at the moment)
                self._remove(known[place])
        found = self._add_new(folder.id, (place for place in below if place not in known))
        self._compare(folder, files)
        done = len(known.keys() & set(below)) + len(found) == len(below) and None not in files.values()
        # The times were taken before the listing, so that what came since then makes them differ.
        times, now = folder.status, self.watch.clock()
        sure = done and (folder.same or now - max(times.st_mtime, times.st_ctime) > SKEW)
        self.database.execute(
            "UPDATE folders SET mtime = ?, ctime = ?, listed = ? WHERE id = ?",
            [times.st_mtime_ns, times.st_ctime_ns, None if sure else now, folder.id],
        )
        return found

    def _read_status(self, entry: os.DirEntry[str]) -> os.stat_result | None:
        try:
            if entry.is_symlink():
                self.links.check(entry.path)
            return entry.stat()
        except LinkOutsideError as error:
            self.look.skipped.append(Skipped(Path(entry.path), error.without_key(), error))
        except OSError:  # it was removed just now, or cannot be examined
            pass
        return None

    def _compare(self, folder: _Folder, files: dict[str, os.stat_result | None]) -> None:
        """Remember which files of a folder are new or changed, and which are gone."""
        query = "SELECT name, size, mtime, state FROM files WHERE folder = ?"
        before = {name: (size, mtime, state) for name, size, mtime, state in self.database.execute(query, [folder.id])}
        now = self.watch.clock()
        changed = []
        for name, status in files.items():
            known = before.pop(name, None)
            if status and (known is None or known[:2] != (status.st_size, status.st_mtime_ns)):
                changed.append(_make_row(folder.id, name, status, now, self.settle, first=self.first))
        _keep(self.watch, changed)
        for name, (_, _, state) in before.items():
            self.database.execute("DELETE FROM files WHERE folder = ? AND name = ?", [folder.id, name])
            if state != State.IGNORED:
                gone = [self.release, f"{folder.path}/{name}"]
                self.database.execute("INSERT OR IGNORE INTO gone VALUES (?, ?)", gone)

    def _remove(self, number: int) -> None:
        """Forget a folder that was removed, with everything below it."""
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
