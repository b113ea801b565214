"""Whatever has happened, a plan says what is true: partitions against a model that only remembers what was done."""

import shutil
import tempfile
from pathlib import Path
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from astra_dagster.planning import planner
from astra_dagster.planning.status import Reason, ReasonKind, Status
from astra_dagster.tasks.task import Task
from astra_dagster_tests.planning.world import VISITS, World, key_of

VISIT = st.integers(0, 4)
DATE = st.integers(1, 3)
Made = tuple[str, str, str]
"""Digest, code version and input version of something that was made."""


class Histories(RuleBasedStateMachine):
    """Five visits, a task over their files, one over what it makes, and one over the field."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(Path(tempfile.mkdtemp()))
        self.dates: dict[str, int] = {key_of(0): 1}
        self.seen: set[str] = set()
        self.broken: set[str] = set()
        self.outputs: dict[tuple[str, str, str], Made] = {}
        self.records: dict[tuple[str, str], Made] = {}
        self.failures: dict[tuple[str, str, str], Made] = {}

    def teardown(self) -> None:
        shutil.rmtree(self.world.folder)

    @initialize(number=VISIT)
    def begin(self, number: int) -> None:
        self.world.register(number)

    @rule(number=VISIT)
    def register(self, number: int) -> None:
        self.world.register(number)

    @rule(number=VISIT, date=DATE)
    def file_comes_or_changes(self, number: int, date: int) -> None:
        self.world.put(number, date)
        self.dates[key_of(number)] = date

    @rule(number=st.integers(1, 4))
    def file_vanishes(self, number: int) -> None:
        self.world.file(number).unlink(missing_ok=True)
        self.dates.pop(key_of(number), None)

    @rule(number=VISIT)
    def file_breaks_or_is_mended(self, number: int) -> None:
        self.broken ^= {key_of(number)}

    @rule(order=st.integers(1, 2))
    def parameter_changes(self, order: int) -> None:
        self.world.order = order

    @rule(version=st.sampled_from("12"))
    def code_changes(self, version: str) -> None:
        self.world.version = version

    @rule(number=VISIT, which=st.integers(0, 1))
    def record_is_lost(self, number: int, which: int) -> None:
        name = self.world.tasks[which].name
        self.world.ledger.records.get(name, {}).pop(key_of(number), None)
        self.records.pop((name, key_of(number)), None)

    @precondition(lambda self: not self.broken)
    @rule()
    def everything_runs_and_nothing_is_left(self) -> None:
        for task in self.world.tasks:
            self.run(task)
            plan = self.world.plan(task)
            done = len(plan.of(Status.COMPLETE)) + len(plan.of(Status.NO_INPUT))
            assert done == len(plan.partitions)
            assert self.world.run(task) == []

    @rule(which=st.integers(0, 1), overwrite=st.booleans())
    def run_some(self, which: int, overwrite: bool) -> None:
        self.run(self.world.tasks[which], overwrite)

    def run(self, task: Task, overwrite: bool = False) -> None:
        """Run a task, and remember what is to have happened."""
        before = {key: self.expected(task, key) for key in self.registered}
        inputs = {key: self.input_of(task, key) for key in self.registered}
        tried = self.world.run(task, self.broken, overwrite=overwrite)
        self.seen |= {key for key in self.registered if key in self.dates}
        if task.name == "mean":
            return
        again = {Status.COMPLETE, Status.TO_RECORD, Status.TO_DO} if overwrite else {Status.TO_DO}
        assert set(tried) == {key for key, (status, _) in before.items() if status in again}
        for key, (status, _) in before.items():
            made = (task.digest(task.values()), task.version, inputs[key])
            place = (task.name, made[0], key)
            if key in tried and key in self.broken:
                self.failures[place] = made
            elif key in tried or status is Status.TO_RECORD:
                if key in tried:
                    self.outputs[place] = made
                    self.failures.pop(place, None)
                self.records[task.name, key] = made

    @property
    def registered(self) -> list[str]:
        return self.world.ledger.keys[VISITS.asset_name]

    def input_of(self, task: Task, key: str) -> str:
        """What tells the inputs of a partition from others."""
        if task.name == "level":
            return str(self.dates.get(key))
        return "|".join(self.records.get(("level", key), ()))

    def expected(self, task: Task, key: str) -> tuple[Status, ReasonKind | None]:
        """What a plan is to say of a partition."""
        if key not in self.dates:
            return Status.NO_INPUT, ReasonKind.GONE if key in self.seen else ReasonKind.NEVER_CAME
        if task.name == "slope":
            status, _ = self.expected(self.world.tasks[0], key)
            if status is Status.TO_RECORD:
                return Status.WAITING, ReasonKind.REQUIRED_UNRECORDED
            if status is Status.TO_DO:
                return Status.WAITING, ReasonKind.REQUIRED_FIRST
        now = (task.digest(task.values()), task.version, self.input_of(task, key))
        place, record = (task.name, now[0], key), self.records.get((task.name, key))
        there = self.outputs.get(place) == now
        if there and record == now:
            return Status.COMPLETE, None
        reason = self.changed(task, record, now)
        if there:
            return Status.TO_RECORD, reason
        return Status.TO_DO, ReasonKind.FAILED_BEFORE if self.failures.get(place) == now else reason

    def changed(self, task: Task, record: Made | None, now: Made) -> ReasonKind:
        """The first thing in which a record differs from today."""
        if record is None:
            return ReasonKind.NO_RECORD
        if record[0] != now[0]:
            return ReasonKind.PARAMETERS_CHANGED
        if record[1] != now[1]:
            return ReasonKind.CODE_CHANGED
        return ReasonKind.INPUT_CHANGED if task.name == "level" else ReasonKind.UPSTREAM_CHANGED

    @invariant()
    def a_plan_says_what_is_true(self) -> None:
        if not self.world.ledger.keys:
            return
        planner = self.world.planner()
        for task in self.world.tasks[:2]:
            plan = self.world.plan(task, planner=planner)
            found = {key: (one.status, one.kind) for key, one in plan.partitions.items()}
            assert found == {key: self.expected(task, key) for key in self.registered}
            assert {work.data_id.key for work in plan.work(Status.TO_DO)} <= set(self.dates)
            failed = {key for key in self.registered if self.failed(task, key)}
            assert {one.key for one in plan.partitions.values() if one.given_up} == failed

    @rule()
    def a_plan_in_brief_says_the_same(self) -> None:
        wanted = [
            (self.world.store(task), self.world.ledger.keys[task.domain.asset_name], False) for task in self.world.tasks
        ]
        whole = self.world.planner()
        plans = whole.plan_all(wanted)
        with mock.patch.multiple(planner, WINDOW=2, STEP=2):
            brief = self.world.planner()
            in_brief = brief.plan_all(wanted)
        assert [plan.is_brief for plan in in_brief] == [len(self.registered) > 2] * 3
        for one, other in zip(plans, in_brief, strict=True):
            assert one.lines() == other.lines()
            assert [one.why(key) for key in one.partitions] == [other.why(key) for key in other.partitions]
        changed = {key for key, seen in whole.inputs[VISITS].items() if seen.file and not seen.recorded}
        assert {key for key, seen in brief.inputs[VISITS].items() if seen.file and not seen.recorded} == changed

    def failed(self, task: Task, key: str) -> bool:
        """Whether a partition failed by its own fault, or waits for one that did."""
        status, kind = self.expected(task, key)
        if status is Status.WAITING:
            return self.failed(self.world.tasks[0], key)
        return kind is ReasonKind.FAILED_BEFORE

    @invariant()
    def a_field_waits_for_what_it_is_made_from(self) -> None:
        if not self.world.ledger.keys:
            return
        levels = self.world.plan(self.world.tasks[0])
        (field,) = self.world.plan(self.world.tasks[2]).partitions.values()
        left = [one for one in levels.partitions.values() if one.status in (Status.TO_DO, Status.TO_RECORD)]
        if left:
            assert (field.status, field.kind) == (Status.WAITING, ReasonKind.MEMBER_LACKING)
            assert field.reason is not None
            assert field.reason.details == (left[0].key,)
            assert isinstance(field.reason.cause, Reason)
        elif levels.of(Status.COMPLETE):
            assert field.status in (Status.COMPLETE, Status.TO_RECORD, Status.TO_DO)
        else:
            gone = bool(levels.of(ReasonKind.GONE))
            assert field.kind is (ReasonKind.GONE if gone else ReasonKind.NEVER_CAME)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
