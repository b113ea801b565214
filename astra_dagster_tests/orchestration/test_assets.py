"""The assets are whole: Dagster's own functions take them as they are."""

import re
from pathlib import Path

import dagster as dg
import pytest
import yaml

from astra_dagster import product
from astra_dagster.definitions import defs
from astra_dagster.tasks import registry

KEYS = [f"DR17/apo25m/120+12/5226/56000/00{fibre}" for fibre in (1, 2)]


@pytest.fixture
def registered(instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dg.DagsterInstance:
    (tmp_path / "astra.toml").write_text('workers = "in-process"\n')
    monkeypatch.setenv("ASTRA_CONFIG", str(tmp_path / "astra.toml"))
    instance.add_dynamic_partitions(product("apVisit").asset_name, KEYS)
    return instance


def test_materialize_takes_assets_and_nothing_else(registered: dg.DagsterInstance) -> None:
    assets = [defs.resolve_assets_def(name) for name in ("ap_visit", "ap_visit_snr")]
    assert dg.materialize(assets, instance=registered, partition_key=KEYS[0]).success
    assert registered.get_materialized_partitions(dg.AssetKey("ap_visit_snr")) == {KEYS[0]}
    assert dg.materialize([defs.resolve_assets_def("ap_visit_snr_table")], instance=registered).success


def test_parameters_and_workers_are_set_in_its_run_config(registered: dg.DagsterInstance) -> None:
    asset = defs.resolve_assets_def("ap_visit_snr")
    config = {
        "ops": {"ap_visit_snr": {"config": {"fudge_factor": 2.0}}},
        "resources": {"executor": {"config": {"workers": "threads:2"}}},
    }
    with pytest.raises(dg.Failure, match="threads:2"):
        dg.materialize([asset], instance=registered, partition_key=KEYS[1], run_config=config)
    config["resources"]["executor"]["config"]["workers"] = "in-process"
    assert dg.materialize([asset], instance=registered, partition_key=KEYS[1], run_config=config).success
    (record,) = registered.fetch_materializations(asset.key, limit=1).records
    assert record.asset_materialization is not None
    assert record.asset_materialization.metadata["parameters"].value["fudge_factor"] == 2.0


def test_definitions_of_others_take_them_beside_their_own() -> None:
    own = dg.Definitions(assets=[defs.resolve_assets_def("ap_visit_snr")], resources={"mine": 1})
    assert own.resolve_job_def("__ASSET_JOB").resource_defs.keys() >= {"executor"}


@pytest.mark.parametrize("name", registry.tasks())
def test_the_description_has_what_the_launchpad_takes_and_leads_to_the_job(name: str) -> None:
    asset = defs.resolve_assets_def(name)
    text = asset.descriptions_by_key[asset.key]
    (config,) = re.findall("```yaml\n(.*?)```", text, re.DOTALL)
    given = yaml.safe_load(config)
    taken = dg.validate_run_config(defs.resolve_implicit_global_asset_job_def(), given)["ops"][name]["config"]
    assert given["ops"][name]["config"].items() <= taken.items()
    assert given["ops"][name]["config"].keys() == registry.tasks()[name].values().as_dict(all=True).keys()
    (job,) = re.findall(r"\(\.\./guess/(\w+)/playground\)", text)
    assert defs.resolve_job_def(job).name == f"update_{name}"
