"""Resources of Dagster: settings of a deployment that a task does not know of."""

from contextvars import ContextVar

import dagster as dg
from pydantic import Field

from astra_dagster import settings
from astra_dagster.errors import ConfigurationError
from astra_dagster.execution.workers import FORMS, Workers

trusted: ContextVar[bool] = ContextVar("trusted", default=False)
"""Whether the configuration of a run comes from the user of this process, and not from whoever may launch runs."""


class ExecutorResource(dg.ConfigurableResource):
    """Where partitions are computed: in this process, a pool of processes, a Dask cluster, or jobs of Slurm."""

    workers: str = Field(
        default="",
        description=f"{FORMS}, or the name of one in the table [clusters] of the configuration file. If empty, what "
        "the configuration file says, else a process for each core.",
    )

    def choose(self) -> Workers:
        """Return the workers to use: those of this resource, else those of the configuration file.

        Raises
        ------
        ConfigurationError
            If the configured workers have none of the known forms, or a launch names the address of a scheduler. A
            run does what its scheduler sends; so an address comes from the configuration file or the command line.
        """
        clusters = settings.config().clusters
        if self.workers in clusters:
            return Workers.parse(clusters[self.workers])
        if self.workers:
            chosen = Workers.parse(self.workers)
            known = (settings.config().workers, *clusters.values())
            if chosen.address and self.workers not in known and not trusted.get():
                raise ConfigurationError(
                    f"a launch cannot name the address of a scheduler: {self.workers}",
                    hint=f"choose one of [clusters] in the configuration file: {', '.join(clusters) or 'it has none'}",
                )
            return chosen
        try:
            return Workers.parse(settings.config().workers)
        except ConfigurationError as error:
            raise settings.config_error(error.message, hint=error.hint) from None


RESOURCES = {"executor": ExecutorResource()}
"""All resources, by the names that assets and jobs use."""
