"""Asset checks, which run the checks of `astra_dagster.checks` and report their findings to Dagster.

Every task has two sets of checks. Those of its own asset look at the newest results, and at all results of the same
run, so that they take as long for a hundred partitions as for a million. Those of its table look at all rows. No check
is partitioned: its result belongs to the asset, and names the partitions that are not as expected. A check warns; it is
an error if a result that it names cannot be used at all.

Users add checks as plain ``dg.asset_check`` on these assets, merged with these definitions:
``dg.Definitions.merge(astra_dagster.definitions.defs, dg.Definitions(asset_checks=[...]))``.
"""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
from pydantic import Field

from astra_dagster import settings
from astra_dagster.checks import output_checks as checking_outputs
from astra_dagster.checks import reductions
from astra_dagster.checks import table_checks as checking_tables
from astra_dagster.checks.check import LISTED, Check, Finding, Verdict
from astra_dagster.checks.sample import OutputSample
from astra_dagster.errors import OutputError, describe
from astra_dagster.orchestration import records
from astra_dagster.orchestration.causes import plain_failures
from astra_dagster.orchestration.internals import DATA_VERSION_TAG
from astra_dagster.orchestration.partitions import registered
from astra_dagster.orchestration.records import table_name
from astra_dagster.orchestration.sources import make_planner
from astra_dagster.outputs.digests import find_setting
from astra_dagster.outputs.record import Record
from astra_dagster.outputs.store import OutputStore
from astra_dagster.planning.status import ReasonKind
from astra_dagster.tasks.task import Task

PAGE = 1000
"""Number of records that one query asks for."""

Subject = TypeVar("Subject")


class CheckConfig(dg.Config):
    """How much the checks of a task look at."""

    newest: int = Field(
        default=500, ge=0, description="Newest results to look at, besides those that the same run has made; 0: all."
    )
    spectra: int = Field(default=50, ge=0, description="Outputs among these whose spectra are read.")


def task_checks(task: Task) -> dg.AssetChecksDefinition:
    """Make the checks of the newest results of a task."""

    @dg.multi_asset_check(name=_step_name(task), specs=_make_specs(task.name, _list_checks(task)), can_subset=True)
    def look(context: dg.AssetCheckExecutionContext, config: CheckConfig) -> Iterator[dg.AssetCheckResult]:
        yield from _look_at_newest(context.op_execution_context, task, config, context.selected_asset_check_keys)

    return look


def evaluate(context: dg.OpExecutionContext, task: Task) -> None:
    """Evaluate the checks of a task that a run has selected, within the step of the task's asset.

    Dagster skips the step of the checks if that of the asset fails, which it does if one of its partitions does.
    """
    selected = context.job_def.asset_layer.asset_graph.asset_check_keys
    ops: Any = context.run.run_config.get("ops") or {}
    config = CheckConfig(**(ops.get(_step_name(task)) or {}).get("config", {}))
    try:
        for result in _look_at_newest(context, task, config, selected):
            assert result.asset_key is not None  # noqa: S101 (for the types: all have both)
            assert result.check_name is not None  # noqa: S101
            evaluation = dg.AssetCheckEvaluation(
                result.asset_key,
                result.check_name,
                result.passed,
                result.metadata,
                severity=result.severity,
                description=result.description,
                blocking=False,
            )
            context.log_event(evaluation)  # type: ignore[arg-type] # it is taken, and not said so
    except Exception as error:  # the run fails, and is to say why
        context.log.warning(f"the checks were not made: {describe(error)}")


def _step_name(task: Task) -> str:
    return f"{task.name}_checks"


def _list_checks(task: Task) -> list[Check[OutputSample]]:
    return [check for check in checking_outputs.CHECKS if check.applies(task)]


def _look_at_newest(
    context: dg.OpExecutionContext, task: Task, config: CheckConfig, selected: Collection[dg.AssetCheckKey]
) -> Iterator[dg.AssetCheckResult]:
    with plain_failures():
        root, outputs = settings.sas_base_dir(), settings.outputs_dir()
        known = newest_records(context.instance, task, config.newest, context.run.run_id)
        last = newest_records(context.instance, task, 1).values()
    store = _find_store(outputs, task, next((record.digest for record in last), None))
    same = {
        key: record
        for key, record in known.items()
        if record.digest == store.digest and record.code_version == task.version
    }
    newest = OutputSample.read(store, same, root, config.spectra)
    others = len(known) - len(same)
    note = f"{others} of other parameters or another code version left out" if others else ""
    yield from _make_results(selected, task.name, _list_checks(task), lambda check: check.look(newest), note)


def table_checks(task: Task) -> dg.AssetChecksDefinition:
    """Make the checks of the table of a task as it was last built."""
    checks = [check for check in (*checking_tables.CHECKS, reductions.CHECK) if check.applies(task)]
    asset = table_name(task)

    @dg.multi_asset_check(name=f"{asset}_checks", specs=_make_specs(asset, checks), can_subset=True)
    def look(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        selected = context.selected_asset_check_keys
        built = context.instance.get_latest_materialization_event(dg.AssetKey(asset))
        made = built.asset_materialization if built else None
        if made is None:
            yield from _make_results(
                selected, asset, checks, lambda _: Verdict(0, "rows", note="there is no table yet")
            )
            return
        path = Path(str(made.metadata["parquet"].value))
        with plain_failures():
            store = _find_store(settings.outputs_dir(), task, checking_tables.read_digest(path))
        table = checking_tables.Table(store, path, lambda: inputs(context.instance, task))

        def judge(check: Check[checking_tables.Table]) -> Verdict:
            try:
                return check.look(table)
            except OutputError as error:
                return Verdict(1, "tables", (Finding(asset, str(error), "a table", unusable=True),))

        yield from _make_results(selected, asset, checks, judge)

    return look


check_job = dg.define_asset_job(
    "check", dg.AssetSelection.all_asset_checks(), description="Run all checks, on what is there."
)


def newest_records(instance: dg.DagsterInstance, task: Task, count: int, run_id: str = "") -> dict[str, Record]:
    """Return the latest record of the partitions that were recorded last, by key.

    The newest is first; if all are asked for, they are in the order of their keys.

    Parameters
    ----------
    count
        Number of partitions to return; all if 0.
    run_id
        A run whose records are all returned, however many there are.
    """
    if not count:
        return dict(records.task_records(instance, task, registered(instance, task.domain)))
    run = instance.get_run_record_by_id(run_id) if run_id else None
    began = math.inf if run is None else run.start_time or run.create_timestamp.timestamp()
    found: dict[str, Record] = {}
    cursor: str | None = None
    while True:
        page = instance.fetch_materializations(dg.AssetKey(task.name), limit=min(PAGE, count + 1), cursor=cursor)
        for event in page.records:
            enough = len(found) >= count
            if enough and event.timestamp < began:
                return found
            made = event.asset_materialization
            record = Record.parse((made.tags or {}).get(DATA_VERSION_TAG, "")) if made else None
            wanted = not enough or event.run_id == run_id
            if wanted and made is not None and made.partition is not None and record is not None:
                found.setdefault(made.partition, record)
        if not page.has_more:
            return found
        cursor = page.cursor


def inputs(instance: dg.DagsterInstance, task: Task) -> list[str]:
    """Return the registered partitions of a task for which every one-to-one requirement has a record.

    Those that wait for more of the many that they require are left out.
    """
    required = [item for item in task.requires if item.one_to_one]
    there = [instance.get_materialized_partitions(records.asset_key(item)) for item in required]
    keys = [key for key in registered(instance, task.domain) if all(key in keys for keys in there)]
    if all(item.minimum == 1 for item in task.requires):
        return keys
    store = OutputStore(settings.outputs_dir(), task, task.values())
    (plan,) = make_planner(instance, store.root, settings.sas_base_dir()).plan_all([(store, keys, False)])
    waiting = {one.key for one in plan.of(ReasonKind.TOO_FEW)}
    return [key for key in keys if key not in waiting]


def _find_store(root: Path, task: Task, digest: str | None) -> OutputStore:
    """Return the outputs of a task with the parameters of a digest; else those with the defaults."""
    found = (find_setting(root, task, digest) if digest else None) or task
    return OutputStore(root, found, found.values())


def _make_specs(asset: str, checks: Sequence[Check[Any]]) -> list[dg.AssetCheckSpec]:
    return [dg.AssetCheckSpec(check.name, asset=asset, description=check.description) for check in checks]


def _make_results(
    selected: Collection[dg.AssetCheckKey],
    asset: str,
    checks: Sequence[Check[Subject]],
    look: Callable[[Check[Subject]], Verdict],
    note: str = "",
) -> Iterator[dg.AssetCheckResult]:
    """Yield the results of those checks that were asked for."""
    for check in checks:
        key = dg.AssetCheckKey(dg.AssetKey(asset), check.name)
        if key in selected:
            yield _make_result(key, look(check), note)


def _make_result(key: dg.AssetCheckKey, verdict: Verdict, note: str) -> dg.AssetCheckResult:
    """Turn a verdict into a result for Dagster, with a sentence that sums it up and a table of findings."""
    wrong = sorted(verdict.findings, key=lambda finding: not finding.unusable)
    looked_at = f"{verdict.looked_at} {verdict.what}"
    if wrong:
        sentence = f"{len(wrong)} finding{'s' * (len(wrong) > 1)} in {looked_at}, the first {wrong[0].key}: "
        sentence += f"{wrong[0].value}, expected: {wrong[0].expected}"
    else:
        sentence = f"{looked_at} looked at, all as expected" if verdict.looked_at else f"no {verdict.what} to look at"
    return dg.AssetCheckResult(
        passed=not wrong,
        asset_key=key.asset_key,
        check_name=key.name,
        severity=dg.AssetCheckSeverity.ERROR if wrong and wrong[0].unusable else dg.AssetCheckSeverity.WARN,
        description="; ".join(filter(None, [sentence, verdict.note, note])),
        metadata={
            "looked_at": verdict.looked_at,
            "findings": len(wrong),
            **({"listed": _make_table(wrong[:LISTED])} if wrong else {}),
        },
    )


def _make_table(findings: Sequence[Finding]) -> dg.TableMetadataValue:
    return dg.MetadataValue.table(
        [dg.TableRecord({"key": item.key, "value": item.value, "expected": item.expected}) for item in findings],
        schema=dg.TableSchema([dg.TableColumn(name) for name in ("key", "value", "expected")]),
    )
