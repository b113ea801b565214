"""Task to asset: the partitioned Dagster asset of a task, and what one run of it does."""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_START_TAG, PARTITION_NAME_TAG
from pydantic import Field, create_model
from tqdm import tqdm

from astra_dagster import settings
from astra_dagster.errors import AstraError
from astra_dagster.orchestration import records, sources
from astra_dagster.orchestration.planning import Plan, make_plan, select_keys
from astra_dagster.tasks import runner
from astra_dagster.tasks.runner import Work
from astra_dagster.tasks.store import OutputStore
from astra_dagster.tasks.task import Task

SHOWN = 20
"""Failures that the message of a failed run spells out."""


class RunConfig(dg.Config):
    """What a run takes besides the task's parameters."""

    overwrite: bool = Field(default=False, description="Compute complete partitions again.")
    releases: list[str] = Field(
        default=[], description="For a run without partitions: only these releases; all if empty."
    )
    where: dict[str, list[str]] = Field(
        default={}, description="For a run without partitions: allowed values by part of the key."
    )


def config_class(task: Task) -> type[RunConfig]:
    """Launchpad schema of a task: its parameters with their defaults, then `RunConfig`."""
    import dataclasses
    import typing

    hints = typing.get_type_hints(task.parameters)
    parameters: dict[str, Any] = {
        field.name: (hints[field.name], field.default)
        for field in dataclasses.fields(task.parameters)  # type: ignore[arg-type]
    }
    return create_model(f"{task.name}_config", __base__=RunConfig, **parameters)


def task_asset(task: Task) -> dg.AssetsDefinition:
    """Partitioned asset of a task: one run takes any number of partitions."""
    columns = "\n".join(f"- `{name}`: {text}" for name, text in task.columns.items())

    @dg.asset(
        name=task.name,
        deps=[task.requires.asset_name],
        partitions_def=records.partitions_def(task.requires),
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=sources.group_of(task.requires.name),
        kinds={"json"},
        code_version=task.version,
        description=f"{task.description}\n\n{columns}",
        metadata={"requires": task.requires.name, "partition_key": task.requires.key_order},
        output_required=False,
        dagster_type=dg.Nothing,
    )
    def asset(context: dg.AssetExecutionContext, config: config_class(task)):  # type: ignore[valid-type]
        yield from _materialise(context, task, config)

    return asset


def _materialise(context: dg.AssetExecutionContext, task: Task, config: RunConfig) -> Iterator[dg.Output]:
    """Bring the run's partitions up to date, record them, and fail for those that could not be."""
    op_context = context.op_execution_context
    try:
        store, root = open_store(task, config), settings.sas_base_dir()
        tagged = bool({PARTITION_NAME_TAG, ASSET_PARTITION_RANGE_START_TAG} & set(context.run.tags))
        if tagged:
            keys: Sequence[str] = context.partition_keys
        else:
            keys = select_keys(context.instance, task.requires, config.releases, config.where)
        plan = make_plan(context.instance, store, keys, root, overwrite=config.overwrite)
        for line in plan.lines():
            context.log.info(line)
        failures = [(key, str(error)) for key, error in plan.invalid]
        failures += _run_plan(op_context, store, plan, config.overwrite)
    except AstraError as error:
        raise dg.Failure(str(error), allow_retries=False) from None

    if failures:
        if tagged:
            # Dagster calls every partition failed that a failed run planned and did not record.
            _record_again(op_context, store, plan.complete)
        else:
            records.write_planned(op_context, task, [key for key, _ in failures])
        raise _failure(failures, len(keys))
    yield dg.Output(None, metadata={SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True})


def open_store(task: Task, config: RunConfig) -> OutputStore:
    """Output store of a task with the parameters of a run's configuration."""
    values = {name: value for name, value in dict(config).items() if name not in RunConfig.model_fields}
    return OutputStore(settings.outputs_dir(), task, task.parameters.from_mapping(values))


def _run_plan(
    context: dg.OpExecutionContext, store: OutputStore, plan: Plan, overwrite: bool
) -> list[tuple[str, str]]:
    """Do what is incomplete, and return key and reason of what failed."""
    product = store.task.requires
    sources.record(context, product, plan.inputs.values())
    todo = [work for work, _ in plan.incomplete]
    pointers = records.event_pointers(context.instance, product, [work.data_id.key for work in todo])
    there = [] if overwrite else [(w, found) for w in todo if (found := store.find(w.data_id, w.input_version))]
    if there:
        store.prepare()
        context.log.info(f"{len(there)} outputs of these parameters are there already: recorded, not computed")
        records.write(
            context,
            [records.task_materialisation(store, w, found, pointers.get(w.data_id.key)) for w, found in there],
        )
    done = {work.data_id.key for work, _ in there}
    todo = [work for work in todo if work.data_id.key not in done]
    failures: list[tuple[str, str]] = []
    with tqdm(total=len(todo), unit="file", disable=None, desc=store.task.name) as progress:
        for outcomes in runner.run(store, todo) if todo else ():
            failures += [(o.work.data_id.key, str(o.error)) for o in outcomes if o.error is not None]
            made = [
                records.task_materialisation(store, o.work, o.written, pointers.get(o.work.data_id.key))
                for o in outcomes
                if o.written is not None
            ]
            if made:
                records.write(context, made)
            progress.update(len(outcomes))
    context.log.info(f"{len(todo) - len(failures)} computed, {len(failures)} failed")
    return failures


def _record_again(context: dg.OpExecutionContext, store: OutputStore, complete: Sequence[Work]) -> None:
    pointers = records.event_pointers(
        context.instance, store.task.requires, [work.data_id.key for work in complete]
    )
    made = [
        records.task_materialisation(store, work, found, pointers.get(work.data_id.key))
        for work in complete
        if (found := store.find(work.data_id, work.input_version))
    ]
    if made:
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
