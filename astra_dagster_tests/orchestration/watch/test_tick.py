"""Ticks on a real instance: everything is requested once, whatever happens in between."""

import contextlib
import gzip
import os
import re
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.dagster_run import DagsterRun
from dagster._core.storage.tags import RUN_KEY_TAG, SENSOR_NAME_TAG
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from astra_dagster import product
from astra_dagster.archive.discovery import find_files
from astra_dagster.archive.watch_state import LONGEST_WAIT, Watch
from astra_dagster.archive.watching import COARSE, RECENT
from astra_dagster.definitions import defs
from astra_dagster.errors import ConfigurationError, OutputError
from astra_dagster.fits.truncation import is_cut_short
from astra_dagster.orchestration import records, sources
from astra_dagster.orchestration.discover import discover_job
from astra_dagster.orchestration.partitions import register, registered
from astra_dagster.orchestration.watch import tick as ticking
from astra_dagster.orchestration.watch.requests import Request, named, stretches
from astra_dagster.orchestration.watch.sensors import run_request
from astra_dagster.orchestration.watch.settings import Watched, watched
from astra_dagster.orchestration.watch.tick import Tick, sensor_name, state_path, tick

VISITS = product("apVisit")
SEEN = Watched(VISITS)
FOLDER = "dr17/apogee/spectro/redux/dr17/visit/apo25m/120+12/5226/56000"
NAME = "apVisit-dr17-5226-56000-{:03}.fits"
KEY = "DR17/apo25m/120+12/5226/56000/{:03}"


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
            defs.resolve_job_def(str(asked.job_name))
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


@pytest.fixture
def daemon(instance: dg.DagsterInstance) -> Daemon:
    return Daemon(instance)


def put(path: Path, contents: bytes, age: float = 3600.0) -> Path:
    """Put a file into its place as it should be done: under another name first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}")
    new.write_bytes(contents)
    then = time.time() - age
    os.utime(new, (then, then))
    return new.rename(path)


@pytest.fixture
def whole(synthetic: Path) -> bytes:
    """Contents of an apVisit file."""
    return (synthetic / FOLDER / NAME.format(1)).read_bytes()


def recorded(instance: dg.DagsterInstance, asset: str = "ap_visit") -> set[str]:
    return set(instance.get_materialized_partitions(dg.AssetKey(asset)))


def outputs() -> dict[Path, int]:
    root = Path(os.environ["ASTRA_OUTPUTS"])
    return {path: path.stat().st_mtime_ns for path in root.rglob("*.json") if path.name != "parameters.json"}


def test_everything_that_is_there_is_registered_recorded_and_analysed(daemon: Daemon, mirror: Path) -> None:
    made, success = daemon()
    assert str(made).startswith("18 new, 0 changed, 0 gone; 1 run requested; 22 folders, 22 listed, ")
    assert success == [True]
    (request,) = made.requests
    keys = list(registered(daemon.instance, VISITS))
    assert keys == sorted(keys)
    assert (request.assets, request.number) == (True, 18)
    assert request.range_tags == {
        "dagster/asset_partition_range_start": keys[0],
        "dagster/asset_partition_range_end": keys[-1],
    }
    for asset in ("ap_visit", "ap_visit_snr", "ap_visit_continuum"):
        assert recorded(daemon.instance, asset) == set(keys)
    for _ in range(3):
        made, success = daemon()
        assert str(made).startswith("0 new, 0 changed, 0 gone; no run requested; 22 folders, ")
        assert made.notes == []
    assert made.look.listed == 0


def test_a_run_is_requested_until_there_is_one(daemon: Daemon) -> None:
    first = daemon.tick()
    again = daemon.tick()
    assert first.requests == again.requests
    assert again.new == 0
    daemon.accept(again.requests)
    assert daemon.tick().requests == []


def test_new_and_changed_files_together(daemon: Daemon, mirror: Path, whole: bytes) -> None:
    daemon()
    daemon()
    before = outputs()
    for number in (2, 5):
        put(mirror / FOLDER / NAME.format(number), whole)
    put(mirror / FOLDER / NAME.format(50), whole)
    made, success = daemon()
    assert str(made).startswith("1 new, 2 changed, 0 gone; 1 run requested; 22 folders, 1 listed, ")
    assert success == [True]
    assert not made.requests[0].assets
    assert made.requests[0].partitions == tuple(KEY.format(number) for number in (2, 5, 50))
    changed = {path.name for path, time in outputs().items() if before.get(path) != time}
    assert changed == {f"ap_visit_snr-{KEY.format(n).replace('/', '-')}.json" for n in (2, 5, 50)}
    version = records.source_records(daemon.instance, VISITS, [KEY.format(2)])[KEY.format(2)].version
    status = (mirror / FOLDER / NAME.format(2)).stat()
    assert version == f"{status.st_size}-{status.st_mtime_ns}"
    assert daemon.tick().requests == []


def test_many_new_files_have_a_run_over_their_range_whatever_else_there_is(
    daemon: Daemon, mirror: Path, whole: bytes
) -> None:
    daemon()
    for number in range(100, 230):
        put(mirror / FOLDER / NAME.format(number), whole[:2880] + whole[2880:])
    for number in (2, 3, 5):
        put(mirror / FOLDER / NAME.format(number), whole)
    daemon.seen = replace(SEEN, partitions=100)
    made = daemon.tick()
    assert [(r.assets, r.number) for r in made.requests] == [(True, 100), (True, 30), (False, 3)]
    assert made.requests[2].partitions == (f"{KEY.format(2)}...{KEY.format(3)}", KEY.format(5))
    asked = [key for r in made.requests for key in named(daemon.instance, VISITS, r.partitions)]
    assert len(asked) == len(set(asked)) == 133


def test_what_was_registered_before_it_came_is_requested_when_it_comes(
    daemon: Daemon, mirror: Path, whole: bytes
) -> None:
    daemon()
    register(daemon.instance, VISITS, [KEY.format(number) for number in range(100, 110)])
    for number in (101, 102, 105):
        put(mirror / FOLDER / NAME.format(number), whole)
    made, success = daemon()
    assert (made.new, success) == (3, [True])
    assert made.requests[0].partitions == (f"{KEY.format(101)}...{KEY.format(102)}", KEY.format(105))
    assert recorded(daemon.instance, "ap_visit_snr") >= {KEY.format(number) for number in (101, 102, 105)}


def test_what_is_complete_already_is_not_requested(daemon: Daemon, mirror: Path) -> None:
    discover_job.execute_in_process(instance=daemon.instance)
    for name in ("update_ap_visit_snr", "update_ap_visit_continuum"):
        assert defs.resolve_job_def(name).execute_in_process(instance=daemon.instance).success
    assert daemon.tick().requests == []


def test_what_was_only_discovered_is_requested(daemon: Daemon) -> None:
    discover_job.execute_in_process(instance=daemon.instance)
    made, success = daemon()
    assert str(made).startswith("0 new, 0 changed, 0 gone, 18 not complete; 1 run requested;")
    assert success == [True]


def test_a_broken_file_is_tried_again_only_when_it_changes(daemon: Daemon, mirror: Path, whole: bytes) -> None:
    path = put(mirror / FOLDER / NAME.format(1), b"no FITS file" * 1000)
    made, success = daemon()
    assert success == [False]
    assert len(recorded(daemon.instance, "ap_visit_snr")) == 17
    for _ in range(3):
        assert daemon.tick().requests == []
    state_path(SEEN).unlink()
    assert daemon.tick().requests == []
    put(path, b"no FITS file either" * 1000)
    made, success = daemon()
    assert (made.changed, success) == (1, [False])
    put(path, whole)
    made, success = daemon()
    assert (made.changed, success) == (1, [True])
    assert daemon.requested.count(KEY.format(1)) == 3
    assert len(daemon.requested) == 20


def test_a_half_written_file_is_left_until_it_is_whole(daemon: Daemon, mirror: Path, whole: bytes) -> None:
    daemon()
    path = mirror / FOLDER / NAME.format(50)
    for part in (0, 1000, 20_000, len(whole) - 100_000):
        put(path, whole[:part])
        made = daemon.tick()
        assert (made.requests, made.writing) == ([], 1)
        assert made.notes == [f"shorter than its own headers say: {path}"]
        assert "1 still being written" in str(made)
        assert KEY.format(50) not in registered(daemon.instance, VISITS)
    put(path, whole, age=0)
    assert daemon.tick(0).writing == 1
    made, success = daemon(SEEN.settle)
    assert (made.new, made.writing, success) == (1, 0, [True])


def test_a_file_that_stays_short_is_broken(daemon: Daemon, mirror: Path, whole: bytes) -> None:
    daemon()
    put(mirror / FOLDER / NAME.format(50), whole[:20_000])
    assert daemon.tick().writing == 1
    made, success = daemon(RECENT)
    assert (made.new, made.writing, success) == (1, 0, [False])
    assert daemon.tick().requests == []


def test_a_file_that_was_touched_is_told_by_content(daemon: Daemon, mirror: Path, whole: bytes) -> None:
    config = Path(os.environ["DAGSTER_HOME"]) / "astra.toml"
    config.write_text("[watch.ap_visit]\nby_content = true\n")
    daemon.seen = watched(VISITS)
    daemon()
    versions = records.source_records(daemon.instance, VISITS, [KEY.format(1), KEY.format(2)])
    assert all(record.version.startswith("sha256-") for record in versions.values())
    put(mirror / FOLDER / NAME.format(1), (mirror / FOLDER / NAME.format(1)).read_bytes(), age=5)
    made = daemon.tick(SEEN.settle)
    assert (made.changed, made.requests, made.look.listed) == (0, [], made.look.listed)
    put(mirror / FOLDER / NAME.format(2), whole)
    made, success = daemon()
    assert (made.changed, success) == (1, [True])
    after = records.source_records(daemon.instance, VISITS, [KEY.format(2)])[KEY.format(2)].version
    assert after != versions[KEY.format(2)].version
    assert after.startswith("sha256-")


def test_what_is_gone_is_recorded_and_its_outputs_stay(daemon: Daemon, mirror: Path) -> None:
    daemon()
    before = outputs()
    path = mirror / FOLDER / NAME.format(1)
    contents, status = path.read_bytes(), path.stat()
    path.unlink()
    made = daemon.tick()
    assert str(made).startswith("0 new, 0 changed, 1 gone; no run requested;")
    (seen,) = daemon.instance.fetch_observations(dg.AssetKey("ap_visit"), limit=10).records
    assert seen.asset_observation is not None
    assert (seen.partition_key, seen.asset_observation.description) == (KEY.format(1), "the file is gone")
    assert recorded(daemon.instance) == recorded(daemon.instance, "ap_visit_snr") >= {KEY.format(1)}
    assert outputs() == before
    put(path, contents)
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
    made = daemon.tick()
    assert (made.gone, made.requests) == (0, [])


def test_a_compressed_variant_is_the_same_partition(daemon: Daemon, mirror: Path, whole: bytes) -> None:
    daemon()
    plain = mirror / FOLDER / NAME.format(1)
    put(plain.with_name(f"{plain.name}.gz"), gzip.compress(whole, 1))
    assert daemon.tick().requests == []
    plain.unlink()
    made, success = daemon()
    assert (made.gone, made.changed, success) == (0, 1, [True])
    new = put(mirror / FOLDER / NAME.format(60), whole)
    put(new.with_name(f"{new.name}.gz"), gzip.compress(whole, 1))
    made, success = daemon()
    assert (made.new, made.requests[0].number, success) == (1, 1, [True])
    assert daemon.tick().requests == []


def test_a_file_that_goes_back_to_what_it_was_is_requested_again(daemon: Daemon, mirror: Path, whole: bytes) -> None:
    daemon()
    path, other = mirror / FOLDER / NAME.format(1), (mirror / FOLDER / NAME.format(2)).read_bytes()
    then = time.time_ns() - 10**12
    keys = []
    for contents in (other, whole, other):
        put(path, contents)
        os.utime(path, ns=(then, then))  # same size, same date: the same version
        if contents == whole:
            os.utime(path, ns=(then, then + 1))
        made, success = daemon()
        assert (made.changed, success) == (1, [True])
        keys.append(made.requests[0].run_key)
    assert len(set(keys)) == 3


def test_what_is_no_file_of_the_product_is_said_once(daemon: Daemon, mirror: Path, whole: bytes) -> None:
    daemon()
    put(mirror / FOLDER / NAME.format(301), whole)
    put(mirror / FOLDER / "apVisit-dr17-5226-56001-001.fits", whole)
    made = daemon.tick()
    assert len(made.notes) == 2
    assert all(note.startswith("skipped") for note in made.notes)
    assert made.requests == daemon.tick().requests == []
    assert daemon.tick().notes == []


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

    def meanwhile(*args: object) -> None:
        inner.append(tick(daemon.instance, SEEN))
        register(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(ticking, "register", meanwhile)
    assert len(daemon.tick().requests) == 1
    assert [str(made) for made in inner] == ["another tick is still at work"]


def test_only_the_releases_and_tasks_that_are_asked_for(daemon: Daemon) -> None:
    (Path(os.environ["DAGSTER_HOME"]) / "astra.toml").write_text(
        '[watch.apVisit]\nreleases = ["DR19"]\ntasks = ["ap_visit_snr"]\n'
    )
    daemon.seen = watched(VISITS)
    assert [task.name for task in daemon.seen.chain()] == ["ap_visit_snr"]
    made = daemon.tick()
    assert (made.new, len(registered(daemon.instance, VISITS))) == (6, 6)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("[watch.ap_visit]\nintervall = 3", "no option 'intervall'; did you mean interval"),
        ("[watch.ap_visit]\ninterval = 0", "interval cannot be 0"),
        ("[watch.ap_visit]\ninterval = true", "interval cannot be True"),
        ("[watch.ap_visit]\nsettle = -1", "settle cannot be -1"),
        ('[watch.ap_visit]\nreleases = "DR17"', "expected a list of releases"),
        ('[watch.ap_visit]\nreleases = ["DR71"]', "no release 'DR71'"),
        ('[watch.ap_visit]\ndaily = "noon"', "daily cannot be 'noon'"),
        ('[watch.ap_visit]\ntasks = ["spec_snr"]', "spec_snr does not run on ap_visit"),
        ('[watch.ap_visit]\ntasks = ["ap_visit_nsr"]', "no task 'ap_visit_nsr'"),
        ("[watch]\nap_visit = 1", "must be a table"),
        ("watch = 1", "made of tables"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_an_error(
    instance: dg.DagsterInstance, table: str, message: str
) -> None:
    (Path(os.environ["DAGSTER_HOME"]) / "astra.toml").write_text(table)
    with pytest.raises((ConfigurationError, KeyError)) as error:
        watched(VISITS).chain()
    assert message in str(error.value)


def test_a_request_of_before_the_configuration_changed_goes_to_the_job_that_is_there(daemon: Daemon) -> None:
    (request,) = daemon.tick().requests
    assert request.assets
    asked = run_request(VISITS, request, by_range=False)
    assert (asked.run_key, asked.job_name) == (request.run_key, "update_ap_visit")
    config = asked.run_config["ops"]["update_ap_visit_files"]["config"]
    assert named(daemon.instance, VISITS, config["partitions"]) == list(registered(daemon.instance, VISITS))


def test_stretches_are_exact(instance: dg.DagsterInstance) -> None:
    keys = [KEY.format(number) for number in range(1, 11)]
    register(instance, VISITS, keys)
    wanted = dict.fromkeys([keys[i] for i in (6, 0, 1, 3, 5, 9)])
    assert stretches(instance, VISITS, wanted) == [keys[:2], [keys[3]], keys[5:7], [keys[9]]]
    register(instance, VISITS, [f"DR17/apo25m/120+12/9000/{56000 + n}/001" for n in range(3000)])
    assert stretches(instance, VISITS, wanted) == [keys[:2], [keys[3]], keys[5:7], [keys[9]]]
    assert named(instance, VISITS, [f"{keys[0]}...{keys[2]}", keys[1], keys[5]]) == [*keys[:3], keys[5]]


STEPS = {
    "in the look": ("watching._keep", 2, "after"),
    "after the look": ("tick.look_at", 1, "after"),
    "gone recorded, not yet forgotten": ("records.write_gone", 1, "after"),
    "decided, not registered": ("tick.register", 1, "before"),
    "registered, not requested": ("tick.register", 1, "after"),
    "requests made, not remembered": ("tick.requests_for", 1, "after"),
    "one of two requests remembered": ("Watch.offer", 2, "before"),
    "requests remembered, not told": ("Watch.offers", 2, "before"),
    "told, not heard": ("Watch.offers", 3, "before"),
    "requests confirmed": ("Watch.ended", 1, "before"),
}

KILLED = """
import os, signal, sys, time
import dagster as dg
from astra_dagster import product
from astra_dagster.archive import watching
from astra_dagster.archive.watch_state import Watch
from astra_dagster.orchestration import records, sources
from astra_dagster.orchestration.watch import tick as ticking
from astra_dagster.orchestration.watch.settings import Watched

name, times, when = sys.argv[1], int(sys.argv[2]), sys.argv[3]
module, function = name.split(".")
place = {"watching": watching, "tick": ticking, "records": records, "Watch": Watch}[module]
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
        ticking.tick(instance, Watched(product("apVisit"), partitions=3), lambda: time.time() + ahead)
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


class Killed(BaseException):
    """What a kill looks like to the code that is killed."""


ASPCAP = product("aspcapStar")  # no task runs on it
WORDS = (
    "put",
    "put",
    "put",
    "rewrite",
    "halve",
    "remove",
    "tick",
    "tick",
    "killed",
    "unheard",
    "work",
    "work",
    "dies",
    "wait",
)
EVENTS = st.lists(st.tuples(st.sampled_from(WORDS), st.integers(0, 4)), min_size=4, max_size=30)
PLACES = ("look_at", "_data_id", "register", "requests_for", "offers")


def tiny(size: int) -> bytes:
    """A FITS file of so many bytes of data."""
    cards = (b"SIMPLE  = T", b"BITPIX  = 8", b"NAXIS   = 1", f"NAXIS1  = {size}".encode(), b"END")
    return b"".join(card.ljust(80) for card in cards).ljust(2880) + bytes(size)


@given(events=EVENTS)
@example(events=[("put", 1), ("unheard", 0)])
@example(events=[("put", 1), ("tick", 0), ("put", 2), ("tick", 0)])
@example(events=[("put", 1), ("tick", 0), ("dies", 0), ("tick", 0), ("wait", 0), ("tick", 0), ("dies", 0)])
@example(events=[("put", 1), ("tick", 0), ("remove", 1), ("work", 0), ("put", 1), ("tick", 0)])
@example(events=[("put", 1), ("tick", 0), ("work", 0), ("rewrite", 1)])
@example(
    events=[("put", 1), ("tick", 0), ("work", 0), ("wait", 0), ("tick", 0), ("halve", 1), ("tick", 0), ("work", 0)]
)
@hypothesis_settings(max_examples=100)
def test_whatever_happens_each_version_is_requested_once_and_all_is_recorded(
    events: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any")
    root = folder / "sas"
    (root / "dr17/apogee/spectro/aspcap").mkdir(parents=True)
    seen = Watched(ASPCAP, releases=("DR17",), partitions=2)
    accepted: dict[str, dict[str, str]] = {}  # what was asked for, by run key
    asked_for: dict[str, dict[str, str]] = {}
    waiting: list[Request] = []
    ahead, dates = 0.0, iter(range(10**9))

    def stamp(path: Path) -> None:
        date = time.time_ns() - 10**14 + next(dates)
        os.utime(path, ns=(date, date))

    def one_tick(place: str | None = None, heard: bool = True) -> Tick | None:
        def asking(*args: object, **named: object) -> list[tuple[Request, list[str]]]:
            made = requests_for(*args, **named)  # type: ignore[arg-type]
            for request, _ in made:
                asked_for[request.run_key] = dict(args[2])  # type: ignore[call-overload]
            return made

        def dying(*_: object, **__: object) -> None:
            raise Killed

        with pytest.MonkeyPatch.context() as patch:
            requests_for = ticking.requests_for
            patch.setattr(ticking, "requests_for", asking)
            if place in ("look_at", "register", "requests_for"):
                patch.setattr(ticking, place, dying)
            elif place == "_data_id":
                patch.setattr(ticking._Ticking, place, dying)
            elif place:
                patch.setattr(Watch, place, dying)
            try:
                made = tick(instance, seen, lambda: time.time() + ahead)
            except Killed:
                return None
        for request in made.requests if heard else ():
            if request.run_key not in accepted:
                keys = named(instance, ASPCAP, request.partitions)
                accepted[request.run_key] = {key: asked_for[request.run_key][key] for key in keys}
                tags = {RUN_KEY_TAG: request.run_key, SENSOR_NAME_TAG: sensor_name(seen)}
                instance.add_run(DagsterRun(job_name="x", tags=tags, status=dg.DagsterRunStatus.STARTED))
                waiting.append(request)
        return made

    def end(request: Request, status: dg.DagsterRunStatus) -> None:
        tags = {RUN_KEY_TAG: request.run_key, SENSOR_NAME_TAG: sensor_name(seen)}
        (run,) = instance.get_runs(dg.RunsFilter(tags=tags))
        instance.delete_run(run.run_id)
        instance.add_run(run.with_status(status))

    def die() -> None:
        for request in waiting:
            end(request, dg.DagsterRunStatus.FAILURE)
        waiting.clear()

    def work() -> None:
        for request in waiting:
            end(request, dg.DagsterRunStatus.SUCCESS)
            data_ids = [ASPCAP.parse_key(key) for key in named(instance, ASPCAP, request.partitions)]
            for found in sources.examine(instance, ASPCAP, data_ids, root):
                if found.file is not None and found.version is not None and not found.recorded:
                    made = records.source_materialisation(ASPCAP, found.data_id.key, found.version, found.version, {})
                    instance.report_runless_asset_event(made)
        waiting.clear()

    with pytest.MonkeyPatch.context() as environment, dg.DagsterInstance.ephemeral(str(folder)) as instance:
        environment.setenv("SAS_BASE_DIR", str(root))
        environment.setenv("ASTRA_OUTPUTS", str(folder / "outputs"))
        one_tick()  # what is there from the start and changes in place is left to the daily job
        for size, (event, number) in enumerate(events, start=1):
            star = ASPCAP.data_id(
                "DR17", telescope="apo25m", field=f"120+1{number % 2}", obj=f"2M0000000{number}+0000000"
            )
            path = star.path(root)
            if event == "put":
                path.parent.mkdir(parents=True, exist_ok=True)
                (folder / "new").write_bytes(tiny(size))
                stamp(folder / "new")
                (folder / "new").rename(path)
            elif event in ("rewrite", "halve") and path.exists():
                path.write_bytes(tiny(size)[: None if event == "rewrite" else 2880 + size // 2])
                stamp(path)
            elif event == "remove":
                path.unlink(missing_ok=True)
            elif event == "wait":
                ahead += 2 * SEEN.settle
            elif event == "work":
                work()
            elif event == "dies":
                die()
            elif event in ("tick", "unheard", "killed"):
                ahead += COARSE
                one_tick(PLACES[number] if event == "killed" else None, heard=event != "unheard")
        last = None
        for more in (LONGEST_WAIT, 0, LONGEST_WAIT, 0):
            work()
            ahead += SEEN.settle + COARSE + more
            last = one_tick()
        files, _ = find_files(ASPCAP, "DR17", root)
        whole = {file.data_id.key: file.version for file in files if not is_cut_short(file.path)}
        known = records.source_records(instance, ASPCAP, list(whole))
        assert last is not None
        assert last.requests == []
        assert last.writing == len(files) - len(whole)
        assert {key: record.version for key, record in known.items()} == whole
        assert set(registered(instance, ASPCAP)) >= set(whole)
    every = [(key, re.sub(" for [^,]*", "", said)) for asked in accepted.values() for key, said in asked.items()]
    assert len(every) == len(set(every)), "requested twice"
