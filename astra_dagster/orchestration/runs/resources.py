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
        named = self.workers or settings.config().get("workers", "processes")
        if not isinstance(named, str):
            raise ConfigurationError(f"workers cannot be {named!r}", hint=f"expected {FORMS}")
        return Workers.parse(named)


RESOURCES = {"executor": ExecutorResource()}
"""All of them, by the name by which assets and jobs ask for them."""
