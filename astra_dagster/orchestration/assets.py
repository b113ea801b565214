"""Task to asset: the partitioned Dagster asset of a task, and what one run of it does."""

import json
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_START_TAG, PARTITION_NAME_TAG
from pydantic import Field, create_model
from tqdm import tqdm

from astra_dagster import settings
from astra_dagster.errors import AstraError
from astra_dagster.orchestration import records, sources
from astra_dagster.orchestration.partitions import partitions_def
from astra_dagster.orchestration.planning import Plan, make_plan, members, select_keys
from astra_dagster.tasks import registry, runner
from astra_dagster.tasks.parameters import descriptions
from astra_dagster.tasks.partitions import Many
from astra_dagster.tasks.store import OutputStore, Work, Written
from astra_dagster.tasks.task import Task

SHOWN = 20
"""Failures that the message of a failed run spells out."""


class RunConfig(dg.Config):
    """What a run takes besides the task's parameters."""

    overwrite: bool = Field(default=False, description="Compute complete partitions again.")


class UpdateConfig(RunConfig):
    """What a run over everything takes besides the task's parameters."""

    releases: list[str] = Field(default=[], description="Only these releases; all if empty.")
    where: dict[str, list[str]] = Field(
        default={}, description='Only these values of parts of the key, for example {"mjd": ["56439"]}.'
    )


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
    def asset(context: dg.AssetExecutionContext, config: config_class(task, RunConfig)):  # type: ignore[valid-type, no-untyped-def]
        here = context.op_execution_context
        later = _later_in_run(context, task)
        if not context.partition_keys:
            raise dg.Failure(
                "no partition is in this range: it goes in the order of registration, from its first to its last",
                allow_retries=False,
            )
        try:
            store = open_store(task, config)
            failures = _materialise(here, store, context.partition_keys, config.overwrite, record_all=bool(later))
        except AstraError as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        if failures and not later:
            raise _failure(failures, len(context.partition_keys))
        if failures:
            context.log.warning(f"{len(failures)} failed, which {', '.join(later)} will leave out")
        # Dagster makes no records of its own for such an output: those of _materialise are the only ones.
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


def update_job(task: Task) -> dg.JobDefinition:
    """Job that brings everything of a task up to date, wherever the incomplete partitions are.

    A run of the asset takes one contiguous range of partitions; this one takes any.
    """

    @dg.op(
        name=f"update_{task.name}_partitions",
        description=f"Run {task.name}, and first what it requires, on every partition not complete.",
    )
    def update(context: dg.OpExecutionContext, config: config_class(task, UpdateConfig)) -> None:  # type: ignore[valid-type]
        failures: dict[str, str] = {}  # the first of each key: those after it in the chain are its consequence
        total = 0
        try:
            wanted = select_keys(context.instance, task.domain, config.releases, config.where)
            for store, keys in chain_of(context.instance, open_store(task, config), wanted, settings.sas_base_dir()):
                context.log.info(f"{store.task.name}: {len(keys)} partitions")
                overwrite = config.overwrite and store.task is task
                failed = _materialise(context, store, keys, overwrite, record_all=False)
                records.write_planned(context, store.task, [key for key, _ in failed])
                for key, reason in failed:
                    failures.setdefault(key, reason)
                total = len(keys)
        except AstraError as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        if failures:
            raise _failure(list(failures.items()), total)

    @dg.job(name=update_job_name(task), description=f"Run {task.name} on every partition that is not complete.")
    def job() -> None:
        update()

    return job


def update_job_name(task: Task) -> str:
    """Name of the job of `update_job`."""
    return f"update_{task.name}"


def update_run_config(task: Task, config: Mapping[str, Any]) -> dict[str, Any]:
    """Run configuration of the job of `update_job`."""
    return {"ops": {f"update_{task.name}_partitions": {"config": dict(config)}}}


def chain_of(
    instance: dg.DagsterInstance, store: OutputStore, keys: Sequence[str], root: Path
) -> list[tuple[OutputStore, list[str]]]:
    """Tasks that must be done for these partitions, in order, each with the partitions of its own."""
    wanted: dict[str, dict[str, None]] = {store.task.name: dict.fromkeys(keys)}
    for task in reversed(store.task.chain):
        for requirement in task.requires:
            of = requirement.of if isinstance(requirement, Many) else requirement
            if isinstance(of, Task):
                mine = list(wanted.get(task.name, ()))
                found = members(instance, requirement, mine, root) if isinstance(requirement, Many) else mine
                wanted.setdefault(of.name, {}).update(dict.fromkeys(found))
    stores = {task.name: OutputStore(store.root, task, task.values()) for task in store.task.chain[:-1]}
    return [(stores.get(task.name, store), list(wanted[task.name])) for task in store.task.chain]


def _materialise(
    context: dg.OpExecutionContext, store: OutputStore, keys: Sequence[str], overwrite: bool, *, record_all: bool
) -> list[tuple[str, str]]:
    """Bring partitions up to date and record them, and return key and reason of those that could not be.

    In a run over a range of partitions Dagster calls every one failed that was not recorded in it, once the run has
    failed: complete ones are then recorded again, with `record_all` in any case.
    """
    plan = make_plan(context.instance, store, keys, settings.sas_base_dir(), overwrite=overwrite)
    for line in plan.lines():
        context.log.info(line)
    failures = [(key, error.without_key()) for key, error in plan.invalid]
    failures += [(key, reason) for key, reason in plan.waiting]
    failures += _run_plan(context, store, plan)
    planned = any(tag in context.run.tags for tag in (PARTITION_NAME_TAG, ASSET_PARTITION_RANGE_START_TAG))
    if plan.no_input and planned and failures:
        context.log.warning(f"Dagster will show {len(plan.no_input)} partitions without input as failed as well")
    if plan.complete and planned and (record_all or failures):
        _record_again(context, store, plan.complete)
    return failures


def open_store(task: Task, config: RunConfig) -> OutputStore:
    """Output store of a task with the parameters of a run's configuration."""
    values = {name: value for name, value in dict(config).items() if name not in UpdateConfig.model_fields}
    return OutputStore(settings.check_outputs_dir(), task, task.values(values))


def _run_plan(context: dg.OpExecutionContext, store: OutputStore, plan: Plan) -> list[tuple[str, str]]:
    """Do what is incomplete, and return key and reason of what failed."""
    for product, inputs in plan.inputs.items():
        sources.record(context, product, inputs.values())
    todo = [work for work, _ in plan.incomplete]
    keys = [work.data_id.key for work in (*todo, *(work for work, _ in plan.found))]
    pointers = records.pointers_of(context.instance, store.task, keys)
    _record(context, store, plan.found, pointers)
    failures: list[tuple[str, str]] = []
    with tqdm(total=len(todo), unit="file", disable=None, desc=store.task.name) as progress:
        for outcomes in runner.run(store, todo) if todo else ():
            failures += [(o.work.data_id.key, o.error.without_key()) for o in outcomes if o.error is not None]
            _record(context, store, [(o.work, o.written) for o in outcomes if o.written is not None], pointers)
            progress.update(len(outcomes))
    context.log.info(f"{len(todo) - len(failures)} computed, {len(failures)} failed")
    return failures


def _record_again(context: dg.OpExecutionContext, store: OutputStore, complete: Sequence[Work]) -> None:
    pointers = records.pointers_of(context.instance, store.task, [work.data_id.key for work in complete])
    _record(context, store, [(work, written) for work in complete if (written := store.find(work))], pointers)


def _record(
    context: dg.OpExecutionContext,
    store: OutputStore,
    outputs: Sequence[tuple[Work, Written]],
    pointers: Mapping[str, Mapping[str, int]],
) -> None:
    records.write(context, [records.task_materialisation(store, work, written, pointers) for work, written in outputs])


def _failure(failures: Sequence[tuple[str, str]], total: int) -> dg.Failure:
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
