"""The launcher of runs that ``astra-dagster init`` names in ``dagster.yaml``."""

import dagster as dg

from astra_dagster.orchestration.internals import CheckRunHealthResult, WorkerStatus
from astra_dagster.orchestration.runs.signs_of_life import Life, death_of, life_of


class AstraRunLauncher(dg.DefaultRunLauncher):
    """Dagster's own launcher, which also tells its run monitoring when the process of a run is gone.

    Dagster's own cannot tell that, so that its run monitoring leaves every run alone that has once begun.
    """

    @property
    def supports_check_run_worker_health(self) -> bool:
        """That it can tell."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the process of a run is there; a run of which nobody can tell is left alone."""
        life, where = life_of(self._instance, run.run_id)
        if life is Life.DEAD:
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, death_of(where))
        return CheckRunHealthResult(WorkerStatus.RUNNING)
