"""Many files at a time from the archive, stopping, and being killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from astra_dagster.archive.partial import Partial
from astra_dagster.archive.sas import Archive, Fetched
from astra_dagster.errors import NotOnSASError
from astra_dagster_tests.archive import server as servers
from astra_dagster_tests.archive.faults import (
    BYTES,
    FOLDER,
    ONE,
    PATH,
    assert_arrived,
    everything,
    fetch_one,
    remote,
    visit,
)
from astra_dagster_tests.archive.found import find_files
from astra_dagster_tests.archive.server import File, Server


def test_one_failure_costs_itself_only(server: Server, archive: Archive) -> None:
    wanted = [visit(n) for n in range(1, 21)]
    for data_id in wanted[:-2]:
        server.files[remote(data_id)] = File(data_id.key.encode() * 100)
    server.scripts[remote(wanted[3])].extend([servers.status(503)] * 3)
    server.scripts[remote(wanted[4])].append(servers.status(401))
    results = {result.data_id: result for result in archive.fetch(wanted + wanted)}
    assert len(results) == 20
    for data_id in wanted:
        error = results[data_id].error
        if data_id in (wanted[3], wanted[4], *wanted[-2:]):
            assert error is not None
            assert error.key == data_id.key
        else:
            assert results[data_id].path is not None
            assert archive.path(data_id).read_bytes() == data_id.key.encode() * 100
    assert isinstance(results[wanted[-1]].error, NotOnSASError)
    assert len(everything(archive)) == 16


@pytest.mark.parametrize("workers", [1, 3])
def test_no_more_requests_at_a_time_than_allowed(server: Server, archive: Archive, workers: int) -> None:
    wanted = [visit(n) for n in range(1, 25)]
    together = threading.Barrier(workers)

    def slow(handler: servers.Handler, file: File | None) -> None:
        if file is not None:
            together.wait(20)  # breaks unless as many as allowed come at a time
        servers.good(handler, file)

    for data_id in wanted:
        server.files[remote(data_id)] = File(data_id.key.encode())
    server.otherwise = slow
    assert all(result.error is None for result in archive.fetch(wanted, workers))
    assert max(each.at_once for each in server.requests) == workers


def test_results_come_as_they_come_and_stopping_stops(server: Server, archive: Archive) -> None:
    wait = threading.Event()
    server.scripts[PATH].append(servers.broken_off(1000, wait=wait))
    wanted = [visit(n) for n in range(1, 41)]
    for data_id in wanted[1:]:
        server.files[remote(data_id)] = File(b"x")
    results = archive.fetch(wanted, workers=2)
    assert server.requests == []
    assert next(results).data_id != ONE
    results.close()
    wait.set()
    asked = len({each.path for each in server.requests} - {FOLDER})
    assert asked < 10
    assert not archive.exists(ONE)


def test_stopping_ends_waits(server: Server, archive: Archive) -> None:
    server.scripts[PATH].append(servers.status(503, Retry_After="250"))
    server.files[remote(visit(2))] = File(b"x")
    results = archive.fetch([ONE, visit(2)], workers=2)
    assert next(results).data_id == visit(2)
    until(lambda: len(server.asked(PATH)) == 1)
    before = {thread for thread in threading.enumerate() if thread.name == "astra-fetch"}
    assert len(before) == 2
    results.close()
    until(lambda: not any(thread.is_alive() for thread in before))
    assert len(server.asked(PATH)) == 1


def test_one_thread_keeps_its_connection(server: Server, archive: Archive) -> None:
    connections: set[object] = set()

    def note(handler: servers.Handler, file: File | None) -> None:
        connections.add(handler.client_address)
        servers.good(handler, file)

    server.otherwise = note
    wanted = [visit(n) for n in range(1, 11)]
    for data_id in wanted:
        server.files[remote(data_id)] = File(b"x" * 100_000)
    assert all(result.error is None for result in archive.fetch(wanted, workers=1))
    assert len(connections) == 1


def test_the_same_file_twice_at_a_time_comes_once(server: Server, archive: Archive) -> None:
    """Two runs that want the same file: the second waits for the first, and finds it there."""
    wait = threading.Event()

    def slow(handler: servers.Handler, file: File | None) -> None:
        handler.answer(200, File(BYTES).headers, BYTES[:1000], len(BYTES))
        wait.wait(20)
        handler.wfile.write(BYTES[1000:])

    server.scripts[PATH].append(slow)
    results: list[Fetched] = []
    threads = [threading.Thread(target=lambda: results.append(fetch_one(archive))) for _ in range(2)]
    threads[0].start()
    until(lambda: Partial(ONE.path(archive.root)).path.exists())
    threads[1].start()
    time.sleep(0.2)
    wait.set()
    for thread in threads:
        thread.join(20)
    assert sorted(result.received for result in results) == [0, len(BYTES)]
    assert len(server.asked(PATH)) == 1
    assert archive.path(ONE).read_bytes() == BYTES
    assert len(everything(archive)) == 1


CHILD = """
import sys
from pathlib import Path
from astra_dagster import product
from astra_dagster.archive.sas import Archive
for result in Archive(Path(sys.argv[1]), sys.argv[2]).fetch([product("apVisit").parse_key(sys.argv[3])]):
    print(result.received, result.error)
"""


def until(true: Callable[[], bool]) -> None:
    for _ in range(3000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it never happened")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_in_the_middle_and_fetched_again(server: Server, archive: Archive, number: int) -> None:
    """SIGINT is what Ctrl-C sends: the process must not wait for a server that says nothing."""
    wait = threading.Event()
    server.scripts[PATH].append(servers.broken_off(100_000, wait=wait))
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(archive.root), server.url, ONE.key],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    partial = Partial(ONE.path(archive.root)).path
    until(lambda: partial.exists() and partial.stat().st_size == 100_000)
    os.kill(child.pid, number)
    child.communicate(timeout=30)  # less than the time-out of the transfer
    assert child.returncode != 0
    wait.set()
    assert not archive.exists(ONE)
    assert find_files(ONE.product, "DR17", archive.root) == ([], [])

    result = fetch_one(archive)
    assert_arrived(archive, result)
    assert result.received == 200_000
    assert server.asked(PATH)[-1].headers["Range"] == "bytes=100000-"
