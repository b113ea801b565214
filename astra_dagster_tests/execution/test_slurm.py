"""Workers in jobs of Slurm: as many as the work needs, and whatever becomes of a job or a node, all is done."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from astra_dagster.demo import write_mirror
from astra_dagster.errors import ConfigurationError
from astra_dagster.execution import dask
from astra_dagster.execution.workers import Crew, Workers, spread
from astra_dagster.resources import Resources
from astra_dagster_tests.execution.cluster import DASK
from astra_dagster_tests.execution.slurm import SLURM, Slurm, start_slurm
from astra_dagster_tests.execution.work import taking
from astra_dagster_tests.processes import wait_for_files

pytestmark = [DASK, SLURM]


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    with start_slurm() as started:
        yield started


@contextmanager
def used_here(slurm: Slurm, monkeypatch: pytest.MonkeyPatch, folder: Path, **job: object) -> Iterator[None]:
    """Have this process use the cluster, from a folder."""
    import dask as dask_itself
    import dask_jobqueue  # noqa: F401 (its configuration)

    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, slurm.environment[name])
    monkeypatch.chdir(folder)
    job = {"cores": 1, "memory": "1GB", "interface": "lo", **job}
    with dask_itself.config.set({f"jobqueue.slurm.{name}": value for name, value in job.items()}):
        yield


def start(slurm: Slurm, folder: Path, workers: str, *items: str) -> "subprocess.Popen[str]":
    """Start a program that does these items with workers; it prints how many processes did them."""
    words = [sys.executable, "-m", "astra_dagster_tests.execution.busy", workers, str(folder), *items]
    return subprocess.Popen(words, env=slurm.environment, cwd=slurm.folder, stdout=-1, text=True)


def test_jobs_come_with_the_work_and_go_with_the_run(slurm: Slurm, tmp_path: Path) -> None:
    before = set(slurm.jobs())
    with start(slurm, tmp_path, "slurm:3", "short") as run:
        assert run.communicate()[0] == "1\n"
    assert len(set(slurm.jobs()) - before) == 1
    slurm.wait_for_jobs("running,pending", 0)
    with start(slurm, tmp_path, "slurm:3", *["held"] * 12) as run:
        wait_for_files(tmp_path, 3)
        (tmp_path / "go").touch()
        assert run.communicate()[0] == "3\n"
    assert len(set(slurm.jobs()) - before) == 4
    slurm.wait_for_jobs("running,pending", 0)


def test_a_job_that_is_cancelled_costs_a_second_try(slurm: Slurm, tmp_path: Path) -> None:
    with start(slurm, tmp_path, "slurm:2", *["held"] * 12) as run:
        wait_for_files(tmp_path, 2)
        slurm.ask("scancel", slurm.wait_for_jobs("running", 2)[0])
        wait_for_files(tmp_path, 3)
        slurm.wait_for_jobs("running", 2)
        (tmp_path / "go").touch()
        assert int(run.communicate()[0]) >= 2
    assert run.returncode == 0
    assert len(list(tmp_path.iterdir())) >= 13


def test_a_node_that_goes_down_costs_a_second_try(slurm: Slurm, tmp_path: Path) -> None:
    with start(slurm, tmp_path, "slurm:3", *["held"] * 12) as run:  # more jobs than a node has memory for
        wait_for_files(tmp_path, 3)
        slurm.wait_for_jobs("running", 3)
        slurm.fail("n2")
        (tmp_path / "go").touch()
        run.communicate()
    assert run.returncode == 0
    assert len(list(tmp_path.iterdir())) >= 13


def test_a_run_on_slurm_makes_what_any_other_makes(slurm: Slurm, tmp_path: Path) -> None:
    environment = {
        **slurm.environment,
        "SAS_BASE_DIR": str(tmp_path / "sas"),
        "DAGSTER_HOME": str(tmp_path / "home"),
    }

    def astra(*words: str, outputs: str = "outputs") -> str:
        command = [sys.executable, "-c", "from astra_dagster.cli import main; main()", *words]
        given = {**environment, "ASTRA_OUTPUTS": str(tmp_path / outputs)}
        return subprocess.run(command, cwd=tmp_path, env=given, check=True, capture_output=True, text=True).stdout

    write_mirror(tmp_path / "sas")
    astra("init")
    astra("discover", "--product", "apVisit", "--release", "DR17")
    assert "12 computed" in astra("run", "ap_visit_continuum", "--workers", "slurm:2")
    assert "12 complete, 0 to do" in astra("plan", "ap_visit_continuum")
    assert "12 computed" in astra("run", "ap_visit_continuum", "--workers", "in-process", outputs="others")
    made = {path.relative_to(tmp_path / "outputs"): path for path in (tmp_path / "outputs").rglob("*.fits")}
    assert len(made) == 12
    assert all((tmp_path / "others" / name).read_bytes() == path.read_bytes() for name, path in made.items())
    slurm.wait_for_jobs("running,pending", 0)


def test_jobs_end_when_the_run_is_killed(slurm: Slurm, tmp_path: Path) -> None:
    with start(slurm, tmp_path, "slurm:1", *["slow"] * 40) as run:
        wait_for_files(tmp_path, 2)
        run.send_signal(signal.SIGKILL)
    slurm.wait_for_jobs("running,pending", 0)


def describe_own_job(_: object) -> str:
    """What Slurm says of the job that this is called in."""
    words = ["scontrol", "show", "job", os.environ["SLURM_JOB_ID"]]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def test_a_job_has_what_the_task_needs(slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = Resources(memory=900_000_000, walltime=5400, gpus=1)
    with used_here(slurm, monkeypatch, tmp_path, memory="500MB"), Crew(Workers.parse("slurm:1"), needed) as crew:
        ((_, told),) = spread(crew, describe_own_job, taking([[1]]))
    assert isinstance(told, str)
    assert "TimeLimit=01:30:00" in told
    assert "TresPerNode=gres/gpu:1" in told or "TresPerNode=gres:gpu:1" in told
    assert "NodeList=n1\n" in told
    assert int(re.search(r"MinMemoryNode=(\d+)M", told)[1]) in range(858, 901)  # type: ignore[index]


@pytest.mark.parametrize(("name", "value"), [("QUEUE", "nowhere"), ("CORES", "null"), ("MEMORY", "null")])
def test_a_job_that_slurm_or_dask_refuses_says_why(slurm: Slurm, tmp_path: Path, name: str, value: str) -> None:
    code = "from astra_dagster.execution.workers import *; list(spread(Workers.parse('slurm:2'), len, lambda _: [1]))"
    environment = {**slurm.environment, f"DASK_JOBQUEUE__SLURM__{name}": value}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    said = done.stderr.partition("ConfigurationError: no job of Slurm can be started: ")[2]
    assert {"QUEUE": "invalid partition", "CORES": "nothing of cores", "MEMORY": "nothing of memory"}[name] in said
    assert slurm.jobs("running,pending") == []


def test_a_run_whose_jobs_wait_says_so(
    slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dask, "LONG", 0.5)
    until = time.monotonic() + 60

    def told() -> int:
        messages = [record.message for record in caplog.records if record.name == "astra_dagster.execution.dask"]
        return sum("no job of Slurm works yet" in message for message in messages)

    with used_here(slurm, monkeypatch, tmp_path, **{"job-extra-directives": ["--hold"]}):
        made = spread(Workers.parse("slurm:1"), len, taking([[1]]), lambda: bool(told()) or time.monotonic() > until)
        assert list(made) == []
    assert told() == 1
    slurm.wait_for_jobs("running,pending", 0)


def test_where_there_is_no_slurm_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import dask as dask_itself
    import dask_jobqueue  # noqa: F401 (its configuration)

    monkeypatch.setenv("PATH", str(tmp_path))
    configured = dask_itself.config.set({"jobqueue.slurm.cores": 1, "jobqueue.slurm.memory": "1GB"})
    with configured, pytest.raises(ConfigurationError, match=r"no job of Slurm can be started: .*No such file.*sbatch"):
        list(spread(Workers.parse("slurm:1"), len, lambda _: [1]))
