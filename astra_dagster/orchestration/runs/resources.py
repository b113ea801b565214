"""Resources of Dagster: settings of a deployment that a task does not know of."""

import dagster as dg
from pydantic import Field

from astra_dagster import settings
from astra_dagster.errors import ConfigurationError
from astra_dagster.execution.workers import FORMS, Workers


class ExecutorResource(dg.ConfigurableResource):
    """Where partitions are computed: in this process, a pool of processes, or a Dask cluster."""

    workers: str = Field(
        default="", description=f"{FORMS}. If empty, what the configuration file says, else a process for each core."
    )

    def choose(self) -> Workers:
        """Return the workers to use: those of this resource, else those of the configuration file.

        Raises
        ------
        ConfigurationError
            If the configured workers have none of the known forms.
        """
        if self.workers:
            return Workers.parse(self.workers)
        try:
            return Workers.parse(settings.config().workers)
        except ConfigurationError as error:
            raise settings.config_error(error.message, hint=error.hint) from None


RESOURCES = {"executor": ExecutorResource()}
"""All resources, by the names that assets and jobs use."""
