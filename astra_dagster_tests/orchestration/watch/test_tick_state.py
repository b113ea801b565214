"""The state that ticks keep: damaged, thrown away, locked, or left by a tick that was killed at any step."""

import contextlib
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.dagster_run import DagsterRun
from dagster._core.storage.tags import RUN_KEY_TAG, SENSOR_NAME_TAG

from astra_dagster.errors import OutputError
from astra_dagster.orchestration.partitions import register
from astra_dagster.orchestration.watch import tick as arrivals
from astra_dagster.orchestration.watch.tick import Tick, sensor_name, state_path, tick
from astra_dagster_tests.orchestration.watch.arrivals import (
    FOLDER,
    KEY,
    NAME,
    SEEN,
    Daemon,
    put,
    recorded,
)


def test_a_state_thrown_away_costs_a_look_and_nothing_else(daemon: Daemon, mirror: Path, whole: bytes) -> None:
    daemon()
    path = put(mirror / FOLDER / NAME.format(50), whole)
    request = daemon.tick().requests[0]
    tags = {RUN_KEY_TAG: request.run_key, SENSOR_NAME_TAG: sensor_name(SEEN)}
    started = DagsterRun(job_name="analyse_ap_visit", tags=tags, status=dg.DagsterRunStatus.STARTED)
    daemon.instance.add_run(started)
    state_path(SEEN).write_bytes(b"damaged " * 1000)
    made = daemon.tick()
    assert made.requests == []
    assert "waiting for 1 runs" in str(made)
    put(path.with_name(NAME.format(51)), whole)
    assert daemon.tick().requests == []
    daemon.instance.delete_run(started.run_id)  # it is over, and did nothing
    made, success = daemon()
    assert (made.new, success) == (2, [True])
    assert daemon.tick().requests == []


def test_damage_found_in_a_tick_throws_the_state_away(daemon: Daemon) -> None:
    daemon.accept(daemon.tick().requests)
    path = state_path(SEEN)
    with contextlib.closing(sqlite3.connect(path)) as database:
        (page,) = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'folders'").fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as stream:
        stream.seek((page - 1) * size)
        stream.write(b"damage" * 600)
    with pytest.raises(OutputError, match="was damaged"):
        daemon.tick()
    assert daemon.tick().again == 18


def test_two_ticks_at_a_time_do_not_mix(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    inner: list[Tick] = []

    def meanwhile(*args: object, **named: object) -> None:
        inner.append(tick(daemon.instance, SEEN))
        register(*args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(arrivals, "register", meanwhile)
    assert len(daemon.tick().requests) == 1
    assert [str(made) for made in inner] == ["another tick is still at work"]


STEPS = {
    "in the look": ("watching._keep", 2, "after"),
    "after the look": ("arrivals.look_at", 1, "after"),
    "gone recorded, not yet forgotten": ("records.write_gone", 1, "after"),
    "decided, not registered": ("arrivals.register", 1, "before"),
    "registered, not requested": ("arrivals.register", 1, "after"),
    "requests made, not remembered": ("arrivals.requests_for", 1, "after"),
    "one of two requests remembered": ("Watch.add_request", 2, "before"),
    "requests remembered, not told": ("Watch.open_requests", 2, "before"),
    "told, not heard": ("Watch.open_requests", 3, "before"),
    "requests confirmed": ("Watch.forget_request", 1, "before"),
}

KILLED = """
import os, signal, sys, time
import dagster as dg
from astra_dagster import product
from astra_dagster.archive import watching
from astra_dagster.archive.watch_state import Watch
from astra_dagster.orchestration import records, sources
from astra_dagster.orchestration.watch import tick as arrivals
from astra_dagster.orchestration.watch.settings import Watched

name, times, when = sys.argv[1], int(sys.argv[2]), sys.argv[3]
module, function = name.split(".")
place = {"watching": watching, "arrivals": arrivals, "records": records, "Watch": Watch}[module]
real, calls = getattr(place, function), []

def dying(*args, **named):
    calls.append(1)
    if when == "before" and len(calls) == times:
        os.kill(os.getpid(), signal.SIGKILL)
    result = real(*args, **named)
    if when == "after" and len(calls) == times:
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(place, function, dying)
with dg.DagsterInstance.get() as instance:
    for ahead in (100, 200):
        arrivals.tick(instance, Watched(product("apVisit"), partitions=3), lambda: time.time() + ahead)
"""


@pytest.mark.parametrize("step", STEPS)
def test_a_tick_that_is_killed_loses_nothing_and_asks_for_nothing_twice(
    daemon: Daemon, mirror: Path, whole: bytes, step: str
) -> None:
    daemon.pretend()
    daemon.seen = replace(SEEN, partitions=3)
    daemon.requested.clear()
    if step == "requests confirmed":
        put(mirror / FOLDER / NAME.format(49), whole)
        daemon.pretend()
    for number in (50, 51, 52, 53):
        put(mirror / FOLDER / NAME.format(number), whole)
    put(mirror / FOLDER / NAME.format(1), whole)
    (mirror / FOLDER / NAME.format(2)).unlink()
    name, times, when = STEPS[step]
    killed = subprocess.run([sys.executable, "-c", KILLED, name, str(times), when], check=False, capture_output=True)
    assert killed.returncode == -9, killed.stderr
    daemon.ahead = 300.0
    for _ in range(4):
        daemon.pretend()
    asked = sorted(daemon.requested)
    assert asked == sorted(set(asked)), "requested twice"
    new = (49, 50, 51, 52, 53) if step == "requests confirmed" else (50, 51, 52, 53)
    assert asked == [KEY.format(number) for number in (1, *new)]
    assert {KEY.format(number) for number in new} <= recorded(daemon.instance)
    seen = daemon.instance.fetch_observations(dg.AssetKey("ap_visit"), limit=10).records
    assert {record.partition_key for record in seen} == {KEY.format(2)}
