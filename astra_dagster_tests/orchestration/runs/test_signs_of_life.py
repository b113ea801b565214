"""Runs whose process is gone: they are told from others, declared dead, and hold up nothing."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner

from astra_dagster import product
from astra_dagster.cli import main
from astra_dagster.cli.init import DAGSTER_YAML
from astra_dagster.orchestration.runs import signs_of_life
from astra_dagster.orchestration.runs.signs_of_life import Life, check_life, declare_dead
from astra_dagster.orchestration.watch.settings import watched
from astra_dagster.orchestration.watch.tick import tick
from astra_dagster_tests.documented import end
from astra_dagster_tests.orchestration.daemon import running_daemon, wait_for

VISITS = product("apVisit")
STARTED, FAILURE = dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE
SLOW = ["deadly", "--set", "seconds=1"]
Start = Callable[[], tuple[subprocess.Popen[bytes], str]]


@pytest.fixture
def home(instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """An instance as `astra-dagster init` makes it, whose files are found and whose task takes its time."""
    (tmp_path / "home" / "dagster.yaml").write_text(DAGSTER_YAML.replace("seconds: 15", "seconds: 2"))
    (tmp_path / "astra.toml").write_text(
        'packages = ["astra_dagster_tests.execution.deadly"]\nworkers = "processes:1"\n'
    )
    monkeypatch.setenv("ASTRA_CONFIG", str(tmp_path / "astra.toml"))
    assert CliRunner().invoke(main, ["discover", "--product", "apVisit"]).exit_code == 0
    with dg.DagsterInstance.get() as made:
        yield made


@pytest.fixture
def start(home: dg.DagsterInstance, tmp_path: Path) -> Iterator[Start]:
    """A run from the command line that has begun to make outputs: its process, and its id."""
    begun = []

    def go() -> tuple[subprocess.Popen[bytes], str]:
        before = {run.run_id for run in home.get_runs()}
        command = [sys.executable, "-m", "astra_dagster", "run", *SLOW, "--overwrite"]
        said = tmp_path / "said.txt"
        with said.open("w") as stream:
            begun.append(subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True))
        outputs, since = Path(os.environ["ASTRA_OUTPUTS"]), time.time()
        while True:
            assert begun[-1].poll() is None, said.read_text()
            mine = [run for run in home.get_runs() if run.run_id not in before and run.status == STARTED]
            if mine and any(path.stat().st_mtime > since for path in outputs.rglob("deadly-*.json")):
                break
            time.sleep(0.05)
        return begun[-1], mine[0].run_id

    yield go
    for process in begun:
        end(process)


def status(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def last_words(instance: dg.DagsterInstance, run_id: str) -> str:
    """Message of the event that says that a run has failed."""
    events = instance.all_logs(run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    return str(events[-1].get_dagster_event().message)


def launch(instance: dg.DagsterInstance, programs: Path) -> str:
    """Put a run into the queue."""
    config = {"ops": {"update_deadly_partitions": {"config": {"seconds": 3.0, "overwrite": True}}}}
    command = ["job", "launch", "-m", "astra_dagster.definitions", "-j", "update_deadly"]
    before = {run.run_id for run in instance.get_runs()}
    subprocess.run(
        [programs / "dagster", *command, "--config-json", json.dumps(config)],
        check=True,
        capture_output=True,
    )
    (run_id,) = {run.run_id for run in instance.get_runs()} - before
    return run_id


def test_a_run_that_is_killed_is_declared_dead_by_the_next_run(home: dg.DagsterInstance, start: Start) -> None:
    process, run_id = start()
    assert check_life(home, run_id) == (Life.ALIVE, f"process {process.pid} on {socket.gethostname()}")
    assert declare_dead(home) == []
    process.kill()
    process.wait()
    assert check_life(home, run_id)[0] is Life.DEAD
    assert status(home, run_id) == STARTED
    assert CliRunner().invoke(main, ["run", "deadly"]).exit_code == 0
    assert status(home, run_id) == FAILURE
    assert f"process {process.pid} on {socket.gethostname()}" in last_words(home, run_id)
    assert declare_dead(home) == []
    assert not list(Path(home.root_directory, "astra_runs").glob(f"{run_id}*"))


def test_a_run_that_was_to_be_canceled_ends_as_canceled(home: dg.DagsterInstance, start: Start) -> None:
    process, run_id = start()
    run = home.get_run_by_id(run_id)
    assert run is not None
    home.report_run_canceling(run)
    process.kill()
    process.wait()
    tick(home, watched(VISITS))  # the tick of a sensor declares dead as well
    assert status(home, run_id) == dg.DagsterRunStatus.CANCELED


def test_a_terminal_that_is_closed_is_an_interrupt_like_the_others(
    home: dg.DagsterInstance, start: Start, tmp_path: Path
) -> None:
    process, run_id = start()
    os.killpg(process.pid, signal.SIGHUP)  # as the system does: to all that run in the terminal
    assert process.wait(60) == 130
    assert "stopped; what is done is recorded" in (tmp_path / "said.txt").read_text()
    assert status(home, run_id) in (FAILURE, dg.DagsterRunStatus.CANCELED)
    done = len(list(Path(os.environ["ASTRA_OUTPUTS"]).rglob("deadly-*.json")))
    assert 0 < done < 18
    plan = CliRunner().invoke(main, ["plan", *SLOW]).output
    assert f"{18 - done} to do" in plan
    assert not plan.startswith("deadly: 18 partitions\n0 complete")


def test_a_process_on_another_host_is_dead_when_it_has_been_silent_for_long(home: dg.DagsterInstance) -> None:
    def write(run_id: str, host: str, seconds_ago: float, lock: str | None) -> None:
        sign = {"host": host, "pid": 12, "lock": lock, "time": time.time() - seconds_ago}
        home.run_storage.set_cursor_values({f"astra/alive/{run_id}": json.dumps(sign)})

    write("fresh", "elsewhere", 60, "/lock")
    write("silent", "elsewhere", signs_of_life.SILENCE + 60, "/lock")
    write("without lock", socket.gethostname(), 60, None)
    write("lock that is not here", socket.gethostname(), 60, "/no/such/lock")
    assert check_life(home, "fresh")[0] is Life.ALIVE
    assert check_life(home, "silent")[0] is Life.DEAD
    assert check_life(home, "without lock")[0] is Life.ALIVE
    assert check_life(home, "lock that is not here")[0] is Life.ALIVE
    assert check_life(home, "unheard of")[0] is Life.UNKNOWN


def test_the_sign_is_renewed_until_the_run_has_ended(home: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signs_of_life, "BEAT", 0.05)
    home.add_run(dg.DagsterRun(job_name="job", run_id="mine", status=STARTED))
    signs_of_life.show_life(home, "mine")
    lock = Path(home.root_directory, "astra_runs", "mine.lock")

    def written() -> str:
        return home.run_storage.get_cursor_values({"astra/alive/mine"})["astra/alive/mine"]

    first, until = written(), time.monotonic() + 30
    while written() == first:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert check_life(home, "mine")[0] is Life.ALIVE
    run = home.get_run_by_id("mine")
    assert run is not None
    home.report_run_failed(run)
    while lock.exists():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.slow
def test_dead_runs_hold_up_no_queue(home: dg.DagsterInstance, start: Start, programs: Path) -> None:
    """As many as may run at a time are killed; what is launched then runs, and dies with daemon and code server."""
    begun = [start(), start()]
    for process, _ in begun:
        process.kill()
        process.wait()
    dead = [run_id for _, run_id in begun]
    assert [status(home, run_id) for run_id in dead] == [STARTED, STARTED]
    with running_daemon() as daemon:
        launched = launch(home, programs)
        wait_for(lambda: status(home, launched) == STARTED)
        assert [status(home, run_id) for run_id in dead] == [FAILURE, FAILURE]
        assert "is gone" in last_words(home, dead[0])
        os.killpg(daemon.pid, signal.SIGKILL)  # the power is cut: daemon, code server, run, and its workers
    wait_for(lambda: check_life(home, launched)[0] is Life.DEAD, 20)
    assert status(home, launched) == STARTED
    with running_daemon():
        wait_for(lambda: status(home, launched) == FAILURE, 60)
