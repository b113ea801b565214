"""Run a task from Python: the same run as the command line makes, recorded in the same instance."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from astra_dagster.errors import AstraError
from astra_dagster.orchestration.records import DagsterLedger
from astra_dagster.orchestration.runs.instance import open_instance
from astra_dagster.orchestration.runs.jobs import match_keys, update_job, update_run_config
from astra_dagster.orchestration.runs.signs_of_life import declare_dead
from astra_dagster.orchestration.runs.start import count_computed, failures_of, run_job
from astra_dagster.results.results import make_selection
from astra_dagster.tasks.task import Task


@dataclass(frozen=True)
class RunSummary:
    """What a run did.

    Attributes
    ----------
    run_id
        Identity of the run, by which the web UI shows it.
    computed
        Number of outputs that were computed, those of required tasks too.
    failed
        Why partitions failed, by key; of very many the first.
    """

    run_id: str
    computed: int
    failed: Mapping[str, str]


def run(
    task: Task,
    keys: str | Iterable[str] | None,
    release: str | Iterable[str],
    where: Mapping[str, Any] | None,
    parameters: Mapping[str, Any],
    *,
    overwrite: bool,
    fetch: bool,
    workers: str,
) -> RunSummary:
    """Run a task as `Task.run` describes it."""
    mine, chosen = task.setting(parameters), make_selection(release, where)
    listed = [keys] if isinstance(keys, str) else list(keys or ())
    if keys is not None and not listed:
        return RunSummary("", 0, {})
    config = {
        **mine.values().as_dict(all=True),
        "also_set": {name: value for name, value in parameters.items() if "." in name},
        "keys": listed,
        "releases": list(chosen.releases),
        "where": dict(chosen.where),
        "overwrite": overwrite,
        "fetch": fetch,
    }
    with open_instance() as instance:
        declare_dead(instance)
        matched = match_keys(DagsterLedger(instance), mine, listed) if listed else ()
        result = run_job(update_job(task, matched=matched), instance, update_run_config(task, config, workers))
        failed = {one["partition"]: one["reason"] for one in failures_of(result)}
        computed, said = 0, f"the run {result.run_id} failed"
        for event in result.all_events:
            made: Mapping[str, Any] = {}
            if event.is_successful_output:
                made = event.step_output_data.metadata
            elif event.is_step_failure and event.step_failure_data.user_failure_data is not None:
                made = event.step_failure_data.user_failure_data.metadata
                said = str(event.step_failure_data.user_failure_data.description)
            elif event.is_step_failure:
                raise _make_error(event.step_failure_data.error)
            computed += count_computed(made)
        if not result.success and not failed:
            raise AstraError(said)
    return RunSummary(result.run_id, computed, failed)


def _make_error(info: Any) -> BaseException:
    """Make the error of a run that could not be made, from the texts that Dagster keeps of it."""
    if info is not None and info.cls_name == "DagsterExecutionInterruptedError":
        return KeyboardInterrupt()
    while info is not None and info.cause is not None:
        info = info.cause
    text = "" if info is None else info.message.strip()
    return AstraError(f"the run failed: {text}" if text else "the run failed")
