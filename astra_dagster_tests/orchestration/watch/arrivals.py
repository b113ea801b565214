"""Files that arrive in a folder of a mirror, and what Dagster does with the ticks that see them."""

import functools
import io
import os
import time
from pathlib import Path

import dagster as dg
from astropy.io import fits
from dagster._core.storage.dagster_run import DagsterRun
from dagster._core.storage.tags import RUN_KEY_TAG, SENSOR_NAME_TAG

from astra_dagster import product
from astra_dagster.archive.watching import COARSE
from astra_dagster.definitions import defs
from astra_dagster.orchestration import records, sources
from astra_dagster.orchestration.watch.requests import Request, named
from astra_dagster.orchestration.watch.sensors import run_request
from astra_dagster.orchestration.watch.settings import Watched
from astra_dagster.orchestration.watch.tick import Tick, sensor_name, tick

VISITS = product("apVisit")

SEEN = Watched(VISITS)

FOLDER = "dr17/apogee/spectro/redux/dr17/visit/apo25m/120+12/5226/56000"

NAME = "apVisit-dr17-5226-56000-{:03}.fits"

KEY = "DR17/apo25m/120+12/5226/56000/{:03}"


@functools.cache
def job_without_checks(name: str) -> dg.JobDefinition:
    """Return a job that runs the assets of another, and not their checks, which take longer than all the rest."""
    whole = defs.resolve_job_def(name)
    assets = whole.asset_layer.executable_asset_keys
    return whole.get_subset(asset_selection=assets, asset_check_selection=frozenset())


class Daemon:
    """What Dagster does with the requests of ticks, the runs being in this process."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance, self.seen, self.ahead = instance, SEEN, 0.0
        self.requested: list[str] = []

    def tick(self, wait: float = 2 * COARSE) -> Tick:
        self.ahead += wait
        return tick(self.instance, self.seen, lambda: time.time() + self.ahead)

    def run(self, request: Request) -> bool | None:
        """Whether the run succeeds; None if there is one of that key."""
        mine = {RUN_KEY_TAG: request.run_key, SENSOR_NAME_TAG: sensor_name(self.seen)}
        if self.instance.get_runs(dg.RunsFilter(tags=mine)):
            return None
        asked = run_request(VISITS, request, by_range=True)
        self.requested += named(self.instance, VISITS, request.partitions)
        return (
            job_without_checks(str(asked.job_name))
            .execute_in_process(
                instance=self.instance,
                run_config={**asked.run_config, "resources": {"executor": {"config": {"workers": "in-process"}}}},
                tags={**asked.tags, **mine},
                raise_on_error=False,
            )
            .success
        )

    def __call__(self, wait: float = 2 * COARSE) -> tuple[Tick, list[bool | None]]:
        """A tick and its runs."""
        made = self.tick(wait)
        return made, [self.run(request) for request in made.requests]

    def pretend(self, wait: float = 2 * COARSE) -> Tick:
        """A tick, and runs that record the files and do nothing else."""
        made = self.tick(wait)
        self.accept(made.requests)
        return made

    def accept(self, requests: list[Request]) -> None:
        """Have runs that record the files and do nothing else; none of a key of which there is one."""
        for request in requests:
            tags = {RUN_KEY_TAG: request.run_key, SENSOR_NAME_TAG: sensor_name(self.seen)}
            if self.instance.get_runs(dg.RunsFilter(tags=tags)):
                continue
            run = DagsterRun(job_name="analyse_ap_visit", tags=tags, status=dg.DagsterRunStatus.SUCCESS)
            self.instance.add_run(run)
            keys = named(self.instance, VISITS, request.partitions)
            self.requested += keys
            root = Path(os.environ["SAS_BASE_DIR"])
            for found in sources.examine(self.instance, VISITS, [VISITS.parse_key(key) for key in keys], root):
                if found.file is not None and found.version is not None:
                    made = records.source_materialisation(VISITS, found.data_id.key, found.version, found.version, {})
                    self.instance.report_runless_asset_event(made)


def make_anonymous(contents: bytes) -> bytes:
    """Return an apVisit file without the cards that say which one it is: it is refused nowhere."""
    made = io.BytesIO()
    with fits.open(io.BytesIO(contents)) as hdus:
        for name in ("FIBERID", "PLATE", "MJD5"):
            hdus[0].header.remove(name, ignore_missing=True)
        hdus.writeto(made)
    return made.getvalue()


def put(path: Path, contents: bytes, age: float = 3600.0) -> Path:
    """Put a file into its place as it should be done: under another name first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}")
    new.write_bytes(contents)
    then = time.time() - age
    os.utime(new, (then, then))
    return new.rename(path)


def recorded(instance: dg.DagsterInstance, asset: str = "ap_visit") -> set[str]:
    return set(instance.get_materialized_partitions(dg.AssetKey(asset)))


def outputs() -> dict[Path, int]:
    root = Path(os.environ["ASTRA_OUTPUTS"])
    return {path: path.stat().st_mtime_ns for path in root.rglob("*.json") if path.name != "parameters.json"}
