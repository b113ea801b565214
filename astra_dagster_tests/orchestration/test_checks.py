"""Asset checks on a real Dagster instance: who gets which, what they say, and how little they look at."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from astropy.io import fits
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluation

from astra_dagster.checks import output_checks as checking_outputs
from astra_dagster.checks import reductions
from astra_dagster.checks import table_checks as checking_tables
from astra_dagster.datamodel.products import SEED_PRODUCTS
from astra_dagster.definitions import build_definitions, defs
from astra_dagster.orchestration import checks
from astra_dagster.orchestration.checks import inputs, newest_records
from astra_dagster.orchestration.discover import discover_job
from astra_dagster.orchestration.partitions import registered
from astra_dagster.orchestration.records import table_name
from astra_dagster.orchestration.runs.jobs import update_job_name, update_run_config
from astra_dagster.outputs import document
from astra_dagster.outputs.store import OutputStore
from astra_dagster.tasks import registry
from astra_dagster.tasks.snr import ap_visit_snr
from astra_dagster_tests.checks.checked import OTHER, VISIT, visit_path

TASKS = registry.tasks()
RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
FIRST = "DR17/apo25m/120+12/5226/56000/001"

Found = dict[str, AssetCheckEvaluation]


@pytest.fixture
def visits(instance: dg.DagsterInstance) -> Sequence[str]:
    """Keys of the visits, discovered."""
    assert discover_job.execute_in_process(instance=instance).success
    return registered(instance, ap_visit_snr.domain)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the outputs that were read."""
    seen: list[str] = []
    inner = document.read

    def counted(path: Path, suffix: str) -> Any:
        seen.append(path.stem.removeprefix("ap_visit_snr-").replace("-", "/"))
        return inner(path, suffix)

    monkeypatch.setattr(document, "read", counted)
    return seen


def update(instance: dg.DagsterInstance, task: str = "ap_visit_snr", **config: object) -> bool:
    job = defs.resolve_job_def(update_job_name(TASKS[task]))
    run_config = update_run_config(TASKS[task], config, "in-process")
    return job.execute_in_process(instance=instance, run_config=run_config, raise_on_error=False).success


def materialise(
    instance: dg.DagsterInstance, asset: str, *keys: str, expected: bool = True, **config: dict[str, object]
) -> Found:
    """As the launch button does it: checks are part of the run."""
    result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(asset)],
        tags=dict(zip(RANGE, keys, strict=True)) if keys else {},
        run_config={"ops": {name: {"config": values} for name, values in config.items()}},
        raise_on_error=False,
    )
    assert result.success is expected
    return by_name(result)


def check(instance: dg.DagsterInstance, *assets: str, **config: object) -> Found:
    """As the Checks tab does it: nothing else is run."""
    selection = dg.AssetSelection.checks_for_assets(*(dg.AssetKey(asset) for asset in assets))
    with_job = dg.Definitions.merge(defs, dg.Definitions(jobs=[dg.define_asset_job("some", selection)]))
    ops = {f"{assets[0]}_checks": {"config": config}} if config else {}
    result = with_job.resolve_job_def("some").execute_in_process(
        instance=instance, run_config={"ops": ops}, raise_on_error=False
    )
    assert result.success
    return by_name(result)


def by_name(result: dg.ExecuteInProcessResult) -> Found:
    return {found.check_name: found for found in result.get_asset_check_evaluations()}


def looked_at(found: Found) -> dict[str, int]:
    return {name: int(one.metadata["looked_at"].value) for name, one in found.items()}


def listed(found: AssetCheckEvaluation) -> list[dict[str, Any]]:
    return [record.data for record in found.metadata["listed"].value.records]


def failing(found: Found) -> list[str]:
    return [name for name, one in found.items() if not one.passed]


def test_every_task_and_every_table_has_its_checks() -> None:
    found = {key.to_user_string() for key in build_definitions().resolve_asset_graph().asset_check_keys}
    expected = set()
    for name, task in TASKS.items():
        expected |= {f"{name}:{one.name}" for one in checking_outputs.CHECKS if one.applies(task)}
        expected |= {
            f"{table_name(task)}:{one.name}" for one in (*checking_tables.CHECKS, reductions.CHECK) if one.applies(task)
        }
    assert found == expected
    assert {"ap_visit_snr:snr_as_in_header", "spec_snr:results_finite", "ap_visit_snr_table:nights_alike"} < found
    for checked in build_definitions().asset_checks or ():
        for spec in checked.check_specs:
            assert spec.description.endswith(".")
            assert not spec.blocking


def test_a_task_of_ones_own_has_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_checked.py").write_text(
        "from astra_dagster import ap_visit, spectrum_task\n"
        "@spectrum_task(requires=ap_visit, version='1')\n"
        "def brightness(spectra, parameters):\n"
        "    return {'level': spectra.flux.mean(axis=1)}\n"
    )
    (tmp_path / "own.toml").write_text('packages = ["own_checked"]\n')
    monkeypatch.setenv("ASTRA_CONFIG", str(tmp_path / "own.toml"))
    monkeypatch.syspath_prepend(str(tmp_path))
    keys = {key.to_user_string() for key in build_definitions().resolve_asset_graph().asset_check_keys}
    assert {key for key in keys if key.startswith("brightness")} == {
        "brightness:outputs_as_recorded",
        "brightness:results_finite",
        "brightness_table:all_inputs_done",
        "brightness_table:no_duplicates",
        "brightness_table:nights_alike",
        "brightness_table:reductions_alike",
    }


def test_checks_of_ones_own_are_plain_dagster(instance: dg.DagsterInstance, visits: Sequence[str]) -> None:
    @dg.asset_check(asset="ap_visit_snr")
    def my_check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN)

    merged = dg.Definitions.merge(defs, dg.Definitions(asset_checks=[my_check]))
    result = merged.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, asset_selection=[dg.AssetKey("ap_visit_snr")], tags=dict(zip(RANGE, visits[:2], strict=True))
    )
    assert failing(by_name(result)) == ["my_check"]
    assert len(result.get_asset_check_evaluations()) == 5


def test_a_run_of_two_partitions_checks_them_and_little_else(
    instance: dg.DagsterInstance, visits: Sequence[str], read: list[str]
) -> None:
    assert update(instance)
    found = materialise(instance, "ap_visit_snr", *visits[2:4], ap_visit_snr={"overwrite": True})
    assert (failing(found), set(looked_at(found).values())) == ([], {18})
    read.clear()
    few = {"newest": 1}
    materialise(instance, "ap_visit_snr", *visits[4:6], ap_visit_snr={"overwrite": True}, ap_visit_snr_checks=few)
    assert sorted(read) == sorted(visits[4:6])
    read.clear()
    materialise(instance, "ap_visit_snr", *visits[4:6], ap_visit_snr_checks={"newest": 3})
    assert set(visits[4:6]) < set(read) < set(visits[2:6])


def test_how_many_are_looked_at(
    instance: dg.DagsterInstance, visits: Sequence[str], read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(looked_at(check(instance, "ap_visit_snr")).values()) == {0}
    assert update(instance)
    assert set(looked_at(check(instance, "ap_visit_snr")).values()) == {18}
    read.clear()
    for number, expected in ((5, 5), (0, 18), (100, 18)):
        assert set(looked_at(check(instance, "ap_visit_snr", newest=number)).values()) == {expected}
        assert len(read) == expected
        read.clear()
    monkeypatch.setattr(checks, "PAGE", 4)
    assert list(newest_records(instance, ap_visit_snr, 10)) == list(reversed(visits))[:10]
    assert set(newest_records(instance, ap_visit_snr, 99)) == set(visits)
    assert newest_records(instance, ap_visit_snr, 0) == newest_records(instance, ap_visit_snr, 99)


def test_all_of_the_own_run_is_looked_at_whatever_else_runs(
    instance: dg.DagsterInstance, visits: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "PAGE", 2)
    runs = []
    for release, plate in (("DR17", "5226"), ("DR17", "9911"), ("DR19", "3148")):
        assert update(instance, releases=[release], where={"plate": [plate]})
        runs.append(instance.get_run_records(limit=1)[0].dagster_run.run_id)
    for plate, run_id in zip(("5226", "9911", "3148"), runs, strict=True):
        found = newest_records(instance, ap_visit_snr, 1, run_id)
        own = {key for key in visits if f"/{plate}/" in key}
        assert set(found) - own == ({next(iter(found))} - own)
        assert own <= set(found)


def test_bad_files_are_named(instance: dg.DagsterInstance, visits: Sequence[str], mirror: Path) -> None:
    fits.setval(visit_path(mirror, VISIT), "SNR", value=10.0)
    with fits.open(visit_path(mirror, OTHER), mode="update") as hdus:
        hdus[3].data[:, :2000] |= 1
    found = materialise(instance, "ap_visit_snr", visits[0], visits[5])
    assert failing(found) == ["snr_as_in_header", "bad_pixels"]
    header, bad = found["snr_as_in_header"], found["bad_pixels"]
    assert header.severity == bad.severity == dg.AssetCheckSeverity.WARN
    (row,) = listed(header)
    assert row["key"] == VISIT
    assert row["value"].startswith("snr_green ")
    assert row["expected"] == "SNR 10 by the file's header"
    assert header.metadata["findings"].value == 1
    assert header.description is not None
    assert header.description.startswith(f"1 finding in 6 results, the first {VISIT}: snr_green ")
    assert [row["key"] for row in listed(bad)] == [OTHER]
    assert found["results_finite"].description == "6 results looked at, all as expected"


def test_a_broken_file_keeps_no_check_from_the_others(
    instance: dg.DagsterInstance, visits: Sequence[str], mirror: Path
) -> None:
    visit_path(mirror, FIRST).write_bytes(b"broken")
    fits.setval(visit_path(mirror, VISIT), "SNR", value=10.0)
    keys = [dg.AssetCheckKey(dg.AssetKey("ap_visit_snr"), name) for name in ("snr_as_in_header", "results_finite")]

    def told(**config: dict[str, object]) -> list[tuple[bool, str]]:
        materialise(instance, "ap_visit_snr", visits[0], visits[5], expected=False, **config)
        records = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
        run_id = instance.get_run_records(limit=1)[0].dagster_run.run_id
        assert {records[key].run_id for key in keys} == {run_id}
        events = [records[key].event for key in keys]
        data = [event.dagster_event.asset_check_evaluation_data for event in events if event and event.dagster_event]
        return [(one.passed, one.description or "") for one in data]

    header, finite = told()
    assert header[1].startswith(f"1 finding in 5 results, the first {VISIT}: snr_green ")
    assert finite == (True, "5 results looked at, all as expected")
    assert update(instance, releases=["DR19"])
    assert told(ap_visit_snr_checks={"newest": 1})[1] == (True, "5 results looked at, all as expected")


def test_what_cannot_be_used_is_an_error(
    instance: dg.DagsterInstance, visits: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert update(instance)
    store = OutputStore(Path(os.environ["ASTRA_OUTPUTS"]), ap_visit_snr, ap_visit_snr.values())
    for key in visits[:3]:
        store.path(ap_visit_snr.domain.parse_key(key)).unlink()
    monkeypatch.setattr(checks, "LISTED", 2)
    found = check(instance, "ap_visit_snr")
    assert failing(found) == ["outputs_as_recorded"]
    lost = found["outputs_as_recorded"]
    assert lost.severity == dg.AssetCheckSeverity.ERROR
    assert lost.metadata["findings"].value == 3
    assert [row["key"] for row in listed(lost)] == [visits[2], visits[1]]
    assert found["results_finite"].metadata["looked_at"].value == 15


def test_results_of_other_parameters(instance: dg.DagsterInstance, visits: Sequence[str]) -> None:
    assert update(instance)
    assert update(instance, fudge_factor=2.0, releases=["DR19"])
    found = check(instance, "ap_visit_snr")
    assert (failing(found), set(looked_at(found).values())) == ([], {6})
    assert found["bad_pixels"].description.endswith("12 of other parameters or another code version left out")


def test_results_of_parameters_that_can_no_longer_be(instance: dg.DagsterInstance, visits: Sequence[str]) -> None:
    assert update(instance, fudge_factor=2.0)
    (path,) = Path(os.environ["ASTRA_OUTPUTS"]).rglob("parameters.json")
    path.write_text(path.read_text().replace("fudge_factor", "fudge"))
    found = check(instance, "ap_visit_snr")
    assert (failing(found), set(looked_at(found).values())) == ([], {0})
    expected = "no outputs to look at; 18 of other parameters or another code version left out"
    assert found["outputs_as_recorded"].description == expected


def test_the_table_of_a_task(instance: dg.DagsterInstance, visits: Sequence[str], mirror: Path) -> None:
    asset = "ap_visit_snr_table"
    assert check(instance, asset)["no_duplicates"].description == "no rows to look at; there is no table yet"
    fits.delval(visit_path(mirror, VISIT), "FIBERID")  # else its copy is refused
    shutil.copy2(visit_path(mirror, VISIT), visit_path(mirror, OTHER))
    broken = visit_path(mirror, FIRST)
    broken.write_bytes(broken.read_bytes()[:20000])
    assert not update(instance)
    found = materialise(instance, asset)
    assert failing(found) == ["all_inputs_done", "no_duplicates"]
    (missing,) = listed(found["all_inputs_done"])
    assert missing["key"] == FIRST
    assert missing["value"].startswith("failed: HDU 1 is incomplete")
    (twice,) = listed(found["no_duplicates"])
    assert (twice["key"], twice["value"]) == (VISIT, f"same results as {OTHER}")
    assert {one.severity for one in found.values()} == {dg.AssetCheckSeverity.WARN}
    assert looked_at(found) == {"all_inputs_done": 18, "no_duplicates": 17, "nights_alike": 0, "reductions_alike": 0}
    (parquet,) = Path(os.environ["ASTRA_OUTPUTS"]).rglob("*.parquet")
    parquet.write_bytes(b"PAR1")
    found = check(instance, asset)
    assert len(failing(found)) == 4
    assert {one.severity for one in found.values()} == {dg.AssetCheckSeverity.ERROR}
    assert "the table cannot be read" in listed(found["nights_alike"])[0]["value"]


def test_what_is_input_of_a_task(instance: dg.DagsterInstance, visits: Sequence[str]) -> None:
    instance.add_dynamic_partitions("ap_visit", ["DR17/apo25m/120+12/5226/56000/250"])
    assert inputs(instance, ap_visit_snr) == list(visits)


def test_some_checks_alone(instance: dg.DagsterInstance, visits: Sequence[str]) -> None:
    key = dg.AssetCheckKey(dg.AssetKey("ap_visit_snr"), "bad_pixels")
    job = dg.define_asset_job("one", dg.AssetSelection.checks(key))
    merged = dg.Definitions.merge(defs, dg.Definitions(jobs=[job]))
    result = merged.resolve_job_def("one").execute_in_process(instance=instance)
    assert list(by_name(result)) == ["bad_pixels"]


def test_one_job_runs_all_checks(instance: dg.DagsterInstance, visits: Sequence[str]) -> None:
    there = [name for name, task in TASKS.items() if task.domain.name in SEED_PRODUCTS]
    for name in there:
        assert update(instance, name)
    result = defs.resolve_job_def("check").execute_in_process(instance=instance)
    evaluated = result.get_asset_check_evaluations()
    assert {one.asset_check_key for one in evaluated} == set(defs.resolve_asset_graph().asset_check_keys)
    assert [one.check_name for one in evaluated if not one.passed] == []
    assert result.asset_materializations_for_node("ap_visit_snr_checks") == []


def test_checks_say_what_is_not_set(
    instance: dg.DagsterInstance, visits: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SAS_BASE_DIR")
    result = defs.resolve_job_def("check").execute_in_process(instance=instance, raise_on_error=False)
    (failure, *_) = (event.step_failure_data for event in result.all_events if event.is_step_failure)
    assert failure.user_failure_data is not None
    assert "SAS_BASE_DIR is not set" in str(failure.user_failure_data.description)
