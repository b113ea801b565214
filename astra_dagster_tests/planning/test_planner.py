"""Plans without Dagster: what becomes of each partition, as data and in words."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from astra_dagster import product
from astra_dagster.errors import InvalidKeyError
from astra_dagster.outputs import document
from astra_dagster.outputs.record import Record
from astra_dagster.outputs.store import OutputStore
from astra_dagster.planning import completeness
from astra_dagster.planning.ledger import Ledger, Selection, select_keys
from astra_dagster.planning.status import ReasonKind, Status
from astra_dagster_tests.outages import circle
from astra_dagster_tests.planning.ledger import WINDOW, MemoryLedger
from astra_dagster_tests.planning.world import BROKEN, VISITS, World, key_of

KEYS = [key_of(number) for number in range(4)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Four visits, of which the last has no file, and nothing is done."""
    made = World(tmp_path)
    made.register(0, 1, 2, 3)
    for number in (1, 2):
        made.put(number, 1)
    return made


def test_planning_imports_no_dagster() -> None:
    names = [path.stem for path in (Path(__file__).parents[2] / "astra_dagster" / "planning").glob("*.py")]
    script = "import sys\n" + "".join(f"import astra_dagster.planning.{name}\n" for name in names)
    subprocess.run([sys.executable, "-c", script + "assert 'dagster' not in sys.modules"], check=True)


def test_outputs_of_a_layout_that_is_not_read_are_made_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    task = world.tasks[0]
    world.run(task)
    record = world.plan(task).records[KEYS[0]]
    now = document.FORMAT
    assert Record.parse(str(replace(record, layout=now + 1))) == replace(record, layout=now + 1)
    for module in (document, completeness):
        monkeypatch.setattr(module, "FORMAT", now + 1)
        monkeypatch.setattr(module, "READABLE", frozenset({now + 1}))
    assert world.plan(task).why(KEYS[0]) == f"to do: layout of outputs {now} -> {now + 1}"
    with pytest.raises(ValueError, match=f"its layout {now} is not one of {now + 1}"):
        document.read(world.store(task).path(VISITS.parse_key(KEYS[0])), task.output)


def test_outputs_are_read_if_asked(world: World) -> None:
    task = world.tasks[0]
    world.run(task)
    path = world.store(task).path(VISITS.parse_key(KEYS[0]))
    contents = path.read_text()
    place = contents.index('"results"')
    digit = next(i for i in range(place, len(contents)) if contents[i].isdigit())
    path.write_text(contents[:digit] + str(9 - int(contents[digit])) + contents[digit + 1 :])
    assert world.plan(task).why(KEYS[0]) == "complete"
    assert world.plan(task, verify=True).why(KEYS[0]) == "to do: output differs from its record"
    assert world.plan(task, verify=True).why(KEYS[1]) == "complete"
    path.write_text(contents)
    assert world.plan(task, verify=True).why(KEYS[0]) == "complete"


def test_every_reason(world: World) -> None:
    task = world.tasks[0]
    assert world.plan(task).why(KEYS[0]) == "to do: no record"
    world.run(task, broken=KEYS[2:3])
    plan = world.plan(task)
    record = plan.records[KEYS[0]]
    assert Record.parse(str(record)) == record
    assert Record.parse("something else") is None
    assert [plan.why(key) for key in [*KEYS, key_of(7)]] == [
        "complete",
        "complete",
        f"to do: failed before: {BROKEN}",
        "no input yet",
        "not registered",
    ]
    world.put(2, 2)
    assert world.plan(task).why(KEYS[2]) == "to do: no record"  # it failed with another input
    world.put(0, 2)
    assert world.plan(task).why(KEYS[0]) == "to do: input changed"
    world.put(0, 1)
    world.version = "next"
    assert world.plan(world.tasks[0]).why(KEYS[0]) == "to do: code version 1 -> next"
    world.version, world.order = "1", 2
    assert world.plan(world.tasks[0]).why(KEYS[0]) == "to do: parameters changed: order 1 -> 2"
    world.order = 1
    records = world.ledger.records[task.name]
    records[KEYS[0]] = replace(record, digest="0123456789ab")
    world.store(task).path(VISITS.parse_key(KEYS[0])).write_text("short")
    assert world.plan(task).why(KEYS[0]) == (
        f"to do: parameters changed: digest 0123456789ab -> {world.store(task).digest}"
    )
    records[KEYS[0]] = record
    assert world.plan(task).why(KEYS[0]) == f"to do: output has 5 bytes, recorded were {record.size}"
    world.store(task).path(VISITS.parse_key(KEYS[0])).unlink()
    assert world.plan(task).why(KEYS[0]) == "to do: output missing"
    assert world.plan(task, overwrite=True).why(KEYS[1]) == "to do: overwrite"
    del records[KEYS[1]]
    assert world.plan(task).why(KEYS[1]) == "its output is there already, to be recorded again and not computed"


def test_what_waits_says_for_what(world: World) -> None:
    first, second, field = world.tasks
    (group,) = world.ledger.keys[field.domain.asset_name]
    assert world.plan(second).why(KEYS[0]) == "waits: level first: no record"
    assert world.plan(field).why(group) == f"waits: {KEYS[0]}: level first: no record"
    world.run(first, broken=KEYS[1:2])
    plan = world.plan(second)
    assert plan.why(KEYS[1]) == f"waits: level first: failed before: {BROKEN}"
    assert [one.key for one in plan.partitions.values() if one.given_up] == [KEYS[1]]
    world.run(first)
    world.run(field)
    world.put(1, 2)
    world.run(first)
    assert world.plan(field).why(group) == "to do: upstream changed: level"
    del world.ledger.records["level"][KEYS[0]]
    assert world.plan(second).why(KEYS[0]) == "waits: level is to be recorded again"
    assert world.plan(second).why(KEYS[3]) == "no input yet"


def test_what_cannot_be_looked_at_is_neither_done_nor_missing(world: World) -> None:
    first, second, field = world.tasks
    for task in world.tasks:
        world.run(task)
    circle(world.file(1))
    for task in (first, second):
        (one,) = world.plan(task).of(Status.UNREACHABLE)
        assert (one.key, one.kind, one.given_up) == (KEYS[1], ReasonKind.UNREACHABLE, False)
    assert len(world.plan(field).of(Status.UNREACHABLE)) == 1
    circle(world.store(first).path(VISITS.parse_key(KEYS[0])))
    assert [one.key for one in world.plan(first).of(Status.UNREACHABLE)] == KEYS[:2]
    assert world.run(first) == []


def test_a_key_that_identifies_nothing_is_told_and_left_alone(world: World) -> None:
    world.ledger.register(VISITS, ["DR17/nonsense"])
    plan = world.plan(world.tasks[0])
    (one,) = plan.of(Status.INVALID)
    assert one.key == "DR17/nonsense"
    assert plan.why(one.key).startswith("invalid: 'DR17/nonsense' has 2 parts")
    assert plan.lines()[-1] == "1 with an invalid partition key"
    assert sum(len(plan.of(status)) for status in Status) == len(plan.partitions) == 5


def test_a_plan_in_words(world: World) -> None:
    first, second, _ = world.tasks
    assert world.plan(first).lines() == ["0 complete, 3 to do", "  3 no record", "no input yet: 1"]
    world.run(first, broken=KEYS[1:2])
    del world.ledger.records["level"][KEYS[0]]
    world.file(2).unlink()
    assert world.plan(first).lines() == [
        "0 complete, 1 to do",
        "  1 failed before",
        "1 outputs are there already, to be recorded again and not computed",
        "no input yet: 1",
        "input gone: 1",
    ]
    assert world.plan(second).lines() == [
        "0 complete, 0 to do",
        "2 wait for a task that they require",
        "  1 level is to be recorded again",
        "  1 level first: failed before",
        "no input yet: 1",
        "input gone: 1",
    ]
    circle(world.file(1))
    *_, count, cause = world.plan(first).lines()
    assert (count, cause[:24]) == ("1 cannot be looked at", "  1 cannot be looked at:")


def test_a_planner_looks_at_nothing_twice(world: World) -> None:
    planner = world.planner()
    before = world.plan(world.tasks[0], planner=planner)
    world.run(world.tasks[0])
    assert world.plan(world.tasks[0], planner=planner) is before
    assert [data_id.key for data_id in planner.absent] == KEYS[3:]


def test_a_second_run_computes_nothing_and_changed_parameters_find_their_outputs_again(world: World) -> None:
    def computed() -> int:
        return sum(len(world.run(task)) for task in world.tasks)

    assert computed() == 3 + 3 + 1
    assert computed() == 0
    world.order = 2
    assert computed() == 3 + 3 + 1
    world.order = 1
    assert len(world.plan(world.tasks[0]).of(Status.TO_RECORD)) == 3
    assert computed() == 0
    assert len(world.plan(world.tasks[0]).of(Status.COMPLETE)) == 3


def test_versions_are_told_by_contents_where_that_is_wanted(world: World) -> None:
    planner = replace(world.planner(), by_content=lambda item: item == product("apVisit"))
    task = world.tasks[0]
    (work, *_) = planner.plan(OutputStore(planner.outputs, task, task.values()), KEYS[:1]).work(Status.TO_DO)
    assert work.input_version.startswith("sha256-")


def test_keys_come_in_windows_in_one_order(world: World) -> None:
    ledger: Ledger = world.ledger
    windows = list(ledger.registered(VISITS, Selection()))
    assert [len(window) for window in windows] == [WINDOW, 1]
    assert select_keys(ledger, VISITS) == KEYS
    assert select_keys(ledger, VISITS, Selection(["DR17"], {"fibre": ["2"]})) == [KEYS[1]]
    assert select_keys(ledger, VISITS, Selection(["DR19"])) == []
    with pytest.raises(InvalidKeyError):
        select_keys(ledger, VISITS, Selection(where={"plane": ["1"]}))
    assert select_keys(MemoryLedger(), VISITS) == []
