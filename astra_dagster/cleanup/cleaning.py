"""Find the files below the outputs folder that are no longer needed.

The caller gives what is registered, recorded and complete. `outputs.own_files` recognises our files, and `removal`
removes them.
"""

import contextlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from astra_dagster.cleanup import removal
from astra_dagster.cleanup.known_tasks import Family
from astra_dagster.cleanup.removal import Candidate
from astra_dagster.datamodel.products import Where
from astra_dagster.outputs import layout, own_files
from astra_dagster.outputs.digests import meaning_of
from astra_dagster.outputs.layout import Sort
from astra_dagster.outputs.own_files import Inspected, OwnFile, identity_of
from astra_dagster.planning.status import Status

KINDS = {
    "superseded": "outputs of parameters that no setting of today's task leads to",
    "other-parameters": "outputs of parameters that a setting leads to, and that are no task's defaults",
    "code": "outputs of another code version than today's",
    "unrecorded": "outputs without a record that are made from another input or code than today's",
    "altered": "outputs that differ from their records, where they were verified",
    "unregistered": "outputs of recorded partitions that are not registered any more",
    "no-input": "outputs whose input file was removed, or may be on a disk that is away",
    "failures": "notes of failures of partitions that are complete, or not registered",
    "temporary": "temporary files of killed runs",
    "unknown-task": "outputs of tasks that are not registered",
    "stray": "outputs of partitions that this DAGSTER_HOME never heard of",
    "recordable": "outputs without a record that the next run records and need not compute again",
    "lost": "records without an output",
}
"""Kinds of what can be cleaned up, with their meanings."""

NEED_PLAN = frozenset({"code", "unrecorded", "altered", "no-input", "failures", "recordable"})
"""Kinds that can be found only with a plan."""

LAST = "they cannot be computed again: --kind no-input"
OUTAGE = "their files cannot be looked at, or their folders are empty or away: it may be an outage"
YOUNG = "younger than this look at them"
"""Reasons to keep outputs that a run may need, or that cannot be made again."""

HOUR, MINUTE, DAY = 3600.0, 60.0, 86400.0


@dataclass(frozen=True)
class Selection:
    """The choice of what a clean-up considers, by default everything, and whether it removes other parameters too.

    With releases, or parts of keys in `where`, it considers files of registered and recorded partitions alone.
    """

    tasks: Collection[str] = ()
    digests: Collection[str] = ()
    kinds: Collection[str] = ()
    older_days: float | None = None
    other_parameters: bool = False
    releases: Sequence[str] = ()
    where: Where = field(default_factory=dict)


@dataclass
class Found:
    """The candidates that were found, and path and reason of what could not be examined.

    Attributes
    ----------
    recorded
        Number of latest records with a digest, by family and digest, for known families.
    """

    candidates: list[Candidate] = field(default_factory=list)
    recorded: dict[tuple[str, str], int] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)


def find(
    root: Path,
    families: Mapping[str, Family],
    selection: Selection,
    *,
    began: int,
    held: Mapping[str, str] | None = None,
) -> Found:
    """Find what can be cleaned up, and change nothing.

    Parameters
    ----------
    root
        The outputs folder.
    families
        The registered tasks, by the name of their folder.
    began
        The `file_system_time` before `families` was made: files that are younger are kept.
    held
        Why all files of a family are kept, by the name of its folder; under the empty name, why all files are.
    """
    found, holds = Found(), held or {}
    order, there = list(KINDS), _folders(str(root), layout.is_family, found)
    for name in sorted({*there, *families}):
        known = families.get(name)
        finder = _Finder(str(root), name, known, selection, found, began, holds.get("") or holds.get(name, ""))
        for digest in _folders(f"{root}/{name}", layout.is_digest, found) if name in there else ():
            if finder.selected(digest):
                finder.look_through(digest)
            if known is not None:
                found.recorded[name, digest] = 0
        if known is not None:
            found.recorded.update(((name, digest), len(keys)) for digest, keys in known.carried.items())
            finder.lost(known)
    found.candidates.sort(key=lambda c: (order.index(c.kind), c.family, c.digest, c.kept, c.path))
    return found


def _folders(folder: str, ours: Callable[[str], bool], found: Found) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if ours(e.name) and e.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []
    except OSError as error:
        found.problems.append((folder, f"cannot be listed: {error.strerror}"))
        return []


@dataclass
class _Finder:
    """A search through the folder of one family."""

    root: str
    name: str
    known: Family | None
    selection: Selection
    found: Found
    now: int
    held: str

    def selected(self, digest: str) -> bool:
        of_today = self.known.today.get(digest, []) if self.known else []
        names = {self.name, *(task.name for task in of_today)}
        tasks, digests = self.selection.tasks, self.selection.digests
        return (not tasks or not names.isdisjoint(tasks)) and (not digests or digest in digests)

    def look_through(self, digest: str) -> None:
        folder = layout.digest_folder(self.root, self.name, digest)
        if self.known is not None and digest in self.known.today:
            for file in own_files.walk(folder, self.name, self.found.problems):
                self._of_today(self.known, digest, file)
        elif meaning_of(self.root, self.name, digest) is not None:
            self._of_another_day(folder, digest)

    def _of_today(self, known: Family, digest: str, file: OwnFile) -> None:
        key = known.places.get(file.name.place, "")
        status = known.statuses.get(digest, {}).get(key)
        done = status in (Status.COMPLETE, Status.TO_RECORD)
        if file.name.sort == Sort.TEMPORARY:
            self._temporary(digest, file)
        elif file.name.sort == Sort.NOTE:
            if key not in known.registered or done:
                self._offer("failures", digest, file)
        elif file.name.sort in (Sort.OUTPUT, Sort.FILE):
            self._output_or_file(known, digest, file, key, status)

    def _output_or_file(self, known: Family, digest: str, file: OwnFile, key: str, status: Status | None) -> None:
        """Offer an output, or for the same reason a file that the task made besides."""
        of_output = file.name.sort == Sort.OUTPUT
        whole = not of_output or file.name.suffix == known.tasks[0].output
        if not key:
            asked = "stray" in self.selection.kinds
            self._offer("stray", digest, file, "" if asked else "neither registered nor recorded: --kind stray")
        elif key not in known.registered:
            self._offer("unregistered", digest, file)
        elif whole and status in (Status.COMPLETE, Status.TO_RECORD):
            if of_output and status is Status.TO_RECORD:
                self._offer("recordable", digest, file, "the next run records it")
        elif status is Status.NO_INPUT:
            self._offer("no-input", digest, file, "" if "no-input" in self.selection.kinds else LAST)
        elif status is Status.UNREACHABLE:
            self._offer("no-input", digest, file, OUTAGE)
        elif key in known.altered.get(digest, ()):
            self._offer("altered", digest, file)
        elif digest in known.statuses and (inspected := self._inspect(digest, file)):
            version = inspected.code_version if of_output else own_files.code_version_of(file, known.tasks[0].output)
            if not whole or (version is not None and version not in {task.version for task in known.today[digest]}):
                self._offer("code", digest, file, inspected=inspected)
            elif status is Status.TO_DO and (version is None or key not in known.carried.get(digest, ())):
                self._offer("unrecorded", digest, file, inspected=inspected)

    def _of_another_day(self, folder: str, digest: str) -> None:
        kind, kept = self._kind_of(digest)
        last, outputs_stay = [], False
        for file in own_files.walk(folder, self.name, self.found.problems):
            if file.name.sort in removal.LAST:
                last.append(file)
            elif file.name.sort == Sort.TEMPORARY and self.known is not None:
                outputs_stay |= not self._temporary(digest, file)
            else:
                outputs_stay |= not self._offer(kind, digest, file, kept)
        for file in last if not outputs_stay else ():
            self._offer(kind, digest, file, kept, last=True)

    def _kind_of(self, digest: str) -> tuple[str, str]:
        """Return the kind of the outputs of parameters that are not today's, and why they are kept."""
        chosen = self.selection
        if self.known is None:
            named = self.name in chosen.tasks
            return "unknown-task", "" if named else f"the task is not registered: --task {self.name}"
        kind = "other-parameters" if self.known.leads_to(self.root, digest) else "superseded"
        recorded = len(self.known.carried.get(digest, ()))
        if digest in chosen.digests:
            return kind, ""
        if recorded:
            return kind, f"in the latest records of {recorded} partitions: --digest {digest}"
        if kind == "superseded" or chosen.other_parameters or chosen.older_days is not None:
            return kind, ""
        return kind, "not in the latest records, but a setting leads there: --other-parameters, --older or --digest"

    def _temporary(self, digest: str, file: OwnFile) -> bool:
        """Offer a temporary file unless it may be in use; as other hosts' processes are not seen, wait a minute."""
        with contextlib.suppress(OSError):
            age = (self.now - file.entry.stat(follow_symlinks=False).st_mtime_ns) / 1e9
            if age > HOUR or (age > MINUTE and not _running(layout.writer_of(file.entry.name))):
                return self._offer("temporary", digest, file)
        return False

    def _offer(
        self,
        kind: str,
        digest: str,
        file: OwnFile,
        kept: str = "",
        *,
        last: bool = False,
        inspected: Inspected | None = None,
    ) -> bool:
        """Make a file a candidate if it is selected; inspect its content if it is to be removed."""
        chosen = self.selection
        if chosen.kinds and kind not in chosen.kinds:
            return False
        if (chosen.releases or chosen.where) and not (
            self.known is not None and self.known.has_chosen(self.known.places.get(file.name.place))
        ):
            return False
        try:
            identity = identity_of(file.entry.stat(follow_symlinks=False))
        except OSError:  # it was removed just now
            return True
        if chosen.older_days is not None and identity[2] > self.now - chosen.older_days * DAY * 1e9:
            return False
        named = self.name in chosen.tasks or digest in chosen.digests
        if not kept and kind != "temporary" and self.known is not None and not self.known.carried and not named:
            kept = f"this DAGSTER_HOME has no record of the task: --task {self.name}"
        kept = kept or self.held or (YOUNG if identity[2] >= self.now else "")
        if not kept:
            inspected = inspected or self._inspect(digest, file)
            if inspected is None:
                return False
            identity = inspected.identity
        path = file.entry.path[len(self.root) + 1 :]
        self.found.candidates.append(Candidate(kind, self.name, digest, path, identity, kept, last))
        return True

    def _inspect(self, digest: str, file: OwnFile) -> Inspected | None:
        try:
            return own_files.inspect(file, self.name, digest)
        except FileNotFoundError:
            return None
        except OSError as error:
            self.found.problems.append((file.entry.path, f"cannot be read: {error.strerror}"))
            return None

    def lost(self, known: Family) -> None:
        """Find records whose output does not exist."""
        chosen = self.selection
        if chosen.older_days is not None or (chosen.kinds and "lost" not in chosen.kinds):
            return
        kept = "Dagster removes no single record; a run makes the output again"
        for digest, keys in known.carried.items():
            for key in sorted(keys) if self.selected(digest) else ():
                place = f"{layout.digest_folder(self.root, self.name, digest)}/{layout.place_of(self.name, key)}"
                if known.has_chosen(key) and _missing(f"{place}.{known.tasks[0].output}"):
                    self.found.candidates.append(Candidate("lost", self.name, digest, key, kept=kept))


def _missing(path: str) -> bool:
    try:
        os.stat(path)  # noqa: PTH116 (ten times as fast, for very many)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):  # it cannot be reached, or is not a valid path
        return False
    return False


def _running(process: int) -> bool:
    """Whether a process of this host is running."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
