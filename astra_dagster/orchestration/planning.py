"""The plan of a run: which partitions are complete, which would run and why, which cannot yet.

Reads records and disk, writes nothing.
"""

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg

from astra_dagster.datamodel.products import DataID, Product, Where
from astra_dagster.errors import AstraError, AwayError, InvalidKeyError, UnreachableError
from astra_dagster.orchestration import records, sources
from astra_dagster.orchestration.partitions import registered
from astra_dagster.orchestration.plan import FAILED_BEFORE, GONE, NO_INPUT, Plan, Reason
from astra_dagster.orchestration.sources import Input
from astra_dagster.outputs.completeness import why_incomplete
from astra_dagster.outputs.store import Given, OutputStore, Work
from astra_dagster.tasks.groups import Domain, PartitionID
from astra_dagster.tasks.task import Requirement, Task

State = Given | Reason | UnreachableError
"""What a requirement gives to a partition, or why it gives nothing: `NO_INPUT`, `GONE`, or what must be done first; an
error where nobody can tell."""


def select_keys(
    instance: dg.DagsterInstance, domain: Domain, releases: Sequence[str] = (), where: Where | None = None
) -> list[str]:
    """Registered keys of some releases whose parts have the wanted values; invalid keys only if nothing is wanted.

    Raises
    ------
    InvalidKeyError, UnknownReleaseError
        If no key could ever be selected so.
    """
    keys = registered(instance, domain)
    return domain.select(keys, releases, where or {}) if releases or where else list(keys)


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


def members(instance: dg.DagsterInstance, requirement: Requirement, keys: Sequence[str], root: Path) -> list[str]:
    """Keys of all partitions that belong to these of a requirement of many, as far as that can be told."""
    index = requirement.index(registered(instance, requirement.partitions))
    found: dict[str, None] = {}
    for key in keys:
        with contextlib.suppress(AstraError):  # a plan tells it, of this one alone
            one = requirement.domain.parse_key(key)
            path = one.existing_path(root) if isinstance(one, DataID) else None
            found.update(dict.fromkeys(requirement.members(one, path, index)))
    return list(found)


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
    data_ids: dict[Domain, dict[str, PartitionID]] = field(default_factory=dict)

    @property
    def absent(self) -> list[DataID]:
        """Files that it has looked for and that are not here, to be fetched.

        Where some of a product and release may be on a disk that is away, none of these: they might be on it as well,
        and would be written where it is to be mounted.
        """
        absent = []
        for seen in self.inputs.values():
            away = {found.data_id.release for found in seen.values() if isinstance(found.error, AwayError)}
            missing = (found.data_id for found in seen.values() if found.file is None and found.error is None)
            absent += [data_id for data_id in missing if data_id.release not in away]
        return absent

    def plan(self, store: OutputStore, keys: Sequence[str], overwrite: bool = False) -> Plan:
        """Plan a task over these partitions; see `make_plan`."""
        memo = (store.task.name, store.digest, tuple(keys), overwrite)
        if memo not in self.plans:
            self.plans[memo] = self._plan(store, keys, overwrite)
        return self.plans[memo]

    def _plan(self, store: OutputStore, keys: Sequence[str], overwrite: bool) -> Plan:
        task = store.task
        known_ids = self.data_ids.setdefault(task.domain, {})
        data_ids: list[PartitionID] = []
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
        complete, there, incomplete, waiting, no_input, gone = [], [], [], [], [], []
        unreachable: list[tuple[str, UnreachableError]] = []
        for data_id in data_ids:
            key = data_id.key
            given = [state[key] for state in states]
            lacking = _first_lacking(given)
            if isinstance(lacking, UnreachableError):
                unreachable.append((key, lacking))
            elif lacking == NO_INPUT:
                no_input.append(key)
            elif lacking == GONE:
                gone.append(key)
            elif lacking is not None:
                waiting.append((key, lacking))
            if lacking is not None:
                continue
            work = Work(data_id, tuple(state for state in given if isinstance(state, Given)))
            try:
                reason = why_incomplete(known.get(key), work, store)
            except UnreachableError as error:  # its output, which is not to be made again for that
                unreachable.append((key, error))
                continue
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
            tuple(gone),
            tuple(unreachable),
            tuple(invalid),
            self.inputs,
            known,
        )

    def _states(self, requirement: Requirement, data_ids: Sequence[PartitionID]) -> dict[str, State]:
        """What a requirement gives to each partition, or why nothing, by partition key."""
        return (self._own if requirement.one_to_one else self._many)(requirement, data_ids)

    def _own(self, requirement: Requirement, data_ids: Sequence[PartitionID]) -> dict[str, State]:
        """What each of the required partitions holds, or why nothing, by its own key."""
        if requirement.task is None:
            return self._files(requirement.product, data_ids)
        return self._task(requirement.task, [data_id.key for data_id in data_ids])

    def _files(self, product: Product, partitions: Sequence[PartitionID]) -> dict[str, State]:
        data_ids = [data_id for data_id in partitions if isinstance(data_id, DataID)]
        known = self.inputs.setdefault(product, {})
        unseen = [data_id for data_id in data_ids if data_id.key not in known]
        for found in sources.examine(self.instance, product, unseen, self.root):
            known[found.data_id.key] = found
        states: dict[str, State] = {}
        for data_id in data_ids:
            found = known[data_id.key]
            if found.error is not None:
                states[data_id.key] = found.error
            elif found.file is None or found.version is None:
                states[data_id.key] = GONE if found.gone else NO_INPUT
            else:
                states[data_id.key] = Given(product.name, data_id.relative_path, found.version, (found.file.path,))
        return states

    def _task(self, task: Task, keys: Sequence[str]) -> dict[str, State]:
        store = OutputStore(self.outputs, task, task.values())
        plan = self.plan(store, keys)
        states: dict[str, State] = {**dict.fromkeys(plan.no_input, NO_INPUT), **dict.fromkeys(plan.gone, GONE)}
        states.update(plan.unreachable)
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

    def _many(self, requirement: Requirement, data_ids: Sequence[PartitionID]) -> dict[str, State]:
        index = requirement.index(registered(self.instance, requirement.partitions))
        belonging: dict[str, list[str]] = {}
        states: dict[str, State] = {}
        files = {} if requirement.find is None else self._files(requirement.domain.product, data_ids)
        for one in data_ids:
            file = files.get(one.key)
            if file is not None and not isinstance(file, Given):
                states[one.key] = file
                continue
            try:
                belonging[one.key] = requirement.members(one, file.files[0] if file else None, index)
            except UnreachableError as error:
                states[one.key] = error
            except AstraError as error:
                states[one.key] = Reason(str(error), error.fault)
        wanted: list[PartitionID] = []
        for key in dict.fromkeys(key for keys in belonging.values() for key in keys):
            try:
                wanted.append(requirement.partitions.parse_key(key))
            except InvalidKeyError:
                continue
        given = self._own(requirement, wanted)
        for name, keys in belonging.items():
            # Of those whose file has not come, or was removed, a group does without.
            found = [(key, given[key]) for key in keys if given.get(key, NO_INPUT) not in (NO_INPUT, GONE)]
            unknown = next((state for _, state in found if isinstance(state, UnreachableError)), None)
            lacking = next(((key, state) for key, state in found if isinstance(state, Reason)), None)
            if unknown is not None:
                states[name] = unknown
            elif lacking is not None:
                states[name] = Reason(f"{lacking[0]}: {lacking[1]}", lacking[1].fault)
            elif not found:
                states[name] = GONE if GONE in map(given.get, keys) else NO_INPUT
            else:
                states[name] = _together([(key, state) for key, state in found if isinstance(state, Given)])
        return states


def _first_lacking(given: Sequence[State]) -> Reason | UnreachableError | None:
    """Why a partition cannot be done, by the weightiest of the reasons; None if all is given."""
    missing = [state for state in given if not isinstance(state, Given)]
    unknown = next((state for state in missing if isinstance(state, UnreachableError)), None)
    absent = next((state for state in (NO_INPUT, GONE) if state in missing), None)
    return unknown or absent or next(iter(missing), None)


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


__all__ = ["FAILED_BEFORE", "GONE", "NO_INPUT", "Plan", "Planner", "make_plan", "members", "select_keys"]
