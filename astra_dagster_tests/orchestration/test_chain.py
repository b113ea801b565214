"""Tasks that require tasks: a chain in one run, its plan, its records, and what a broken file costs."""

import os
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest

from astra_dagster import product, settings
from astra_dagster.cli import main
from astra_dagster.definitions import build_definitions
from astra_dagster.demo import write_spec
from astra_dagster.orchestration import records
from astra_dagster.orchestration.partitions import registered
from astra_dagster.orchestration.runs.jobs import update_job_name, update_run_config
from astra_dagster.orchestration.sources import make_planner
from astra_dagster.outputs.store import OutputStore
from astra_dagster.planning.plan import Plan
from astra_dagster.planning.status import Status, sentence
from astra_dagster.tasks import registry
from astra_dagster.tasks.task import Task

SPEC = product("spec")

TASKS = '''
import numpy as np
from astra_dagster import Parameters, SpectrumBatch, ap_star, ap_visit, grouped, matching, spec, spectrum_task
from astra_dagster.tasks.continuum import spec_continuum
from astra_dagster.tasks.snr import ap_visit_snr, spec_snr


class DepthParameters(Parameters):
    line: float = 6564.6
    width: float = 10.0


@spectrum_task(requires=spec_continuum, parameters=DepthParameters, version="1")
def line_depth(spectra, parameters):
    """Depth of a line."""
    inside = np.abs(spectra.wavelength - parameters.line) < parameters.width
    return {"depth": 1 - np.where(inside & ~spectra.bad, spectra.flux, np.inf).min(axis=1)}


@spectrum_task(requires=(line_depth, spec_snr), version="1")
def significance(depth, snr, parameters):
    """Depth of a line over its noise."""
    return {"significance": depth["depth"] * snr["snr"]}


@spectrum_task(requires=grouped(spec_snr, by=("run2d", "plate")), version="1")
def plate_snr(members, parameters):
    """Mean S/N of a plate."""
    return {"snr": np.mean([m["snr"][0] for m in members]), "spectra": len(members)}


def of_the_field(star, path):
    return [{"field": star.values["field"]}]


@spectrum_task(requires=(ap_star, matching(ap_visit_snr, ap_star, of_the_field)), version="1")
def star_visits(star, visits, parameters):
    """How many visits there are in the field of a star."""
    return {"visits": np.full(len(star), len(visits))}


@spectrum_task(requires=spec, version="1", stages=3)
def refined(spectra: SpectrumBatch, before, parameters) -> SpectrumBatch:
    """Smooth again and again."""
    source = spectra if before is None else before
    smooth = np.apply_along_axis(lambda row: np.convolve(row, np.ones(3) / 3, "same"), 1, source.flux)
    return SpectrumBatch(flux=smooth, ivar=spectra.ivar, wavelength=spectra.wavelength, unit=spectra.unit)
'''


@pytest.fixture
def tasks(instance: dg.DagsterInstance, mirror: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Task]]:
    """A user's package beside the configuration file; six spectra of one plate besides those of the mirror."""
    import sys

    folder = settings.dagster_home()
    (folder / "my_tasks").mkdir()
    (folder / "my_tasks" / "__init__.py").write_text("")
    (folder / "my_tasks" / "lines.py").write_text(textwrap.dedent(TASKS))
    (folder / "astra.toml").write_text('packages = ["my_tasks"]\n')
    for fibre in range(1, 7):
        write_spec(SPEC.data_id("DR17", run2d="v5_13_2", plate=4000, mjd=55500, fibre=fibre), mirror)
    yield dict(registry.tasks())
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_tasks"]:
        del sys.modules[name]


def discover(instance: dg.DagsterInstance) -> list[str]:
    job = build_definitions().resolve_job_def("discover")
    assert job.execute_in_process(instance=instance).success
    return list(registered(instance, SPEC))


def update(instance: dg.DagsterInstance, task: Task, **config: object) -> dg.ExecuteInProcessResult:
    return (
        build_definitions()
        .resolve_job_def(update_job_name(task))
        .execute_in_process(instance=instance, run_config=update_run_config(task, config), raise_on_error=False)
    )


def launch(instance: dg.DagsterInstance, selection: list[str], first: str, last: str) -> dg.ExecuteInProcessResult:
    """What the web UI does with several assets and a range of partitions."""
    definitions = build_definitions()
    job = definitions.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection={dg.AssetKey(name) for name in selection}
    )
    return job.execute_in_process(
        instance=instance,
        tags={"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last},
        raise_on_error=False,
    )


def plan(instance: dg.DagsterInstance, task: Task, keys: list[str]) -> Plan:
    store = OutputStore(Path(os.environ["ASTRA_OUTPUTS"]), task, task.values())
    return make_planner(instance, store.root, Path(os.environ["SAS_BASE_DIR"])).plan(store, keys)


def waiting(plan: Plan) -> list[tuple[str, str]]:
    return [(one.key, sentence(one.reason)) for one in plan.of(Status.WAITING) if one.reason]


def recorded(instance: dg.DagsterInstance, task: str) -> set[str]:
    return set(instance.get_materialized_partitions(dg.AssetKey(task)))


def failed(instance: dg.DagsterInstance, task: str) -> set[str]:
    from dagster._core.definitions.partitions.context import partition_loading_context
    from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value

    from astra_dagster.orchestration.partitions import partitions_def

    partitions = partitions_def(SPEC)
    with partition_loading_context(dynamic_partitions_store=instance):
        status = get_and_update_asset_status_cache_value(instance, dg.AssetKey(task), partitions)
        return set(status.deserialize_failed_partition_subsets(partitions).get_partition_keys())


CHAIN = ["spec_continuum", "spec_snr", "line_depth", "significance"]


@pytest.mark.parametrize("how", ["update", "launch"])
def test_a_broken_file_is_left_out_of_every_link_and_no_other_is(
    how: str, instance: dg.DagsterInstance, tasks: dict[str, Task], mirror: Path
) -> None:
    keys = discover(instance)
    assert len(keys) == 9
    broken = SPEC.parse_key(keys[4])
    whole = broken.path(mirror).read_bytes()
    broken.path(mirror).write_bytes(whole[:20_000])

    def run() -> dg.ExecuteInProcessResult:
        if how == "update":
            return update(instance, tasks["significance"])
        return launch(instance, CHAIN, keys[0], keys[-1])

    result = run()
    assert not result.success
    good = set(keys) - {broken.key}
    for name in CHAIN:
        assert recorded(instance, name) == good, name
        assert failed(instance, name) == {broken.key}, name
    (event,) = [e for e in result.all_events if e.is_step_failure]
    assert broken.key in event.step_failure_data.user_failure_data.description
    assert str(broken.path(mirror)) in event.step_failure_data.user_failure_data.description
    made = plan(instance, tasks["significance"], keys)
    assert len(made.of(Status.COMPLETE)) == 8
    ((key, reason),) = waiting(made)
    assert key == broken.key
    assert "failed before" in reason

    broken.path(mirror).write_bytes(whole)
    before = {path: path.stat().st_mtime_ns for path in Path(os.environ["ASTRA_OUTPUTS"]).rglob("*.[fj]*[ts]*")}
    assert run().success
    for name in CHAIN:
        assert recorded(instance, name) == set(keys)
        assert failed(instance, name) == set()
    assert list(Path(os.environ["ASTRA_OUTPUTS"]).rglob("*.failed")) == []
    unchanged = [path for path, time in before.items() if path.is_file() and path.stat().st_mtime_ns == time]
    assert len([path for path in unchanged if path.name.startswith(tuple(CHAIN))]) == 8 * 4


def test_a_changed_input_ripples_and_nothing_else_is_done_again(
    instance: dg.DagsterInstance, tasks: dict[str, Task], mirror: Path
) -> None:
    keys = discover(instance)
    task = tasks["significance"]
    assert update(instance, task).success
    assert len(plan(instance, task, keys).of(Status.COMPLETE)) == 9
    path = SPEC.parse_key(keys[2]).path(mirror)
    os.utime(path, ns=(5, 5))
    assert waiting(plan(instance, task, keys)) == [(keys[2], "spec_continuum first: input changed")]
    assert update(instance, task).success
    assert len(plan(instance, task, keys).of(Status.COMPLETE)) == 9


def test_a_task_whose_requirement_is_not_done_says_so(instance: dg.DagsterInstance, tasks: dict[str, Task]) -> None:
    keys = discover(instance)
    result = launch(instance, ["line_depth"], keys[0], keys[1])
    assert not result.success
    (event,) = [e for e in result.all_events if e.is_step_failure]
    assert "spec_continuum first: no record" in event.step_failure_data.user_failure_data.description
    assert recorded(instance, "line_depth") == set()


def test_what_is_required_with_other_parameters_is_another_result(
    instance: dg.DagsterInstance, tasks: dict[str, Task]
) -> None:
    keys = discover(instance)
    task = tasks["line_depth"]
    assert update(instance, task).success
    assert update(instance, tasks["spec_continuum"], order=5).success  # the latest records are of other parameters now
    made = plan(instance, task, keys)
    assert waiting(made) == [(key, "spec_continuum is to be recorded again") for key in keys]
    assert update(instance, task).success
    assert len(plan(instance, task, keys).of(Status.COMPLETE)) == 9
    folders = [p for p in (Path(os.environ["ASTRA_OUTPUTS"]) / "spec_continuum").iterdir() if p.is_dir()]
    assert len(folders) == 2


def test_groups_are_registered_with_their_members_and_follow_them(
    instance: dg.DagsterInstance, tasks: dict[str, Task], mirror: Path
) -> None:
    discover(instance)
    task = tasks["plate_snr"]
    groups = list(registered(instance, task.domain))
    assert sorted(groups) == ["DR17/26/0266", "DR17/v5_13_2/3586", "DR17/v5_13_2/4000", "DR17/v5_13_2/7027"]
    assert update(instance, task).success
    store = OutputStore(Path(os.environ["ASTRA_OUTPUTS"]), task, task.values())
    assert store.read(task.domain.parse_key("DR17/v5_13_2/4000"))["spectra"].tolist() == [6]
    assert recorded(instance, "plate_snr") == set(groups)
    write_spec(SPEC.data_id("DR17", run2d="v5_13_2", plate=4000, mjd=55500, fibre=7), mirror)
    discover(instance)
    assert update(instance, task).success
    assert store.read(task.domain.parse_key("DR17/v5_13_2/4000"))["spectra"].tolist() == [7]
    made = plan(instance, task, groups)
    assert len(made.of(Status.COMPLETE)) == 4
    one = update(instance, task, where={"plate": ["4000"]}, releases=["DR17"], overwrite=True)
    assert one.success


def test_a_task_over_groups_that_comes_later_gets_its_partitions(
    instance: dg.DagsterInstance, tasks: dict[str, Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    (settings.dagster_home() / "astra.toml").write_text("")
    discover(instance)
    assert registered(instance, tasks["plate_snr"].domain) == []
    (settings.dagster_home() / "astra.toml").write_text('packages = ["my_tasks"]\n')
    assert CliRunner().invoke(main, ["discover"]).exit_code == 0
    assert len(registered(instance, tasks["plate_snr"].domain)) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "package broken has no task"),
        (
            "import nothing_of_this_name\n",
            "ModuleNotFoundError: No module named 'nothing_of_this_name' (broken.py, line 1)",
        ),
        ("\n\n1 / 0\n", "ZeroDivisionError: division by zero (broken.py, line 3)"),
        ("x = (\n", "SyntaxError"),
        ("TASK(version=1)", "version of made must be letters"),
        ("TASK(name='ap_visit')", "a task cannot be named ap_visit: an asset is"),
        ("TASK(name='spec_snr_table')", "a task cannot be named spec_snr_table"),
        ("TASK(name='spec_snr')", "two tasks named spec_snr"),
        ("PARAMETERS(overwrite: bool = True)", "cannot have a parameter overwrite"),
        ("PARAMETERS(width = 1.0)", "P.width is no parameter without a type"),
        ("PARAMETERS(width: list = [1.0])", "use a tuple"),
    ],
)
def test_a_package_that_cannot_be_used_says_why_and_the_rest_is_there(
    text: str, message: str, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    head = "from astra_dagster import Parameters, spec, spectrum_task\n"
    body = "\n(lambda s, p: {{'n': [1.0] * len(s)}})"
    if text.startswith("TASK("):
        options = {"name": "'made'", "version": "'1'"} | dict([text[5:-1].split("=")])
        given = ", ".join(f"{name}={value}" for name, value in options.items())
        text = f"{head}made = spectrum_task(requires=spec, {given})" + body.strip().format()
    elif text.startswith("PARAMETERS("):
        text = f"{head}class P(Parameters):\n    {text[11:-1]}\n"
        text += "made = spectrum_task(requires=spec, version='1', name='made', parameters=P)" + body.strip().format()
    (settings.dagster_home() / "broken.py").write_text(text)
    good = f"{head}fine = spectrum_task(requires=spec, version='1', name='fine')(lambda s, p: {{}})\n"
    (settings.dagster_home() / "good.py").write_text(good)
    (settings.dagster_home() / "astra.toml").write_text('packages = ["broken", "good"]\n')
    try:
        discover(instance)
        others = CliRunner().invoke(main, ["plan", "fine"])
        result = CliRunner().invoke(main, ["plan", "made"])
        definitions = build_definitions()
        failed = launch_asset(instance, dg.AssetKey(["broken", "broken"]))
    finally:
        sys.modules.pop("broken", None)
        sys.modules.pop("good", None)
    assert others.exit_code == 0
    assert "3 no record" in others.stdout
    (line,) = others.stderr.splitlines()
    assert message in line
    assert line.startswith(f"left out: {settings.dagster_home() / 'astra.toml'}: packages: ")
    line = line.removeprefix("left out: ")

    assert result.exit_code == 1
    assert line in result.output
    assert result.output.count("\n") == 1

    spec = definitions.get_assets_def(dg.AssetKey(["broken", "broken"])).get_asset_spec()
    assert spec.group_name == "broken"
    assert line in spec.description
    assert not failed.success
    assert failed.failure_data_for_node("broken__broken").user_failure_data.description == line
    assert definitions.resolve_assets_def("fine")


def launch_asset(instance: dg.DagsterInstance, key: dg.AssetKey) -> dg.ExecuteInProcessResult:
    job = build_definitions().resolve_implicit_global_asset_job_def()
    return job.execute_in_process(instance=instance, asset_selection=[key], raise_on_error=False)


SAME = """
from astra_dagster import spec, spectrum_task

@spectrum_task(requires=spec, version="1")
def same(spectra, parameters):
    return {"n": [1.0] * len(spectra)}
"""


def test_of_two_packages_with_one_name_the_second_is_left_out(
    instance: dg.DagsterInstance, tasks: dict[str, Task]
) -> None:
    import sys

    for name in ("the_first", "the_second"):
        (settings.dagster_home() / f"{name}.py").write_text(SAME)
    (settings.dagster_home() / "astra.toml").write_text('packages = ["the_first", "the_second", "my_tasks"]\n')
    try:
        assert registry.find_task("same").module == "the_first"
        assert set(tasks) <= set(registry.tasks())
        (error,) = registry.broken().values()
    finally:
        for name in ("the_first", "the_second"):
            del sys.modules[name]
    words = "package the_second is left out: there are two tasks named same, in the_first and the_second"
    assert f"packages: {words}; give one of them another name" in str(error)


def test_nothing_is_cleaned_while_tasks_are_left_out(instance: dg.DagsterInstance, tasks: dict[str, Task]) -> None:
    """Of outputs of a task that is not known nobody can say whether they are needed."""
    discover(instance)
    assert update(instance, tasks["line_depth"]).success
    (settings.dagster_home() / "astra.toml").write_text('packages = ["my_tasks", "no_such_tasks"]\n')
    for words in ([], ["--yes"], ["--yes", "--task", "line_depth"]):
        result = CliRunner().invoke(main, ["clean", *words])
        assert result.exit_code == 1
        assert "clean needs all tasks: " in result.output
        assert "package no_such_tasks cannot be imported" in result.output
        assert result.output.count("\n") == 1


def test_partitions_that_belong_to_one_of_another_product(instance: dg.DagsterInstance, tasks: dict[str, Task]) -> None:
    discover(instance)
    task = tasks["star_visits"]
    assert update(instance, task, releases=["DR17"]).success
    store = OutputStore(Path(os.environ["ASTRA_OUTPUTS"]), task, task.values())
    counts = {
        key: int(store.read(task.domain.parse_key(key))["visits"][0])
        for key in registered(instance, product("apStar"))
        if key.startswith("DR17")
    }
    assert sorted(counts.values()) == [4, 8, 8]


def test_stages_are_a_chain(instance: dg.DagsterInstance, tasks: dict[str, Task]) -> None:
    keys = discover(instance)
    assert update(instance, tasks["refined"]).success
    for name in ("refined_stage1", "refined_stage2", "refined"):
        assert recorded(instance, name) == set(keys)
    assert len(plan(instance, tasks["refined"], keys).of(Status.COMPLETE)) == 9


def test_every_reason_of_a_plan(instance: dg.DagsterInstance, tasks: dict[str, Task], mirror: Path) -> None:
    keys = discover(instance)
    snr, depth = tasks["spec_snr"], tasks["line_depth"]
    update(instance, depth)
    update(instance, snr)

    def why(task: Task, key: str, **parameters: object) -> str:
        store = OutputStore(Path(os.environ["ASTRA_OUTPUTS"]), task, task.values(parameters))
        return make_planner(instance, store.root, Path(os.environ["SAS_BASE_DIR"])).plan(store, [key]).why(key)

    def output(task: Task, key: str) -> Path:
        return OutputStore(Path(os.environ["ASTRA_OUTPUTS"]), task, task.values()).path(SPEC.parse_key(key))

    new = SPEC.data_id("DR17", run2d="v5_13_2", plate=4001, mjd=55500, fibre=1)
    write_spec(new, mirror)
    discover(instance)
    assert why(snr, new.key) == "to do: no record"
    assert why(snr, keys[0]) == "complete"
    assert why(snr, keys[0], fudge_factor=2.0) == "to do: parameters changed: fudge_factor 1.0 -> 2.0"
    assert why(replace(snr, version="next"), keys[0]) == f"to do: code version {snr.version} -> next"
    os.utime(SPEC.parse_key(keys[1]).path(mirror), ns=(7, 7))
    assert why(snr, keys[1]) == "to do: input changed"
    output(snr, keys[2]).unlink()
    assert why(snr, keys[2]) == "to do: output missing"
    size = output(snr, keys[3]).stat().st_size
    output(snr, keys[3]).write_text("short")
    assert why(snr, keys[3]) == f"to do: output has 5 bytes, recorded were {size}"
    assert why(depth, keys[1]) == "waits: spec_continuum first: input changed"
    update(instance, tasks["spec_continuum"])
    assert why(depth, keys[1]) == "to do: upstream changed: spec_continuum"
    SPEC.parse_key(keys[4]).path(mirror).unlink()
    assert why(snr, keys[4]) == why(depth, keys[4]) == "input gone"
    SPEC.parse_key(keys[5]).path(mirror).write_bytes(b"SIMPLE")
    update(instance, snr)
    assert why(snr, keys[5]).startswith("to do: failed before: not a FITS file")
    assert str(SPEC.parse_key(keys[5]).path(mirror)) in why(snr, keys[5])
    os.utime(SPEC.parse_key(keys[5]).path(mirror), ns=(9, 9))
    assert why(snr, keys[5]) == "to do: input changed"  # it failed with another input
    assert why(snr, "DR17/v5_13_2/9999/55500/0001") == "no input yet"


def test_a_plan_on_the_command_line(instance: dg.DagsterInstance, tasks: dict[str, Task]) -> None:
    keys = discover(instance)
    invoke = CliRunner().invoke
    before = invoke(main, ["plan", "significance"]).output
    assert "spec_continuum: 9 partitions\n0 complete, 9 to do\n  9 no record\n" in before
    assert before.endswith(
        "significance: 9 partitions\n0 complete, 0 to do\n9 wait for a task that they require\n"
        "  9 spec_continuum first: no record\n"
    )
    result = invoke(main, ["run", "significance", "--where", "plate=4000"])
    assert result.exit_code == 0, result.output
    assert invoke(main, ["run", "significance"]).exit_code == 0
    assert "0 to do" in invoke(main, ["run", "significance"]).output
    story = invoke(main, ["plan", "significance", "--explain", keys[0]]).output
    for text in (
        "spec_continuum (code version 1",
        "order = 3",
        f"{keys[0]}: complete",
        "input: line_depth/",
        "output: ",
    ):
        assert text in story
    assert invoke(main, ["plan", "significance", "--explain", "DR17/x"]).exit_code == 1


def test_lineage_is_what_the_tasks_say(tasks: dict[str, Task]) -> None:
    graph = build_definitions().resolve_asset_graph()

    def parents(name: str) -> set[str]:
        return {key.to_user_string() for key in graph.get(dg.AssetKey(name)).parent_keys}

    assert parents("line_depth") == {"spec_continuum"}
    assert parents("significance") == {"line_depth", "spec_snr"}
    assert parents("plate_snr") == {"spec_snr"}
    assert parents("star_visits") == {"ap_star", "ap_visit_snr"}
    assert parents("refined") == {"spec", "refined_stage2"}


def test_dagster_and_the_plan_agree_on_what_is_stale(
    instance: dg.DagsterInstance, tasks: dict[str, Task], mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = discover(instance)
    names = ["spec_snr", "spec_continuum", "line_depth", "significance"]

    def stale() -> set[tuple[str, str]]:
        graph = build_definitions().resolve_asset_graph()
        context = LoadingContextForTest(instance)
        resolver = CachingStaleStatusResolver(instance, graph, context)
        status = {(name, key): resolver.get_status(dg.AssetKey(name), key) for name in names for key in keys}
        return {item for item, value in status.items() if value.value != "FRESH"}

    def planned() -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
        """What is to be done for reasons of its own, and what only once its requirements are."""
        own, waiting = set(), set()
        for name in names:
            made = plan(instance, dict(registry.tasks())[name], keys)
            own |= {(name, one.key) for one in made.of(Status.TO_DO)}
            waiting |= {(name, one.key) for one in made.of(Status.WAITING)}
        return own, waiting

    first = {(name, key) for name in ("spec_snr", "spec_continuum") for key in keys}
    assert planned() == (first, {(name, key) for name in ("line_depth", "significance") for key in keys})
    assert stale() == {(name, key) for name in names for key in keys}  # missing, all of them
    assert update(instance, tasks["significance"]).success
    assert (stale(), set()) == planned() == (set(), set())

    path = SPEC.parse_key(keys[1]).path(mirror)
    before = path.stat().st_mtime_ns
    os.utime(path, ns=(7, 7))
    discover(instance)  # Dagster knows of a changed file once that is recorded
    waiting = {(name, keys[1]) for name in ("line_depth", "significance")}
    assert (stale(), waiting) == planned() == ({(name, keys[1]) for name in ("spec_snr", "spec_continuum")}, waiting)
    os.utime(path, ns=(before, before))
    discover(instance)
    assert (stale(), set()) == planned() == (set(), set())  # the file that was used is back
    os.utime(path, ns=(7, 7))
    discover(instance)
    assert update(instance, tasks["line_depth"]).success
    # One of its two requirements is new, the other is still to be done: to Dagster it is stale, here it waits.
    assert planned() == ({("spec_snr", keys[1])}, {("significance", keys[1])})
    assert stale() == set().union(*planned())
    assert update(instance, tasks["significance"]).success
    assert (stale(), set()) == planned() == (set(), set())

    assert update(instance, tasks["spec_snr"], where={"plate": ["4000"]}, overwrite=True).success
    assert (stale(), set()) == planned() == (set(), set())  # the same results again are no change


def test_records_say_where_they_come_from(instance: dg.DagsterInstance, tasks: dict[str, Task]) -> None:
    keys = discover(instance)
    assert update(instance, tasks["significance"]).success
    wanted = dg.AssetRecordsFilter(dg.AssetKey("significance"), asset_partitions=[keys[0]])
    (record,) = instance.fetch_materializations(wanted, limit=1).records
    tags = record.asset_materialization.tags
    upstream = {
        name: str(records.task_records(instance, tasks[name], [keys[0]])[keys[0]])
        for name in ("line_depth", "spec_snr")
    }
    for name, version in upstream.items():
        assert tags[f"dagster/input_data_version/{name}"] == version
        pointer = records.event_pointers(instance, dg.AssetKey(name), [keys[0]])[keys[0]]
        assert tags[f"dagster/input_event_pointer/{name}"] == str(pointer)
    assert tags["dagster/code_version"] == "1"
