"""Jobs that bring all partitions of a task up to date.

A run of an asset takes one contiguous range of partitions; these jobs take any partitions, of several tasks at once.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
from pydantic import Field

from astra_dagster import settings
from astra_dagster.datamodel.key_lists import match_entries
from astra_dagster.datamodel.products import Product, Where
from astra_dagster.orchestration import records
from astra_dagster.orchestration.causes import plain_failures
from astra_dagster.orchestration.partitions import is_registered, keys_of_files
from astra_dagster.orchestration.runs.launchpad import Launchpad, RunConfig
from astra_dagster.orchestration.runs.materialise import Job, materialise
from astra_dagster.orchestration.runs.resources import RESOURCES, ExecutorResource
from astra_dagster.orchestration.runs.summary import FailedPartition, make_failure
from astra_dagster.outputs.store import OutputStore
from astra_dagster.planning.ledger import Selection, make_none_registered, select_keys
from astra_dagster.planning.planner import Planner, members
from astra_dagster.tasks.task import Task, all_tasks

FEW = 100
"""Most keys that are looked up one by one; of more, all registered keys are read."""


class UpdateConfig(RunConfig):
    """What a run over all partitions takes besides the task's parameters."""

    also: list[str] = Field(
        default=[],
        description="Other tasks, with the parameters that they have by default, or by also_set: files are read once "
        "for all.",
    )
    keys: list[str] = Field(
        default=[], description="Only these partitions: keys of the task's, or of files of the groups that are its."
    )
    releases: list[str] = Field(default=[], description="Only these releases; all if empty.")
    where: dict[str, Any] = Field(
        default={},
        description="Only these values of parts of the key: one, several, a range or a pattern, for example "
        '{"mjd": "56000..56100", "plate": [5226, 5227], "field": "120*"}.',
    )


def update_job(task: Task, planner: Planner | None = None, matched: Sequence[str] = ()) -> dg.JobDefinition:
    """Make the job that runs a task, others with it if asked for, and before them the tasks that they require.

    Parameters
    ----------
    planner
        Planner that has just planned the same partitions, if there is one.
    matched
        Partitions that the keys of the configuration have just been found to name, if they have.
    """
    launchpad = Launchpad(task, UpdateConfig)

    @dg.op(
        name=f"update_{task.name}_partitions",
        description=f"Run {task.name}, and first what it requires, on every partition not complete.",
        config_schema=launchpad.schema,
    )
    def update(context: dg.OpExecutionContext, executor: ExecutorResource) -> None:
        with plain_failures():
            config, tasks = launchpad.read(context)
            stores = [OutputStore(settings.check_outputs_dir(), one, one.values()) for one in tasks]
            jobs = jobs_of(
                context.instance,
                stores,
                config.releases,
                config.where,
                keys=config.keys,
                matched=matched,
                overwrite=config.overwrite,
            )
            run_jobs(context, jobs, executor, planner, fetching=config.fetching, verify=config.verify)

    @dg.job(
        name=update_job_name(task),
        description=f"Run {task.name} on every partition that is not complete.",
        resource_defs=RESOURCES,
        executor_def=dg.in_process_executor,
    )
    def job() -> None:
        update()

    return job


def run_jobs(
    context: dg.OpExecutionContext,
    jobs: Sequence[Job],
    executor: ExecutorResource,
    planner: Planner | None = None,
    *,
    fetching: bool = False,
    verify: bool = False,
) -> None:
    """Bring partitions up to date in a run without a range of partitions, and mark those that fail as failed.

    Raises
    ------
    dagster.Failure
        If a partition failed.
    AstraError
        If no partition can be run at all.
    """
    # The first failure of each key, of which later ones in the chain are consequences.
    first: dict[str, FailedPartition] = {}
    done = materialise(context, jobs, executor.choose(), planner=planner, fetching=fetching, verify=verify)
    for job in jobs:
        failed = done[job.store.task.name].failures
        records.write_planned(context, job.store.task, [one.key for one in failed])
        for one in failed:
            first.setdefault(one.key, one)
    metadata = {
        f"{name}: {what}": value
        for name, task in done.items()
        for what, value in task.metadata.items()
        if what != "failures"  # the failures of all tasks are in one table
    }
    if first:
        raise make_failure([*first.values()], max(len(job.keys) for job in jobs), metadata)
    context.add_output_metadata(metadata)


def match_keys(ledger: records.DagsterLedger, task: Task, entries: Sequence[str]) -> list[str]:
    """Return the registered partitions of a task that are named: by key, by star, or by plate-mjd-fibre.

    Where partitions are groups of files, those groups are meant to which a named file belongs.

    Raises
    ------
    InvalidKeyError
        If no registered partition is named so.
    """
    domain = task.domain
    if len(entries) <= FEW and all(is_registered(ledger.instance, domain, entry) for entry in entries):
        return list(dict.fromkeys(entries))
    if isinstance(domain, Product):
        return match_entries(entries, select_keys(ledger, domain), domain.parts, domain.asset_name)
    groups = dict.fromkeys(select_keys(ledger, domain))
    files = [entry for entry in entries if entry not in groups]
    found = dict.fromkeys(entry for entry in entries if entry in groups)
    if files:
        item = domain.product
        named = match_entries(files, select_keys(ledger, item), item.parts, f"{domain.name} or {item.asset_name}")
        found.update(dict.fromkeys(key for key in keys_of_files(domain, named) if key in groups))
    return list(found)


def update_job_name(task: Task) -> str:
    """Return the name of the job that `update_job` makes."""
    return f"update_{task.name}"


def update_run_config(task: Task, config: Mapping[str, Any], workers: str = "") -> dict[str, Any]:
    """Make the run configuration of an `update_job`; empty `workers` stand for those of the configuration file."""
    return {
        "ops": {f"update_{task.name}_partitions": {"config": dict(config)}},
        "resources": {"executor": {"config": {"workers": workers}}},
    }


def jobs_of(
    instance: dg.DagsterInstance,
    stores: Sequence[OutputStore],
    releases: Sequence[str] = (),
    where: Where | None = None,
    *,
    keys: Sequence[str] = (),
    matched: Sequence[str] = (),
    files: Sequence[str] = (),
    product: Product | None = None,
    overwrite: bool = False,
) -> list[Job]:
    """Return the jobs for some tasks, and before them those of the tasks that they require, each with its partitions.

    Parameters
    ----------
    stores
        Stores of the wanted tasks; the tasks that they require are added.
    releases, where, keys
        Select partitions of the wanted tasks, keys as `match_keys` does; if none is given, all registered ones, or
        those of the releases that a task is for.
    matched
        Registered partitions of the wanted tasks that `keys` have been found to name, in place of these.
    files
        Select, instead, partitions by keys of files, or of the groups to which these belong.
    product
        Product of `files`; that of the partitions if None.
    overwrite
        Whether to run complete partitions of the wanted tasks again.

    Raises
    ------
    AstraError
        If there is no such partition, or a task is needed with two sets of parameters.
    """
    ledger = records.DagsterLedger(instance)
    mine: dict[str, Task] = {}
    wanted: dict[str, list[str]] = {}

    def add(task: Task, keys: list[str]) -> None:
        """Add partitions to those of a task; most have them from one place, of which there is one list."""
        before = wanted.get(task.name)
        wanted[task.name] = keys if before is None else list(dict.fromkeys([*before, *keys]))

    for store in stores:
        task = store.task
        if files:
            mine_only = [
                one for one in dict.fromkeys(files) if not task.releases or one.partition("/")[0] in task.releases
            ]
            domain = task.belonging(product or task.domain.product) or task.domain
            chosen = keys_of_files(domain, mine_only)
            if not chosen:
                continue
        elif keys or matched:
            chosen = list(dict.fromkeys(matched)) or match_keys(ledger, task, keys)
        else:
            chosen = select_keys(ledger, task.domain, Selection(releases or task.releases, where or {}))
        if not chosen:
            raise make_none_registered(task.domain, selected=bool(releases or task.releases or where))
        add(task, chosen)
        mine[task.name] = task
    chain = all_tasks([*mine.values()])
    root = settings.sas_base_dir()
    for task in reversed(chain.values()):
        for requirement in task.requires:
            if requirement.task is not None:
                mine_of = wanted.get(task.name, [])
                add(
                    requirement.task, mine_of if requirement.one_to_one else members(ledger, requirement, mine_of, root)
                )
    return [
        Job(
            OutputStore(stores[0].root, task, task.values()),
            wanted[task.name],
            overwrite and task.name in mine,
        )
        for task in chain.values()
    ]
