"""A variant declared in YAML is what a variant in Python is, wherever Dagster or a command looks for it."""

import configparser
import importlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from dagster.components.core.package_entry import DG_PLUGIN_ENTRY_POINT_GROUP, get_package_objects_in_module

import astra_dagster
from astra_dagster import product
from astra_dagster.cli import main
from astra_dagster.definitions import build_definitions
from astra_dagster.errors import ConfigurationError
from astra_dagster.execution import runner
from astra_dagster.orchestration.component import SpectrumTask, task_definitions
from astra_dagster.orchestration.partitions import registered
from astra_dagster.orchestration.runs.jobs import jobs_of, update_job_name, update_run_config
from astra_dagster.orchestration.watch.jobs import any_job_name, any_run_config
from astra_dagster.orchestration.watch.settings import watched
from astra_dagster.outputs.store import OutputStore
from astra_dagster.spectra.readers import read_spectra
from astra_dagster.tasks import registry
from astra_dagster.tasks.continuum import ap_visit_continuum
from astra_dagster.tasks.declared import read_declared

# Dagster's own use of what pydantic is replacing, wherever it reads a defs.yaml.
pytestmark = pytest.mark.filterwarnings("ignore:`parse_obj_as` is deprecated")

VISITS = product("apVisit")
ORDER5 = """\
type: astra_dagster.SpectrumTask
attributes:
  task: ap_visit_continuum
  name: order5
  parameters:
    order: 5
"""
DOUBLE = """\
type: astra_dagster.SpectrumTask
attributes:
  task: ap_visit_snr
  name: double
  parameters: {fudge_factor: 2.0}
"""
BOTH = ("ap_visit_snr", "ap_visit_snr_double")


@pytest.fixture
def declare(instance: dg.DagsterInstance, tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Write a file of the folder that the configuration, beside the instance's, names."""
    home = tmp_path / "home"
    (home / "astra.toml").write_text('defs = "declared"\nworkers = "in-process"\n')

    def write(text: str, name: str = "some/defs.yaml") -> Path:
        file = home / "declared" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        read_declared.cache_clear()
        return file

    yield write
    for name in [name for name in sys.modules if name.partition(".")[0] in ("declared", "my_survey")]:
        del sys.modules[name]


@pytest.fixture
def keys(instance: dg.DagsterInstance, declare: Callable[..., Path]) -> list[str]:
    """All visits of the mirror, registered; two variants are declared."""
    declare(ORDER5 + "---\n" + DOUBLE)
    assert build_definitions().resolve_job_def("discover").execute_in_process(instance=instance).success
    return list(registered(instance, VISITS))


def astra(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def described(assets: dg.AssetsDefinition) -> dict[str, object]:
    (spec,) = assets.specs
    names = ("key", "deps", "description", "group_name", "code_version", "owners", "kinds", "partitions_def", "tags")
    metadata = {name: spec.metadata[name] for name in spec.metadata if name not in ADDED}
    config = assets.op.config_schema.as_field().config_type.key  # a hash of all fields and their defaults
    others = {"metadata": metadata, "policy": assets.backfill_policy, "config": config, "op": assets.op.name}
    return {name: getattr(spec, name) for name in names} | others | {"resources": assets.required_resource_keys}


ADDED = ("dagster/code_references", "dagster/component_origin")
"""What Dagster adds to anything of a component's."""


def test_assets_and_job_are_those_of_python(declare: Callable[..., Path]) -> None:
    file = declare(ORDER5)
    declared = build_definitions()
    python = task_definitions(ap_visit_continuum.variant("order5", order=5))
    for name in ("ap_visit_continuum_order5", "ap_visit_continuum_order5_table"):
        found = declared.resolve_assets_def(name)
        assert described(found) == described(python.resolve_assets_def(name))
        (reference,) = next(iter(found.specs)).metadata["dagster/code_references"].code_references
        assert (reference.file_path, reference.line_number) == (str(file), 1)
    name = update_job_name(registry.find_task("ap_visit_continuum_order5"))
    jobs = [definitions.resolve_job_def(name) for definitions in (declared, python)]
    assert jobs[0].description == jobs[1].description
    assert jobs[0].run_config_schema.config_type.key == jobs[1].run_config_schema.config_type.key
    assert build_definitions().resolve_assets_def("ap_visit_continuum")  # and the task itself is still there


def test_all_ways_of_running_it_know_it(
    instance: dg.DagsterInstance, keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = registry.find_task("ap_visit_continuum_order5")
    job = build_definitions().resolve_job_def(update_job_name(task))
    run_config = update_run_config(task, {"releases": ["DR19"]})
    assert job.execute_in_process(instance=instance, run_config=run_config).success
    python = ap_visit_continuum.variant("order5", order=5)
    store = OutputStore(Path(os.environ["ASTRA_OUTPUTS"]), python, python.values())
    written = {store.path(VISITS.parse_key(key)) for key in keys if key.startswith("DR19/")}
    assert len(written) == 6
    assert set(store.folder.rglob("*.fits*")) == written

    assert "ap_visit_continuum_order5: 18 partitions\n6 complete, 12 to do" in astra("plan", task.name).output
    assert "12 computed" in astra("run", task.name).output
    assert len(instance.get_materialized_partitions(dg.AssetKey(task.name))) == 18
    assert instance.get_materialized_partitions(dg.AssetKey("ap_visit_continuum")) == set()
    assert "0 to do" in astra("plan", task.name).output
    monkeypatch.setenv("ASTRA_CONFIG", str(Path(os.environ["DAGSTER_HOME"]) / "none.toml"))
    Path(os.environ["ASTRA_CONFIG"]).write_text('workers = "in-process"\n')
    assert "no task 'ap_visit_continuum_order5'" in astra("plan", task.name).output


def test_with_others_in_one_run_each_file_is_read_once(
    instance: dg.DagsterInstance, keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: Counter[Path] = Counter()

    def read_counted(path: Path, *product: object, **options: object) -> object:
        counts[path] += 1
        return read_spectra(path, *product, **options)

    monkeypatch.setattr(runner, "read_spectra", read_counted)
    result = (
        build_definitions()
        .resolve_implicit_global_asset_job_def()
        .execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey(name) for name in BOTH],
            tags={"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]},
        )
    )
    assert result.success
    assert set(counts.values()) == {1}
    for name in BOTH:
        records = instance.fetch_materializations(dg.AssetKey(name), limit=1000).records
        assert Counter(record.partition_key for record in records) == Counter(keys)


def test_it_runs_in_other_processes_and_has_a_table(instance: dg.DagsterInstance, keys: list[str]) -> None:
    result = astra("run", *BOTH, "--release", "DR19", "--workers", "processes:2")
    assert "12 computed" in result.output, result.output
    columns = []
    for name in BOTH:
        table = build_definitions().resolve_implicit_global_asset_job_def()
        assert table.execute_in_process(instance=instance, asset_selection=[dg.AssetKey(f"{name}_table")]).success
        task = registry.find_task(name)
        folder = OutputStore(Path(os.environ["ASTRA_OUTPUTS"]), task, task.values()).folder
        (parquet,) = folder.rglob("*.parquet")
        columns.append(pq.read_table(parquet)["snr"].to_pylist())
    assert len(columns[0]) == 6
    assert columns[1] == [2 * value for value in columns[0]]


def test_a_mistake_is_told_with_file_and_line_and_the_rest_is_there(
    declare: Callable[..., Path], instance: dg.DagsterInstance
) -> None:
    file = declare(ORDER5.replace("5\n", "51\n").replace("order51", "wrong"))
    declare(DOUBLE, "other/defs.yaml")
    declare("import dagster as dg\n\n@dg.asset(deps=['ap_visit_snr_double'])\ndef mine(): ...\n", "mine.py")
    said = f"{file}:6: order cannot be 51; it must be at least 1 and at most 50"
    definitions = build_definitions()
    spec = definitions.get_assets_def(dg.AssetKey(["broken", "ap_visit_continuum_wrong"])).get_asset_spec()
    assert spec.group_name == "broken"
    assert said in spec.description
    for name in ("ap_visit_snr_double", "ap_visit_continuum", "mine"):
        assert definitions.resolve_assets_def(name)
    definitions.get_repository_def().load_all_definitions()
    others = astra("plan", "ap_visit_snr_double")
    assert others.stderr.splitlines()[0] == f"left out: {said}"
    result = astra("run", "ap_visit_continuum_wrong")
    assert (result.exit_code, result.output) == (1, f"Error: {said}\n")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("some/defs.yaml", ORDER5 + ": : :\n", "this is not YAML"),
        ("some/defs.yaml", "type: no_such.Component\n", "no_such"),
        ("wrong.py", "1 / 0\n", "ZeroDivisionError: division by zero"),
    ],
)
def test_what_dagster_cannot_load_leaves_the_rest_alone(
    name: str, text: str, said: str, declare: Callable[..., Path]
) -> None:
    declare(DOUBLE, "other/defs.yaml")
    declare("import dagster as dg\ndefs = dg.Definitions(assets=[dg.AssetSpec('mine')])\n", "mine.py")
    file = declare(text, name)
    definitions = build_definitions()
    for asset in ("ap_visit_snr_double", "ap_visit_continuum"):
        assert definitions.resolve_assets_def(asset)
    specs = {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}
    assert "mine" in specs
    (broken,) = [spec for key, spec in specs.items() if key.startswith("broken/")]
    assert said in broken.description
    assert str(file) in broken.description
    definitions.get_repository_def().load_all_definitions()


def test_the_others_in_a_file_with_a_broken_one_are_there(declare: Callable[..., Path]) -> None:
    declare(ORDER5.replace("5\n", "51\n") + "---\n" + DOUBLE)
    definitions = build_definitions()
    assert definitions.resolve_assets_def("ap_visit_snr_double")
    assert definitions.resolve_job_def("update_ap_visit_snr_double")
    assert dg.AssetKey("ap_visit_continuum_order51") not in definitions.resolve_all_asset_keys()


def test_a_name_that_python_has_is_refused(declare: Callable[..., Path]) -> None:
    file = declare(DOUBLE.replace("ap_visit_snr", "ap_visit").replace("double", "snr"))
    (error,) = registry.broken().values()
    assert str(error).startswith(f"{file}:3: no task 'ap_visit'")
    declare(DOUBLE.replace("double", "half"), "a/defs.yaml")
    file = declare(DOUBLE.replace("double", "half"))
    (error,) = registry.broken().values()
    assert str(error).startswith(f"{file}:4: there is an asset ap_visit_snr_half at ")
    assert "ap_visit_snr_half" in registry.tasks()


def test_the_folder_is_dagsters(declare: Callable[..., Path]) -> None:
    """What else Dagster finds there is loaded too: its own keys in our documents, and other definitions."""
    owned = 'post_processing:\n  assets:\n  - target: "*"\n    attributes: {owners: ["team:survey"]}\n'
    declare(DOUBLE + owned)
    declare("import dagster as dg\n\n@dg.asset(deps=['ap_visit_snr_double'])\ndef mine(): ...\n", "mine.py")
    definitions = build_definitions()
    assert definitions.resolve_assets_def("mine")
    (spec,) = definitions.resolve_assets_def("ap_visit_snr_double").specs
    assert spec.owners == ["team:survey"]
    definitions.get_repository_def().load_all_definitions()


def test_a_file_that_dagster_would_not_see_is_told(declare: Callable[..., Path]) -> None:
    declare(ORDER5)
    below = declare(DOUBLE, "some/below/defs.yaml")
    definitions = build_definitions()
    spec = definitions.get_assets_def(dg.AssetKey(["broken", "ap_visit_snr_double"])).get_asset_spec()
    assert f"{below}:1: ap_visit_snr_double is declared where Dagster does not look" in spec.description
    assert definitions.resolve_assets_def("ap_visit_continuum_order5")


PROJECT = """\
[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "my_survey"
"""
ITS_DEFINITIONS = """
from my_survey.definitions import defs
assert defs.resolve_assets_def("ap_visit_snr_double")
assert defs.resolve_assets_def("ap_visit_snr")
assert defs.resolve_job_def("update_ap_visit_snr_double")
defs.get_repository_def().load_all_definitions()
"""


@pytest.fixture
def project(declare: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project as Dagster's `dg` makes them; its definitions are those of astra_dagster."""
    root = tmp_path / "my-survey"
    defs = root / "src" / "my_survey" / "defs"
    (defs / "double").mkdir(parents=True)
    (root / "pyproject.toml").write_text(PROJECT)
    (defs.parent / "__init__.py").write_text("")
    (defs.parent / "definitions.py").write_text("from astra_dagster.definitions import defs as defs\n")
    (defs / "__init__.py").write_text("")
    (defs / "double" / "defs.yaml").write_text(DOUBLE)
    monkeypatch.syspath_prepend(root / "src")
    return root


def test_in_a_project_of_dagsters(project: Path, tmp_path: Path) -> None:
    (tmp_path / "home" / "astra.toml").write_text('defs = "my_survey.defs"\n')
    env = {**os.environ, "PYTHONPATH": str(project / "src")}
    subprocess.run([sys.executable, "-c", ITS_DEFINITIONS], check=True, env=env)
    alone = dg.load_from_defs_folder(path_within_project=project)  # as its template does: only what is in the folder
    assert {key.to_user_string() for key in alone.resolve_all_asset_keys()} >= {
        "ap_visit_snr_double",
        "ap_visit_snr_double_table",
    }
    alone.get_repository_def().load_all_definitions()
    assert registry.find_task("ap_visit_snr_double").values().as_dict() == {"fudge_factor": 2.0}


def test_a_folder_that_the_configuration_does_not_name_is_refused(project: Path, declare: Callable[..., Path]) -> None:
    declare(DOUBLE)  # of the same name, but elsewhere
    with pytest.raises(Exception, match="Error while building definitions") as caught:
        dg.load_from_defs_folder(path_within_project=project)
    error = caught.value.__cause__
    assert isinstance(error, ConfigurationError)
    assert str(project / "src" / "my_survey" / "defs" / "double") in str(error)
    assert "let defs in the configuration file name 'my_survey.defs'" in str(error)


def test_in_python_there_is_the_variant_of_a_task(declare: Callable[..., Path]) -> None:
    declare(DOUBLE)
    with pytest.raises(ConfigurationError, match=r"in Python, use Task\.variant"):
        dg.build_defs_for_component(SpectrumTask(task="ap_visit_snr", name="double"))


def test_it_is_found_by_dagsters_tools() -> None:
    config = configparser.ConfigParser()
    config.read(Path(__file__).parents[2] / "setup.cfg")
    text = config["options.entry_points"][DG_PLUGIN_ENTRY_POINT_GROUP].strip()
    assert text == "astra_dagster = astra_dagster"
    objects = dict(get_package_objects_in_module(importlib.import_module("astra_dagster")))
    assert objects == {"SpectrumTask": SpectrumTask}
    schema = SpectrumTask.model().model_json_schema()
    assert schema["required"] == ["task", "name"]
    assert all(field["description"] for field in schema["properties"].values())


def test_only_the_component_takes_dagster_along() -> None:
    code = (
        "import sys, astra_dagster\n"
        "for name in astra_dagster.__all__:\n"
        "    if name != 'SpectrumTask': getattr(astra_dagster, name)\n"
        "assert 'dagster' not in sys.modules\n"
        "assert astra_dagster.SpectrumTask.__name__ == 'SpectrumTask' and 'dagster' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert astra_dagster.SpectrumTask is SpectrumTask
    assert "SpectrumTask" in dir(astra_dagster)


def test_releases_are_those_of_a_run_that_is_not_told(
    instance: dg.DagsterInstance, keys: list[str], declare: Callable[..., Path]
) -> None:
    declare(DOUBLE + "  releases: [DR19]\n")
    task = registry.find_task("ap_visit_snr_double")
    assert f"{task.name}: 6 partitions" in astra("plan", task.name).output
    assert f"{task.name}: 12 partitions" in astra("plan", task.name, "--release", "DR17").output
    both = astra("run", *BOTH, "--dry-run").output
    assert "ap_visit_snr: 18 partitions" in both
    assert "ap_visit_snr_double: 6 partitions" in both
    job = build_definitions().resolve_job_def(update_job_name(task))
    assert job.execute_in_process(instance=instance).success
    assert instance.get_materialized_partitions(dg.AssetKey(task.name)) == {k for k in keys if k.startswith("DR19/")}


def test_watching_keeps_to_the_releases(
    instance: dg.DagsterInstance, keys: list[str], declare: Callable[..., Path]
) -> None:
    assert watched(VISITS).by_range
    declare(DOUBLE + "  releases: [DR19]\n")
    assert not watched(VISITS).by_range
    store = OutputStore(Path(os.environ["ASTRA_OUTPUTS"]), task := registry.find_task(BOTH[1]), task.values())
    (job,) = jobs_of(instance, [store], files=keys)
    assert job.keys == [key for key in keys if key.startswith("DR19/")]
    assert jobs_of(instance, [store], files=keys[:1]) == []
    new = [keys[0], keys[-1]]
    result = (
        build_definitions()
        .resolve_job_def(any_job_name(VISITS))
        .execute_in_process(instance=instance, run_config=any_run_config(VISITS, new))
    )
    assert result.success
    assert instance.get_materialized_partitions(dg.AssetKey(BOTH[0])) == set(new)
    assert instance.get_materialized_partitions(dg.AssetKey(BOTH[1])) == {keys[-1]}
