"""Ticks on a real instance: everything is requested once, whatever happens in between."""

import gzip
import os
import time
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from astra_dagster.archive.watching import RECENT
from astra_dagster.definitions import defs
from astra_dagster.errors import ConfigurationError
from astra_dagster.orchestration import records
from astra_dagster.orchestration.discover import discover_job
from astra_dagster.orchestration.partitions import register, registered
from astra_dagster.orchestration.watch.requests import named, stretches
from astra_dagster.orchestration.watch.sensors import run_request
from astra_dagster.orchestration.watch.settings import watched
from astra_dagster.orchestration.watch.tick import state_path
from astra_dagster_tests.archive.renamed import rename_reduction
from astra_dagster_tests.orchestration.watch.arrivals import (
    FOLDER,
    KEY,
    NAME,
    SEEN,
    VISITS,
    Daemon,
    make_anonymous,
    outputs,
    put,
    recorded,
)


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


def test_other_reductions_are_noted_where_nothing_is_found(daemon: Daemon, mirror: Path) -> None:
    rename_reduction(mirror, "r13")
    (note,) = daemon.tick().notes
    assert note.startswith("apVisit in DR17: nothing found; its folders have files of apred r13, DR17 has apred dr17; ")


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
        assert made.notes == [f"incomplete, shorter than its headers say: {path}"]
        assert "1 still being written" in str(made)
        assert KEY.format(50) not in registered(daemon.instance, VISITS)
    put(path, whole, age=-daemon.ahead)  # now, by the clock of the daemon
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


def test_runs_are_requested_for_selected_files_alone(daemon: Daemon, mirror: Path, whole: bytes) -> None:
    config = Path(os.environ["DAGSTER_HOME"]) / "astra.toml"
    config.write_text('[watch.ap_visit]\nwhere = {plate = [5226, 5227], fiber = "1..3"}\n')
    daemon.seen = watched(VISITS)
    made, success = daemon()
    assert (made.new, success) == (3, [True])
    assert sorted(daemon.requested) == [KEY.format(fibre) for fibre in (1, 2, 3)] == registered(daemon.instance, VISITS)
    put(mirror / FOLDER / NAME.format(50), whole)
    assert daemon.tick().requests == []
    config.write_text("[watch.ap_visit]\nwhere = {colour = 1}\n")
    with pytest.raises(ConfigurationError, match=r"\[watch.ap_visit\]: where: apVisit has no colour"):
        watched(VISITS)


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
    path = mirror / FOLDER / NAME.format(1)
    other = make_anonymous((mirror / FOLDER / NAME.format(2)).read_bytes())
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
