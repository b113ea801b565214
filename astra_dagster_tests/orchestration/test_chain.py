"""Tasks that require tasks: a chain in one run, its records, and what a broken file costs."""

import os
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner

from astra_dagster import product, settings
from astra_dagster.cli import main
from astra_dagster.demo import write_spec
from astra_dagster.orchestration.partitions import registered
from astra_dagster.outputs.store import OutputStore
from astra_dagster.planning.status import Status
from astra_dagster.tasks.task import Task
from astra_dagster_tests.orchestration.chain import (
    CHAIN,
    SPEC,
    discover,
    failed,
    launch,
    plan,
    recorded,
    update,
    waiting,
)


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
