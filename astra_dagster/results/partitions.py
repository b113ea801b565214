"""What there is of partitions of a task: the output of one, why it is as it is, and how many have which status."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from astra_dagster import settings
from astra_dagster.errors import InvalidKeyError, nearest
from astra_dagster.orchestration.partitions import is_registered, registered
from astra_dagster.orchestration.runs.instance import open_instance
from astra_dagster.orchestration.runs.jobs import jobs_of
from astra_dagster.orchestration.sources import make_planner
from astra_dagster.outputs.document import describe_origin
from astra_dagster.outputs.store import OutputStore
from astra_dagster.planning.plan import Plan
from astra_dagster.planning.status import Status
from astra_dagster.results.results import make_selection
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.tasks.columns import Results
from astra_dagster.tasks.task import Task


def read_output(task: Task, key: str, parameters: Mapping[str, Any]) -> SpectrumBatch | Results:
    """Read the output of a partition as `Task.read` describes it."""
    store = _store(task, parameters)
    data_id = store.task.domain.parse_key(key)
    found = store.read(data_id)
    provenance = {"key": data_id.key, **describe_origin(store.read_origin(data_id))}
    if isinstance(found, SpectrumBatch):
        return replace(found, provenance=provenance)
    found.provenance = provenance
    return found


def why(task: Task, key: str, parameters: Mapping[str, Any]) -> str:
    """Say in words whether a partition is complete, and if not, why."""
    store = _store(task, parameters)
    key = store.task.domain.parse_key(key).key
    with open_instance() as instance:
        if not is_registered(instance, store.task.domain, key):
            raise InvalidKeyError(
                f"partition {key} of {store.task.domain.name} is not registered",
                hint=nearest(key, registered(instance, store.task.domain)),
            )
        planner = make_planner(instance, store.root, settings.sas_base_dir())
        return planner.plan(store, [key]).why(key)


def count_statuses(
    task: Task, release: str | Iterable[str], where: Mapping[str, Any] | None, parameters: Mapping[str, Any]
) -> dict[str, int]:
    """Return the number of partitions by status, as `Task.status` describes it."""
    store = _store(task, parameters)
    chosen = make_selection(release, where)
    with open_instance() as instance:
        job = jobs_of(instance, [store], chosen.releases, chosen.where)[-1]
        planner = make_planner(instance, store.root, settings.sas_base_dir())
        (plan,) = planner.plan_all([(job.store, job.keys, False)])
        return _counted(plan)


def _counted(plan: Plan) -> dict[str, int]:
    counts = {status.name.lower(): len(plan.of(status)) for status in Status}
    return {name: count for name, count in counts.items() if count}


def _store(task: Task, parameters: Mapping[str, Any]) -> OutputStore:
    mine = task.setting(parameters)
    return OutputStore(settings.outputs_dir(), mine, mine.values())
