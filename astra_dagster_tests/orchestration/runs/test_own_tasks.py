"""A user's own tasks, beside the configuration: found however a run starts, by all workers, and from any folder."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from astra_dagster.cli import main
from astra_dagster_tests import web_ui
from astra_dagster_tests.execution.cluster import DASK, dask_cluster
from astra_dagster_tests.orchestration.daemon import running_daemon

TASK = '''\
"""Tasks that need more than their own module, and some of it only when they run."""

import numpy as np
from astra_dagster import Parameters, ap_visit, spectrum_task

import helper_of_mine


class FactorParameters(Parameters):
    factor: float = 1.0


@spectrum_task(requires=ap_visit, parameters=FactorParameters, version="1")
def mine(spectra, parameters):
    """A task that imports what lies beside its module, and what lies beside its package."""
    from another_helper import more

    from own_tasks.inner import less

    helper_of_mine.check()
    return {"n": parameters.factor * less(more(np.ones(len(spectra))))}


doubled = mine.variant("doubled", factor=2.0)
'''

LAUNCH = """mutation ($job: String!, $config: RunConfigData) {
  launchRun(executionParams: {runConfigData: $config, selector: {jobName: $job,
    repositoryLocationName: "astra_dagster.definitions", repositoryName: "__repository__"}}) {
    __typename ... on LaunchRunSuccess { run { id } } ... on PythonError { message } } }"""
BACKFILL = """mutation ($keys: [String!]) {
  launchPartitionBackfill(backfillParams: {assetSelection: [{path: ["mine_doubled"]}], partitionNames: $keys}) {
    __typename ... on PythonError { message } } }"""
RUNS = "{ runsOrError { ... on Runs { results { id status jobName tags { key value } } } } }"

KEYS = [f"DR17/apo25m/120+12/5226/56000/{fibre:03d}" for fibre in (1, 2)]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, synthetic: Path) -> dict[str, str]:
    """Environment of a user with a package of tasks, whose sensor is on."""
    folder = tmp_path_factory.mktemp("own")
    environment = web_ui.places(folder) | {"SAS_BASE_DIR": str(synthetic)}
    here = folder / "here"
    (here / "own_tasks").mkdir(parents=True)
    (here / "own_tasks" / "__init__.py").write_text("")
    (here / "own_tasks" / "first.py").write_text(TASK)
    (here / "own_tasks" / "inner.py").write_text("def less(n):\n    return n / 2\n")
    (here / "helper_of_mine.py").write_text("def check():\n    pass\n")
    (here / "another_helper.py").write_text("def more(n):\n    return n * 2\n")
    watch = '[watch.ap_visit]\nrunning = true\ninterval = 1\nreleases = ["DR17"]\ntasks = ["mine"]\n'
    (here / "astra.toml").write_text(f'packages = ["own_tasks"]\nworkers = "processes:1"\n{watch}')
    Path(environment["DAGSTER_HOME"]).mkdir()
    for words in (["init"], ["discover", "--product", "apVisit", "--release", "DR17"]):
        assert CliRunner().invoke(main, words, env=environment).exit_code == 0
    return {**environment, "ASTRA_CONFIG": str(here / "astra.toml")}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Workers of a Dask cluster that know nothing of the configuration."""
    with dask_cluster(tmp_path_factory.mktemp("elsewhere") / "cluster") as address:
        yield f"dask:{address}"


def outputs(environment: dict[str, str], factor: float) -> list[Path]:
    folder = Path(environment["ASTRA_OUTPUTS"]) / "mine"
    digests = [path.parent for path in folder.glob("*/parameters.json") if f'"factor": {factor}' in path.read_text()]
    return [path for digest in digests for path in digest.rglob("mine-*.json")]


def config_of(factor: float, workers: str = "") -> dict[str, Any]:
    return {
        "ops": {"update_mine_partitions": {"config": {"factor": factor, "where": {"fibre": ["001"]}}}},
        "resources": {"executor": {"config": {"workers": workers}}},
    }


@pytest.mark.slow
@DASK
def test_runs_of_the_web_ui_of_backfills_and_of_sensors(places: dict[str, str], elsewhere: str, tmp_path: Path) -> None:
    """With services that are started in the folder / as systemd does; the daemon last, for it looks twice a minute."""
    launched = {10.0: "in-process", 11.0: "processes:2", 12.0: "elsewhere"}
    with Path(places["ASTRA_CONFIG"]).open("a") as config:  # the address of a scheduler comes from there alone
        config.write(f'[clusters]\nelsewhere = "{elsewhere}"\n')
    with ExitStack() as services:
        address = services.enter_context(web_ui.web_ui(tmp_path, places, cwd=Path("/"), daemon=False))
        for factor, workers in launched.items():
            variables = {"job": "update_mine", "config": config_of(factor, workers)}
            told = web_ui.graphql(address, LAUNCH, variables)["launchRun"]
            assert told["__typename"] == "LaunchRunSuccess", told
        told = web_ui.graphql(address, BACKFILL, {"keys": KEYS})["launchPartitionBackfill"]
        assert told["__typename"] == "LaunchBackfillSuccess", told
        services.enter_context(running_daemon(places, cwd=Path("/")))
        until = time.monotonic() + 2 * web_ui.PATIENCE
        while True:
            runs = web_ui.graphql(address, RUNS)["runsOrError"]["results"]
            states = [run["status"] for run in runs]
            tags = {tag["key"] for run in runs for tag in run["tags"]}
            all_there = len(runs) >= len(launched) + 2 and {"dagster/backfill", "dagster/sensor_name"} <= tags
            if all_there and {"QUEUED", "STARTING", "STARTED", "NOT_STARTED"}.isdisjoint(states):
                break
            assert time.monotonic() < until, runs
            time.sleep(0.3)
    assert set(states) == {"SUCCESS"}, runs
    assert {factor: len(outputs(places, factor)) for factor in launched} == dict.fromkeys(launched, 1)
    assert len(outputs(places, 2.0)) == len(KEYS)
    assert len(outputs(places, 1.0)) == 12
    assert json.loads(outputs(places, 12.0)[0].read_text())["results"]["n"] == 12.0


@pytest.mark.parametrize(
    ("cwd", "workers", "factor"), [("/", "processes:1", 20.0), pytest.param("/usr", "dask:1", 21.0, marks=DASK)]
)
def test_runs_of_dagster_job_execute(
    places: dict[str, str], cwd: str, workers: str, factor: float, tmp_path: Path
) -> None:
    (tmp_path / "run.yaml").write_text(json.dumps(config_of(factor, workers)))
    words = ["job", "execute", "-m", "astra_dagster.definitions", "-j", "update_mine", "-c", tmp_path / "run.yaml"]
    done = subprocess.run(
        [sys.executable, "-m", "dagster", *words], cwd=cwd, env=places, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(outputs(places, factor)) == 1


def test_a_package_in_the_working_directory_of_dagster(places: dict[str, str], tmp_path: Path) -> None:
    """Where Dagster looks while it loads the definitions, and no longer."""
    environment = {**places, "ASTRA_CONFIG": str(tmp_path / "astra.toml")}
    (tmp_path / "astra.toml").write_text('packages = ["own_tasks"]\nworkers = "processes:1"\n')
    words = ["asset", "materialize", "-m", "astra_dagster.definitions", "--select", "mine_doubled"]
    words += ["-d", str(Path(places["ASTRA_CONFIG"]).parent), "--partition", KEYS[0].replace("001", "003")]
    done = subprocess.run(
        [sys.executable, "-m", "dagster", *words], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
