"""The batched event storage answers as Dagster's own does, for the same runs."""

import os
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
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
from astra_dagster.orchestration.jobs import update_job_name, update_run_config
from astra_dagster.orchestration.partitions import partitions_def, registered
from astra_dagster.orchestration.storage import BatchedSqliteEventLogStorage
from astra_dagster.tasks import registry

VISITS = product("apVisit")
SNR = dg.AssetKey("ap_visit_snr")


def set_up(kind: str) -> None:
    folder = Path(os.environ["DAGSTER_HOME"])
    if kind == "batched":
        assert CliRunner().invoke(main, ["init"]).exit_code == 0
    else:
        folder.mkdir()
        (folder / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")


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
        logs = [Counter(str(e.dagster_event_type) for e in instance.all_logs(run.run_id)) for run in runs]
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


def test_every_question_has_the_same_answer(tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    monkeypatch.setenv("SAS_BASE_DIR", str(mirror))
    for kind in ("stock", "batched"):
        monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / kind))
        monkeypatch.setenv("ASTRA_OUTPUTS", str(tmp_path / f"out-{kind}"))
        monkeypatch.delenv("DAGSTER_EVENT_BATCH_SIZE", raising=False)
        set_up(kind)
        found[kind] = story(mirror)
        assert (os.environ.get("DAGSTER_EVENT_BATCH_SIZE") is not None) == (kind == "batched")
    assert found["stock"] == found["batched"]
    assert len(found["batched"]["range"]["failed"]) == 1
    assert len(found["batched"]["end"]["partitions"]) == 18


def test_an_instance_may_be_switched(tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAS_BASE_DIR", str(mirror))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    set_up("stock")
    assert CliRunner().invoke(main, ["discover"]).exit_code == 0
    (tmp_path / "home" / "dagster.yaml").unlink()
    assert CliRunner().invoke(main, ["init"]).exit_code == 0
    assert "0 new, 0 changed" in CliRunner().invoke(main, ["discover"]).output
    with dg.DagsterInstance.get() as instance:
        assert isinstance(instance.event_log_storage, BatchedSqliteEventLogStorage)
        assert len(registered(instance, VISITS)) == 18
    again = CliRunner().invoke(main, ["init"])
    assert again.exit_code == 1
    assert "there is a dagster.yaml already" in again.output


@pytest.fixture
def batched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    set_up("batched")
    with dg.DagsterInstance.get() as instance:
        yield instance


DYING = """
import os, sqlite3
import dagster as dg
from dagster._core.events import DagsterEvent, StepMaterializationData
from dagster._core.events.log import EventLogEntry
from astra_dagster.orchestration import storage

def events(run_id, n):
    made = []
    for i in range(n):
        tags = {"dagster/data_version": "1"}
        data = StepMaterializationData(dg.AssetMaterialization("a", partition=f"{run_id}-{i}", tags=tags))
        event = DagsterEvent("ASSET_MATERIALIZATION", "job", event_specific_data=data)
        made.append(EventLogEntry(None, 10, "", run_id, 1.0 + i, None, "job", event))
    return made

with dg.DagsterInstance.get() as instance:
    log = instance.event_log_storage
    log.store_event_batch(events("first", 500))
    tags = log._store_asset_event_tags
    def die(*arguments):
        tags(*arguments)
        os.kill(os.getpid(), 9)
    log._store_asset_event_tags = die
    log.store_event_batch(events("second", 500))
"""


def test_killed_in_the_middle_of_a_batch_leaves_whole_batches_only(batched: dg.DagsterInstance) -> None:
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(DYING)], capture_output=True, text=True, check=False)
    assert run.returncode == -9, run.stderr
    found = batched.fetch_materializations(dg.AssetKey("a"), limit=2000).records
    assert Counter(record.run_id for record in found) == {"first": 500}
    assert len(batched.get_materialized_partitions(dg.AssetKey("a"))) == 500


def test_writers_at_the_same_time_lose_nothing(batched: dg.DagsterInstance) -> None:
    head, _, _ = textwrap.dedent(DYING).partition("    tags = log.")
    script = head.replace('"first", 500', "__import__('sys').argv[1], 300")

    def write(name: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", script, name], capture_output=True, text=True, check=False)

    with ThreadPoolExecutor() as pool:
        for run in pool.map(write, "abcd"):
            assert run.returncode == 0, run.stderr
    found = batched.fetch_materializations(dg.AssetKey("a"), limit=5000).records
    assert Counter(record.run_id for record in found) == dict.fromkeys("abcd", 300)
