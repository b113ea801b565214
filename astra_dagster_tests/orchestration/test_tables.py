"""The table of every task as an asset, and on the command line."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from astra_dagster.cli import main
from astra_dagster.definitions import build_definitions, defs
from astra_dagster.orchestration.discover import discover_job
from astra_dagster.orchestration.partitions import register
from astra_dagster.orchestration.records import latest, table_name
from astra_dagster.orchestration.runs.jobs import update_job_name, update_run_config
from astra_dagster.orchestration.tables import collection
from astra_dagster.outputs.store import OutputStore
from astra_dagster.outputs.table_head import FORMAT
from astra_dagster.spectra.pixel_flags import APOGEE_REJECTED
from astra_dagster.tasks import registry
from astra_dagster.tasks.snr import ap_visit_snr
from astra_dagster.tasks.task import Task

TASKS = registry.tasks()
VISITS = ap_visit_snr.domain


@pytest.fixture
def done(instance: dg.DagsterInstance) -> dg.DagsterInstance:
    """An instance where the signal-to-noise ratios of all visits and stars are done."""
    assert discover_job.execute_in_process(instance=instance).success
    for name in ("ap_visit_snr", "ap_star_snr"):
        update(instance, TASKS[name])
    return instance


def update(instance: dg.DagsterInstance, task: Task, **config: object) -> None:
    job = defs.resolve_job_def(update_job_name(task))
    assert job.execute_in_process(instance=instance, run_config=update_run_config(task, config)).success


def materialise(instance: dg.DagsterInstance, name: str = "ap_visit_snr", **config: object) -> dg.AssetMaterialization:
    asset = table_name(TASKS[name])
    result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(asset)],
        run_config={"ops": {asset: {"config": config}}},
    )
    (made,) = result.asset_materializations_for_node(asset)
    return made


def metadata(made: dg.AssetMaterialization) -> Mapping[str, Any]:
    return {name: entry.value for name, entry in made.metadata.items()}


def outputs(task: Task = ap_visit_snr, **values: object) -> OutputStore:
    return OutputStore(Path(os.environ["ASTRA_OUTPUTS"]), task, task.values(values))


def rows(made: dg.AssetMaterialization) -> list[dict[str, Any]]:
    return pq.read_table(metadata(made)["parquet"]).to_pylist()


def astra(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_every_task_has_a_table() -> None:
    specs = {spec.key.to_user_string(): spec for spec in build_definitions().resolve_all_asset_specs()}
    for task in TASKS.values():
        spec = specs[table_name(task)]
        assert spec.group_name == "tables"
        assert spec.kinds == {"parquet"}
        assert spec.partitions_def is None
        (dep,) = spec.deps
        assert dep.asset_key.to_user_string() == task.name
        assert isinstance(dep.partition_mapping, dg.AllPartitionMapping)
        assert task.description in (spec.description or "")
        columns = spec.metadata["dagster/column_schema"].columns
        assert {*task.columns, "release", "spectrum", "digest"} <= {column.name for column in columns}


def test_the_table_holds_all_results(done: dg.DagsterInstance) -> None:
    made = materialise(done)
    about = metadata(made)
    found = rows(made)
    assert about["dagster/row_count"] == about["partitions"] == about["new"] == len(found) == 18
    for row in found:
        document = json.loads(outputs().path(VISITS.parse_key(row["key"])).read_text())
        assert {name: row[name] for name in ap_visit_snr.columns} == document["results"]
    assert Path(about["fits"]).is_file()
    assert about["parameters"] == {"fudge_factor": 1.0, "reject": list(APOGEE_REJECTED)}
    types = {column.name: column.type for column in about["dagster/column_schema"].columns}
    assert (types["snr"], types["good_pixels"], types["mjd"]) == ("float", "int", "int")
    lines = about["preview"].splitlines()
    assert len(lines) == 12
    assert lines[0].startswith("| key | release | telescope |")
    assert made.tags is not None
    assert len(made.tags["dagster/data_version"]) == 16


def test_only_what_changed_is_done_again(done: dg.DagsterInstance, mirror: Path) -> None:
    first = materialise(done)
    again = materialise(done)
    assert again.tags["dagster/data_version"] == first.tags["dagster/data_version"]
    assert metadata(again)["new"] == 0
    before = rows(first)
    path = VISITS.parse_key(before[0]["key"]).path(mirror)
    os.utime(path, ns=(1, 1))
    update(done, ap_visit_snr)
    changed = materialise(done)
    assert {name: metadata(changed)[name] for name in ("new", "changed", "dropped")} == {
        "new": 0,
        "changed": 1,
        "dropped": 0,
    }
    assert changed.tags["dagster/data_version"] != first.tags["dagster/data_version"]
    assert [a == b for a, b in zip(before, rows(changed), strict=True)] == [False] + [True] * 17


def test_other_parameters_and_unregistered_partitions(done: dg.DagsterInstance) -> None:
    materialise(done)
    update(done, ap_visit_snr, fudge_factor=2.0, releases=["DR19"])
    one, two = materialise(done), materialise(done, fudge_factor=2.0)
    assert metadata(one)["dropped"] == 0
    assert (len(rows(one)), len(rows(two))) == (18, 6)
    done.delete_dynamic_partition("ap_visit", "DR17/apo25m/120+12/5226/56000/001")
    assert metadata(materialise(done))["dropped"] == 1
    assert metadata(materialise(done, fits=False)).get("fits") is None


def test_what_cannot_be_read_is_told(done: dg.DagsterInstance) -> None:
    key = "DR17/apo25m/120+12/5226/56000/001"
    outputs().path(VISITS.parse_key(key)).write_text("{")
    about = metadata(materialise(done))
    assert (about["dagster/row_count"], about["unreadable"]) == (17, 1)
    (record,) = about["left_out"].records
    assert record.data["partition"] == key
    assert "cannot be read" in record.data["reason"]
    told = astra("table", "ap_visit_snr")
    assert told.exit_code == 0
    assert "left out: the output cannot be read" in told.output
    assert "1 outputs cannot be read" in told.output


def test_records_come_in_portions(done: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("astra_dagster.orchestration.records.LOOK_UP", 5)
    at_once = dict(latest(done, ap_visit_snr))
    monkeypatch.setattr("astra_dagster.orchestration.records.AT_ONCE", 5)
    register(done, VISITS, ["DR17/apo25m/120+12/5226/56000/299"])
    found = dict(latest(done, ap_visit_snr))
    assert len(found) == 18
    assert found == at_once
    assert {text.split(".")[1] for text in found.values()} == {outputs().digest}


def test_rows_go_to_the_database(done: dg.DagsterInstance) -> None:
    config = Path(os.environ["DAGSTER_HOME"]) / "astra.toml"
    config.write_text('[database]\nurl = "sqlite"\n')
    assert metadata(materialise(done))["database"] == "table ap_visit_snr: 18 rows written, 0 deleted, 0 unchanged"
    engine = sa.create_engine(f"sqlite:///{os.environ['ASTRA_OUTPUTS']}/results.sqlite", poolclass=sa.NullPool)
    with engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM ap_visit_snr").scalar() == 18
    config.write_text('[database]\nurl = "mysql://u:sesame@h/db"\n')
    failed = astra("table", "ap_visit_snr")
    assert failed.exit_code == 1
    assert "a database of kind 'mysql' cannot be used" in failed.output
    assert "sesame" not in failed.output


def test_the_command(done: dg.DagsterInstance) -> None:
    first = astra("table", "ap_star_snr")
    assert first.exit_code == 0, first.output
    store = outputs(TASKS["ap_star_snr"])
    lines = first.output.splitlines()
    rows = pq.read_table(store.folder / "ap_star_snr_table.parquet").num_rows
    assert lines[0] == f"{rows} rows of 4 partitions: 4 new, 0 changed, 0 dropped"
    assert lines[1:] == [f"  {store.folder / f'ap_star_snr_table.{kind}'}" for kind in ("parquet", "fits")]
    again = astra("table", "ap_star_snr", "--no-fits")
    assert again.output.splitlines()[0] == f"{rows} rows of 4 partitions: 0 new, 0 changed, 0 dropped"
    written = (store.folder / "ap_star_snr_table.parquet").stat().st_mtime_ns
    assert astra("table", "ap_star_snr", "--overwrite").exit_code == 0
    assert (store.folder / "ap_star_snr_table.parquet").stat().st_mtime_ns > written
    none = astra("table", "ap_star_snr", "--set", "fudge_factor=3")
    assert none.exit_code == 0
    assert "nothing is complete with these parameters; run astra-dagster run ap_star_snr" in none.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nosuch"], "no task 'nosuch'"),
        (["ap_visit_snr", "--set", "nosuch=1"], "no parameter 'nosuch'"),
        (["ap_visit_snr"], "no apVisit partition is registered"),
    ],
)
def test_the_command_says_what_is_wrong(arguments: list[str], message: str, instance: dg.DagsterInstance) -> None:
    told = astra("table", *arguments)
    assert told.exit_code == 1
    assert message in told.output


def test_outputs_that_cannot_be_written(done: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASTRA_OUTPUTS", "/dev/null/outputs")
    told = astra("table", "ap_visit_snr")
    assert told.exit_code == 1
    assert "cannot be written" in told.output


def test_a_task_of_ones_own(instance: dg.DagsterInstance) -> None:
    asset = collection(ap_visit_snr.variant("loud", fudge_factor=9.0))
    assert asset.key.to_user_string() == "ap_visit_snr_loud_table"
    assert asset.code_versions_by_key == {asset.key: f"{ap_visit_snr.version}.{FORMAT}"}
