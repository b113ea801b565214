"""Arrivals whose run came to nothing: the sensor comes back to them, later each time, and to nothing else."""

import os
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.tags import RUN_KEY_TAG, SENSOR_NAME_TAG

from astra_dagster.archive.watch_state import FIRST_WAIT, LONGEST_WAIT
from astra_dagster.orchestration.watch.requests import Request
from astra_dagster.orchestration.watch.tick import sensor_name
from astra_dagster_tests.orchestration.watch.arrivals import FOLDER, KEY, NAME, SEEN, Daemon, put, recorded

FAILURE, CANCELED, SUCCESS = dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.SUCCESS


def end(daemon: Daemon, request: Request, status: dg.DagsterRunStatus) -> dg.DagsterRun:
    """Have a run that did nothing, and ended so."""
    tags = {RUN_KEY_TAG: request.run_key, SENSOR_NAME_TAG: sensor_name(SEEN)}
    run = dg.DagsterRun(job_name="analyse_ap_visit", tags=tags, status=status)
    daemon.instance.add_run(run)
    return run


def test_what_a_run_that_died_left_undone_is_requested_again(daemon: Daemon) -> None:
    (request,) = daemon.tick().requests
    end(daemon, request, FAILURE)
    made = daemon.tick()
    assert made.requests == []
    assert "18 to be tried again later" in str(made)
    made = daemon.tick(FIRST_WAIT)
    (again,) = made.requests
    assert again.run_key != request.run_key
    assert again.partitions == request.partitions
    assert daemon.run(again) is True
    assert len(recorded(daemon.instance, "ap_visit_snr")) == 18
    for wait in (2, LONGEST_WAIT):
        made = daemon.tick(wait)
        assert made.requests == []
        assert "again" not in str(made)


def test_the_wait_doubles_each_time_and_has_an_end(daemon: Daemon) -> None:
    (request,) = daemon.tick().requests
    keys = {request.run_key}
    for tries in range(12):
        end(daemon, request, FAILURE)
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2**tries)
        assert daemon.tick(1).requests == []
        assert daemon.tick(wait - 5).requests == []
        (request,) = daemon.tick(10).requests
        keys.add(request.run_key)
    assert len(keys) == 13


def test_only_what_is_left_is_requested_again(daemon: Daemon, mirror: Path, whole: bytes) -> None:
    """A broken file is not: it failed by its own fault, in a run that failed for it."""
    put(mirror / FOLDER / NAME.format(1), b"no FITS file" * 1000)
    made, success = daemon()
    assert success == [False]
    for wait in (1, FIRST_WAIT, LONGEST_WAIT):
        assert daemon.tick(wait).requests == []
    put(mirror / FOLDER / NAME.format(1), whole)
    made, success = daemon()
    assert made.changed == 1
    assert success == [True]


def test_a_full_disk_is_not_the_fault_of_the_files(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of a run fail because nothing can be written; all are tried again, and done once there is room."""
    task = tmp_path / "outputs" / "ap_visit_snr"
    task.parent.mkdir()
    task.write_text("in the way of a folder")
    made, success = daemon()
    assert success == [False]
    task.unlink()
    assert daemon.tick().requests == []
    made, success = daemon(FIRST_WAIT)
    assert made.again + made.new == 18
    assert success == [True]
    assert len(recorded(daemon.instance, "ap_visit_snr")) == 18


def test_a_canceled_run_is_left_to_the_daily_schedule(daemon: Daemon) -> None:
    (request,) = daemon.tick().requests
    end(daemon, request, CANCELED)
    for wait in (1, LONGEST_WAIT):
        made = daemon.tick(wait)
        assert made.requests == []
        assert made.later == 0


def test_a_run_under_way_is_waited_for(daemon: Daemon) -> None:
    (request,) = daemon.tick().requests
    run = end(daemon, request, dg.DagsterRunStatus.STARTED)
    for wait in (1, LONGEST_WAIT):
        assert daemon.tick(wait).requests == []
    daemon.instance.report_run_failed(run)
    assert daemon.tick(1).requests == []
    assert daemon.tick(FIRST_WAIT).requests


def test_a_run_that_found_no_file_is_done_again_when_the_mirror_is_back(daemon: Daemon, mirror: Path) -> None:
    (request,) = daemon.tick().requests
    away = mirror.rename(mirror.with_name("away"))
    mirror.mkdir()
    end(daemon, request, SUCCESS)  # it had no input, and nothing to do
    made = daemon.tick(1)
    assert (made.requests, made.later, made.gone) == ([], 18, 0)
    made = daemon.tick(FIRST_WAIT)
    assert (made.requests, made.later) == ([], 18)  # still away
    mirror.rmdir()
    away.rename(mirror)
    made, success = daemon(2 * FIRST_WAIT)
    assert made.new == 18
    assert success == [True]
    assert len(recorded(daemon.instance, "ap_visit_snr")) == 18


def test_a_file_that_went_away_for_good_is_not_waited_for(daemon: Daemon, mirror: Path) -> None:
    (request,) = daemon.tick().requests
    (mirror / FOLDER / NAME.format(2)).unlink()
    end(daemon, request, FAILURE)
    daemon.tick(1)
    _, success = daemon(FIRST_WAIT)
    assert success == [True]
    assert KEY.format(2) not in recorded(daemon.instance)
    assert daemon.tick(LONGEST_WAIT).later == 0
    assert not list(Path(os.environ["ASTRA_OUTPUTS"]).rglob("*-002.json*"))


def test_a_disk_that_is_away_takes_no_file_with_it(daemon: Daemon, mirror: Path) -> None:
    daemon()
    plate = mirror / FOLDER
    away = plate.rename(plate.with_name("away"))
    plate.mkdir()  # what it was mounted on
    made = daemon.tick()
    assert (made.gone, made.requests) == (0, [])
    assert any("this folder is empty now" in note for note in made.notes)
    assert not daemon.instance.fetch_observations(dg.AssetKey("ap_visit"), limit=1).records
    plate.rmdir()
    away.rename(plate)
    for wait in (2, FIRST_WAIT):
        made = daemon.tick(wait)
        assert (made.new, made.changed, made.again, made.requests) == (0, 0, 0, [])
