"""What a run does: plan tasks, record what is there, do the rest wherever the workers are, record it as it comes."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import dagster as dg
from tqdm import tqdm

from astra_dagster import settings
from astra_dagster.errors import AstraError, DiskFullError
from astra_dagster.execution import runner
from astra_dagster.execution.workers import Workers
from astra_dagster.orchestration import records, sources
from astra_dagster.orchestration.internals import (
    ASSET_PARTITION_RANGE_START_TAG,
    BACKFILL_ID_TAG,
    PARTITION_NAME_TAG,
    capture_interrupts,
    check_captured_interrupt,
)
from astra_dagster.orchestration.runs.fetch import fetch
from astra_dagster.orchestration.runs.preview_metadata import FEW, something_to_look_at
from astra_dagster.orchestration.runs.summary import Done
from astra_dagster.orchestration.sources import make_planner
from astra_dagster.outputs.store import OutputStore, Work, Written
from astra_dagster.planning.plan import Plan
from astra_dagster.planning.planner import Planner
from astra_dagster.planning.status import Status

RECORD = 500
"""Outputs that are recorded together."""

RECORD_AFTER = 5.0
"""Seconds after which outputs are recorded, however few: a run that is killed has them computed, but not recorded."""

TELL_AFTER = 30.0
"""Seconds between two lines of progress in the log of a run."""


@dataclass(frozen=True)
class Job:
    """One task of a run, with its partitions.

    Attributes
    ----------
    overwrite
        Whether to do complete partitions again.
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
    planner: Planner | None = None,
) -> dict[str, Done]:
    """Bring partitions up to date and record them: together those of tasks that do not require one another.

    In a run over a range of partitions Dagster calls every one failed that was not recorded in it, once the run has
    failed or if it is part of a backfill: complete ones are then recorded again, with `record_all` in any case.

    Parameters
    ----------
    jobs
        Tasks with their partitions, those first that others require.
    fetching
        Whether to fetch files that are not on this disk first.
    planner
        One that has just seen the files and records of these jobs, if there is one.
    """
    records.warn_if_slow(context)
    every: dict[str, Done] = {}
    for level in _levels(jobs):
        planner = planner or make_planner(context.instance, level[0].store.root, settings.sas_base_dir())
        plans = [planner.plan(job.store, job.keys, job.overwrite) for job in level]
        unfetched: dict[str, AstraError] = {}
        absent = planner.absent if fetching else []
        if absent:
            unfetched = fetch(context, absent)
            planner = make_planner(context.instance, planner.outputs, planner.root)
            plans = [planner.plan(job.store, job.keys, job.overwrite) for job in level]
        for plan in plans:
            name = plan.store.task.name
            context.log.info("\n".join([f"{name}: {len(plan.partitions)} partitions", *plan.lines()]))
        done = {plan.store.task.name: Done.planned(plan, unfetched) for plan in plans}
        for product, inputs in planner.inputs.items():
            sources.record(context, product, inputs.values())
        _run_plans(context, plans, workers, done)
        for plan in plans if _launched_for_partitions(context) else ():
            failed = done[plan.store.task.name].failures
            without = len(plan.of(Status.NO_INPUT))
            if without and failed:
                context.log.warning(f"Dagster will show {without} partitions without input as failed as well")
            complete = plan.work(Status.COMPLETE)
            if complete and (record_all or failed or BACKFILL_ID_TAG in context.run.tags):
                there = [(work, written) for work in complete if (written := plan.store.find(work))]
                _Recorder(context, [plan]).add(plan.store, there).flush()
        every.update(done)
        planner = None  # what comes next looks at what was done now
    return every


def _launched_for_partitions(context: dg.OpExecutionContext) -> bool:
    """Whether a run is for a partition or a range of them, as the web UI launches it: Dagster then plans each."""
    return any(tag in context.run.tags for tag in (PARTITION_NAME_TAG, ASSET_PARTITION_RANGE_START_TAG))


def _levels(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs that can be done together, in order: no task of a level requires another of the same."""
    levels: list[list[Job]] = []
    depth: dict[str, int] = {}
    for job in jobs:
        task = job.store.task
        depth[task.name] = 1 + max((depth.get(other.name, -1) for other in task.upstream), default=-1)
        levels += [[] for _ in range(depth[task.name] + 1 - len(levels))]
        levels[depth[task.name]].append(job)
    return [level for level in levels if level]


def _run_plans(
    context: dg.OpExecutionContext, plans: Sequence[Plan], workers: Workers, done: Mapping[str, Done]
) -> None:
    """Do what is incomplete and record it; what is there already is recorded only."""
    recorder = _Recorder(context, plans)
    for plan in plans:
        recorder.add(plan.store, plan.to_record)
    jobs = [(plan.store, work) for plan in plans if (work := plan.work(Status.TO_DO))]
    with capture_interrupts(), _Progress(context, sum(len(work) for _, work in jobs)) as progress:
        try:
            for outcomes in runner.run(jobs, workers, check_captured_interrupt) if jobs else ():
                for outcome in outcomes:
                    done[outcome.store.task.name].add(outcome)
                    if outcome.written is not None:
                        recorder.add(outcome.store, [(outcome.work, outcome.written)])
                recorder.flush_if_due()
                progress.update(len(outcomes))
        except DiskFullError as error:
            computed, left = sum(of.computed for of in done.values()), progress.total - progress.done
            error.message += f"; of {progress.total}, {computed} are done, and {left} are left to do"
            raise
        finally:  # also where the workers went away
            recorder.flush()
        interrupted = check_captured_interrupt()
    for name, of_task in done.items():
        context.log.info(f"{name}: " + (", ".join(f"{n} {what}" for what, n in of_task.counts.items()) or "nothing"))
    if interrupted:
        context.log.warning(f"stopped: {progress.total - progress.done} are left to do")
        raise dg.DagsterExecutionInterruptedError


class _Recorder:
    """Gathers outputs of some tasks, and records them many at a time."""

    def __init__(self, context: dg.OpExecutionContext, plans: Sequence[Plan]) -> None:
        self.context = context
        self.few = _launched_for_partitions(context) and sum(len(plan.partitions) for plan in plans) <= FEW * len(plans)
        self.pointers = {plan.store.task.name: self._pointers(plan) for plan in plans}
        self.waiting: list[dg.AssetMaterialization] = []
        self.since = time.monotonic()

    def _pointers(self, plan: Plan) -> Mapping[str, Mapping[str, int]]:
        keys = [work.data_id.key for work in plan.work(Status.COMPLETE, Status.TO_DO, Status.TO_RECORD)]
        return records.pointers_of(self.context.instance, plan.store.task, keys)

    def add(self, store: OutputStore, outputs: Iterable[tuple[Work, Written]]) -> "_Recorder":
        pointers = self.pointers[store.task.name]
        for work, written in outputs:
            shown = something_to_look_at(store, work, settings.sas_base_dir()) if self.few else {}
            self.waiting.append(records.task_materialisation(store, work, written, pointers, shown))
        return self

    def flush_if_due(self) -> None:
        if len(self.waiting) >= RECORD or time.monotonic() - self.since > RECORD_AFTER:
            self.flush()

    def flush(self) -> None:
        waiting, self.waiting = self.waiting, []  # what cannot be recorded is not tried twice
        self.since = time.monotonic()
        records.write(self.context, waiting)


class _Progress:
    """A bar on a terminal, and now and then a line in the log of the run."""

    def __init__(self, context: dg.OpExecutionContext, total: int) -> None:
        self.context, self.total, self.done = context, total, 0
        self.start = self.told = time.monotonic()
        self.bar = tqdm(total=total, unit="file", disable=None if total else True)

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def update(self, number: int) -> None:
        self.done += number
        self.bar.update(number)
        now = time.monotonic()
        if now - self.told > TELL_AFTER:
            self.told = now
            rate = self.done / (now - self.start)
            left = (self.total - self.done) / rate
            self.context.log.info(f"{self.done} of {self.total}, {rate:.0f} a second, {left:.0f} s left")
