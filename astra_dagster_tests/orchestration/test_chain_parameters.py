"""Parameters through a chain, from the command line to the last record: no link is quietly made with another value."""

import sys
from collections.abc import Iterator, Mapping

import dagster as dg
import pytest
from click.testing import CliRunner, Result

from astra_dagster import product, settings
from astra_dagster.cli import main
from astra_dagster.definitions import build_definitions
from astra_dagster.orchestration.checks import _find_store, newest_records
from astra_dagster.orchestration.clean import CleanConfig, survey
from astra_dagster.orchestration.discover import discover_job
from astra_dagster.orchestration.partitions import register
from astra_dagster.orchestration.runs.launchpad import Launchpad, RunConfig
from astra_dagster.outputs.store import OutputStore
from astra_dagster.tasks import registry
from astra_dagster.tasks.task import Task
from astra_dagster_tests.orchestration.chain import update

RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
KEYS = [f"DR17/apo25m/120+12/5226/56000/00{fibre}" for fibre in (1, 2)]

TASKS = """
import numpy as np
from astra_dagster import Parameters, ap_visit, grouped, spectrum_task


class Orders(Parameters):
    order: int = 3


@spectrum_task(requires=ap_visit, parameters=Orders, version="1")
def level(spectra, parameters):
    return {"n": np.full(len(spectra), parameters.order)}


@spectrum_task(requires=level.sharing("order"), parameters=Orders, version="1")
def slope(levels, parameters):
    return {"n": 10 * levels["n"] + parameters.order}


@spectrum_task(requires=level, parameters=Orders, version="1")
def alone(levels, parameters):
    return {"n": 10 * levels["n"] + parameters.order}


@spectrum_task(requires=grouped(level.sharing("order"), by="field"), parameters=Orders, version="1")
def mean(levels, parameters):
    return {"n": np.mean([each["n"] for each in levels])}
"""


@pytest.fixture
def tasks(instance: dg.DagsterInstance) -> Iterator[Mapping[str, Task]]:
    """Tasks of a user over two visits."""
    folder = settings.dagster_home()
    (folder / "chained.py").write_text(TASKS)
    (folder / "astra.toml").write_text('packages = ["chained"]\nworkers = "in-process"\n')
    register(instance, product("apVisit"), KEYS, registry.groups())
    yield registry.tasks()
    del sys.modules["chained"]


def astra(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def run(*arguments: str) -> str:
    result = astra("run", *arguments)
    assert result.exit_code == 0, result.output
    return result.output


def results(task: Task, key: str = KEYS[0]) -> float:
    store = OutputStore(settings.outputs_dir(), task, task.values())
    (value,) = store.read(task.domain.parse_key(key))["n"].tolist()
    return float(value)


def test_a_shared_parameter_reaches_the_first_link_and_back(tasks: Mapping[str, Task]) -> None:
    slope = tasks["slope"]
    run("slope")
    assert results(slope) == 33
    told = run("slope", "--set", "order=7")
    assert "2 parameters changed: order 3 -> 7\nslope: 2 partitions" in told
    assert "4 computed" in told
    assert results(slope.setting(order=7)) == 77
    assert "computed" not in run("slope", "--set", "order=7")
    # The outputs of before are found again, link by link.
    assert "0 computed" in run("slope")
    assert astra("plan", "slope").output == "".join(
        f"{name}: 2 partitions\n2 complete, 0 to do\n" for name in ("level", "slope")
    )
    assert results(slope) == 33


def test_any_link_is_set_by_its_name(tasks: Mapping[str, Task]) -> None:
    alone = tasks["alone"]
    run("alone")
    kept = "order=7 is that of alone; level keeps order=3: --set level.order=7, or sharing\n"
    told = astra("plan", "alone", "--set", "order=7").output
    assert told.endswith(f"  2 parameters changed: order 3 -> 7\n{kept}")
    assert astra("plan", "alone", "--set", "order=7", "--json").stderr == kept
    assert kept in run("alone", "--set", "order=7")
    assert results(alone.setting(order=7)) == 37
    told = run("alone", "--set", "level.order=7")
    assert kept not in told
    assert "waits" not in told
    assert results(alone.setting({"level.order": 7})) == 73
    story = astra("plan", "alone", "--set", "level.order=5", "--explain", KEYS[0]).output
    assert "level (code version 1, digest" in story
    assert "  order = 5" in story
    assert f"  {KEYS[0]}: to do: parameters changed: order 7 -> 5" in story
    folder = settings.outputs_dir() / "alone" / alone.setting({"level.order": 7}).digest(alone.values())
    (output,) = folder.rglob("*-001.json")
    level = tasks["level"]
    assert f'"level/{level.digest(level.values({"order": 7}))}"' in output.read_text()
    for values, message in (
        ("levl.order=7", "alone requires no task 'levl'; did you mean level?"),
        ("level.ordr=7", "level: no parameter 'ordr'; did you mean order?"),
    ):
        refused = astra("run", "alone", "--set", values)
        assert (refused.exit_code, message in refused.output) == (1, True)


def test_a_changed_link_is_a_reason_that_names_it(tasks: Mapping[str, Task]) -> None:
    run("alone", "--set", "level.order=7")
    run("level")
    assert "  2 parameters changed: level.order 7 -> 3\n" in astra("plan", "alone").output


def test_groups_share_too(tasks: Mapping[str, Task]) -> None:
    run("mean", "--set", "order=7")
    assert results(tasks["mean"].setting(order=7), "DR17/120+12") == 7
    assert "computed" not in run("mean", "--set", "order=7")


def test_several_tasks_take_what_they_have(tasks: Mapping[str, Task]) -> None:
    run("level", "alone", "slope", "ap_visit_snr", "--set", "order=7")
    assert [results(tasks[name].setting(order=7)) for name in ("level", "slope")] == [7, 77]
    assert results(tasks["alone"].setting({"level.order": 7}, order=7)) == 77
    refused = astra("run", "alone", "slope", "--set", "slope.order=7")
    assert "level is needed with order=3 and with order=7; set level.order for all" in refused.output


def test_a_launch_sets_any_link(instance: dg.DagsterInstance, tasks: Mapping[str, Task]) -> None:
    assert discover_job.execute_in_process(instance=instance).success
    alone = tasks["alone"]
    where = {"fibre": ["1"], "plate": ["5226"]}
    assert update(instance, alone, where=where, order=5, also_set={"level.order": 7}).success
    assert results(alone.setting({"level.order": 7}, order=5)) == 75
    assert update(instance, tasks["level"], where=where, also=["slope"], also_set={"order": 2}).success
    assert results(tasks["slope"].setting(order=2)) == 22
    with pytest.raises(dg.DagsterInvalidConfigError, match="level: no parameter 'ordr'"):
        update(instance, alone, also_set={"level.ordr": 7})
    asked = {name: Launchpad(task, RunConfig).kind.model_fields.keys() for name, task in tasks.items()}
    assert "also_set" in asked["alone"]
    assert "also_set" not in asked["level"]


def test_assets_and_tables_take_it_too(instance: dg.DagsterInstance, tasks: Mapping[str, Task]) -> None:
    run("alone", "--set", "level.order=7")
    done = launch(instance, "alone", order=3, also_set={"level.order": 7})
    assert done.success
    (made,) = launch(instance, "alone_table", also_set={"level.order": 7}).asset_materializations_for_node(
        "alone_table"
    )
    assert made.metadata["dagster/row_count"].value == 2
    digest = tasks["alone"].setting({"level.order": 7}).digest(tasks["alone"].values())
    assert f"/alone/{digest}/" in str(made.metadata["parquet"].value)


def launch(instance: dg.DagsterInstance, asset: str, **config: object) -> dg.ExecuteInProcessResult:
    job = build_definitions().resolve_implicit_global_asset_job_def()
    return job.execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(asset)],
        tags=dict(zip(RANGE, KEYS, strict=True)) if not asset.endswith("_table") else {},
        run_config={"ops": {asset: {"config": config}}},
        raise_on_error=False,
    )


def test_clean_and_checks_know_what_any_link_can_be_set_to(
    instance: dg.DagsterInstance, tasks: Mapping[str, Task]
) -> None:
    alone = tasks["alone"]
    run("alone", "--set", "level.order=7")
    record = newest_records(instance, alone, 1)[KEYS[1]]
    store = _find_store(settings.outputs_dir(), alone, record.digest)
    assert store.digest == record.digest != alone.digest(alone.values())
    assert [item.values().as_dict() for item in store.task.chain] == [{"order": 7}, {"order": 3}]
    run("alone")
    root = settings.outputs_dir()
    found = survey(instance, root, CleanConfig(tasks=["alone"]).selection(root))
    assert {item.kind for item in found.candidates} == {"other-parameters"}


def test_a_declared_variant_has_what_it_shares_as_assets(
    instance: dg.DagsterInstance, tasks: Mapping[str, Task]
) -> None:
    folder = settings.dagster_home()
    (folder / "variants").mkdir()
    declaration = "type: astra_dagster.SpectrumTask\nattributes:\n  task: {}\n  name: nine\n  parameters:\n    {}: 9\n"
    texts = [declaration.format("slope", "order"), declaration.format("alone", "level.order")]
    (folder / "variants" / "defs.yaml").write_text("---\n".join(texts))
    (folder / "astra.toml").write_text('packages = ["chained"]\nworkers = "in-process"\ndefs = "variants"\n')
    names = set(registry.tasks()) - set(tasks)
    assert registry.broken() == {}
    assert names == {"slope_nine", "alone_nine", "level_order_9"}
    assets = build_definitions().resolve_asset_graph()
    assert {name for name in names if dg.AssetKey(name) in assets.get_all_asset_keys()} == names
    assert {key.to_user_string() for key in assets.get(dg.AssetKey("slope_nine")).parent_keys} == {"level_order_9"}
    run("slope_nine", "alone_nine")
    assert results(registry.find_task("slope_nine")) == 99
    assert results(registry.find_task("alone_nine")) == 93
    assert "2 complete, 0 to do" in astra("plan", "level_order_9").output
    run("slope")
    assert "2 complete, 0 to do\nslope_nine: 2 partitions\n2 complete" in astra("plan", "slope_nine").output
