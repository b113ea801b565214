"""What a run does: plan tasks, record outputs that exist, compute the others on the workers, and record them."""

import functools
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Never

import dagster as dg
from tqdm import tqdm

from astra_dagster import settings
from astra_dagster.errors import AstraError, DiskFullError
from astra_dagster.execution import runner
from astra_dagster.execution.workers import Crew, Workers
from astra_dagster.orchestration import records, sources
from astra_dagster.orchestration.internals import (
    ASSET_PARTITION_RANGE_START_TAG,
    BACKFILL_ID_TAG,
    PARTITION_NAME_TAG,
    capture_interrupts,
    check_captured_interrupt,
)
from astra_dagster.orchestration.partitions import chunks
from astra_dagster.orchestration.runs.fetch import fetch
from astra_dagster.orchestration.runs.preview_metadata import FEW, PAGE, make_preview_metadata
from astra_dagster.orchestration.runs.summary import TaskSummary
from astra_dagster.orchestration.sources import make_planner
from astra_dagster.outputs.store import OutputStore, PartitionWork, StoredOutput
from astra_dagster.planning.plan import Plan
from astra_dagster.planning.planner import WINDOW, Planner, Wanted
from astra_dagster.planning.status import Status
from astra_dagster.resources import NONE, Resources

RECORD = 500
"""Number of outputs that are recorded together."""

RECORD_AFTER = 5.0
"""Seconds after which outputs are recorded, however few, so that a run that is killed leaves few without a record."""

TELL_AFTER = 30.0
"""Seconds between two lines of progress in the log of a run."""


@dataclass(frozen=True)
class Job:
    """A task with the partitions that a run does of it.

    Attributes
    ----------
    overwrite
        Whether to run complete partitions again.
    """

    store: OutputStore
    keys: Sequence[str]
    overwrite: bool = False


def materialise(
    context: dg.OpExecutionContext,
    jobs: Sequence[Job],
    workers: Workers,
    *,
    record_all: bool = False,
    fetching: bool = False,
    verify: bool = False,
    planner: Planner | None = None,
) -> dict[str, TaskSummary]:
    """Bring partitions up to date and record them. Tasks that do not require one another are run together.

    If a run over a range of partitions has failed, or is part of a backfill, Dagster shows every partition as failed
    that was not recorded in it. Complete partitions are then recorded again; with `record_all` they always are. A run
    over few records those again that have no picture yet, with one.

    Parameters
    ----------
    jobs
        Tasks with their partitions; tasks that others require come first.
    fetching
        Whether to fetch files that are not on this disk first.
    verify
        Whether outputs are read and compared with their records, not only their sizes.
    planner
        Planner that has just looked at the files and records of these jobs, if there is one.
    """
    records.warn_if_slow(context)
    every: dict[str, TaskSummary] = {}
    with Crew(workers, _join_resources(jobs)) as crew, settings.held_config():
        for level in _sort_into_levels(jobs):
            if planner is None:
                planner = make_planner(context.instance, level[0].store.root, settings.sas_base_dir(), verify=verify)
            every.update(_materialise_level(context, level, crew, planner, record_all=record_all, fetching=fetching))
            planner = None  # the next level must see the outputs of this one
    return every


def _join_resources(jobs: Sequence[Job]) -> Resources:
    """Return what a worker needs that does the work of all these tasks."""
    return functools.reduce(Resources.join, (job.store.task.resources for job in jobs), NONE)


def _materialise_level(
    context: dg.OpExecutionContext,
    level: Sequence[Job],
    crew: Crew,
    planner: Planner,
    *,
    record_all: bool,
    fetching: bool,
) -> dict[str, TaskSummary]:
    """Do the jobs of a level; if they have very many partitions, those that are to be looked at in windows."""
    done = {job.store.task.name: TaskSummary() for job in level}
    everything = [(job.store, job.keys, job.overwrite) for job in level]
    plans = planner.plan_all(everything)
    progress = _Progress(context)
    windows: Iterable[Sequence[Wanted]] = [everything]
    if brief := any(plan.is_brief for plan in plans):
        _tell(context, plans)
        _record_sources(context, planner)
        statuses = {Status.TO_DO, Status.TO_RECORD}
        if fetching:
            statuses |= {Status.NO_INPUT, Status.WAITING}
        for plan in plans:
            done[plan.store.task.name].begin(plan, {}, frozenset(Status) - statuses)
        progress.expect(sum(len(plan.of(Status.TO_DO)) for plan in plans))
        windows = _divide(plans, everything, statuses)
    interrupted = False
    with closing(progress):
        for window in windows:
            seen = planner.window() if brief else planner
            parts = _look(context, seen, window, done, fetching=fetching)
            if not brief:
                plans = parts
                _tell(context, plans)
            interrupted = _run_plans(context, parts, crew, done, progress)
            del seen, parts  # before the next window is looked at
            if interrupted:
                break
    for name, of_task in done.items():
        context.log.info(f"{name}: {of_task.words}")
    if interrupted:
        context.log.warning(f"stopped: {progress.total - progress.done} are left to do")
        raise dg.DagsterExecutionInterruptedError
    for plan in plans if _is_for_partitions(context) else ():
        _record_complete(context, planner, plan, done[plan.store.task.name], record_all=record_all)
    return done


def _look(
    context: dg.OpExecutionContext,
    planner: Planner,
    wanted: Sequence[Wanted],
    done: Mapping[str, TaskSummary],
    *,
    fetching: bool,
) -> list[Plan]:
    """Fetch files that are not here, if that is asked for, and plan; record the files, and count what is planned."""
    plans = [planner.plan(*one) for one in wanted]
    unfetched: dict[str, AstraError] = {}
    if fetching and (absent := planner.absent):
        unfetched = fetch(context, absent)
        planner = planner.window()
        plans = [planner.plan(*one) for one in wanted]
    for plan in plans:
        done[plan.store.task.name].begin(plan, unfetched)
    _record_sources(context, planner)
    return plans


def _tell(context: dg.OpExecutionContext, plans: Sequence[Plan]) -> None:
    for plan in plans:
        context.log.info("\n".join([f"{plan.store.task.name}: {len(plan.partitions)} partitions", *plan.lines()]))


def _record_sources(context: dg.OpExecutionContext, planner: Planner) -> None:
    for product, inputs in planner.inputs.items():
        sources.record(context, product, inputs.values())


def _divide(
    plans: Sequence[Plan], everything: Sequence[Wanted], statuses: Collection[Status]
) -> Iterator[Sequence[Wanted]]:
    """Divide the partitions of these statuses into windows, in which all tasks have the same partitions."""
    left = [{one.key for status in statuses for one in plan.of(status)} for plan in plans]
    wanted = list(
        dict.fromkeys(key for plan, mine in zip(plans, left, strict=True) for key in plan.partitions if key in mine)
    )
    for window in chunks(wanted, WINDOW):
        yield [
            (store, [key for key in window if key in mine], overwrite)
            for (store, _, overwrite), mine in zip(everything, left, strict=True)
        ]


def _record_complete(
    context: dg.OpExecutionContext, planner: Planner, plan: Plan, done: TaskSummary, *, record_all: bool
) -> None:
    """Record complete partitions again, where Dagster would show them as failed, or they have no picture yet."""
    failed = done.failures
    without = done.planned[Status.NO_INPUT]
    if without and failed:
        context.log.warning(f"Dagster will show {without} partitions without input as failed as well")
    complete = plan.of(Status.COMPLETE)
    everyone = record_all or bool(failed) or BACKFILL_ID_TAG in context.run.tags
    if not complete or not (everyone or _is_for_few(context, [plan])):
        return
    recorder, preview = _Recorder(context), _choose_preview(context, [plan])
    for work in _find_complete(planner, plan) if everyone else _find_without_picture(context, plan):
        written, shown = plan.store.find(work), preview(plan.store, work)
        if written is not None and (everyone or PAGE in shown):
            recorder.add(plan.store, work, written, shown)
            recorder.flush_if_due()
    recorder.flush()


def _find_complete(planner: Planner, plan: Plan) -> Iterator[PartitionWork]:
    """Yield the complete partitions of a plan, which a plan in brief does not have."""
    if not plan.is_brief:
        yield from plan.work(Status.COMPLETE)
        return
    for keys in chunks([one.key for one in plan.of(Status.COMPLETE)], WINDOW):
        yield from planner.window().plan(plan.store, keys).work(Status.COMPLETE)


def _is_for_partitions(context: dg.OpExecutionContext) -> bool:
    """Whether Dagster started a run for a partition or a range of them, as the web UI does, and so tracks each."""
    return any(tag in context.run.tags for tag in (PARTITION_NAME_TAG, ASSET_PARTITION_RANGE_START_TAG))


def _is_for_few(context: dg.OpExecutionContext, plans: Sequence[Plan]) -> bool:
    return _is_for_partitions(context) and sum(len(plan.partitions) for plan in plans) <= FEW * len(plans)


def _find_without_picture(context: dg.OpExecutionContext, plan: Plan) -> Iterator[PartitionWork]:
    """Yield the complete partitions of a plan whose latest record has no picture, as of a run over many."""
    asset = dg.AssetKey(plan.store.task.name)
    for work in plan.work(Status.COMPLETE):
        wanted = dg.AssetRecordsFilter(asset, asset_partitions=[work.data_id.key])
        latest = context.instance.fetch_materializations(wanted, limit=1).records
        made = latest[0].asset_materialization if latest else None
        if made is not None and PAGE not in made.metadata:
            yield work


def _choose_preview(
    context: dg.OpExecutionContext, plans: Sequence[Plan]
) -> Callable[[OutputStore, PartitionWork], Mapping[str, Any]]:
    """Choose how the spectra of a run are shown in its records: with pictures if they are few, else not at all."""
    few = _is_for_few(context, plans)
    return lambda store, work: make_preview_metadata(store, work, settings.sas_base_dir()) if few else {}


def _sort_into_levels(jobs: Sequence[Job]) -> list[list[Job]]:
    """Sort jobs into levels, in order, so that no task requires another of the same level."""
    levels: list[list[Job]] = []
    depth: dict[str, int] = {}
    for job in jobs:
        task = job.store.task
        depth[task.name] = 1 + max((depth.get(other.name, -1) for other in task.upstream), default=-1)
        levels += [[] for _ in range(depth[task.name] + 1 - len(levels))]
        levels[depth[task.name]].append(job)
    return [level for level in levels if level]


def _run_plans(
    context: dg.OpExecutionContext,
    plans: Sequence[Plan],
    crew: Crew,
    done: Mapping[str, TaskSummary],
    progress: "_Progress",
) -> bool:
    """Run incomplete partitions and record them; outputs that exist without a record are only recorded.

    Returns
    -------
    interrupted
        Whether it was told to stop before all were done.
    """
    recorder, preview = _Recorder(context), _choose_preview(context, plans)
    for plan in plans:
        for work, written in plan.to_record:
            recorder.add(plan.store, work, written, preview(plan.store, work))
            recorder.flush_if_due()
    jobs = [(plan.store, to_do) for plan in plans if (to_do := plan.work(Status.TO_DO))]
    progress.expect(sum(len(work) for _, work in jobs))
    with capture_interrupts():
        try:
            for outcomes in runner.run(jobs, crew, check_captured_interrupt) if jobs else ():
                for outcome in outcomes:
                    done[outcome.store.task.name].add(outcome)
                    if outcome.written is not None:
                        shown = preview(outcome.store, outcome.work)
                        recorder.add(outcome.store, outcome.work, outcome.written, shown)
                recorder.flush_if_due()
                progress.update(len(outcomes))
        except DiskFullError as error:
            computed, left = sum(of.computed for of in done.values()), progress.total - progress.done
            error.message += f"; of {progress.total}, {computed} are done, and {left} are left to do"
            raise
        finally:  # even if the workers are lost
            recorder.flush()
        return check_captured_interrupt()


class _Recorder:
    """Collects outputs of some tasks, and records many at a time."""

    def __init__(self, context: dg.OpExecutionContext) -> None:
        self.context = context
        self.waiting: list[tuple[OutputStore, PartitionWork, StoredOutput, Mapping[str, Any]]] = []
        self.since = time.monotonic()

    def add(self, store: OutputStore, work: PartitionWork, written: StoredOutput, preview: Mapping[str, Any]) -> None:
        self.waiting.append((store, work, written, preview))

    def flush_if_due(self) -> None:
        if len(self.waiting) >= RECORD or time.monotonic() - self.since > RECORD_AFTER:
            self.flush()

    def flush(self) -> None:
        waiting, self.waiting = self.waiting, []  # outputs that cannot be recorded are not tried again
        self.since = time.monotonic()
        keys: dict[str, list[str]] = {}
        for store, work, _, _ in waiting:
            keys.setdefault(store.task.name, []).append(work.data_id.key)
        stores = {store.task.name: store for store, *_ in waiting}
        alike = {
            name: (records.pointers_of(self.context.instance, store.task, keys[name]), records.parameters_of(store))
            for name, store in stores.items()
        }
        made = [
            records.task_materialisation(store, work, written, *alike[store.task.name], preview)
            for store, work, written, preview in waiting
        ]
        records.write(self.context, made)


class _Progress:
    """Shows progress as a bar on a terminal, and as a line in the log of the run every half minute."""

    def __init__(self, context: dg.OpExecutionContext) -> None:
        self.context, self.total, self.done = context, 0, 0
        self.start = self.logged = time.monotonic()
        self.bar: tqdm[Never] | None = None

    def expect(self, number: int) -> None:
        """Expect at least so many more."""
        self.total = max(self.total, self.done + number)
        if self.bar is None and self.total:
            self.start = self.logged = time.monotonic()
            self.bar = tqdm(total=self.total, unit="file", disable=None)
        if self.bar is not None:
            self.bar.total = self.total

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()

    def update(self, number: int) -> None:
        self.done += number
        if self.bar is not None:
            self.bar.update(number)
        now = time.monotonic()
        if now - self.logged > TELL_AFTER:
            self.logged = now
            rate = self.done / (now - self.start)
            left = (self.total - self.done) / rate
            self.context.log.info(f"{self.done} of {self.total}, {rate:.0f} a second, {left:.0f} s left")
