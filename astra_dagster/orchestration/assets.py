"""Task to asset: the partitioned Dagster asset of a task, and what one run of it does."""

import typing
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION
from pydantic import Field, create_model
from tqdm import tqdm

from astra_dagster import settings
from astra_dagster.errors import AstraError
from astra_dagster.orchestration import records, sources
from astra_dagster.orchestration.partitions import partitions_def
from astra_dagster.orchestration.planning import Plan, make_plan, select_keys
from astra_dagster.tasks import runner
from astra_dagster.tasks.runner import Work
from astra_dagster.tasks.store import OutputStore, Written
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
    """Launchpad schema of a task: its parameters with their defaults, then those of `base`."""
    hints = typing.get_type_hints(task.parameters)
    defaults = task.parameters().as_dict()
    parameters: dict[str, Any] = {name: (_config_type(hints[name]), default) for name, default in defaults.items()}
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
    columns = "\n".join(f"- `{name}`: {text}" for name, text in task.columns.items())

    @dg.asset(  # type: ignore[call-overload]
        name=task.name,
        deps=[task.requires.asset_name],
        partitions_def=partitions_def(task.requires),
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=sources.group_of(task.requires.name),
        kinds={task.output},
        code_version=task.version,
        description=f"{task.description}\n\n{columns}",
        metadata={"requires": task.requires.name, "partition_key": task.requires.key_order},
        output_required=False,
        dagster_type=dg.Nothing,
    )
    def asset(context: dg.AssetExecutionContext, config: config_class(task, RunConfig)):  # type: ignore[valid-type, no-untyped-def]
        _materialise(context.op_execution_context, task, config, context.partition_keys)
        # Dagster makes no records of its own for such an output: those of _materialise are the only ones.
        yield dg.Output(None, metadata={SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True})

    return asset


def update_job(task: Task) -> dg.JobDefinition:
    """Job that brings everything of a task up to date, wherever the incomplete partitions are.

    A run of the asset takes one contiguous range of partitions; this one takes any.
    """

    @dg.op(name=f"update_{task.name}_partitions", description=f"Run {task.name} on every partition not complete.")
    def update(context: dg.OpExecutionContext, config: config_class(task, UpdateConfig)) -> None:  # type: ignore[valid-type]
        try:
            keys = select_keys(context.instance, task.requires, config.releases, config.where)
        except AstraError as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        _materialise(context, task, config, keys, planned=False)

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


def _materialise(
    context: dg.OpExecutionContext, task: Task, config: RunConfig, keys: Sequence[str], planned: bool = True
) -> None:
    """Bring partitions up to date and record them; fail if one could not be.

    `planned` says whether Dagster knows which partitions the run is for.
    """
    try:
        store, root = open_store(task, config), settings.sas_base_dir()
        plan = make_plan(context.instance, store, keys, root, overwrite=config.overwrite)
        for line in plan.lines():
            context.log.info(line)
        failures = [(key, str(error)) for key, error in plan.invalid]
        failures += _run_plan(context, store, plan)
    except AstraError as error:
        raise dg.Failure(str(error), allow_retries=False) from None

    if failures:
        if planned:
            # Dagster calls every partition failed that a failed run planned and did not record.
            _record_again(context, store, plan.complete)
        else:
            records.write_planned(context, task, [key for key, _ in failures])
        raise _failure(failures, len(keys))


def open_store(task: Task, config: RunConfig) -> OutputStore:
    """Output store of a task with the parameters of a run's configuration."""
    values = {name: value for name, value in dict(config).items() if name not in UpdateConfig.model_fields}
    return OutputStore(settings.check_outputs_dir(), task, task.parameters.from_mapping(values))


def _run_plan(context: dg.OpExecutionContext, store: OutputStore, plan: Plan) -> list[tuple[str, str]]:
    """Do what is incomplete, and return key and reason of what failed."""
    product = store.task.requires
    sources.record(context, product, plan.inputs.values())
    todo = [work for work, _ in plan.incomplete]
    keys = [work.data_id.key for work in (*todo, *(work for work, _ in plan.found))]
    pointers = records.event_pointers(context.instance, product, keys)
    _record(context, store, plan.found, pointers)
    failures: list[tuple[str, str]] = []
    with tqdm(total=len(todo), unit="file", disable=None, desc=store.task.name) as progress:
        for outcomes in runner.run(store, todo) if todo else ():
            failures += [(o.work.data_id.key, str(o.error)) for o in outcomes if o.error is not None]
            _record(context, store, [(o.work, o.written) for o in outcomes if o.written is not None], pointers)
            progress.update(len(outcomes))
    context.log.info(f"{len(todo) - len(failures)} computed, {len(failures)} failed")
    return failures


def _record_again(context: dg.OpExecutionContext, store: OutputStore, complete: Sequence[Work]) -> None:
    pointers = records.event_pointers(context.instance, store.task.requires, [work.data_id.key for work in complete])
    there = [(work, written) for work in complete if (written := store.find(work.data_id, work.input_version))]
    _record(context, store, there, pointers)


def _record(
    context: dg.OpExecutionContext,
    store: OutputStore,
    outputs: Sequence[tuple[Work, Written]],
    pointers: Mapping[str, int],
) -> None:
    made = [records.task_materialisation(store, w, written, pointers.get(w.data_id.key)) for w, written in outputs]
    records.write(context, made)


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
