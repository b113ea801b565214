"""One tick of a watch: examine a product, and decide which runs to request.

The watch finds the files to plan for, and a plan decides what is not complete. Nothing is lost and nothing is requested
twice, even if a tick is killed:

- The watch remembers new and changed files as ready before anything else is done, until a tick has decided about them.
- Registering keys again changes nothing.
- The runs to be requested are remembered in the same transaction that marks their files as requested. They are
  requested at every tick until Dagster has a run of their run key, and Dagster makes no second run of a key.
- A run key is a hash of what is requested: keys, versions of the files, the records that they replace, and the number
  of runs for the same files that produced nothing.
- When a run has ended, its files are checked. Those that a failed or killed run left undone are requested again after
  a minute, then after two, and so on, up to six hours.

A failure through a fault of the file or of the task's code is noted beside the outputs, where the plan finds it: it is
requested again when the file or the code changes. Files of a run that somebody has cancelled are left to the daily
schedule.
"""

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg

from astra_dagster import settings
from astra_dagster.archive.absence import Absences
from astra_dagster.archive.discovery import file_version, top_folder
from astra_dagster.archive.watch_state import BusyError, Sighting, State, Watch, discard, is_damage
from astra_dagster.archive.watching import Look, is_recent, look_at
from astra_dagster.datamodel.products import DataID
from astra_dagster.datamodel.releases import releases
from astra_dagster.errors import (
    AstraError,
    InputMissingError,
    LinkOutsideError,
    OutputError,
    UnreachableError,
    printable,
)
from astra_dagster.fits.truncation import is_cut_short
from astra_dagster.orchestration import records, sources
from astra_dagster.orchestration.internals import NOT_FINISHED_STATUSES, RUN_KEY_TAG, SENSOR_NAME_TAG
from astra_dagster.orchestration.partitions import chunks, register
from astra_dagster.orchestration.runs.signs_of_life import declare_dead
from astra_dagster.orchestration.watch import nights
from astra_dagster.orchestration.watch.requests import Request, requests_for
from astra_dagster.orchestration.watch.settings import Watched
from astra_dagster.outputs.store import OutputStore
from astra_dagster.planning.inputs import Input
from astra_dagster.planning.status import Status
from astra_dagster.tasks import registry

BUDGET = 25.0
"""Seconds after which a tick leaves the rest to the next; Dagster ends one after 60."""

MOST = 100_000
"""Most files about which one tick decides."""

TOGETHER = 2_000
"""Files about which a tick decides together."""

UNDER_WAY = "under way"
"""Name of a fact of the watch: the runs that were under way when it was made, whose partitions it does not know."""

_WANTED = (Status.TO_DO, Status.TO_RECORD, Status.UNREACHABLE)
"""Statuses of partitions for which a run is requested, unless they are given up."""

Clock = Callable[[], float]


@dataclass
class Tick:
    """The result of one tick.

    Attributes
    ----------
    new, changed, again, gone
        Number of files that were never recorded, that have changed since, that are recorded but not complete, and that
        were removed.
    requests
        Runs to request.
    notes
        Notes for the log on files that are skipped, still being written or cannot be examined, with the reason.
    """

    new: int = 0
    changed: int = 0
    again: int = 0
    gone: int = 0
    writing: int = 0
    later: int = 0
    waits: int = 0
    requests: list[Request] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    look: Look = field(default_factory=Look)
    more: bool = False
    seconds: float = 0.0
    busy: bool = False

    def __str__(self) -> str:
        if self.busy:
            return "another tick is still at work"
        again = f", {self.again:,} not complete" if self.again else ""
        runs = "no run" if not self.requests else "1 run" if len(self.requests) == 1 else f"{len(self.requests)} runs"
        parts = [
            f"{self.new:,} new, {self.changed:,} changed, {self.gone:,} gone{again}",
            f"{runs} requested",
            f"{self.look.folders:,} folders, {self.look.listed:,} listed, {self.seconds:.1f} s",
        ]
        if self.writing:
            parts.append(f"{self.writing:,} still being written")
        if self.later:
            parts.append(f"{self.later:,} to be tried again later")
        if self.look.unreachable:
            parts.append(f"{len(self.look.unreachable):,} folders cannot be examined")
        links = sum(isinstance(skipped.error, LinkOutsideError) for skipped in self.look.skipped)
        if links:
            parts.append(f"{links:,} links lead out of the mirror")
        if self.waits:
            parts.append(f"waiting for {self.waits} runs of before the watch was made")
        if self.more:
            parts.append("more at the next tick")
        return "; ".join(parts)


def state_path(watched: Watched) -> Path:
    """Return the path of the file of a product's watch."""
    return settings.check_outputs_dir() / f"watch-{watched.product.asset_name}.sqlite"


def sensor_name(watched: Watched) -> str:
    """Return the name of the sensor of a product."""
    return f"{watched.product.asset_name}_arrivals"


def tick(instance: dg.DagsterInstance, watched: Watched, clock: Clock = time.time) -> Tick:
    """Examine a product, register new files, and decide which runs to request.

    Raises
    ------
    AstraError
        If SAS_BASE_DIR is not set, the outputs cannot be written, or the configuration is not valid.
    """
    start = time.monotonic()
    made = Tick()
    declare_dead(instance)
    path = state_path(watched)
    try:
        with Watch(path, settings.sas_base_dir(), clock) as watch:
            _Ticking(instance, watched, watch, made, start + BUDGET).run()
    except BusyError:
        made.busy = True
    except sqlite3.Error as error:
        if not is_damage(error):
            raise OutputError(f"what the watch remembers cannot be kept: {error}", path=path) from error
        discard(path)
        raise OutputError(
            "what the watch remembers was damaged",
            path=path,
            hint="it is thrown away: the next tick looks at everything",
        ) from error
    made.seconds = time.monotonic() - start
    return made


@dataclass
class _Ticking:
    """The steps of a tick."""

    instance: dg.DagsterInstance
    watched: Watched
    watch: Watch
    made: Tick
    deadline: float

    def run(self) -> None:
        """Run all steps, in order."""
        self.item = self.watched.product
        self.root = settings.sas_base_dir()
        under_way = self._follow()
        made, watched = self.made, self.watched
        made.look = look_at(
            self.watch,
            self.item,
            watched.releases or releases(),
            self.root,
            settle=watched.settle,
            deadline=self.deadline,
        )
        made.notes += [f"cannot be examined: {path}" for path in made.look.unreachable]
        made.notes += [printable(f"skipped {skipped.path}: {skipped.reason}") for skipped in made.look.skipped]
        made.notes += made.look.elsewhere
        self._tell_gone()
        made.waits = self._under_way()
        if not made.waits:
            ready = self.watch.sightings(State.READY, MOST)
            self._request(self._decide(sorted(ready, key=lambda sighting: sighting.path)))
        made.requests = [Request.parse(run) for number, _, run in self.watch.open_requests() if number not in under_way]
        unfinished = self.watch.sightings(State.UNFINISHED)
        made.notes += [printable(f"incomplete, shorter than its headers say: {one.path}") for one in unfinished]
        made.writing = len(unfinished) + self.watch.count(State.WAITING)
        made.later = self.watch.count(State.READY, due=False)
        made.more = not made.waits and (not made.look.complete or self.watch.count(State.READY) > 0)
        made.notes += nights.write_due(self.instance, self.watch, self.deadline)

    def _follow(self) -> set[int]:
        """Check the runs that were requested, and return the numbers of those that are under way."""
        under_way = set()
        for number, run_key, _ in self.watch.open_requests():
            statuses = {run.status for run in self._runs({RUN_KEY_TAG: run_key})}
            if statuses & {*NOT_FINISHED_STATUSES}:
                under_way.add(number)
            elif statuses:
                requested = {one: self._data_id(one.release, one.path) for one in self.watch.files_of_request(number)}
                undone: set[Sighting] = set()
                if dg.DagsterRunStatus.SUCCESS in statuses:
                    undone = self._not_recorded(requested)
                elif dg.DagsterRunStatus.FAILURE in statuses:
                    undone = set(requested)
                with self.watch.transaction():
                    nights.remember(self.watch, requested.values())
                    self.watch.try_again(undone)
                    self.watch.mark([sighting for sighting in requested if sighting not in undone], None)
                    self.watch.forget_request(number)
        return under_way

    def _not_recorded(self, data_ids: Mapping[Sighting, DataID | None]) -> set[Sighting]:
        """Return the files that a successful run did not find and so did not record."""
        known = records.source_records(self.instance, self.item, [one.key for one in data_ids.values() if one])
        undone = set()
        for sighting, data_id in data_ids.items():
            record = known.get(data_id.key) if data_id else None
            if record is None or record.file != file_version(sighting.size, sighting.mtime_ns):
                undone.add(sighting)
        return undone

    def _runs(self, tags: dict[str, str], statuses: Sequence[dg.DagsterRunStatus] = ()) -> Sequence[dg.DagsterRun]:
        mine = {SENSOR_NAME_TAG: sensor_name(self.watched), **tags}
        return self.instance.get_runs(dg.RunsFilter(tags=mine, statuses=statuses or None))

    def _under_way(self) -> int:
        """Return the number of runs to wait for: a new watch does not know which partitions they compute."""
        before = self.watch.fact(UNDER_WAY)
        runs = self._runs({}, NOT_FINISHED_STATUSES) if before is None or before else []
        unfinished = [run.run_id for run in runs]
        waits = unfinished if before is None else sorted({*unfinished} & {*before.split()})
        if before is None or " ".join(waits) != before:
            with self.watch.transaction():
                self.watch.note(UNDER_WAY, " ".join(waits))
        return len(waits)

    def _tell_gone(self) -> None:
        """Record that files were removed; one that has a compressed variant is examined again instead.

        Nothing is recorded of files whose disk may be away: when it is back, the files are found again.
        """
        absences = Absences(self.root)
        while (told := self.watch.gone_files(TOGETHER)) and time.monotonic() < self.deadline:
            keys = []
            for release, path in told:
                data_id = self._data_id(release, path)
                try:
                    there = data_id.existing_path(self.root) if data_id else None
                    if data_id and there is None:
                        absences.refuse_outage(data_id)
                        keys.append(data_id.key)
                except UnreachableError as error:
                    self.made.notes.append(str(error))
                    continue
                if there is not None:
                    with self.watch.transaction():
                        self.watch.look_again(there)
            known = records.source_records(self.instance, self.item, keys)
            records.write_gone(self.instance, self.item, list(known))
            with self.watch.transaction():
                self.watch.forget(told)
            self.made.gone += len(known)

    def _data_id(self, release: str, path: str) -> DataID | None:
        try:
            return self.item.parse_path(path, release, top_folder(self.item.template(release), self.root))
        except AstraError as error:
            self.made.notes.append(printable(f"skipped {path}: {error}"))
            return None

    def _decide(self, ready: Sequence[Sighting]) -> dict[DataID, tuple[list[Sighting], str]]:
        """Return the files to request runs for, with what is requested; mark all others as done, or leave them."""
        todo: dict[DataID, tuple[list[Sighting], str]] = {}
        for some in chunks(ready, TOGETHER):
            if time.monotonic() > self.deadline:
                break
            seen: dict[DataID, list[Sighting]] = {}
            marks: dict[State | None, list[Sighting]] = {state: [] for state in (None, *State)}
            for sighting in some:
                data_id = self._data_id(sighting.release, sighting.path)
                if data_id is None:
                    marks[State.IGNORED].append(sighting)
                elif not self.watched.selects(data_id):
                    marks[None].append(sighting)
                elif is_recent(self.watch, sighting.since) and _is_unfinished(Path(sighting.path)):
                    marks[State.UNFINISHED].append(sighting)
                elif data_id in todo:  # a file and its compressed variant are one partition
                    todo[data_id][0].append(sighting)
                else:
                    seen.setdefault(data_id, []).append(sighting)
            asked, away = self._asked(seen)
            for data_id, sightings in seen.items():
                if data_id in asked:
                    todo[data_id] = (sightings, asked[data_id])
                elif data_id not in away:
                    marks[None] += sightings
            with self.watch.transaction():
                for state, sightings in marks.items():
                    self.watch.mark(sightings, state)
                self.watch.try_again(sighting for data_id in away for sighting in seen[data_id])
        return todo

    def _asked(self, seen: dict[DataID, list[Sighting]]) -> tuple[dict[DataID, str], set[DataID]]:
        """Return the files that are not complete, each with a text that sets its request apart from earlier ones.

        The text holds the new version, the record that it replaces, and the number of tries. Return as well the files
        that the watch has seen and that cannot be found now: their disk may be away.
        """
        known = records.source_records(self.instance, self.item, [data_id.key for data_id in seen])
        pointers = records.event_pointers(self.instance, records.asset_key(self.item), list(known))
        tries = {data_id: max(sighting.tries for sighting in sightings) for data_id, sightings in seen.items()}
        # A file that is seen for the first time existed just now: it need not be examined again.
        looked_at = [data_id for data_id in seen if data_id.key in known or tries[data_id]]
        inputs = {found.data_id.key: found for found in sources.examine(self.instance, self.item, looked_at, self.root)}
        away = {data_id for data_id in looked_at if inputs[data_id.key].file is None}
        recorded = [data_id for data_id in looked_at if data_id.key in known and data_id not in away]
        incomplete = self._incomplete(recorded, inputs)
        asked = {}
        for data_id, sightings in seen.items():
            if data_id in away:
                continue
            if data_id.key not in known:
                asked[data_id] = f"{sightings[0].size}-{sightings[0].mtime_ns}"
                self.made.new += 1
            else:
                found = inputs[data_id.key]
                if found.version == found.before and data_id.key not in incomplete:
                    continue
                asked[data_id] = f"{found.version} for {pointers.get(data_id.key)}"
                self.made.changed += found.version != found.before
                self.made.again += found.version == found.before
            if tries[data_id]:
                asked[data_id] += f", try {tries[data_id] + 1}"
        return asked, away

    def _incomplete(self, data_ids: Sequence[DataID], inputs: dict[str, Input]) -> set[str]:
        """Return the keys for which a task is to be run, without those that are given up."""
        outputs = settings.outputs_dir()
        planner = sources.make_planner(self.instance, outputs, self.root)
        planner.inputs[self.item] = inputs
        planner.data_ids[self.item] = {data_id.key: data_id for data_id in data_ids}
        incomplete: set[str] = set()
        for task in self.watched.chain() if data_ids else ():
            if task.domain != self.item or not all(item.one_to_one for one in task.chain for item in one.requires):
                continue
            keys = [one.key for one in data_ids if not task.releases or one.release in task.releases]
            plan = planner.plan(OutputStore(outputs, task, task.values()), keys)
            wanted = (one for status in _WANTED for one in plan.of(status))
            incomplete.update(one.key for one in wanted if not one.given_up)
        return incomplete

    def _request(self, todo: dict[DataID, tuple[list[Sighting], str]]) -> None:
        """Register new keys, and remember the runs to request."""
        if not todo:
            return
        asked = {data_id.key: said for data_id, (_, said) in todo.items()}
        register(self.instance, self.item, list(asked), registry.groups(), regroup=False)
        most, assets = self.watched.partitions, self.watched.by_range
        made = requests_for(self.instance, self.item, asked, most, assets=assets)
        sightings = {data_id.key: seen for data_id, (seen, _) in todo.items()}
        with self.watch.transaction():
            for request, keys in made:
                number = self.watch.add_request(request.run_key, str(request))
                self.watch.mark([one for key in keys for one in sightings[key]], State.REQUESTED, number)


def _is_unfinished(path: Path) -> bool:
    try:
        return is_cut_short(path)
    except InputMissingError:  # it was removed just now
        return False
