"""Plans of tasks whose partitions have a file in common: its contents are part of what a result is made from."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from astra_dagster import ap_visit, file, product
from astra_dagster.outputs.record import find_changed, hash_inputs
from astra_dagster.planning import common_files
from astra_dagster.planning.status import Status
from astra_dagster.tasks.files.common_files import CommonFile
from astra_dagster.tasks.task import Task
from astra_dagster_tests.planning.world import World, key_of

KEYS = [key_of(0), key_of(1)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Two visits."""
    made = World(tmp_path)
    made.register(0, 1)
    made.put(1, 1)
    return made


def with_files(world: World, *files: CommonFile) -> Task:
    return replace(world.tasks[0], common=dict(enumerate(files, start=1)))


def write(path: Path, text: str, date: int = 1) -> CommonFile:
    path.write_text(text)
    os.utime(path, ns=(date, date))
    return CommonFile(path, text=path.name)


def test_a_changed_file_makes_results_incomplete_and_is_named(world: World, tmp_path: Path) -> None:
    lines, grid = write(tmp_path / "lines.csv", "1"), write(tmp_path / "models.npz", "2")
    task = with_files(world, lines, grid)
    world.run(task)
    assert [world.plan(task).why(key) for key in KEYS] == ["complete", "complete"]
    write(tmp_path / "models.npz", "2", date=2)
    assert world.plan(task).why(KEYS[0]) == "complete", "a copy with another date is the same file"
    write(tmp_path / "models.npz", "3", date=3)
    assert world.plan(task).why(KEYS[0]) == "to do: models.npz changed"
    write(tmp_path / "lines.csv", "x", date=3)
    assert world.plan(task).why(KEYS[0]) == "to do: lines.csv, models.npz changed"
    world.put(0, 2)
    assert [world.plan(task).why(key) for key in KEYS] == [
        "to do: input changed",
        "to do: lines.csv, models.npz changed",
    ]
    world.run(task)
    assert [world.plan(task).why(key) for key in KEYS] == ["complete", "complete"]
    write(tmp_path / "models.npz", "2", date=4)
    write(tmp_path / "lines.csv", "1", date=4)
    assert world.plan(task).why(KEYS[1]) == "to do: lines.csv, models.npz changed"


def test_what_is_built_on_a_task_whose_file_changed_waits_for_it(world: World, tmp_path: Path) -> None:
    first = with_files(world, write(tmp_path / "models.npz", "2"))
    (one,) = world.tasks[1].requires
    second = replace(world.tasks[1], requires=(replace(one, task=first),))
    for task in (first, second):
        world.run(task)
    write(tmp_path / "models.npz", "3", date=2)
    assert world.plan(second).why(KEYS[0]) == "waits: level first: models.npz changed"
    world.run(first)
    assert world.plan(second).why(KEYS[0]) == "to do: upstream changed: level"


def test_a_missing_file_is_a_reason_and_no_crash(world: World, tmp_path: Path) -> None:
    task = with_files(world, CommonFile(tmp_path / "models.npz", text="models.npz"))
    plan = world.plan(task)
    why = f"models.npz is not there (file {tmp_path}/models.npz)"
    assert [plan.why(key) for key in KEYS] == [f"waits: {why}"] * 2
    assert plan.lines() == ["0 complete, 0 to do", "2 wait for a file that they require", f"  2 {why}"]
    assert not any(one.given_up for one in plan.of(Status.WAITING)), "it may come"
    world.file(0).unlink()
    assert world.plan(task).why(KEYS[0]) == "no input yet"
    (tmp_path / "models.npz").mkdir()
    assert world.plan(task).why(KEYS[1]) == f"cannot be read: a folder, not a file (file {tmp_path}/models.npz)"


def test_contents_are_read_once_for_a_size_and_a_date(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, read = with_files(world, write(tmp_path / "models.npz", "2")), common_files.content_version
    asked: list[Path] = []
    monkeypatch.setattr(common_files, "content_version", lambda path: asked.append(path) or read(path))
    for _ in range(3):
        world.plan(task)
    write(tmp_path / "models.npz", "2", date=2)
    world.plan(task)
    assert asked == [tmp_path / "models.npz"] * 2


def test_a_failure_is_forgotten_when_the_file_changes(world: World, tmp_path: Path) -> None:
    task = with_files(world, write(tmp_path / "models.npz", "2"))
    world.run(task, broken=KEYS[:1])
    assert world.plan(task).why(KEYS[0]) == "to do: failed before: it is broken"
    write(tmp_path / "models.npz", "3", date=2)
    assert world.plan(task).why(KEYS[0]) == "to do: no record"


def test_the_file_of_a_product_is_that_of_the_release_or_of_shared_parts(world: World) -> None:
    star, field = product("allStar"), product("apField")
    task = with_files(world, file(star), file(field))
    paths = [
        star.data_id("DR17").path(world.sas),
        field.data_id("DR17", telescope="apo25m", field="120+12").path(world.sas),
    ]
    assert world.plan(task).why(KEYS[0]).startswith("waits: no allStar of DR17 (file dr17/apogee/spectro/aspcap/dr17/")
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"a catalogue")
    (work, _) = world.plan(task).work(Status.TO_DO)
    assert [one.files for one in work.common] == [(path,) for path in paths]
    world.run(task)
    assert world.plan(task).why(KEYS[0]) == "complete"
    os.utime(paths[0], ns=(5, 5))
    assert world.plan(task).why(KEYS[0]) == "to do: allStar changed"


def test_a_product_that_has_more_parts_is_no_file_in_common(world: World) -> None:
    why = world.plan(with_files(world, file(product("apStar")))).why(KEYS[0])
    assert "apStar of DR17 is told apart by obj, which DR17/apo25m/120+12/5226/56000/001 does not have" in why


def test_a_missing_catalogue_is_a_file_to_fetch(world: World) -> None:
    planner = world.planner()
    world.plan(with_files(world, file(product("allStar"))), planner=planner)
    assert [data_id.key for data_id in planner.absent] == ["DR17/-"]


def test_the_hash_of_inputs_is_as_before_without_common_files() -> None:
    assert hash_inputs(["a", "b"]) == "0eab8a0a3380"
    both = hash_inputs(["a", "b", "c"], common=2)
    assert both[:12] == hash_inputs(["a"])
    assert find_changed(both, hash_inputs(["a", "b", "d"], common=2)) == [1]
    assert find_changed(both, hash_inputs(["x", "b", "d"], common=2)) is None
    assert find_changed(both, hash_inputs(["a", "b"], common=1)) is None


def test_a_product_takes_any_of_its_names() -> None:
    assert file(ap_visit) == file(product("apVisit"))
