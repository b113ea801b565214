"""Tasks over the same files in one run: each file read once, whoever is asked; who computes; and progress."""

from collections import Counter
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner, Result

from astra_dagster import product
from astra_dagster.cli import main
from astra_dagster.definitions import defs
from astra_dagster.execution import runner
from astra_dagster.execution.workers import Crew, Workers
from astra_dagster.orchestration.partitions import registered
from astra_dagster.orchestration.runs import materialise
from astra_dagster.orchestration.runs.jobs import update_job_name, update_run_config
from astra_dagster.resources import Resources
from astra_dagster.spectra.readers import read_spectra
from astra_dagster.tasks.registry import find_task

VISITS = product("apVisit")
TASKS = ("ap_visit_snr", "ap_visit_continuum")


@pytest.fixture
def keys(instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    config = tmp_path / "astra.toml"
    config.write_text('workers = "in-process"\n')
    monkeypatch.setenv("ASTRA_CONFIG", str(config))
    assert defs.resolve_job_def("discover").execute_in_process(instance=instance).success
    return list(registered(instance, VISITS))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[Path]:
    counts: Counter[Path] = Counter()

    def read_counted(path: Path, *product: Any, **options: Any) -> Any:
        counts[path] += 1
        return read_spectra(path, *product, **options)

    monkeypatch.setattr(runner, "read_spectra", read_counted)
    return counts


def run_assets(instance: dg.DagsterInstance, keys: list[str], config: dict[str, Any] | None = None) -> Any:
    return defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(name) for name in TASKS],
        tags={"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]},
        run_config=config or {},
        raise_on_error=False,
    )


def materialised(instance: dg.DagsterInstance, name: str) -> Counter[str]:
    records = instance.fetch_materializations(dg.AssetKey(name), limit=1000).records
    return Counter(record.partition_key for record in records)


def test_assets_of_one_run_read_each_file_once(
    instance: dg.DagsterInstance, keys: list[str], read: Counter[Path]
) -> None:
    assert run_assets(instance, keys).success
    assert len(read) == len(keys)
    assert set(read.values()) == {1}
    for name in TASKS:
        assert materialised(instance, name) == Counter(keys)


def test_each_with_its_own_parameters(instance: dg.DagsterInstance, keys: list[str], read: Counter[Path]) -> None:
    given = {"ap_visit_snr": {"fudge_factor": 2.0}, "ap_visit_continuum": {"order": 2, "verify": True}}
    assert run_assets(instance, keys, {"ops": {name: {"config": values} for name, values in given.items()}}).success
    assert set(read.values()) == {1}
    for name, parameter, value in (("ap_visit_snr", "fudge_factor", 2.0), ("ap_visit_continuum", "order", 2)):
        (record,) = instance.fetch_materializations(dg.AssetKey(name), limit=1).records
        assert record.asset_materialization is not None
        assert record.asset_materialization.metadata["parameters"].value[parameter] == value


def test_overwrite_computes_each_once(instance: dg.DagsterInstance, keys: list[str], read: Counter[Path]) -> None:
    assert run_assets(instance, keys).success
    read.clear()
    overwrite = {"ops": {name: {"config": {"overwrite": True}} for name in TASKS}}
    assert run_assets(instance, keys, overwrite).success
    assert set(read.values()) == {2}  # once a task: what the other has just made is not made again by its own step
    for name in TASKS:
        assert set(materialised(instance, name).values()) == {2}


def test_a_broken_file_fails_in_both_and_only_there(
    instance: dg.DagsterInstance, keys: list[str], mirror: Path
) -> None:
    broken = VISITS.parse_key(keys[3]).path(mirror)
    broken.write_bytes(broken.read_bytes()[:30_000])
    result = run_assets(instance, keys)
    assert not result.success
    for name in TASKS:
        assert materialised(instance, name).keys() == set(keys) - {keys[3]}
    failures = [str(e.step_failure_data.user_failure_data.description) for e in result.all_events if e.is_step_failure]
    assert len(failures) == 2
    assert all(f"1 of {len(keys)} partitions failed\n{keys[3]}: " in failure for failure in failures)


def cli(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_the_command_takes_several(instance: dg.DagsterInstance, keys: list[str], read: Counter[Path]) -> None:
    result = cli("run", *TASKS)
    assert result.exit_code == 0, result.output
    assert "36 computed; outputs in " in result.output
    assert all(name in result.output for name in TASKS)
    assert set(read.values()) == {1}
    assert "18 complete, 0 to do" in cli("run", *TASKS).output
    refused = cli("run", *TASKS, "--set", "ordr=2")
    assert refused.exit_code == 1
    assert "no parameter 'ordr' in ap_visit_snr and ap_visit_continuum; did you mean order" in refused.output
    told = cli("run", *TASKS, "--set", "order=2", "--set", "fudge_factor=2", "--dry-run").output
    assert "  18 parameters changed: fudge_factor 1.0 -> 2.0\n" in told
    assert "  18 parameters changed: order 3 -> 2\n" in told


def run_job(instance: dg.DagsterInstance, workers: str) -> Any:
    task = find_task("ap_visit_snr")
    return defs.resolve_job_def(update_job_name(task)).execute_in_process(
        instance=instance, run_config=update_run_config(task, {}, workers), raise_on_error=False
    )


def test_who_computes_is_configuration(instance: dg.DagsterInstance, keys: list[str]) -> None:
    result = run_job(instance, "threads")
    assert not result.success
    (event,) = [e for e in result.all_events if e.is_step_failure]
    assert "workers cannot be 'threads'" in str(event.step_failure_data.user_failure_data.description)
    assert run_job(instance, "processes:1").success
    assert cli("run", "ap_visit_snr", "--workers", "processes:0", "--overwrite").exit_code == 2


def test_progress_is_told(instance: dg.DagsterInstance, keys: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(materialise, "TELL_AFTER", 0.0)
    result = run_job(instance, "in-process")
    told = [entry.user_message for entry in instance.all_logs(result.run_id)]
    assert any("of 18, " in line and " a second, " in line and " s left" in line for line in told)
    assert "ap_visit_snr: 18 computed" in told


def test_workers_have_what_any_task_of_the_run_needs(
    instance: dg.DagsterInstance, keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Resources] = []

    class NotedCrew(Crew):
        def __init__(self, workers: Workers, needed: Resources) -> None:
            given.append(needed)
            super().__init__(workers, needed)

    monkeypatch.setattr(materialise, "Crew", NotedCrew)
    needs = ({"memory": "1GB", "gpus": 1}, {"memory": "2GB", "walltime": "01:00:00"})
    for name, needed in zip(TASKS, needs, strict=True):
        monkeypatch.setitem(find_task(name).__dict__, "resources", Resources.read(needed))
    assert run_assets(instance, keys[:1]).success
    assert given[:1] == [Resources(memory=2 * 10**9, walltime=3600, gpus=1)]
