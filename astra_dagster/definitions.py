"""Everything that Dagster is told: assets and jobs. ``dagster dev`` and ``dagster -m`` load this module."""

import warnings

import dagster as dg

from astra_dagster.datamodel.products import Product
from astra_dagster.orchestration.assets import task_asset
from astra_dagster.orchestration.clean import clean_job
from astra_dagster.orchestration.discover import discover_job
from astra_dagster.orchestration.expected import register_job
from astra_dagster.orchestration.jobs import update_job
from astra_dagster.orchestration.resources import RESOURCES
from astra_dagster.orchestration.sources import source_asset, source_products
from astra_dagster.orchestration.tables import collection
from astra_dagster.tasks import registry
from astra_dagster.tasks.partitions import Many


def build_definitions() -> dg.Definitions:
    """Assemble the definitions: a source asset for each product that is asked for, an asset for each task."""
    tasks = registry.tasks()
    required = [r.of if isinstance(r, Many) else r for task in tasks.values() for r in task.requires]
    products = [*source_products(), *(item for item in required if isinstance(item, Product))]
    return dg.Definitions(
        assets=[
            *(source_asset(item) for item in dict.fromkeys(products)),
            *(task_asset(task) for task in tasks.values()),
            *(collection(task) for task in tasks.values()),
        ],
        jobs=[discover_job, clean_job, register_job, *(update_job(task) for task in tasks.values())],
        resources=RESOURCES,
        # Steps one after another in the process of the run: each has all workers to itself, and tasks share files.
        executor=dg.in_process_executor,
    )


with warnings.catch_warnings():
    # Marked beta by Dagster, and used on purpose; a user can do nothing about it.
    warnings.simplefilter("ignore", dg.BetaWarning)
    defs = build_definitions()
