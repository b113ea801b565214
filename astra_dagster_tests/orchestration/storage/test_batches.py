"""The batched storages: whole batches, in turn, and the same as Dagster's own after the same runs."""

import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value

from astra_dagster import product
from astra_dagster.cli import main
from astra_dagster.definitions import defs
from astra_dagster.orchestration import records
from astra_dagster.orchestration.partitions import partitions_def, registered
from astra_dagster.orchestration.runs.jobs import update_job_name, update_run_config
from astra_dagster.orchestration.storage.batches import BatchedEventLogStorage
from astra_dagster.orchestration.storage.sqlite import BatchedSqliteStorage
from astra_dagster.tasks import registry
from astra_dagster_tests.orchestration.homes import home
from astra_dagster_tests.orchestration.storage.contract import store
from astra_dagster_tests.orchestration.storage.events import (
    RUNS,
    Chance,
    materialisations,
)

VISITS = product("apVisit")
SNR = dg.AssetKey("ap_visit_snr")
DATABASES = ["sqlite", "postgresql"]

Script = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(params=DATABASES)
def batched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("DAGSTER_HOME", str(home(tmp_path / "home", request, request.param, ours=True)))
    with dg.DagsterInstance.get() as instance:
        yield instance


def story(mirror: Path) -> dict[str, Any]:
    """Discover, run a range of which one file is broken, then everything, twice; and ask all there is to ask."""
    with dg.DagsterInstance.get() as instance:
        assert defs.resolve_job_def("discover").execute_in_process(instance=instance).success
        keys = list(registered(instance, VISITS))
        broken = VISITS.parse_key(keys[2]).path(mirror)
        whole, times = broken.read_bytes(), broken.stat()
        broken.write_bytes(whole[:30_000])
        runs = [
            defs.resolve_implicit_global_asset_job_def().execute_in_process(
                instance=instance,
                asset_selection=[SNR],
                tags={"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[5]},
                raise_on_error=False,
            )
        ]
        after_range = answers(instance, keys)
        broken.write_bytes(whole)
        os.utime(broken, ns=(times.st_mtime_ns, times.st_mtime_ns))
        task = registry.tasks()["ap_visit_snr"]
        for config in ({}, {"fudge_factor": 2.0}):
            runs.append(
                defs.resolve_job_def(update_job_name(task)).execute_in_process(
                    instance=instance, run_config=update_run_config(task, config)
                )
            )
        logs = [
            Counter(str(e.dagster_event_type) for e in instance.all_logs(run.run_id) if e.is_dagster_event)
            for run in runs  # less what our own code says, which is more where records are slow
        ]
        order = [
            [e.dagster_event.partition for e in instance.all_logs(run.run_id, of_type=kind)]
            for run in runs
            for kind in (dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
        ]
        return {"logs": logs, "order": order, "range": after_range, "end": answers(instance, keys)}


def answers(instance: dg.DagsterInstance, keys: list[str]) -> dict[str, Any]:
    storage = instance.event_log_storage
    materialised = dg.DagsterEventType.ASSET_MATERIALIZATION
    ids = storage.get_latest_storage_id_by_partition(SNR, materialised, set(keys))
    newest = instance.fetch_materializations(SNR, limit=1000).records
    assert [r.storage_id for r in newest] == sorted((r.storage_id for r in newest), reverse=True)
    by_partition = {}
    for record in newest[::-1]:
        made = record.asset_materialization
        by_partition[made.partition] = (made.tags["dagster/data_version"], made.metadata["snr"].value)
        assert record.event_log_entry.dagster_event.partition == record.partition_key == made.partition
    latest = {r.partition_key: r.storage_id for r in newest[::-1]}
    assert latest == ids
    (asset,) = instance.get_asset_records([SNR])
    last = asset.asset_entry.last_materialization_record
    partitions = partitions_def(VISITS)
    with partition_loading_context(dynamic_partitions_store=instance):
        status = get_and_update_asset_status_cache_value(instance, SNR, partitions)
        failed = set(status.deserialize_failed_partition_subsets(partitions).get_partition_keys())
        done = set(status.deserialize_materialized_partition_subsets(partitions).get_partition_keys())
    tags = storage.get_latest_tags_by_partition(SNR, materialised, ["dagster/data_version"], keys)
    assert {key: value["dagster/data_version"] for key, value in tags.items()} == {
        key: version for key, (version, _) in by_partition.items()
    }
    page, cursor = [], None
    while True:
        result = instance.fetch_materializations(SNR, limit=4, cursor=cursor)
        page += [r.partition_key for r in result.records]
        if not result.has_more:
            break
        cursor = result.cursor
    return {
        "partitions": by_partition,
        "counts": dict(storage.get_materialized_partitions(SNR) and Counter(r.partition_key for r in newest)),
        "order": [r.partition_key for r in newest],
        "pages": page,
        "last": last.asset_materialization.partition,
        "failed": failed,
        "materialised": done,
        "sources": {r.partition_key for r in instance.fetch_materializations(dg.AssetKey("ap_visit"), 1000).records},
    }


def test_a_storage_alone_changes_nothing_in_the_environment(tmp_path: Path) -> None:
    BatchedSqliteStorage(str(tmp_path))
    assert "DAGSTER_EVENT_BATCH_SIZE" not in os.environ


@pytest.mark.parametrize("database", DATABASES)
def test_a_run_is_recorded_the_same(
    database: str, tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    found = {}
    monkeypatch.setenv("SAS_BASE_DIR", str(mirror))
    for ours in (False, True):
        monkeypatch.setenv("DAGSTER_HOME", str(home(tmp_path / str(ours), request, database, ours=ours)))
        monkeypatch.setenv("ASTRA_OUTPUTS", str(tmp_path / f"out-{ours}"))
        monkeypatch.delenv("DAGSTER_EVENT_BATCH_SIZE", raising=False)
        found[ours] = story(mirror)
        assert (os.environ.get("DAGSTER_EVENT_BATCH_SIZE") is not None) == ours
    assert found[False] == found[True]
    assert len(found[True]["range"]["failed"]) == 1
    assert len(found[True]["end"]["partitions"]) == 18


@pytest.mark.parametrize("database", DATABASES)
def test_an_instance_may_be_switched(
    database: str, tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """From Dagster's storage to ours and, unless its texts are packed, back."""
    url = request.getfixturevalue("postgresql")() if database == "postgresql" else None
    monkeypatch.setenv("SAS_BASE_DIR", str(mirror))
    for i, ours in enumerate((False, True, False)):
        folder = home(tmp_path / "home", request, database, ours=ours, url=url)
        settings = (folder / "dagster.yaml").read_text()
        (folder / "dagster.yaml").write_text(settings.replace("      compact: true\n", ""))
        monkeypatch.setenv("DAGSTER_HOME", str(folder))
        discovered = CliRunner().invoke(main, ["discover"])
        assert discovered.exit_code == 0, discovered.output
        assert ("0 new, 0 changed" in discovered.output) == bool(i)
        with dg.DagsterInstance.get() as instance:
            assert isinstance(instance.event_log_storage, BatchedEventLogStorage) == ours
            assert len(registered(instance, VISITS)) == 18
        (folder / "dagster.yaml").unlink()


HEAD = """
import os, sys
import dagster as dg
from astra_dagster_tests.orchestration.storage.contract import store
from astra_dagster_tests.orchestration.storage.events import materialisations

with dg.DagsterInstance.get() as instance:
    log = instance.event_log_storage
    log.store_event_batch(materialisations(sys.argv[1], 300))
"""
DYING = {
    "after the tags": """
    inner = log._store_asset_event_tags
    def die(*arguments):
        inner(*arguments)
        os.kill(os.getpid(), 9)
    log._store_asset_event_tags = die
""",
    "at the last commit": """
    import sqlalchemy as sa
    left = 2 if log.is_run_sharded else 1
    def die(connection):
        global left
        left -= 1
        if not left:
            os.kill(os.getpid(), 9)
    sa.event.listen(sa.Engine, "commit", die)
""",
}


@pytest.fixture
def script(programs: Path) -> Script:
    """Run a piece of Python in a process of its own."""

    def run(text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [programs / "python", "-c", text, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


@pytest.mark.parametrize("when", DYING)
def test_killed_in_the_middle_of_a_batch_leaves_whole_batches_only(
    batched: dg.DagsterInstance, script: Script, when: str
) -> None:
    run = script(f"{HEAD}{DYING[when]}\n    log.store_event_batch(materialisations('second', 300))", "first")
    assert run.returncode == 128 + 9, run.stderr
    found = batched.fetch_materializations(dg.AssetKey("a"), limit=2000).records
    assert Counter(record.run_id for record in found) == {"first": 300}
    assert len(batched.get_materialized_partitions(dg.AssetKey("a"))) == 300
    assert len(batched.all_logs("second")) in (0, 300)
    store(batched, materialisations("third", 5))
    assert len(batched.get_materialized_partitions(dg.AssetKey("a"))) == 305


def test_writers_at_the_same_time_lose_nothing(batched: dg.DagsterInstance, script: Script) -> None:
    with ThreadPoolExecutor() as pool:
        for run in pool.map(lambda name: script(HEAD, name), "abcd"):
            assert run.returncode == 0, run.stderr
    found = batched.fetch_materializations(dg.AssetKey("a"), limit=5000).records
    assert Counter(record.run_id for record in found) == dict.fromkeys("abcd", 300)
    tags = batched.event_log_storage.get_latest_tags_by_partition(
        dg.AssetKey("a"), dg.DagsterEventType.ASSET_MATERIALIZATION, ["dagster/data_version"]
    )
    assert tags == {record.partition_key: {"dagster/data_version": record.run_id} for record in found}


def test_failures_that_only_dagster_plus_keeps(batched: dg.DagsterInstance) -> None:
    """Dagster keeps them back itself; where it does not, each storage does as the one it is made from."""
    failed = Chance(0).failed_to_materialise(RUNS[0])
    store(batched, [failed, *materialisations(RUNS[0], 2), failed])
    kept = [event.dagster_event_type == failed.dagster_event_type for event in batched.all_logs(RUNS[0])]
    assert kept == ([True, False, False, True] if batched.event_log_storage.is_run_sharded else [False, False])


def test_slow_records_are_told_of_once_a_run(
    tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("SAS_BASE_DIR", str(mirror))
    told = {}
    for ours in (False, True):
        monkeypatch.setenv("DAGSTER_HOME", str(home(tmp_path / str(ours), request, "sqlite", ours=ours)))
        with dg.DagsterInstance.get() as instance:
            for times in range(2):
                run = defs.resolve_job_def("discover").execute_in_process(instance=instance)
                lines = [event.user_message for event in instance.all_logs(run.run_id)]
                told[ours, times] = sum("astra-dagster init" in line for line in lines)
    assert told == {(False, 0): 1, (False, 1): 1, (True, 0): 0, (True, 1): 0}


def test_an_instance_in_memory_is_not_told_of(caplog: pytest.LogCaptureFixture) -> None:
    @dg.op
    def twice(context: dg.OpExecutionContext) -> None:
        records.warn_if_slow(context)
        records.warn_if_slow(context)

    @dg.job
    def job() -> None:
        twice()

    with dg.DagsterInstance.ephemeral() as instance, dg.DagsterInstance.local_temp() as on_disk:
        for where, expected in ((instance, 0), (on_disk, 1)):
            run = job.execute_in_process(instance=where)
            lines = [event.user_message for event in where.all_logs(run.run_id)]
            assert sum("astra-dagster init" in line for line in lines) == expected
