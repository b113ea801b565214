"""Records that later ones have replaced are removed, and nothing that anybody asks about today depends on them."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner, Result
from dagster._core.storage.dagster_run import DagsterRunStatus
from dagster._core.test_utils import create_run_for_test

from astra_dagster.cli import main
from astra_dagster.errors import ConfigurationError
from astra_dagster.orchestration.storage import pruning
from astra_dagster.orchestration.storage.pruning import find_assets, remove, survey
from astra_dagster_tests.orchestration.homes import home
from astra_dagster_tests.orchestration.storage.contract import store
from astra_dagster_tests.orchestration.storage.events import RUNS, START, materialisation, planned

A, B = dg.AssetKey("a"), dg.AssetKey("b")
MADE = dg.DagsterEventType.ASSET_MATERIALIZATION


@pytest.fixture(params=["sqlite", "postgresql"])
def instance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[dg.DagsterInstance]:
    """Three partitions of `a`: one recorded twice, one once and planned after, one planned before; two of `b`."""
    monkeypatch.setenv("DAGSTER_HOME", str(home(tmp_path / "home", request, request.param, ours=True)))
    with dg.DagsterInstance.get() as instance:
        for i, run in enumerate(RUNS[:2]):
            tags = {"dagster/data_version": f"v{i}"}
            store(instance, [planned(run, START, A, key) for key in ("twice", "after", "before")[: 3 - i]])
            store(instance, [materialisation(run, START + i, A, key, tags) for key in ("twice", "after")[: 2 - i]])
            store(instance, [materialisation(run, START + i, B, "other", tags)])
        store(instance, [materialisation(RUNS[2], START, A, None), materialisation(RUNS[2], START, A, None)])
        yield instance


def answers(instance: dg.DagsterInstance) -> dict[str, Any]:
    """What plans, tables and the marks of the web UI ask."""
    storage = instance.event_log_storage
    failed = storage.get_latest_asset_partition_materialization_attempts_without_materializations(A)
    return {
        "ids": storage.get_latest_storage_id_by_partition(A, MADE),
        "tags": storage.get_latest_tags_by_partition(A, MADE, ["dagster/data_version"]),
        "partitions": storage.get_materialized_partitions(A),
        "failed": failed,
        "last": [record.asset_entry.last_materialization_record for record in instance.get_asset_records([A, B])],
        "other": instance.fetch_materializations(B, limit=9).records,
    }


def test_only_what_a_later_record_has_replaced_goes(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "WINDOW", 2)
    before = answers(instance)
    assert before["failed"].keys() == {"after", "before"}
    (found,) = survey(instance, ["a"])
    assert (found.asset, found.count) == ("a", 4)  # of "twice" a record and two plans, of "after" the first plan
    assert found.size > 400
    assert answers(instance) == before
    assert remove(instance, [found]) == 4
    assert answers(instance) == before
    assert survey(instance, ["a"]) == []
    kept = [(e.dagster_event_type.value, e.get_dagster_event().partition) for e in instance.all_logs(RUNS[0])]
    assert kept == [
        ("ASSET_MATERIALIZATION_PLANNED", "before"),
        ("ASSET_MATERIALIZATION", "after"),
        ("ASSET_MATERIALIZATION", "other"),
    ]
    assert len(instance.all_logs(RUNS[2])) == 2  # without a partition


def test_tags_go_with_their_events(instance: dg.DagsterInstance) -> None:
    remove(instance, survey(instance, ["a"]))
    left = instance.event_log_storage.get_event_tags_for_asset(A)
    assert left == [{"dagster/data_version": "v0"}, {"dagster/data_version": "v1"}]


def test_what_a_run_that_goes_on_has_recorded_stays(instance: dg.DagsterInstance) -> None:
    create_run_for_test(instance, run_id=RUNS[0], status=DagsterRunStatus.STARTED)
    (found,) = survey(instance, ["a"])
    assert found.count == 1
    assert remove(instance, [found]) == 1
    assert len(instance.all_logs(RUNS[0])) == 6


def test_what_is_younger_stays(instance: dg.DagsterInstance) -> None:
    assert survey(instance, ["a"], older=1.0)
    assert survey(instance, ["a"], older=100_000.0) == []


def test_a_run_that_was_removed_is_not_made_again(instance: dg.DagsterInstance) -> None:
    storage = instance.event_log_storage
    if storage.is_run_sharded:
        place = Path(storage.path_for_shard(RUNS[0]))
        place.unlink()
    assert remove(instance, survey(instance, ["a"])) == 4
    assert not storage.is_run_sharded or not place.exists()


def test_assets_have_the_names_of_products_and_tasks() -> None:
    assert find_assets(["apVisit", "ap_visit", "ap_visit_snr"]) == ["ap_visit", "ap_visit_snr"]
    assert {"ap_visit", "spec_snr"} < {*find_assets([])}


def test_dagsters_own_storage_is_left_alone() -> None:
    with dg.DagsterInstance.ephemeral() as instance, pytest.raises(ConfigurationError, match="Dagster's own is in use"):
        survey(instance, ["a"])


def astra(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_the_command(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAS_BASE_DIR", str(mirror))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ASTRA_OUTPUTS", str(tmp_path / "outputs"))
    assert astra("init").exit_code == 0
    assert astra("discover", "--product", "apVisit").exit_code == 0
    assert astra("run", "ap_visit_snr").exit_code == 0
    assert astra("clean", "--records").output == "nothing to clean: each partition has its latest record alone\n"
    assert astra("run", "ap_visit_snr", "--overwrite").exit_code == 0
    plan = astra("plan", "ap_visit_snr").output
    listed = astra("clean", "--records", "--json")
    (found,) = json.loads(listed.output)
    assert (found["asset"], found["earlier"], found["removed"]) == ("ap_visit_snr", 18, False)
    assert "add --yes" in astra("clean", "--records", "--task", "ap_visit_snr").output
    assert "nothing" in astra("clean", "--records", "--task", "apVisit").output
    assert "nothing" in astra("clean", "--records", "--older", "1").output
    assert astra("clean", "--records", "--yes").output.splitlines()[-1].startswith("18 removed; ")
    assert astra("plan", "ap_visit_snr").output == plan
    assert "18 complete, 0 to do" in plan
    (index,) = (tmp_path / "home").rglob("index.db")
    with closing(sqlite3.connect(index)) as database:
        assert database.execute("SELECT count(*) FROM event_logs WHERE partition IS NOT NULL").fetchone() == (36,)
    assert astra("clean", "--records", "--digest", "0" * 12).exit_code == 2
    assert astra("clean", "--records", "--task", "ap_visit_snrr").exit_code == 1
