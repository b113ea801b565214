"""Links that lead out of the mirror, in discovery, runs and asset checks: each costs its own files, and says so."""

import json
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner

from astra_dagster import settings
from astra_dagster.cli import main
from astra_dagster.errors import LinkOutsideError
from astra_dagster.orchestration.records import DagsterLedger
from astra_dagster.outputs.store import OutputStore
from astra_dagster.planning.inputs import examine
from astra_dagster_tests.archive.found import find_files
from astra_dagster_tests.orchestration.runs.main_job import SNR, VISITS, discover, recorded, update

FIRST = "DR17/apo25m/120+12/5226/56000/001"
SOURCE = dg.AssetKey("ap_visit")


@pytest.fixture
def private(mirror: Path, tmp_path: Path) -> Path:
    """A file outside of the mirror, to which a link in it leads."""
    path = VISITS.parse_key(FIRST).path(mirror)
    private = path.rename(tmp_path / "private.fits")
    path.symlink_to(private)
    return private


def allow(folder: Path) -> None:
    (settings.dagster_home() / "astra.toml").write_text(f"readable = [{json.dumps(str(folder))}]\n")


def failure(result: dg.ExecuteInProcessResult) -> str:
    (event,) = [one for one in result.all_events if one.is_step_failure]
    return str(event.step_failure_data.user_failure_data.description)


def test_discovery_refuses_the_file_and_finds_all_others(instance: dg.DagsterInstance, private: Path) -> None:
    told = CliRunner().invoke(main, ["discover", "--product", "apVisit"])
    assert told.exit_code == 1
    assert f"leads out of the mirror, to {private}" in told.output
    assert f'readable = ["{private.parent}"]' in told.output
    assert len(recorded(instance, SOURCE)) == 17
    assert FIRST not in instance.get_dynamic_partitions("ap_visit")
    allow(private.parent)
    assert CliRunner().invoke(main, ["discover", "--product", "apVisit"]).exit_code == 0
    assert len(recorded(instance, SOURCE)) == 18


def test_a_run_does_not_read_a_file_that_became_a_link(
    instance: dg.DagsterInstance, mirror: Path, tmp_path: Path
) -> None:
    discover(instance)
    path = VISITS.parse_key(FIRST).path(mirror)
    private = path.rename(tmp_path / "private.fits")
    path.symlink_to(private)
    result = update(instance)
    assert not result.success
    assert f"leads out of the mirror, to {private}" in failure(result)
    assert len(recorded(instance)) == 17
    assert FIRST not in recorded(instance)
    allow(private.parent)
    assert update(instance).success
    assert len(recorded(instance)) == 18


def test_nothing_is_forgotten_or_cleaned_for_a_link(instance: dg.DagsterInstance, mirror: Path, tmp_path: Path) -> None:
    discover(instance)
    assert update(instance).success
    folder = VISITS.parse_key(FIRST).path(mirror).parent
    aside = folder.rename(tmp_path / "56000")
    folder.symlink_to(aside)
    told = CliRunner().invoke(main, ["discover", "--product", "apVisit", "--release", "DR17", "--forget"])
    assert told.exit_code == 1
    assert "0 gone" not in told.output
    assert f"leads out of the mirror, to {aside}" in told.output
    assert CliRunner().invoke(main, ["clean", "--yes"]).exit_code in (0, 1)
    assert len(instance.get_dynamic_partitions("ap_visit")) == 18
    store = OutputStore(settings.outputs_dir(), SNR, SNR.values())
    assert store.path(VISITS.parse_key(FIRST)).is_file()


def test_content_of_a_refused_file_is_not_hashed(
    instance: dg.DagsterInstance, mirror: Path, private: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("astra_dagster.planning.inputs.content_version", lambda path: pytest.fail(str(path)))
    (found,) = examine([VISITS.parse_key(FIRST)], mirror, {}, by_content=True)
    assert isinstance(found.error, LinkOutsideError)
    assert len(find_files(VISITS, "DR17", mirror)[0]) == 11
    assert DagsterLedger(instance).seen(VISITS, [FIRST]) == {}
