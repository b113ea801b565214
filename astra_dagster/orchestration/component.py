"""The Dagster component that makes assets from a variant of a task that a ``defs.yaml`` declares.

What a declaration means, and what may be wrong with it, is in `astra_dagster.tasks.declared`. The component makes the
same asset, table, checks and job that a variant made with `Task.variant` in Python gets.
"""

from typing import Annotated, Any

import dagster as dg
from pydantic import Field

from astra_dagster.errors import ConfigurationError
from astra_dagster.orchestration.assets import task_asset
from astra_dagster.orchestration.checks import table_checks, task_checks
from astra_dagster.orchestration.runs.jobs import update_job
from astra_dagster.orchestration.tables import collection
from astra_dagster.tasks import registry
from astra_dagster.tasks.declared import TYPE
from astra_dagster.tasks.task import Task


def _describe(description: str) -> dg.Resolver:
    """Describe a field in the schema that editors show; pydantic's own descriptions do not all reach it."""
    return dg.Resolver.default(description=description)


class SpectrumTask(dg.Component, dg.Model, dg.Resolvable):
    """A variant of a task, with parameters of its own: its asset, its table and its job."""

    task: Annotated[str, _describe("Name of the task of which this is a variant.")]
    name: Annotated[str, _describe("What to put after the task's name: order5 makes ap_visit_continuum_order5.")]
    parameters: Annotated[dict[str, Any], _describe("Parameters that differ from the task's.")] = Field(default={})
    releases: Annotated[list[str], _describe("Releases that a run takes if it names none; all if empty.")] = Field(
        default=[]
    )

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Make the assets, checks and job of the variant.

        Raises
        ------
        ConfigurationError
            If a declaration makes no sense, or the configuration does not name the folder of this one, so that commands
            and other runs would not know the task.
        """
        found = registry.declared().get(f"{self.task}_{self.name}")
        folder = getattr(context.component_loc, "file_path", None)  # none, or a file, if made in Python
        if found is None or folder is None or not found.path.parent.samefile(folder):
            raise ConfigurationError(
                f"{self.task}_{self.name} is declared where commands and runs do not look for tasks",
                path=folder,
                hint=f"let defs in the configuration file name {context.defs_module_name!r}, and declare it there in a "
                f"defs.yaml as {TYPE}; in Python, use Task.variant",
            )
        return task_definitions(found.task)


def task_definitions(task: Task) -> dg.Definitions:
    """Make the Dagster definitions of a task, whether declared or written in Python: asset, table, checks and job."""
    return dg.Definitions(
        assets=[task_asset(task), collection(task)],
        asset_checks=[task_checks(task), table_checks(task)],
        jobs=[update_job(task)],
    )
