"""Resources: what a deployment decides, and a task knows nothing of."""

import dagster as dg
from pydantic import Field

from astra_dagster import settings
from astra_dagster.errors import ConfigurationError
from astra_dagster.execution.workers import FORMS, Workers


class ExecutorResource(dg.ConfigurableResource):
    """Who computes: this process, a pool of processes, or a Dask cluster."""

    workers: str = Field(
        default="", description=f"{FORMS}. If empty, what the configuration file says, else a process a core."
    )

    def choose(self) -> Workers:
        """The workers to use.

        Raises
        ------
        ConfigurationError
            If what is configured is nothing that is known.
        """
        if self.workers:
            return Workers.parse(self.workers)
        try:
            return Workers.parse(settings.config().workers)
        except ConfigurationError as error:
            raise settings.config_error(error.message, hint=error.hint) from None


RESOURCES = {"executor": ExecutorResource()}
"""All of them, by the name by which assets and jobs ask for them."""
