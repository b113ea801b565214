"""Everything that Dagster is told: assets and jobs. ``dagster dev`` and ``dagster -m`` load this module."""

import warnings
from collections.abc import Mapping

import dagster as dg

from astra_dagster.orchestration.assets import task_asset, update_job
from astra_dagster.orchestration.discover import discover_job
from astra_dagster.orchestration.sources import source_asset, source_products
from astra_dagster.tasks.continuum import ap_star_continuum, ap_visit_continuum, spec_continuum
from astra_dagster.tasks.snr import ap_star_snr, ap_visit_snr, spec_snr
from astra_dagster.tasks.task import Task

TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (ap_visit_snr, ap_star_snr, spec_snr, ap_visit_continuum, ap_star_continuum, spec_continuum)
}
"""Tasks by name."""


def build_definitions() -> dg.Definitions:
    """Assemble the definitions: a source asset for each product that is asked for, an asset for each task."""
    required = [*source_products(), *(task.requires for task in TASKS.values())]
    return dg.Definitions(
        assets=[
            *(source_asset(item) for item in dict.fromkeys(required)),
            *(task_asset(task) for task in TASKS.values()),
        ],
        jobs=[discover_job, *(update_job(task) for task in TASKS.values())],
    )


with warnings.catch_warnings():
    # Marked beta by Dagster, and used on purpose; a user can do nothing about it.
    warnings.simplefilter("ignore", dg.BetaWarning)
    defs = build_definitions()
