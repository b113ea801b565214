"""The plan of a run: which partitions are complete, which would run and why, which cannot yet.

Reads records and disk, writes nothing.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import dagster as dg

from astra_dagster.datamodel.products import DataID, Product, Where
from astra_dagster.errors import AstraError, Fault, InvalidKeyError
from astra_dagster.orchestration import records, sources
from astra_dagster.orchestration.partitions import registered
from astra_dagster.orchestration.sources import Input
from astra_dagster.tasks.completeness import Record, why_incomplete
from astra_dagster.tasks.partitions import Group, GroupID, Many, PartIndex
from astra_dagster.tasks.store import Given, OutputStore, Work, Written
from astra_dagster.tasks.task import Task

FAILED_BEFORE = "failed before: "
"""Beginning of the reason of what failed when the same was tried last."""


class Reason(str):
    """Why something is not complete; `fault` is whose fault it was, of what failed when it was tried last."""

    fault: Fault | None

    def __new__(cls, text: str, fault: Fault | None = None) -> Self:
        """A reason in these words."""
        made = super().__new__(cls, text)
        made.fault = fault
        return made


NO_INPUT = Reason("no input yet")

State = Given | Reason
"""What a requirement gives to a partition, or why it gives nothing: `NO_INPUT`, or what must be done first."""


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes
    ----------
    store
        Of the task.
    complete
        Work that is done, its output being there and recorded.
    found
        Work whose output is there, made from this input by this code and these parameters, while the latest record
        is another one or none: to be recorded, not computed.
    incomplete
        Work to do, with the reason.
    waiting
        Keys for which a task that is required must be done first, with the reason.
    no_input
        Keys whose file is not on this disk.
    invalid
        Registered keys that identify no file, with the error.
    inputs
        The files as they are now, by product and key.
    """

    store: OutputStore
    complete: tuple[Work, ...]
    found: tuple[tuple[Work, Written], ...]
    incomplete: tuple[tuple[Work, Reason], ...]
    waiting: tuple[tuple[str, Reason], ...]
    no_input: tuple[str, ...]
    invalid: tuple[tuple[str, AstraError], ...]
    inputs: Mapping[Product, Mapping[str, Input]]
    records: Mapping[str, Record] = field(repr=False, default_factory=dict)

    @property
    def partitions(self) -> int:
        """Number of partitions."""
        kinds = (self.complete, self.found, self.incomplete, self.waiting, self.no_input, self.invalid)
        return sum(map(len, kinds))

    @property
    def given_up(self) -> frozenset[str]:
        """Keys of what failed before by the fault of the file or of the task's code, or waits for what did.

        Nothing tries that again by itself before the file or the code changes.
        """
        reasons = [*((work.data_id.key, reason) for work, reason in self.incomplete), *self.waiting]
        return frozenset(key for key, reason in reasons if reason.fault in (Fault.FILE, Fault.TASK))

    @property
    def reasons(self) -> Counter[str]:
        """Number of incomplete partitions by reason."""
        return Counter(_short(reason) for _, reason in self.incomplete)

    def lines(self) -> list[str]:
        """The plan in words."""
        lines = [f"{len(self.complete)} complete, {len(self.incomplete)} to do"]
        lines += [f"  {count} {reason}" for reason, count in self.reasons.most_common()]
        if self.waiting:
            lines.append(f"{len(self.waiting)} wait for a task that they require")
            waiting = Counter(_short(reason) for _, reason in self.waiting)
            lines += [f"  {count} {reason}" for reason, count in waiting.most_common()]
        if self.found:
            lines.append(f"{len(self.found)} outputs are there already, to be recorded again and not computed")
        if self.no_input:
            lines.append(f"no input yet: {len(self.no_input)}")
        if self.invalid:
            lines.append(f"{len(self.invalid)} with an invalid partition key")
        return lines

    def why(self, key: str) -> str:
        """What becomes of one partition, and why."""
        for work in self.complete:
            if work.data_id.key == key:
                return "complete"
        for work, _ in self.found:
            if work.data_id.key == key:
                return "its output is there already, to be recorded again and not computed"
        for work, reason in self.incomplete:
            if work.data_id.key == key:
                return f"to do: {reason}"
        for other, reason in self.waiting:
            if other == key:
                return f"waits: {reason}"
        for other, error in self.invalid:
            if other == key:
                return f"invalid: {error}"
        return NO_INPUT if key in self.no_input else "not registered"


def _short(reason: str) -> str:
    """A reason as plans count it: what failed before is told file by file, and counted as one."""
    return reason.partition(FAILED_BEFORE)[0] + "failed before" if FAILED_BEFORE in reason else reason


def select_keys(
    instance: dg.DagsterInstance, product: Product | Group, releases: Sequence[str] = (), where: Where | None = None
) -> list[str]:
    """Registered keys of some releases whose parts have the wanted values; invalid keys only if nothing is wanted.

    Raises
    ------
    InvalidKeyError, UnknownReleaseError
        If no key could ever be selected so.
    """
    keys = registered(instance, product)
    if not releases and not where:
        return list(keys)
    where = where or {}
    if isinstance(product, Group):
        return _select_groups(product, keys, releases, where)
    names = releases or sorted({key.partition("/")[0] for key in keys})
    by_release: dict[str, dict[str, set[str]]] = {}
    for name in names:
        try:
            allowed = product.allowed(name, where)
        except AstraError:
            if releases:
                raise
            continue
        if allowed is not None:
            by_release[name] = allowed
    if where and not releases and not by_release and keys:
        product.allowed(keys[0].partition("/")[0], where)
    selected = []
    for key in keys:
        release, *parts = key.split("/")
        if release in by_release and len(parts) == len(product.parts):
            values = dict(zip(product.parts, parts, strict=True))
            if all(values[name] in texts for name, texts in by_release[release].items()):
                selected.append(key)
    return selected


def _select_groups(group: Group, keys: Sequence[str], releases: Sequence[str], where: Where) -> list[str]:
    unknown = set(where) - set(group.by)
    if unknown:
        raise InvalidKeyError(
            f"{group.name} has no {', '.join(sorted(unknown))}", hint=f"its parts are {group.key_order}"
        )
    selected = []
    for key in keys:
        values = group.parse_key(key).values
        texts = all(values[name].lstrip("0") in {str(t).lstrip("0") for t in where[name]} for name in where)
        if texts and (not releases or values["release"] in releases):
            selected.append(key)
    return selected


def make_plan(
    instance: dg.DagsterInstance,
    store: OutputStore,
    keys: Sequence[str],
    root: Path,
    *,
    overwrite: bool = False,
) -> Plan:
    """Plan a task over these partitions.

    Parameters
    ----------
    store
        Knows the task, its parameters and where outputs lie.
    root
        Top of the SAS mirror.
    overwrite
        Whether to do complete partitions again.
    """
    return Planner(instance, store.root, root).plan(store, keys, overwrite)


def members(instance: dg.DagsterInstance, requirement: Many, keys: Sequence[str], root: Path) -> list[str]:
    """Keys of all partitions that belong to these of a requirement of many."""
    index = requirement.index(registered(instance, requirement.product))
    found: dict[str, None] = {}
    for key in keys:
        found.update(dict.fromkeys(_members_of(requirement, requirement.domain.parse_key(key), index, root)))
    return list(found)


def _members_of(requirement: Many, one: DataID | GroupID, index: PartIndex, root: Path) -> list[str]:
    path = one.existing_path(root) if isinstance(one, DataID) else None
    return requirement.members(one, path, index)


@dataclass
class Planner:
    """Plans tasks and, for them, the tasks that they require, each of them once.

    What it has seen of files and records it does not look at again: it is for one plan, or for those of one chain.

    Attributes
    ----------
    instance
        Where the records are.
    outputs, root
        Folder of all outputs, and top of the SAS mirror.
    inputs
        The files that it has seen, by product and key.
    plans
        What it has planned, by task, parameters, keys and whether to do complete partitions again.
    data_ids
        What keys stand for, by domain.
    """

    instance: dg.DagsterInstance
    outputs: Path
    root: Path
    inputs: dict[Product, dict[str, Input]] = field(default_factory=dict)
    plans: dict[tuple[str, str, tuple[str, ...], bool], Plan] = field(default_factory=dict)
    data_ids: dict[Product | Group, dict[str, DataID | GroupID]] = field(default_factory=dict)

    @property
    def absent(self) -> list[DataID]:
        """Files that it has looked for and that are not here."""
        return [found.data_id for seen in self.inputs.values() for found in seen.values() if found.file is None]

    def plan(self, store: OutputStore, keys: Sequence[str], overwrite: bool = False) -> Plan:
        """Plan a task over these partitions; see `make_plan`."""
        memo = (store.task.name, store.digest, tuple(keys), overwrite)
        if memo not in self.plans:
            self.plans[memo] = self._plan(store, keys, overwrite)
        return self.plans[memo]

    def _plan(self, store: OutputStore, keys: Sequence[str], overwrite: bool) -> Plan:
        task = store.task
        known_ids = self.data_ids.setdefault(task.domain, {})
        data_ids: list[DataID | GroupID] = []
        invalid = []
        for key in keys:
            try:
                if key not in known_ids:
                    known_ids[key] = task.domain.parse_key(key)
                data_ids.append(known_ids[key])
            except AstraError as error:
                invalid.append((key, error))
        states = [self._states(requirement, data_ids) for requirement in task.requires]
        known = records.task_records(self.instance, task, [data_id.key for data_id in data_ids])
        complete, there, incomplete, waiting, no_input = [], [], [], [], []
        for data_id in data_ids:
            key = data_id.key
            given = [state[key] for state in states]
            missing = [state for state in given if not isinstance(state, Given)]
            if missing:
                first = next((state for state in missing if state != NO_INPUT), NO_INPUT)
                if NO_INPUT in missing:
                    no_input.append(key)
                else:
                    waiting.append((key, first))
                continue
            work = Work(data_id, tuple(state for state in given if isinstance(state, Given)))
            reason = why_incomplete(known.get(key), work, store)
            if reason is None and overwrite:
                reason = "overwrite"
            if reason is None:
                complete.append(work)
            elif not overwrite and (written := store.find(work)):
                there.append((work, written))
            else:
                failure = store.failure(work)
                failed = failure and Reason(f"{FAILED_BEFORE}{failure.error}", failure.fault)
                incomplete.append((work, failed or Reason(reason)))
        return Plan(
            store,
            tuple(complete),
            tuple(there),
            tuple(incomplete),
            tuple(waiting),
            tuple(no_input),
            tuple(invalid),
            self.inputs,
            known,
        )

    def _states(self, requirement: Product | Task | Many, data_ids: Sequence[DataID | GroupID]) -> dict[str, State]:
        """What a requirement gives to each partition, or why nothing, by partition key."""
        if isinstance(requirement, Many):
            return self._many(requirement, data_ids)
        if isinstance(requirement, Task):
            return self._task(requirement, [data_id.key for data_id in data_ids])
        return self._files(requirement, [data_id for data_id in data_ids if isinstance(data_id, DataID)])

    def _files(self, product: Product, data_ids: Sequence[DataID]) -> dict[str, State]:
        known = self.inputs.setdefault(product, {})
        unseen = [data_id for data_id in data_ids if data_id.key not in known]
        for found in sources.examine(self.instance, product, unseen, self.root):
            known[found.data_id.key] = found
        states: dict[str, State] = {}
        for data_id in data_ids:
            found = known[data_id.key]
            if found.file is None or found.version is None:
                states[data_id.key] = NO_INPUT
            else:
                states[data_id.key] = Given(product.name, data_id.relative_path, found.version, (found.file.path,))
        return states

    def _task(self, task: Task, keys: Sequence[str]) -> dict[str, State]:
        store = OutputStore(self.outputs, task, task.values())
        plan = self.plan(store, keys)
        states: dict[str, State] = dict.fromkeys(plan.no_input, NO_INPUT)
        name = f"{task.family}/{store.digest}"
        for work in plan.complete:
            key = work.data_id.key
            states[key] = Given(name, key, str(plan.records[key]), (store.path(work.data_id),))
        states.update((work.data_id.key, Reason(f"{task.name} is to be recorded again")) for work, _ in plan.found)
        states.update(
            (work.data_id.key, Reason(f"{task.name} first: {reason}", reason.fault)) for work, reason in plan.incomplete
        )
        states.update(plan.waiting)
        states.update((key, Reason(f"{task.name}: {error}", error.fault)) for key, error in plan.invalid)
        return states

    def _many(self, requirement: Many, data_ids: Sequence[DataID | GroupID]) -> dict[str, State]:
        index = requirement.index(registered(self.instance, requirement.product))
        belonging: dict[str, list[str]] = {}
        states: dict[str, State] = {}
        for one in data_ids:
            try:
                belonging[one.key] = _members_of(requirement, one, index, self.root)
            except AstraError as error:
                states[one.key] = Reason(str(error), error.fault)
        wanted: list[DataID] = []
        for key in dict.fromkeys(key for keys in belonging.values() for key in keys):
            try:
                wanted.append(requirement.product.parse_key(key))
            except InvalidKeyError:
                continue
        given = self._states(requirement.of, wanted)
        for name, keys in belonging.items():
            found = [(key, given[key]) for key in keys if given.get(key, NO_INPUT) != NO_INPUT]
            lacking = next(((key, state) for key, state in found if not isinstance(state, Given)), None)
            if lacking is not None:
                states[name] = Reason(f"{lacking[0]}: {lacking[1]}", lacking[1].fault)
            elif not found:
                states[name] = NO_INPUT
            else:
                states[name] = _together([(key, state) for key, state in found if isinstance(state, Given)])
        return states


def _together(members: Sequence[tuple[str, Given]]) -> Given:
    """What many partitions give to one."""
    ordered = sorted(members, key=lambda pair: pair[0])
    versions = "\n".join(f"{key} {given.version}" for key, given in ordered)
    return Given(
        ordered[0][1].name,
        f"{len(ordered)} partitions",
        "all-" + hashlib.sha256(versions.encode()).hexdigest()[:16],
        tuple(given.files[0] for _, given in ordered),
    )
