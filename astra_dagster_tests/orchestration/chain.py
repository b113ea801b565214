"""A user's package of tasks that require tasks, and what is done with them."""

import os
from pathlib import Path

import dagster as dg

from astra_dagster import product
from astra_dagster.definitions import build_definitions
from astra_dagster.orchestration.discover import discover_job
from astra_dagster.orchestration.partitions import registered
from astra_dagster.orchestration.runs.jobs import update_job, update_run_config
from astra_dagster.orchestration.sources import make_planner
from astra_dagster.outputs.store import OutputStore
from astra_dagster.planning.plan import Plan
from astra_dagster.planning.status import Status
from astra_dagster.tasks.task import Task

SPEC = product("spec")

TASKS = '''
import numpy as np
from astra_dagster import Parameters, SpectrumBatch, ap_star, ap_visit, grouped, matching, spec, spectrum_task
from astra_dagster.tasks.continuum import spec_continuum
from astra_dagster.tasks.snr import ap_visit_snr, spec_snr


class DepthParameters(Parameters):
    line: float = 6564.6
    width: float = 10.0


@spectrum_task(requires=spec_continuum, parameters=DepthParameters, version="1")
def line_depth(spectra, parameters):
    """Depth of a line."""
    inside = np.abs(spectra.wavelength - parameters.line) < parameters.width
    return {"depth": 1 - np.where(inside & ~spectra.bad, spectra.flux, np.inf).min(axis=1)}


@spectrum_task(requires=(line_depth, spec_snr), version="1")
def significance(depth, snr, parameters):
    """Depth of a line over its noise."""
    return {"significance": depth["depth"] * snr["snr"]}


@spectrum_task(requires=grouped(spec_snr, by=("run2d", "plate")), version="1")
def plate_snr(members, parameters):
    """Mean S/N of a plate."""
    return {"snr": np.mean([m["snr"][0] for m in members]), "spectra": len(members)}


def of_the_field(star, path):
    return [{"field": star.values["field"]}]


@spectrum_task(requires=(ap_star, matching(ap_visit_snr, ap_star, of_the_field)), version="1")
def star_visits(star, visits, parameters):
    """How many visits there are in the field of a star."""
    return {"visits": np.full(len(star), len(visits))}


@spectrum_task(requires=spec, version="1", stages=3)
def refined(spectra: SpectrumBatch, before, parameters) -> SpectrumBatch:
    """Smooth again and again."""
    source = spectra if before is None else before
    smooth = np.apply_along_axis(lambda row: np.convolve(row, np.ones(3) / 3, "same"), 1, source.flux)
    return SpectrumBatch(flux=smooth, ivar=spectra.ivar, wavelength=spectra.wavelength, unit=spectra.unit)
'''


CHAIN = ["spec_continuum", "spec_snr", "line_depth", "significance"]


def discover(instance: dg.DagsterInstance) -> list[str]:
    assert discover_job.execute_in_process(instance=instance).success
    return list(registered(instance, SPEC))


def update(instance: dg.DagsterInstance, task: Task, **config: object) -> dg.ExecuteInProcessResult:
    run_config = update_run_config(task, config)
    return update_job(task).execute_in_process(instance=instance, run_config=run_config, raise_on_error=False)


def launch(instance: dg.DagsterInstance, selection: list[str], first: str, last: str) -> dg.ExecuteInProcessResult:
    """What the web UI does with several assets and a range of partitions."""
    definitions = build_definitions()
    job = definitions.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection={dg.AssetKey(name) for name in selection}
    )
    return job.execute_in_process(
        instance=instance,
        tags={"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last},
        raise_on_error=False,
    )


def plan(instance: dg.DagsterInstance, task: Task, keys: list[str]) -> Plan:
    store = OutputStore(Path(os.environ["ASTRA_OUTPUTS"]), task, task.values())
    return make_planner(instance, store.root, Path(os.environ["SAS_BASE_DIR"])).plan(store, keys)


def waiting(plan: Plan) -> list[tuple[str, str]]:
    return plan.explain(Status.WAITING)


def recorded(instance: dg.DagsterInstance, task: str) -> set[str]:
    return set(instance.get_materialized_partitions(dg.AssetKey(task)))


def failed(instance: dg.DagsterInstance, task: str) -> set[str]:
    from dagster._core.definitions.partitions.context import partition_loading_context
    from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value

    from astra_dagster.orchestration.partitions import partitions_def

    partitions = partitions_def(SPEC)
    with partition_loading_context(dynamic_partitions_store=instance):
        status = get_and_update_asset_status_cache_value(instance, dg.AssetKey(task), partitions)
        return set(status.deserialize_failed_partition_subsets(partitions).get_partition_keys())
