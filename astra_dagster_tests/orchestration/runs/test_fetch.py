"""Runs that first fetch what is not on this disk from a server."""

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner, Result
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext

from astra_dagster import product
from astra_dagster.cli import main
from astra_dagster.definitions import defs
from astra_dagster.orchestration.partitions import register
from astra_dagster.orchestration.runs.fetch import POOL
from astra_dagster.orchestration.runs.jobs import update_job_name, update_run_config
from astra_dagster.tasks.registry import find_task
from astra_dagster_tests.archive.found import find_files
from astra_dagster_tests.archive.server import File, Server, status

VISITS = product("apVisit")
NUMBER = 18


@pytest.fixture
def keys(instance: dg.DagsterInstance, mirror: Path) -> list[str]:
    """All visits, registered and never recorded."""
    found = [file.data_id.key for release in ("DR17", "DR19") for file in find_files(VISITS, release, mirror)[0]]
    register(instance, VISITS, found)
    return found


@pytest.fixture
def server(keys: list[str], mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that holds all files of the mirror, of which this disk then has none."""
    config = tmp_path / "astra.toml"
    config.write_text('workers = "in-process"\n')
    monkeypatch.setenv("ASTRA_CONFIG", str(config))
    monkeypatch.setenv("HOME", str(tmp_path))
    with Server() as made:
        for key in keys:
            data_id = VISITS.parse_key(key)
            made.files[address(key)] = File(data_id.path(mirror).read_bytes())
            data_id.path(mirror).unlink()
        monkeypatch.setenv("ASTRA_SAS_URL", made.url)
        yield made


def address(key: str) -> str:
    return f"/sas/{VISITS.parse_key(key).relative_path}"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["run", "ap_visit_snr", *arguments])


@pytest.mark.usefixtures("windows")
def test_files_are_fetched_only_where_that_is_asked_for(server: Server, tmp_path: Path) -> None:
    assert f"no input yet: {NUMBER}" in run().output
    assert server.requests == []
    result = run("--fetch")
    assert result.exit_code == 0, result.output
    assert f"{NUMBER} computed" in result.output
    assert f"{NUMBER} complete, 0 to do" in run("--fetch").output
    before = len(server.requests)
    run("--fetch")
    assert len(server.requests) == before


def test_the_configuration_file_can_ask_for_it(server: Server, tmp_path: Path) -> None:
    (tmp_path / "astra.toml").write_text('workers = "in-process"\nfetch = true\n')
    assert f"{NUMBER} computed" in run().output


@pytest.mark.usefixtures("windows")
def test_what_the_sas_lacks_has_not_come_yet_and_what_fails_fails(
    instance: dg.DagsterInstance, server: Server, keys: list[str]
) -> None:
    del server.files[address(keys[2])]
    server.scripts[address(keys[5])].extend([status(403)] * 10)
    result = run("--fetch")
    assert result.exit_code == 1
    assert "1 of 18 partitions failed" in result.output
    assert keys[5] in result.output
    assert ".netrc" in result.output
    assert len(instance.get_materialized_partitions(dg.AssetKey("ap_visit_snr"))) == NUMBER - 2
    server.scripts[address(keys[5])].clear()
    result = run("--fetch")
    assert result.exit_code == 0, result.output
    assert "1 computed" in result.output
    assert "no input yet: 1" in run().output


@pytest.mark.usefixtures("windows")
def test_an_asset_run_fetches_too(instance: dg.DagsterInstance, server: Server, keys: list[str]) -> None:
    result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey("ap_visit_snr")],
        tags={"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[3]},
        run_config={"ops": {"ap_visit_snr": {"config": {"fetch": True}}}},
    )
    assert result.success
    assert len(instance.get_materialized_partitions(dg.AssetKey("ap_visit_snr"))) == 4
    assert len(instance.get_materialized_partitions(dg.AssetKey("ap_visit"))) == 4


@pytest.mark.usefixtures("windows")
def test_what_may_be_on_a_disk_that_is_away_is_not_fetched(server: Server, keys: list[str], mirror: Path) -> None:
    """Nor is what was never here of the same release: it would be written where that disk is to be mounted."""
    assert "4 computed" in run("--fetch", "--where", "plate=9911").output
    VISITS.parse_key(keys[8]).path(mirror).unlink()
    assert "1 computed" in run("--fetch", "--overwrite", "--where", "plate=9911", "--where", "fibre=31").output
    shutil.rmtree(VISITS.parse_key(keys[8]).path(mirror).parent)
    before = len(server.requests)
    result = run("--fetch", "--release", "DR17")
    assert result.exit_code == 1
    assert "  4 was here before, and this folder is empty now" in result.output
    assert "no input yet: 8" in result.output
    assert len(server.requests) == before
    assert "6 computed" in run("--fetch", "--release", "DR19").output


def test_the_pool_limits_how_many_runs_fetch(instance: dg.DagsterInstance, server: Server) -> None:
    instance.event_log_storage.set_concurrency_slots(POOL, 1)
    other = instance.create_run_for_job(defs.resolve_job_def("discover"))
    task = find_task("ap_visit_snr")
    done: list[bool] = []

    def update() -> None:
        job = defs.resolve_job_def(update_job_name(task))
        result = job.execute_in_process(instance=instance, run_config=update_run_config(task, {"fetch": True}))
        done.append(result.success)

    with InstanceConcurrencyContext(instance, other) as slots:
        assert slots.claim(POOL, "elsewhere")
        running = threading.Thread(target=update)
        running.start()
        end = time.monotonic() + 60
        while not any("waiting for a slot" in text for text in logged(instance)):
            assert time.monotonic() < end
            time.sleep(0.1)
        assert server.requests == []
        slots.free_step("elsewhere")
    running.join(120)
    assert done == [True]
    assert instance.event_log_storage.get_concurrency_info(POOL).active_slot_count == 0


def logged(instance: dg.DagsterInstance) -> list[str]:
    return [entry.user_message for run in instance.get_runs() for entry in instance.all_logs(run.run_id)]
