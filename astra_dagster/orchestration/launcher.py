"""The launcher of runs that ``astra-dagster init`` names in ``dagster.yaml``."""

import dagster as dg

from astra_dagster.orchestration.internals import CheckRunHealthResult, WorkerStatus
from astra_dagster.orchestration.runs.signs_of_life import Life, check_life, describe_death


class AstraRunLauncher(dg.DefaultRunLauncher):
    """Dagster's own launcher, which in addition tells run monitoring when the process of a run has died.

    Dagster's launcher cannot tell that, so that its run monitoring does not look at runs that have started.
    """

    @property
    def supports_check_run_worker_health(self) -> bool:
        """True: this launcher can tell whether the process of a run is alive."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Tell whether the process of a run is alive; a run of which that is unknown counts as alive."""
        life, where = check_life(self._instance, run.run_id)
        if life is Life.DEAD:
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, describe_death(where))
        return CheckRunHealthResult(WorkerStatus.RUNNING)
