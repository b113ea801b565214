"""The pool of processes: what is lost of it is replaced, nothing outlives the run, and where it can be started."""

import concurrent.futures
import contextlib
import multiprocessing.spawn
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path

import psutil
import pytest

from astra_dagster.errors import ConfigurationError
from astra_dagster.execution import pool
from astra_dagster.execution.pool import Pool, start_fork_server
from astra_dagster.execution.workers import Crew, Workers, spread
from astra_dagster_tests.execution.cluster import DASK
from astra_dagster_tests.processes import mark, processes_of, wait_for_files, wait_until_gone

ITEMS = [[i] for i in range(40)]


def kill_fork_server() -> None:
    os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)  # type: ignore[attr-defined]


def test_a_fork_server_that_is_gone_before_the_first_worker_is_started_again() -> None:
    start_fork_server()
    kill_fork_server()
    rest = iter(ITEMS[:2])
    assert len(list(spread(Workers("processes", 1), sum, lambda _: next(rest, [])))) == 2


@pytest.mark.parametrize("moment", [0, 1, 3, 20])
def test_a_fork_server_that_is_lost_costs_nothing_but_time(moment: int) -> None:
    """With the first chunk, while workers are started, and when all are there."""

    def chunks() -> Iterator[list[int]]:
        for i, chunk in enumerate(ITEMS):
            if i == moment:
                kill_fork_server()
            yield chunk

    rest = chunks()
    done = list(spread(Workers("processes", 3), sum, lambda _: next(rest, [])))
    assert sorted(done) == [(chunk, chunk[0]) for chunk in ITEMS]


class Terminated:
    """A result that sends SIGTERM to the worker that pickles it."""

    def __reduce__(self) -> str:
        os.kill(os.getpid(), signal.SIGTERM)
        return "Terminated"


def test_a_worker_that_is_ended_between_two_calls_gives_no_result() -> None:
    """The standard pool would return the SystemExit of a signal's handler as if the call had raised it."""
    opened = Pool(1)
    with pytest.raises(concurrent.futures.process.BrokenProcessPool):
        opened.submit(Terminated).result(60)
    assert opened.close() == "exit code 1"


def test_a_chunk_that_is_handed_over_while_the_pool_breaks_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The standard pool ends all calls when it breaks, and then takes one that was on its way; that never ends."""
    pools: list[Pool] = []

    class Keep(Pool):
        def __init__(self, number: int) -> None:
            super().__init__(number)
            pools.append(self)

    class Late(concurrent.futures.Future[int]):
        """Made by the standard pool after it has looked whether it is broken, and before it keeps the call."""

        def __init__(self) -> None:
            super().__init__()
            if len(pools) == 1 and (processes := list(pools[0]._processes.values())):
                pools.append(pools[0])
                processes[0].kill()
                while not pools[0]._broken:
                    time.sleep(0.01)
                time.sleep(0.2)  # in which the calls that it knows are ended

    monkeypatch.setattr(pool, "Pool", Keep)
    monkeypatch.setattr("concurrent.futures._base.Future", Late)
    rest = iter(ITEMS[:5])
    done = list(spread(Workers("processes", 1), sum, lambda _: next(rest, [])))
    assert sorted(done) == [(chunk, chunk[0]) for chunk in ITEMS[:5]]
    assert len(pools) == 3  # the first, twice, and another


def test_calls_of_a_pool_that_is_closed_end_even_if_the_standard_pool_has_forgotten_them() -> None:
    opened = Pool(1)
    future = opened.submit(time.sleep, 60)
    opened._pending_work_items.clear()
    opened.close()
    with pytest.raises(concurrent.futures.process.BrokenProcessPool):
        future.result(10)


def test_a_pool_that_cannot_be_started_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "TRIES", 3)
    start_fork_server()
    kill_fork_server()
    multiprocessing.spawn.set_executable("/bin/false")
    try:
        with pytest.raises(ConfigurationError, match=r"no worker process can be started: \w+Error: "):
            list(spread(Workers("processes", 1), sum, lambda _: [1]))
    finally:
        multiprocessing.spawn.set_executable(sys.executable)


def started(workers: str, folder: Path, items: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "astra_dagster_tests.execution.busy", workers, str(folder), *items]
    return subprocess.Popen(words, env={**os.environ, **environment}, start_new_session=True, stdout=-1, text=True)


@pytest.mark.parametrize("workers", ["processes:3", pytest.param("dask:3", marks=DASK)])
def test_workers_end_with_a_run_that_is_killed(workers: str, tmp_path: Path) -> None:
    environment = mark()
    with started(workers, tmp_path, ["waiting", "stubborn", "deep"], environment) as run:
        wait_for_files(tmp_path, 3)
        assert len(processes_of(environment)) >= 5  # itself, the fork server, the workers
        run.kill()
    assert wait_until_gone(environment, 10.0) == []


def test_workers_remove_what_is_half_written(tmp_path: Path) -> None:
    """Undisturbed by a second signal: the fork server sends it a second later."""
    environment = mark()
    with started("processes:1", tmp_path, ["tidy"], environment) as run:
        wait_for_files(tmp_path, 1)
        run.kill()
    assert wait_until_gone(environment, 10.0) == []
    assert (tmp_path / "tidied").exists()


def test_workers_end_with_a_run_and_a_fork_server_that_are_killed(tmp_path: Path) -> None:
    environment = mark()
    with started("processes:2", tmp_path, ["waiting", "stubborn"], environment) as run:
        wait_for_files(tmp_path, 2)
        for process in processes_of(environment):
            if process.ppid() == run.pid:
                process.kill()
        run.kill()
    assert wait_until_gone(environment, 10.0) == []


def test_what_a_terminal_sends_is_the_business_of_the_run_alone(tmp_path: Path) -> None:
    """To its group, from its first instant to its last; and what a session that ends sends to each of its processes."""
    environment = mark()
    with started("processes:2", tmp_path, ["short"] * 40, environment) as run:
        number = 0
        while run.poll() is None:
            if len(processes_of(environment)) > 1:  # it can take them itself
                number += 1
                for sent in (signal.SIGINT, signal.SIGHUP):
                    os.killpg(run.pid, sent)
                    for process in processes_of(environment) if list(tmp_path.iterdir()) else ():
                        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
                            process.send_signal(sent)
            time.sleep(0.02)
        told = run.communicate()[0]
    assert len(list(tmp_path.iterdir())) == 40
    assert number > 5
    assert told == "2\n"  # no worker was lost and replaced
    assert run.returncode == 0


@pytest.mark.parametrize("workers", ["processes:1", pytest.param("dask:1", marks=DASK)])
def test_a_long_temporary_folder(workers: str, tmp_path: Path) -> None:
    long = tmp_path / ("a" * 60) / ("b" * 60)
    long.mkdir(parents=True)
    (tmp_path / "begun").mkdir()
    with started(workers, tmp_path / "begun", ["short"] * 3, {"TMPDIR": str(long)}) as run:
        assert run.communicate()[0] == "1\n"


def test_processes_that_have_nothing_to_do_end_by_themselves(capfd: pytest.CaptureFixture[str]) -> None:
    """None is ended while it takes work: what it leaves of that would confuse another."""
    pool = Pool(2)
    futures = [pool.submit(abs, -number) for number in range(50)]
    assert [future.result() for future in futures] == list(range(50))
    pool.stop()
    assert pool.close() == "exit code 0"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("in-process", Workers("in-process", 1)),
        ("processes", Workers("processes")),
        ("processes:3", Workers("processes", 3)),
        ("dask", Workers("dask")),
        ("dask:2", Workers("dask", 2)),
        ("dask:tcp://10.0.0.1:8786", Workers("dask", None, "tcp://10.0.0.1:8786")),
    ],
)
def test_forms(text: str, parsed: Workers) -> None:
    assert Workers.parse(text) == parsed
    assert str(parsed) == text


@pytest.mark.parametrize(
    "text", ["", "threads", "processes:0", "processes:-1", "processes:two", "in-process:2", "dask:x"]
)
def test_what_is_no_form(text: str) -> None:
    with pytest.raises(ConfigurationError, match="expected in-process, processes"):
        Workers.parse(text)


def test_a_crew_stays_for_other_chunks_unless_it_is_stopped() -> None:
    """The processes are the same, and new ones are started after a stop, an error, and the death of one."""

    def pids() -> set[object]:
        rest = iter([[1], [2], [3]])
        return {made for _, made in spread(crew, get_pid, lambda _: next(rest, []))}

    with Crew(Workers("processes", 1)) as crew:
        first = pids()
        assert len(first) == 1
        assert pids() == first
        stops = iter([False, True])
        list(spread(crew, sleep, lambda _: [0.3], lambda: next(stops, True)))  # one is done, others are under way
        second = pids()
        assert len(second) == 1
        assert second != first
        left = spread(crew, get_pid, lambda _: [1])
        next(left)
        left.close()
        third = pids()
        assert third != second
        os.kill(int(str(*third)), signal.SIGKILL)
        assert pids() != third


def sleep(seconds: list[float]) -> None:
    time.sleep(sum(seconds))


def get_pid(_: list[int]) -> int:
    """Number of the process that this is called in."""
    return os.getpid()
