"""Make the partitioned Dagster asset of a task, and define what one run of it does."""

import json
from typing import Any

import dagster as dg

from astra_dagster import settings
from astra_dagster.datamodel.products import Product
from astra_dagster.orchestration import records, sources
from astra_dagster.orchestration.causes import PlainFailure, plain_failures
from astra_dagster.orchestration.checks import evaluate
from astra_dagster.orchestration.internals import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION
from astra_dagster.orchestration.partitions import partitions_def
from astra_dagster.orchestration.runs.jobs import update_job_name
from astra_dagster.orchestration.runs.launchpad import Launchpad, RunConfig, describe_parameters
from astra_dagster.orchestration.runs.materialise import Job, materialise
from astra_dagster.orchestration.runs.resources import RESOURCES, ExecutorResource
from astra_dagster.orchestration.runs.summary import make_failure
from astra_dagster.outputs.store import OutputStore
from astra_dagster.tasks import registry
from astra_dagster.tasks.task import Task


def task_asset(task: Task) -> dg.AssetsDefinition:
    """Make the partitioned asset of a task, of which one run takes any number of partitions."""
    launchpad = Launchpad(task, RunConfig)

    @dg.asset(  # type: ignore[call-overload]
        name=task.name,
        deps=_make_deps(task),
        partitions_def=partitions_def(task.domain),
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=sources.group_of(task.domain.product.name),
        kinds={task.output},
        owners=[owner_of(task)],
        code_version=task.version,
        description=_describe(task),
        metadata={"partition_key": task.domain.key_order, **_make_column_metadata(task)},
        config_schema=launchpad.schema,
        resource_defs=RESOURCES,
        output_required=False,
        dagster_type=dg.Nothing,
    )
    def asset(context: dg.AssetExecutionContext, executor: ExecutorResource):  # type: ignore[no-untyped-def]
        later = _find_later_in_run(context, task)
        if not context.partition_keys:
            raise PlainFailure("no partition is in this range: its first partition comes after its last")
        with plain_failures():
            config, (mine,) = launchpad.read(context.op_execution_context)
            store = OutputStore(settings.check_outputs_dir(), mine, mine.values())
            jobs = [Job(store, context.partition_keys, config.overwrite)]
            jobs += _find_companions(context, jobs[0])
            here = context.op_execution_context
            every = materialise(
                here, jobs, executor.choose(), record_all=bool(later), fetching=config.fetching, verify=config.verify
            )
            done = every[task.name]
        if done.failures and not later:
            evaluate(here, task)
            raise make_failure(done.failures, len(context.partition_keys), done.metadata)
        if done.failures:
            context.log.warning(f"{len(done.failures)} failed, which {', '.join(later)} will leave out")
        # With this metadata Dagster adds no records of its own to those that `materialise` has written.
        yield dg.Output(None, metadata={**done.metadata, SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True})

    return asset


def _describe(task: Task) -> str:
    """Return what a task does, its parameters, and how it is run, in Markdown.

    The link to the job is relative to the page of the asset, and so holds behind a proxy too.
    """
    values, meaning = task.values().as_dict(all=True), describe_parameters(task)
    job = update_job_name(task)
    told = [task.description]
    if values:
        listed = (f"- `{name}` = `{json.dumps(value)}`: {meaning[name]}" for name, value in values.items())
        told += ["Parameters:", "\n".join(listed)]
    runs = f"[{job}](../guess/{job}/playground) runs it on every partition that is not complete, or on some."
    if task.output == "fits" or isinstance(task.domain, Product):
        shown = f"KEY {task.name}" if task.output == "fits" else "KEY"
        runs += f" `astra-dagster show {shown}` shows a spectrum."
    told.append(runs)
    if values:
        lines = [f"      {name}: {json.dumps(value)}" for name, value in values.items()]
        told += [
            "*Open launchpad*, beside *Materialize*, has the parameters of one partition filled in. Where you launch "
            "several, copy these to *Config*, *Add config*, and change what you want:",
            "\n".join(["```yaml", "ops:", f"  {task.name}:", "    config:", *lines, "```"]),
        ]
    return "\n\n".join(told)


def _make_deps(task: Task) -> list[dg.AssetDep]:
    """Return the assets that a task requires; which of many partitions belong to one, Dagster does not know."""
    alike = {records.asset_key(item): item.one_to_one for item in task.requires}
    common = [records.asset_key(file.of) for file in task.common.values() if isinstance(file.of, Product)]
    deps = {**dict.fromkeys(common, False), **alike}
    return [
        dg.AssetDep(key, partition_mapping=None if one_to_one else dg.AllPartitionMapping())
        for key, one_to_one in deps.items()
    ]


def _make_column_metadata(task: Task) -> dict[str, dg.TableSchema]:
    """Return metadata with the columns that a task promises, for the web UI."""
    columns = list_promised_columns(task)
    return {"dagster/column_schema": dg.TableSchema(columns)} if columns else {}


def list_promised_columns(task: Task) -> list[dg.TableColumn]:
    """Return the columns that a task promises; their types are not known before there are results."""
    columns = {name: task.result_columns[name] for name in task.promised}
    return [dg.TableColumn(name, "any", describe_column(c.text, c.unit)) for name, c in columns.items()]


def describe_column(description: str, unit: str) -> str | None:
    """Join the description of a column and its unit; None if both are empty."""
    return f"{description} [{unit}]".strip() if unit else description or None


def owner_of(task: Task) -> str:
    """Return the team that owns a task, which is named after the package that defines it."""
    return f"team:{task.module.partition('.')[0].strip('_') or 'unknown'}"


def _find_later_in_run(context: dg.AssetExecutionContext, task: Task) -> list[str]:
    """Return the tasks of the same run that require this one, and would not run at all if its step failed."""
    selected = {key.to_user_string() for key in context.job_def.asset_layer.executable_asset_keys}
    return [
        other.name
        for other in registry.tasks().values()
        if other.name in selected and any(item.name == task.name for item in other.chain[:-1])
    ]


def _find_companions(context: dg.AssetExecutionContext, job: Job) -> list[Job]:
    """Return jobs of the same run that read the same files; done together with this one, each file is read once.

    The steps of these tasks then find all partitions complete except those that failed. Where steps run in parallel,
    there are none, and each step does its own task.
    """
    task = job.store.task
    one_by_one = context.job_def.executor_def.name in ("in_process", "execute_in_process_executor")
    if not one_by_one or task.upstream or job.overwrite:
        return []
    found = []
    tasks = registry.tasks()
    ops: Any = dict(context.run.run_config).get("ops") or {}
    for key in sorted(context.job_def.asset_layer.executable_asset_keys):
        other = tasks.get(key.to_user_string())
        if other is None or other.name == task.name or other.upstream or other.domain != task.domain:
            continue
        given = dict((ops.get(other.name) or {}).get("config") or {})
        if not given.get("overwrite"):
            names = other.values().as_dict(all=True)
            own = other.values({name: value for name, value in given.items() if name in names})
            found.append(Job(OutputStore(job.store.root, other, own), job.keys))
    return found
