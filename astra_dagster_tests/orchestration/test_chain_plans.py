"""What is said of a chain before it runs and after: plans with every reason, lineage, what is stale, records."""

import os
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest

from astra_dagster.cli import main
from astra_dagster.definitions import build_definitions
from astra_dagster.demo import write_spec
from astra_dagster.orchestration import records
from astra_dagster.orchestration.sources import make_planner
from astra_dagster.outputs.store import OutputStore
from astra_dagster.planning.status import Status
from astra_dagster.tasks import registry
from astra_dagster.tasks.task import Task
from astra_dagster_tests.orchestration.chain import (
    SPEC,
    discover,
    plan,
    update,
)


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
    assert why(snr, keys[5]).startswith("to do: failed before: HDU 0 is incomplete")
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
        "spec_continuum (code version 2",
        "order = 3",
        f"{keys[0]}: complete",
        "input: line_depth/",
        "output: ",
    ):
        assert text in story
    assert invoke(main, ["plan", "significance", "--explain", "DR17/x"]).exit_code == 2


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
