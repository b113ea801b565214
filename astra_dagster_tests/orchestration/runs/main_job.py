"""The job that discovers and the one that brings S/N up to date, run in this process, and what they recorded."""

import dagster as dg

from astra_dagster import product
from astra_dagster.definitions import defs
from astra_dagster.orchestration.discover import discover_job
from astra_dagster.orchestration.runs.jobs import update_job_name, update_run_config
from astra_dagster.tasks import registry

SNR = registry.tasks()["ap_visit_snr"]

VISITS = product("apVisit")

KEY = dg.AssetKey("ap_visit_snr")


def discover(instance: dg.DagsterInstance, **config: object) -> dg.ExecuteInProcessResult:
    return discover_job.execute_in_process(
        instance=instance, run_config={"ops": {"discover_files": {"config": config}}}
    )


def update(instance: dg.DagsterInstance, **config: object) -> dg.ExecuteInProcessResult:
    return defs.resolve_job_def(update_job_name(SNR)).execute_in_process(
        instance=instance, run_config=update_run_config(SNR, config), raise_on_error=False
    )


def recorded(instance: dg.DagsterInstance, asset: dg.AssetKey = KEY) -> set[str]:
    return set(instance.get_materialized_partitions(asset))
