"""Plans of what is made from many partitions: whether enough are there, of how many it is, and which came since."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from astra_dagster import product
from astra_dagster.errors import WorkerLostError
from astra_dagster.outputs import document
from astra_dagster.planning.plan import Plan
from astra_dagster.planning.status import ReasonKind, Status
from astra_dagster.tasks.groups import Minimum
from astra_dagster.tasks.inputs.requirement import Requirement
from astra_dagster.tasks.requirements import grouped, matching
from astra_dagster.tasks.task import Task
from astra_dagster_tests.outages import circle
from astra_dagster_tests.planning.world import BROKEN, VISITS, World, key_of, mean

GROUP = "DR17/120+12"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Three visits of five that are registered, and nothing is done."""
    made = World(tmp_path)
    made.register(0, 1, 2, 3, 4)
    for number in (1, 2):
        made.put(number, 1)
    return made


def over_files(minimum: Minimum = 1, requires: Requirement | None = None) -> Task:
    """A task over the files of a field."""
    return replace(mean, requires=(requires or grouped(VISITS, by="field", minimum=minimum),))


def said(world: World, task: Task) -> str:
    return world.plan(task).why(GROUP)


def results(world: World, task: Task) -> dict[str, object]:
    return dict(document.read_results(world.store(task).path(task.domain.parse_key(GROUP))))


@pytest.mark.parametrize(
    ("minimum", "waits"),
    [(1, ""), (3, ""), (0.6, ""), (4, "1 of 5"), (0.8, "1 of 5"), ("all", "2 of 5"), (7, "4 of 7")],
)
def test_a_group_waits_for_the_minimum_which_is_no_failure(world: World, minimum: Minimum, waits: str) -> None:
    plan = world.plan(over_files(minimum))
    assert plan.why(GROUP) == (f"waits for {waits} ap_visit" if waits else "to do: no record")
    assert len(plan.of(Status.NO_INPUT)) == len(plan.of(ReasonKind.TOO_FEW)) == bool(waits)
    assert not any(one.given_up for one in plan.partitions.values())
    few = ["0 complete, 0 to do", "too few yet: 1", f"  1 waits for {waits} ap_visit"]
    some = ["0 complete, 1 to do", "  1 no record", "1 from fewer than are expected", "  1 from 3 of 5 ap_visit"]
    assert plan.lines() == (few if waits else some)


def test_results_say_of_how_many_they_are_made(world: World) -> None:
    task = over_files()
    world.run(task)
    assert said(world, task) == "complete, from 3 of 5 ap_visit"
    found = results(world, task)
    assert (found["members"], found["expected"]) == (3, 5)
    world.put(3, 1)
    assert said(world, task) == f"to do: input changed: 1 more ({key_of(3)})"
    assert world.plan(task).lines()[1] == "  1 input changed"
    world.put(4, 1)
    world.run(task)
    assert said(world, task) == "complete"
    found = results(world, task)
    assert (found["members"], found["expected"]) == (5, 5)


def test_an_output_names_its_members_with_their_versions(world: World) -> None:
    task = over_files()
    world.run(task)
    (ref,) = document.read(world.store(task).path(task.domain.parse_key(GROUP)), "json").origin.inputs
    versions = world.ledger.seen(VISITS, [key_of(number) for number in range(3)])
    assert ref.path == "3 of 5 partitions"
    assert dict(ref.members) == {key: record.version for key, record in versions.items()}
    world.ledger.records[task.name].clear()
    assert said(world, task).endswith("to be recorded again and not computed, from 3 of 5 ap_visit")


def test_columns_of_these_names_that_a_task_makes_itself_are_its_own(world: World) -> None:
    task = over_files()
    plan = world.plan(task)
    (work,) = plan.work(Status.TO_DO)
    plan.store.prepare()
    assert plan.store.write(work, {"members": "mine"}).results == {"members": "mine", "expected": 5}


def test_very_many_members_are_not_spelled_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "LISTED", 2)
    task = over_files()
    world.run(task)
    (ref,) = document.read(world.store(task).path(task.domain.parse_key(GROUP)), "json").origin.inputs
    assert (ref.path, ref.members) == ("3 of 5 partitions", ())
    world.put(3, 1)
    assert said(world, task) == "to do: input changed"


def test_a_changed_input_says_which(world: World) -> None:
    task = over_files()
    world.run(task)
    world.put(1, 2)
    assert said(world, task) == f"to do: input changed: 1 changed ({key_of(1)})"
    world.put(3, 1)
    world.put(4, 1)
    world.file(2).unlink()
    more, fewer = f"2 more ({key_of(3)}, {key_of(4)})", f"1 fewer ({key_of(2)})"
    assert said(world, task) == f"to do: input changed: {more}, {fewer}, 1 changed ({key_of(1)})"
    world.run(task)
    world.register(5)
    assert said(world, task) == "to do: input changed: 4 of 5 partitions -> 4 of 6 partitions"
    world.register(*range(6, 10))
    for number in range(5, 10):
        world.put(number, 1)
    assert said(world, task) == f"to do: input changed: 5 more ({key_of(5)}, {key_of(6)}, {key_of(7)} and 2 more)"
    world.store(task).path(task.domain.parse_key(GROUP)).write_text("{}")
    assert said(world, task) == "to do: input changed"  # its output does not tell


def test_members_that_come_are_told_of_what_a_task_made_as_well(world: World) -> None:
    first, _, task = world.tasks
    world.run(first)
    world.run(task)
    world.put(1, 2)
    world.run(first)
    assert said(world, task) == "to do: upstream changed: level"
    world.put(3, 1)
    world.run(first)
    assert said(world, task) == f"to do: input changed: 1 more ({key_of(3)}), 1 changed ({key_of(1)})"


def test_results_from_before_this_was_told_stay_complete(world: World) -> None:
    """The data version of a whole group is that of its members, as it always was."""
    task = over_files()
    for number in (3, 4):
        world.put(number, 1)
    world.run(task)
    (work,) = world.plan(task).work(Status.COMPLETE)
    seen = world.ledger.seen(VISITS, [key_of(number) for number in range(5)])
    lines = "\n".join(f"{key} {record.version}" for key, record in seen.items())
    assert work.input_version == f"all-{hashlib.sha256(lines.encode()).hexdigest()[:16]}"
    assert (work.given[0].path, work.given[0].expected) == ("5 partitions", 5)


def test_what_is_to_be_done_first_counts_as_there(world: World) -> None:
    first, _, task = world.tasks
    task = replace(task, requires=(replace(task.requires[0], minimum=3),))
    assert said(world, task) == f"waits: {key_of(0)}: level first: no record"
    task = replace(task, requires=(replace(task.requires[0], minimum="all"),))
    assert said(world, task) == "waits for 2 of 5 level"
    world.run(first)
    assert said(world, task) == "waits for 2 of 5 level"
    circle(world.file(1))
    assert world.plan(task).of(Status.UNREACHABLE)


@pytest.mark.parametrize(("minimum", "enough"), [(1, True), (2, True), (3, False)])
def test_a_member_that_failed_is_left_out_if_enough_others_are_there(
    world: World, minimum: Minimum, enough: bool
) -> None:
    first, _, task = world.tasks
    task = replace(task, requires=(replace(task.requires[0], minimum=minimum),))
    world.run(first, broken=[key_of(2)])
    waits = f"waits: {key_of(2)}: level first: failed before: {BROKEN}"
    assert said(world, task) == ("to do: no record" if enough else waits)
    assert world.plan(task).shares == ({"2 of 5 level": 1} if enough else {})


def test_a_member_that_a_machine_lost_holds_its_group_up(world: World) -> None:
    first, _, task = world.tasks
    world.run(first, broken=[key_of(2)])
    (work,) = world.plan(first).work(Status.TO_DO)
    world.store(first).note_failure(work, WorkerLostError("the worker is lost"))
    assert said(world, task) == f"waits: {key_of(2)}: level first: failed before: the worker is lost"


def test_nothing_at_all_is_no_input_whatever_the_minimum(world: World) -> None:
    task = over_files("all")
    for number in range(3):
        world.file(number).unlink()
    assert said(world, task) == "no input yet"


def test_what_a_file_names_is_expected_though_it_is_not_registered(world: World) -> None:
    stars = product("apStar")
    star = stars.data_id("DR17", telescope="apo25m", field="120+12", obj="2M00000032+5737103")
    path = star.path(world.sas)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a star")
    world.ledger.register(stars, [star.key])
    for minimum, words in ((1, "to do: no record"), ("all", "waits for 4 of 6 ap_visit")):
        of_star = matching(
            VISITS, stars, lambda star, path: [{"fibre": f"{n:03d}"} for n in (1, 2, 77, 78, 79, 80)], minimum=minimum
        )
        assert world.plan(over_files(requires=of_star)).why(star.key) == words


def test_a_key_that_is_not_valid_is_not_expected(world: World) -> None:
    world.ledger.register(VISITS, ["DR17/apo25m/120+12/5226/56000/wrong"])
    task = over_files()
    plan: Plan = world.plan(task)
    assert plan.shares == {"3 of 5 ap_visit": 1}
