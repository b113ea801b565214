"""Everything that Dagster is told: assets, jobs, sensors and schedules.

``dagster dev`` and ``dagster -m`` load this module.
"""

import atexit
import gc
import sys
import warnings
from types import TracebackType

import click
import dagster as dg

from astra_dagster.errors import AstraError
from astra_dagster.orchestration.causes import WithoutTrace
from astra_dagster.orchestration.checks import check_job
from astra_dagster.orchestration.clean import clean_job
from astra_dagster.orchestration.component import task_definitions
from astra_dagster.orchestration.discover import discover_job
from astra_dagster.orchestration.expected import register_job
from astra_dagster.orchestration.loading.broken import broken_assets
from astra_dagster.orchestration.loading.folder import declared_definitions
from astra_dagster.orchestration.sources import asset_products, source_asset
from astra_dagster.orchestration.watch.sensors import watch
from astra_dagster.tasks import registry


def build_definitions() -> dg.Definitions:
    """Assemble the definitions: a source asset for each product that is asked for, an asset for each task.

    What is declared in YAML is loaded as Dagster's components are, and joined to the rest. What is broken is left out
    of it, and is there as a definition that says why.
    """
    products = asset_products()
    sensors, schedules = watch(products)
    coded = registry.tasks().keys() - registry.declared().keys()
    own = dg.Definitions(
        assets=[*map(source_asset, products)],
        jobs=[discover_job, clean_job, register_job, check_job],
        sensors=sensors,
        schedules=schedules,
        # Steps one after another in the process of the run: each has all workers to itself, and tasks share files.
        executor=dg.in_process_executor,
    )
    tasks = (task_definitions(task) for name, task in registry.tasks().items() if name in coded)
    return dg.Definitions.merge(own, *tasks, declared_definitions(), broken_assets(registry.broken()))


def tell_errors() -> None:
    """Have Dagster's command line tell our errors as its own: in one line, where others are a traceback."""
    usual = sys.excepthook

    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, AstraError | WithoutTrace):
            click.ClickException(str(error)).show()
        else:
            usual(kind, error, trace)

    sys.excepthook = tell


atexit.register(gc.freeze)  # as in our own command line: Python would look for garbage among all that was imported

if click.get_current_context(silent=True) is not None:  # a command is what loads this
    tell_errors()

with warnings.catch_warnings():
    # Marked beta by Dagster, and used on purpose; a user can do nothing about it.
    warnings.simplefilter("ignore", dg.BetaWarning)
    defs = build_definitions()
