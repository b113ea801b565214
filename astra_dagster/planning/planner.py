"""The planner, which decides for each partition whether it is complete, would run, or cannot run yet, and why.

It reads records and files, and writes nothing.
"""

import contextlib
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from astra_dagster.archive.links import Links
from astra_dagster.datamodel.products import DataID, Product
from astra_dagster.errors import AstraError, AwayError, Fault, InvalidKeyError, UnreachableError
from astra_dagster.outputs.record import Record
from astra_dagster.outputs.store import InputFiles, OutputStore, PartitionWork
from astra_dagster.planning.common_files import State, find_common
from astra_dagster.planning.completeness import why_incomplete
from astra_dagster.planning.inputs import Input, examine
from astra_dagster.planning.ledger import Ledger, select_keys
from astra_dagster.planning.plan import PartitionPlan, Plan
from astra_dagster.planning.status import GONE, NEVER_CAME, Reason, ReasonKind, Status
from astra_dagster.settings import held_config
from astra_dagster.tasks.groups import Domain, Members, PartIndex, PartitionID, count_needed
from astra_dagster.tasks.inputs.requirement import Requirement
from astra_dagster.tasks.task import Task

WINDOW = 50_000
"""Largest number of partitions of which a plan has all; a plan of more is in brief."""

STEP = 10_000
"""Number of partitions that are planned at a time for a plan in brief."""

Wanted = tuple[OutputStore, Sequence[str], bool]
"""Outputs of a task, partition keys, and whether to do complete partitions again."""

Memo = tuple[str, str, tuple[str, ...], bool]
"""What tells one plan of a planner from another."""


@dataclass
class Planner:
    """A planner of tasks and the tasks that they require, each of them once.

    It examines each file and record only once: use it for one plan, or for those of one chain of tasks.

    Attributes
    ----------
    ledger
        Registered keys and records.
    outputs, root
        Folder of all outputs, and top of the SAS mirror.
    by_content
        Whether data versions of the files of a product are hashes of their contents.
    verify
        Whether outputs are read and compared with their records, not only their sizes.
    inputs
        Files examined so far, by product and key; after a plan in brief, those that have changed.
    plans
        Plans made so far, by task, parameters digest, keys and whether to do complete partitions again.
    data_ids
        Parsed keys, by domain and key.
    indexes
        Registered keys that are required, by what requires them.
    away
        Products and releases of which some file may be on a disk that is away.
    """

    ledger: Ledger
    outputs: Path
    root: Path
    by_content: Callable[[Product], bool] = lambda product: False
    verify: bool = False
    inputs: dict[Product, dict[str, Input]] = field(default_factory=dict)
    plans: dict[Memo, Plan] = field(default_factory=dict)
    data_ids: dict[Domain, dict[str, PartitionID]] = field(default_factory=dict)
    indexes: dict[Requirement, PartIndex] = field(default_factory=dict)
    away: set[tuple[Product, str]] = field(default_factory=set)

    @property
    def absent(self) -> list[DataID]:
        """Examined files that do not exist, to be fetched.

        If some file of a product and release may be on a disk that is away, none of that product and release is
        returned: the others may be on it too, and would be written where the disk is to be mounted.
        """
        absent = []
        for product, seen in self.inputs.items():
            missing = (found.data_id for found in seen.values() if found.file is None and found.error is None)
            absent += [data_id for data_id in missing if (product, data_id.release) not in self.away]
        return absent

    def window(self) -> "Planner":
        """Return a planner that examines files and records anew, for some of the partitions."""
        return replace(self, inputs={}, plans={}, data_ids={})

    def plan(self, store: OutputStore, keys: Sequence[str], overwrite: bool = False) -> Plan:
        """Plan a task over these partitions.

        Parameters
        ----------
        store
            Outputs of the task with its parameters.
        keys
            Partition keys, each once.
        overwrite
            Whether to do complete partitions again.
        """
        memo = _memo(store, keys, overwrite)
        if memo not in self.plans:
            with held_config():
                self.plans[memo] = self._plan(store, keys, overwrite)
        return self.plans[memo]

    def plan_all(self, wanted: Sequence[Wanted]) -> list[Plan]:
        """Plan several tasks; in brief, and in windows, if they have more than `WINDOW` partitions.

        Parameters
        ----------
        wanted
            Outputs, partition keys, and whether to do complete partitions again, of each task; see `plan`.
        """
        longest = max((len(keys) for _, keys, _ in wanted), default=0)
        if longest <= WINDOW:
            return [self.plan(*one) for one in wanted]
        memos = [_memo(*one) for one in wanted]
        if all(memo in self.plans for memo in memos):
            return [self.plans[memo] for memo in memos]
        reasons: dict[Reason, Reason] = {}
        brief = [Plan(store, {}, brief_shares=Counter()) for store, *_ in wanted]
        for start in range(0, longest, STEP):
            window = self.window()
            for (store, keys, overwrite), plan in zip(wanted, brief, strict=True):
                plan.add_in_brief(window.plan(store, keys[start : start + STEP], overwrite), reasons)
            for product, seen in window.inputs.items():
                changed = {key: found for key, found in seen.items() if found.file and not found.recorded}
                self.inputs.setdefault(product, {}).update(changed)
        self.plans.update(zip(memos, brief, strict=True))
        return brief

    def _plan(self, store: OutputStore, keys: Sequence[str], overwrite: bool) -> Plan:
        task = store.task
        known_ids = self.data_ids.setdefault(task.domain, {})
        planned: dict[str, PartitionPlan] = {}
        for key in keys:
            if key not in known_ids:
                try:
                    known_ids[key] = task.domain.parse_key(key)
                except AstraError as error:
                    planned[key] = _lacking(key, Reason(ReasonKind.INVALID_KEY, cause=error))
        valid = [key for key in keys if key not in planned]
        data_ids = [known_ids[key] for key in valid]
        states = [self._states(requirement, data_ids) for requirement in task.requires]
        common = [find_common(file, data_ids, self._files) for file in task.common.values()]
        known = self.ledger.recorded(task, valid)
        for key, data_id in zip(valid, data_ids, strict=True):
            given = [state[key] for state in (*states, *common)]
            reasons = [state for state in given if isinstance(state, Reason)]
            if reasons:
                planned[key] = _lacking(key, min(reasons, key=_weight))
                continue
            there = tuple(state for state in given if isinstance(state, InputFiles))
            work = PartitionWork(data_id, there[: len(states)], there[len(states) :])
            planned[key] = _planned(store, key, work, known.get(key), overwrite, self.verify)
        return Plan(store, planned, self.inputs, known)

    def _states(self, requirement: Requirement, data_ids: Sequence[PartitionID]) -> dict[str, State]:
        """Return the input of each partition from a requirement, or why it has none, by partition key."""
        return (self._own if requirement.one_to_one else self._many)(requirement, data_ids)

    def _own(self, requirement: Requirement, data_ids: Sequence[PartitionID]) -> dict[str, State]:
        """Return the contents of each required partition, or why it has none, by its own key."""
        if requirement.task is None:
            return self._files(requirement.product, data_ids)
        return self._task(requirement.task, [data_id.key for data_id in data_ids])

    def _files(self, product: Product, partitions: Sequence[PartitionID]) -> dict[str, State]:
        data_ids = [data_id for data_id in partitions if isinstance(data_id, DataID)]
        known = self.inputs.setdefault(product, {})
        unseen = [data_id for data_id in data_ids if data_id.key not in known]
        seen = self.ledger.seen(product, [data_id.key for data_id in unseen])
        for found in examine(unseen, self.root, seen, by_content=self.by_content(product)):
            known[found.data_id.key] = found
            if isinstance(found.error, AwayError):
                self.away.add((product, found.data_id.release))
        states: dict[str, State] = {}
        for data_id in data_ids:
            key = data_id.key
            found = known[key]
            if found.error is not None:
                states[key] = Reason(ReasonKind.UNREACHABLE, cause=found.error)
            elif found.file is None or found.version is None:
                states[key] = GONE if found.gone else NEVER_CAME
            else:
                states[key] = InputFiles(product.name, data_id.relative_path, found.version, (found.file.location,))
        return states

    def _task(self, task: Task, keys: Sequence[str]) -> dict[str, State]:
        store = OutputStore(self.outputs, task, task.values())
        plan = self.plan(store, keys)
        name = f"{task.family}/{store.digest}"
        states: dict[str, State] = {}
        for key, one in plan.partitions.items():
            if one.status is Status.COMPLETE and one.work is not None:
                states[key] = InputFiles(name, key, str(plan.records[key]), (store.location_of(key),))
            elif one.status is Status.TO_RECORD:
                states[key] = Reason(ReasonKind.REQUIRED_UNRECORDED, (task.name,))
            elif one.reason is not None:
                first = one.status is Status.TO_DO
                states[key] = Reason(ReasonKind.REQUIRED_FIRST, (task.name,), one.reason) if first else one.reason
        return states

    def _many(self, requirement: Requirement, data_ids: Sequence[PartitionID]) -> dict[str, State]:
        if requirement not in self.indexes:
            self.indexes[requirement] = requirement.index(select_keys(self.ledger, requirement.partitions))
        index = self.indexes[requirement]
        belonging: dict[str, Members] = {}
        states: dict[str, State] = {}
        files = {} if requirement.find is None else self._files(requirement.domain.product, data_ids)
        for one in data_ids:
            file = files.get(one.key)
            if isinstance(file, Reason):
                states[one.key] = file
                continue
            try:
                belonging[one.key] = requirement.find_members(one, file.files[0] if file else None, index)
            except UnreachableError as error:
                states[one.key] = Reason(ReasonKind.UNREACHABLE, cause=error)
            except AstraError as error:
                states[one.key] = Reason(ReasonKind.MEMBERS_UNKNOWN, cause=error)
        wanted: list[PartitionID] = []
        for key in dict.fromkeys(key for members in belonging.values() for key in members.keys):
            with contextlib.suppress(InvalidKeyError):
                wanted.append(requirement.partitions.parse_key(key))
        given = self._own(requirement, wanted)
        for name, members in belonging.items():
            states[name] = _together(requirement, members, given)
        return states


def _memo(store: OutputStore, keys: Sequence[str], overwrite: bool) -> Memo:
    return store.task.name, store.digest, tuple(keys), overwrite


def members(ledger: Ledger, requirement: Requirement, keys: Sequence[str], root: Path) -> list[str]:
    """Return all keys that these partitions require, if each requires many; skip partitions that do not tell."""
    index = requirement.index(select_keys(ledger, requirement.partitions))
    found: dict[str, None] = {}
    links = Links(root)
    for key in keys:
        with contextlib.suppress(AstraError):  # the plan gives the reason for this partition
            one = requirement.domain.parse_key(key)
            path = links.existing_path(one) if isinstance(one, DataID) else None
            found.update(dict.fromkeys(requirement.members(one, path, index)))
    return list(found)


def _planned(
    store: OutputStore, key: str, work: PartitionWork, record: Record | None, overwrite: bool, verify: bool
) -> PartitionPlan:
    """Make the plan for a partition that has all its inputs."""
    try:
        reason = why_incomplete(record, work, store, verify=verify)
    except UnreachableError as error:  # its output may exist, and is not made again
        return _lacking(key, Reason(ReasonKind.UNREACHABLE, cause=error))
    if not overwrite:
        if reason is None:
            return PartitionPlan(key, Status.COMPLETE, work=work)
        altered = reason.kind is ReasonKind.OUTPUT_ALTERED
        if not altered and (written := store.find(work)):
            return PartitionPlan(key, Status.TO_RECORD, reason, work, written)
    if failure := store.failure(work):
        reason = Reason(ReasonKind.FAILED_BEFORE, cause=failure)
    return PartitionPlan(key, Status.TO_DO, reason or Reason(ReasonKind.OVERWRITE), work)


def _lacking(key: str, reason: Reason) -> PartitionPlan:
    return PartitionPlan(key, reason.status, reason)


_WEIGHTS = {ReasonKind.UNREACHABLE: 0, ReasonKind.NEVER_CAME: 1, ReasonKind.GONE: 2}
"""Order of reasons: of several the one with the lowest number is given; of equal ones, the first."""


def _weight(reason: Reason) -> int:
    return _WEIGHTS.get(reason.kind, len(_WEIGHTS))


def _together(requirement: Requirement, members: Members, states: Mapping[str, State]) -> State:
    """Return the input from many partitions, without those whose file does not exist, or why there is none.

    Those of which the file or the task's code is at fault are left out as well if enough others are there.
    """
    found = [(key, states[key]) for key in members.keys if key in states]
    expected = members.expected - (len(members.keys) - len(found))  # keys that are not valid identify nothing
    reasons = [(key, state) for key, state in found if isinstance(state, Reason)]
    lacking = [(key, reason) for key, reason in reasons if reason.status is not Status.NO_INPUT]
    unreachable = [reason for _, reason in lacking if reason.status is Status.UNREACHABLE]
    if unreachable:
        return unreachable[0]
    given = sorted(((key, state) for key, state in found if isinstance(state, InputFiles)), key=lambda pair: pair[0])
    if not given and not lacking:
        return GONE if GONE in (reason for _, reason in reasons) else NEVER_CAME
    needed = count_needed(requirement.minimum, expected)
    if given and len(given) >= needed:
        lacking = [(key, reason) for key, reason in lacking if reason.fault not in (Fault.FILE, Fault.TASK)]
    if (short := needed - len(given) - len(lacking)) > 0:
        return Reason(ReasonKind.TOO_FEW, (str(short), str(max(needed, expected)), requirement.asset_name))
    if lacking:
        key, reason = lacking[0]
        return Reason(ReasonKind.MEMBER_LACKING, (key,), reason)
    several = f"{len(given)} partitions" if len(given) == expected else f"{len(given)} of {expected} partitions"
    versions = [f"{key} {one.version}" for key, one in given] + ([] if len(given) == expected else [several])
    return InputFiles(
        given[0][1].name,
        several,
        "all-" + hashlib.sha256("\n".join(versions).encode()).hexdigest()[:16],
        tuple(one.locations[0] for _, one in given),
        tuple(key for key, _ in given),
        tuple(one.version for _, one in given),
        expected,
    )
