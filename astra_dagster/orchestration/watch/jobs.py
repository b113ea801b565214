"""The two jobs of a watched product: one over a range of partitions, one over any partitions or all files.

The first runs assets, so that Dagster knows its partitions beforehand. The daily schedule runs the second, which
examines every file, even in folders that have not changed.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import dagster as dg
from pydantic import Field

from astra_dagster import settings
from astra_dagster.archive.discovery import FoundFile
from astra_dagster.archive.watching import RECENT
from astra_dagster.datamodel.products import Product
from astra_dagster.errors import InputMissingError
from astra_dagster.fits.truncation import is_cut_short
from astra_dagster.orchestration import records, sources
from astra_dagster.orchestration.causes import plain_failures
from astra_dagster.orchestration.discover import DiscoverConfig, Discovery, register_found, search
from astra_dagster.orchestration.internals import UnresolvedAssetJobDefinition
from astra_dagster.orchestration.runs.jobs import jobs_of, run_jobs
from astra_dagster.orchestration.runs.materialise import Job
from astra_dagster.orchestration.runs.resources import RESOURCES, ExecutorResource
from astra_dagster.orchestration.watch.requests import TO, named
from astra_dagster.orchestration.watch.settings import Watched, watched
from astra_dagster.outputs.store import OutputStore
from astra_dagster.planning.ledger import Selection, select_keys
from astra_dagster.planning.planner import Planner


def range_job(seen: Watched) -> UnresolvedAssetJobDefinition:
    """Make the job over the assets of a watched product: the files, and the tasks to run on them."""
    name = seen.product.asset_name
    tasks = [task.name for task in seen.chain()]
    return dg.define_asset_job(
        range_job_name(seen.product),
        selection=dg.AssetSelection.assets(name, *tasks),
        description=f"Record files of {name} and run {', '.join(tasks) or 'no task'} on them: a range of partitions.",
    )


def range_job_name(item: Product) -> str:
    """Return the name of the job of `range_job`."""
    return f"analyse_{item.asset_name}"


class AnyConfig(dg.Config):
    """Which partitions to bring up to date."""

    partitions: list[str] = Field(
        default=[],
        description=f"Keys, and ranges of them, FIRST{TO}LAST. If there are none, every file is looked for first, and "
        "all that is not complete is done, but for what failed before on the same file.",
    )


def any_job(item: Product) -> dg.JobDefinition:
    """Make the job over any partitions of a watched product, or over all if none is named."""

    @dg.op(
        name=f"update_{item.asset_name}_files",
        description=f"Record files of {item.asset_name}, and run its tasks on every partition not complete.",
    )
    def update(context: dg.OpExecutionContext, config: AnyConfig, executor: ExecutorResource) -> None:
        records.warn_if_slow(context)
        instance = context.instance
        with plain_failures():
            seen, root = watched(item), settings.sas_base_dir()
            if config.partitions:
                keys = named(instance, item, config.partitions)
                data_ids = [item.parse_key(key) for key in keys]
                sources.record(context, item, sources.examine(instance, item, data_ids, root))
            else:
                keys = _all(context, seen)
            outputs = settings.check_outputs_dir()
            stores = [OutputStore(outputs, task, task.values()) for task in seen.chosen()]
            if not stores or not keys:
                return
            jobs = jobs_of(instance, stores, files=keys, product=item)
            planner = None
            if not config.partitions:
                planner = sources.make_planner(instance, outputs, root)
                jobs = _without_failed(context, planner, jobs)
            run_jobs(context, jobs, executor, planner)

    @dg.job(
        name=any_job_name(item),
        description=f"Find files of {item.asset_name} and run its tasks on all that is not complete.",
        resource_defs=RESOURCES,
        executor_def=dg.in_process_executor,
    )
    def job() -> None:
        update()

    return job


def any_job_name(item: Product) -> str:
    """Return the name of the job of `any_job`."""
    return f"update_{item.asset_name}"


def any_run_config(item: Product, partitions: Sequence[str]) -> dict[str, object]:
    """Return the run configuration of the job of `any_job`."""
    return {"ops": {f"update_{item.asset_name}_files": {"config": {"partitions": list(partitions)}}}}


def _all(context: dg.OpExecutionContext, seen: Watched) -> list[str]:
    """Find, register and record all files; return the registered keys without those still being written."""
    unfinished: set[str] = set()
    config = DiscoverConfig(products=[seen.product.name], releases=list(seen.releases), where=dict(seen.where))

    def finished() -> Iterator[Discovery]:
        for part in search(context.instance, config):
            written = {one.data_id.key for one in part.to_record if one.file and _still_written(one.file, seen.settle)}
            unfinished.update(written)
            yield part.without(written) if written else part

    register_found(context, finished())
    if unfinished:
        context.log.info(f"{len(unfinished)} still being written, left for later")
    keys = select_keys(records.DagsterLedger(context.instance), seen.product, Selection(seen.releases, seen.where))
    return [key for key in keys if key not in unfinished]


def _still_written(file: FoundFile, settle: float) -> bool:
    age = time.time() - file.mtime_ns / 1e9
    try:
        return age < settle or (age < RECENT and is_cut_short(file.path))
    except InputMissingError:  # it was removed just now
        return True


def _without_failed(context: dg.OpExecutionContext, planner: Planner, jobs: Sequence[Job]) -> list[Job]:
    """Remove partitions from jobs that failed before through a fault of the file or of the task's code."""
    left = []
    plans = planner.plan_all([(job.store, job.keys, False) for job in jobs])
    for job, plan in zip(jobs, plans, strict=True):
        failed = {one.key for one in plan.partitions.values() if one.given_up}
        if failed:
            context.log.info(
                f"{job.store.task.name}: {len(failed)} failed before on the same files, and are left alone"
            )
        left.append(replace(job, keys=[key for key in job.keys if key not in failed]) if failed else job)
    return left
