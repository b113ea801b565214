"""What a run does: plan tasks, record what is there, do the rest wherever the workers are, record it as it comes."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_START_TAG, PARTITION_NAME_TAG
from dagster._utils.interrupts import capture_interrupts, check_captured_interrupt
from tqdm import tqdm

from astra_dagster import settings
from astra_dagster.orchestration import records, sources
from astra_dagster.orchestration.planning import Plan, Planner
from astra_dagster.tasks import runner
from astra_dagster.tasks.runner import Outcome
from astra_dagster.tasks.store import OutputStore, Work, Written
from astra_dagster.tasks.workers import Workers

RECORD = 500
"""Outputs that are recorded together."""

RECORD_AFTER = 5.0
"""Seconds after which outputs are recorded, however few: a run that is killed has them computed, but not recorded."""

TELL_AFTER = 30.0
"""Seconds between two lines of progress in the log of a run."""

SHOWN = 20
"""Failures that the message of a failed run spells out."""


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


Failures = dict[str, list[tuple[str, str]]]
"""Key and reason of what failed, by task."""


def materialise(
    context: dg.OpExecutionContext,
    jobs: Sequence[Job],
    workers: Workers,
    *,
    record_all: bool = False,
    planner: Planner | None = None,
) -> Failures:
    """Bring partitions up to date and record them: together those of tasks that do not require one another.

    In a run over a range of partitions Dagster calls every one failed that was not recorded in it, once the run has
    failed: complete ones are then recorded again, with `record_all` in any case.

    Parameters
    ----------
    jobs
        Tasks with their partitions, those first that others require.
    planner
        One that has just seen the files and records of these jobs, if there is one.
    """
    failures: Failures = {}
    for level in _levels(jobs):
        planner = planner or Planner(context.instance, level[0].store.root, settings.sas_base_dir())
        plans = [planner.plan(job.store, job.keys, job.overwrite) for job in level]
        for plan in plans:
            name = plan.store.task.name
            context.log.info("\n".join([f"{name}: {plan.partitions} partitions", *plan.lines()]))
            failures[name] = [(key, error.without_key()) for key, error in plan.invalid]
            failures[name] += plan.waiting
        for product, inputs in planner.inputs.items():
            sources.record(context, product, inputs.values())
        for outcome in _run_plans(context, plans, workers):
            if outcome.error is not None:
                key, reason = outcome.work.data_id.key, outcome.error.without_key()
                failures[outcome.store.task.name].append((key, reason))
        planned = any(tag in context.run.tags for tag in (PARTITION_NAME_TAG, ASSET_PARTITION_RANGE_START_TAG))
        for plan in plans if planned else ():
            failed = failures[plan.store.task.name]
            if plan.no_input and failed:
                context.log.warning(
                    f"Dagster will show {len(plan.no_input)} partitions without input as failed as well"
                )
            if plan.complete and (record_all or failed):
                there = [(work, written) for work in plan.complete if (written := plan.store.find(work))]
                _Recorder(context, [plan]).add(plan.store, there).flush()
        planner = None  # what comes next looks at what was done now
    return failures


def failure(failures: Sequence[tuple[str, str]], total: int) -> dg.Failure:
    """Of a run in which these partitions failed."""
    listed = [f"{key}: {reason}" for key, reason in failures]
    more = f"\nand {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return dg.Failure(
        f"{len(failures)} of {total} partitions failed\n" + "\n".join(listed[:SHOWN]) + more,
        metadata={
            "failures": dg.MetadataValue.table(
                [dg.TableRecord({"partition": key, "reason": reason}) for key, reason in failures[:1000]],
                schema=dg.TableSchema([dg.TableColumn("partition"), dg.TableColumn("reason")]),
            )
        },
        allow_retries=False,
    )


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


def _run_plans(context: dg.OpExecutionContext, plans: Sequence[Plan], workers: Workers) -> Iterable[Outcome]:
    """Do what is incomplete and record it; what is there already is recorded only. Gives back what failed."""
    recorder = _Recorder(context, plans)
    for plan in plans:
        recorder.add(plan.store, plan.found)
    failed: list[Outcome] = []
    jobs = [(plan.store, [work for work, _ in plan.incomplete]) for plan in plans if plan.incomplete]
    with capture_interrupts(), _Progress(context, sum(len(work) for _, work in jobs)) as progress:
        for outcomes in runner.run(jobs, workers, check_captured_interrupt) if jobs else ():
            for outcome in outcomes:
                if outcome.written is None:
                    failed.append(outcome)
                else:
                    recorder.add(outcome.store, [(outcome.work, outcome.written)])
            recorder.flush_if_due()
            progress.update(len(outcomes))
        recorder.flush()
        interrupted = check_captured_interrupt()
    if jobs:
        context.log.info(f"{progress.done - len(failed)} computed, {len(failed)} failed")
    if interrupted:
        context.log.warning(f"stopped: {progress.total - progress.done} are left to do")
        raise DagsterExecutionInterruptedError
    return failed


class _Recorder:
    """Gathers outputs of some tasks, and records them many at a time."""

    def __init__(self, context: dg.OpExecutionContext, plans: Sequence[Plan]) -> None:
        self.context = context
        self.pointers = {plan.store.task.name: self._pointers(plan) for plan in plans}
        self.waiting: list[dg.AssetMaterialization] = []
        self.since = time.monotonic()

    def _pointers(self, plan: Plan) -> Mapping[str, Mapping[str, int]]:
        works = (*plan.complete, *(work for work, _ in (*plan.incomplete, *plan.found)))
        return records.pointers_of(self.context.instance, plan.store.task, [work.data_id.key for work in works])

    def add(self, store: OutputStore, outputs: Iterable[tuple[Work, Written]]) -> "_Recorder":
        pointers = self.pointers[store.task.name]
        self.waiting += [records.task_materialisation(store, work, written, pointers) for work, written in outputs]
        return self

    def flush_if_due(self) -> None:
        if len(self.waiting) >= RECORD or time.monotonic() - self.since > RECORD_AFTER:
            self.flush()

    def flush(self) -> None:
        records.write(self.context, self.waiting)
        self.waiting = []
        self.since = time.monotonic()


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
