"""Task to asset: the partitioned Dagster asset of a task, and what one run of it does."""

import json
import typing
from typing import Any

import dagster as dg
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION
from pydantic import Field, create_model

from astra_dagster import settings
from astra_dagster.errors import AstraError
from astra_dagster.orchestration import records, sources
from astra_dagster.orchestration.materialise import Job, failure, materialise
from astra_dagster.orchestration.partitions import partitions_def
from astra_dagster.orchestration.resources import ExecutorResource
from astra_dagster.tasks import registry
from astra_dagster.tasks.parameters import descriptions
from astra_dagster.tasks.partitions import Many
from astra_dagster.tasks.store import OutputStore
from astra_dagster.tasks.task import RESERVED, Task


class RunConfig(dg.Config):
    """What a run takes besides the task's parameters."""

    overwrite: bool = Field(default=False, description="Compute complete partitions again.")


def config_class(task: Task, base: type[RunConfig]) -> type[RunConfig]:
    """Launchpad schema of a task: its parameters with their defaults and meaning, then those of `base`."""
    hints = typing.get_type_hints(task.parameters)
    meaning = descriptions(task.parameters)
    parameters: dict[str, Any] = {
        name: (_config_type(hints[name]), Field(default=default, description=meaning[name] or None))
        for name, default in task.values().as_dict(all=True).items()
    }
    return create_model(f"{task.name}_{base.__name__}", __base__=base, **parameters)


def _config_type(hint: Any) -> Any:
    """Type that Dagster's configuration knows, for that of a parameter; where it has none, the parameter checks."""
    options = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        kinds = {option for option in options if option is not Ellipsis}
        return list[_config_type(kinds.pop())] if len(kinds) == 1 else list[Any]  # type: ignore[misc]
    plain = [option for option in options if option is not type(None)]
    return hint if not options or (len(plain) == 1 and not typing.get_args(plain[0])) else Any


def task_asset(task: Task) -> dg.AssetsDefinition:
    """Partitioned asset of a task: one run takes any number of partitions."""
    meaning = descriptions(task.parameters)
    parameters = "\n".join(
        f"- `{name}` = `{json.dumps(value)}`: {meaning[name]}"
        for name, value in task.values().as_dict(all=True).items()
    )
    columns = "\n".join(
        f"- `{name}`: {column.description}" + (f" [{column.unit}]" if column.unit else "")
        for name, column in task.columns.items()
    )

    @dg.asset(  # type: ignore[call-overload]
        name=task.name,
        deps=[
            dg.AssetDep(
                records.asset_key(item),
                partition_mapping=dg.AllPartitionMapping() if isinstance(item, Many) else None,
            )
            for item in task.requires
        ],
        partitions_def=partitions_def(task.domain),
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=sources.group_of(getattr(task.domain, "product", task.domain).name),
        kinds={task.output},
        code_version=task.version,
        description="\n\n".join(
            [
                task.description,
                *([f"Results:\n\n{columns}"] if columns else []),
                *([f"Parameters:\n\n{parameters}"] if parameters else []),
            ]
        ),
        metadata={"partition_key": task.domain.key_order},
        output_required=False,
        dagster_type=dg.Nothing,
    )
    def asset(  # type: ignore[no-untyped-def]
        context: dg.AssetExecutionContext,
        config: config_class(task, RunConfig),  # type: ignore[valid-type]
        executor: ExecutorResource,
    ):
        later = _later_in_run(context, task)
        if not context.partition_keys:
            raise dg.Failure(
                "no partition is in this range: it goes in the order of registration, from its first to its last",
                allow_retries=False,
            )
        try:
            jobs = [Job(open_store(task, config), context.partition_keys, config.overwrite)]
            jobs += _companions(context, jobs[0])
            failures = materialise(context.op_execution_context, jobs, executor.choose(), record_all=bool(later))[
                task.name
            ]
        except AstraError as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        if failures and not later:
            raise failure(failures, len(context.partition_keys))
        if failures:
            context.log.warning(f"{len(failures)} failed, which {', '.join(later)} will leave out")
        # Dagster makes no records of its own for such an output: those of `materialise` are the only ones.
        yield dg.Output(None, metadata={SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True})

    return asset


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
    if context.job_def.executor_def.name != "in_process" or task.upstream or job.overwrite:
        return []
    found = []
    for key in sorted(context.job_def.asset_layer.executable_asset_keys):
        other = registry.tasks().get(key.to_user_string())
        if other is None or other is task or other.upstream or other.domain != task.domain:
            continue
        ops: Any = dict(context.run.run_config).get("ops") or {}
        given = dict((ops.get(other.name) or {}).get("config") or {})
        if not given.pop("overwrite", False):
            found.append(Job(OutputStore(job.store.root, other, other.values(given)), job.keys))
    return found


def open_store(task: Task, config: RunConfig) -> OutputStore:
    """Output store of a task with the parameters of a run's configuration."""
    values = {name: value for name, value in dict(config).items() if name not in RESERVED}
    return OutputStore(settings.check_outputs_dir(), task, task.values(values))
