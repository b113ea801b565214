"""Task to asset: the partitioned Dagster asset of a task, and what one run of it does."""

import json
from typing import Any

import dagster as dg

from astra_dagster import settings
from astra_dagster.orchestration import records, sources
from astra_dagster.orchestration.causes import plain_failures
from astra_dagster.orchestration.internals import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION
from astra_dagster.orchestration.partitions import partitions_def
from astra_dagster.orchestration.runs.launchpad import Launchpad, RunConfig, told
from astra_dagster.orchestration.runs.materialise import Job, materialise
from astra_dagster.orchestration.runs.resources import ExecutorResource
from astra_dagster.orchestration.runs.summary import failure
from astra_dagster.outputs.store import OutputStore
from astra_dagster.tasks import registry
from astra_dagster.tasks.task import Task


def task_asset(task: Task) -> dg.AssetsDefinition:
    """Partitioned asset of a task: one run takes any number of partitions."""
    launchpad = Launchpad(task, RunConfig)
    meaning = told(task)
    parameters = "\n".join(
        f"- `{name}` = `{json.dumps(value)}`: {meaning[name]}"
        for name, value in task.values().as_dict(all=True).items()
    )

    @dg.asset(  # type: ignore[call-overload]
        name=task.name,
        deps=[
            dg.AssetDep(
                records.asset_key(item),
                partition_mapping=None if item.one_to_one else dg.AllPartitionMapping(),
            )
            for item in task.requires
        ],
        partitions_def=partitions_def(task.domain),
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=sources.group_of(task.domain.product.name),
        kinds={task.output},
        owners=[owner_of(task)],
        code_version=task.version,
        description="\n\n".join([task.description, *([f"Parameters:\n\n{parameters}"] if parameters else [])]),
        metadata={"partition_key": task.domain.key_order, **_column_schema(task)},
        config_schema=launchpad.schema,
        output_required=False,
        dagster_type=dg.Nothing,
    )
    def asset(context: dg.AssetExecutionContext, executor: ExecutorResource):  # type: ignore[no-untyped-def]
        later = _later_in_run(context, task)
        if not context.partition_keys:
            raise dg.Failure(
                "no partition is in this range: it goes in the order of registration, from its first to its last",
                allow_retries=False,
            )
        with plain_failures():
            config, parameters = launchpad.read(context.op_execution_context)
            store = OutputStore(settings.check_outputs_dir(), task, parameters)
            jobs = [Job(store, context.partition_keys, config.overwrite)]
            jobs += _companions(context, jobs[0])
            here = context.op_execution_context
            every = materialise(here, jobs, executor.choose(), record_all=bool(later), fetching=config.fetching)
            done = every[task.name]
        if done.failures and not later:
            raise failure(done.failures, len(context.partition_keys), done.metadata)
        if done.failures:
            context.log.warning(f"{len(done.failures)} failed, which {', '.join(later)} will leave out")
        # Dagster makes no records of its own for such an output: those of `materialise` are the only ones.
        yield dg.Output(None, metadata={**done.metadata, SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True})

    return asset


def _column_schema(task: Task) -> dict[str, dg.TableSchema]:
    """Columns that a task promises, for the web UI."""
    columns = promised_columns(task)
    return {"dagster/column_schema": dg.TableSchema(columns)} if columns else {}


def promised_columns(task: Task) -> list[dg.TableColumn]:
    """The columns themselves: the types of results are not known before there are some."""
    return [dg.TableColumn(name, "any", described(c.description, c.unit)) for name, c in task.columns.items()]


def described(description: str, unit: str) -> str | None:
    """Description of a column with its unit."""
    return f"{description} [{unit}]".strip() if unit else description or None


def owner_of(task: Task) -> str:
    """Team that answers for a task: the package that defines it."""
    return f"team:{task.module.partition('.')[0].strip('_') or 'unknown'}"


def _later_in_run(context: dg.AssetExecutionContext, task: Task) -> list[str]:
    """Tasks of the same run that require this one: a step that fails would keep them from running at all."""
    selected = {key.to_user_string() for key in context.job_def.asset_layer.executable_asset_keys}
    return [
        other.name
        for other in registry.tasks().values()
        if other.name in selected and any(item.name == task.name for item in other.chain[:-1])
    ]


def _companions(context: dg.AssetExecutionContext, job: Job) -> list[Job]:
    """Tasks of the same run that read the same files: done together with this one, each file is read once.

    Their own steps then find everything complete, but for what failed. Where steps run beside one another, each does
    its own.
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
        if other is None or other is task or other.upstream or other.domain != task.domain:
            continue
        given = dict((ops.get(other.name) or {}).get("config") or {})
        if not given.pop("overwrite", False):
            given.pop("fetch", None)
            found.append(Job(OutputStore(job.store.root, other, other.values(given)), job.keys))
    return found
