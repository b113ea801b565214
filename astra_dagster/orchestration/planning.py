"""The plan of a run: which partitions are complete, which would run and why, which have no input yet.

Reads records and disk, writes nothing.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from astra_dagster.datamodel.products import DataID, Product, Where
from astra_dagster.errors import AstraError
from astra_dagster.orchestration import records, sources
from astra_dagster.orchestration.partitions import registered
from astra_dagster.orchestration.sources import Input
from astra_dagster.tasks.completeness import why_incomplete
from astra_dagster.tasks.runner import Work
from astra_dagster.tasks.store import OutputStore, Written


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes
    ----------
    complete
        Work that is done, its output being there and recorded.
    found
        Work whose output is there, made from this input by this code and these parameters, while the latest record
        is another one or none: to be recorded, not computed.
    incomplete
        Work to do, with the reason.
    no_input
        Keys whose file is not on this disk.
    invalid
        Registered keys that identify no file, with the error.
    inputs
        The files as they are now, by key.
    """

    complete: tuple[Work, ...]
    found: tuple[tuple[Work, Written], ...]
    incomplete: tuple[tuple[Work, str], ...]
    no_input: tuple[str, ...]
    invalid: tuple[tuple[str, AstraError], ...]
    inputs: Mapping[str, Input]

    @property
    def reasons(self) -> Counter[str]:
        """Number of incomplete partitions by reason."""
        return Counter(reason for _, reason in self.incomplete)

    def lines(self) -> list[str]:
        """The plan in words."""
        lines = [f"{len(self.complete)} complete, {len(self.incomplete)} to do"]
        lines += [f"  {count} {reason}" for reason, count in self.reasons.most_common()]
        if self.found:
            lines.append(f"{len(self.found)} outputs are there already, to be recorded again and not computed")
        if self.no_input:
            lines.append(
                f"{len(self.no_input)} without input: the file is not below SAS_BASE_DIR, or cannot be reached"
            )
        if self.invalid:
            lines.append(f"{len(self.invalid)} with an invalid partition key")
        return lines


def select_keys(
    instance: dg.DagsterInstance, product: Product, releases: Sequence[str] = (), where: Where | None = None
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
    task = store.task
    data_ids: list[DataID] = []
    invalid = []
    for key in keys:
        try:
            data_ids.append(task.requires.parse_key(key))
        except AstraError as error:
            invalid.append((key, error))
    inputs = sources.examine(instance, task.requires, data_ids, root)
    known = records.task_records(instance, task, [data_id.key for data_id in data_ids])
    complete, there, incomplete, no_input = [], [], [], []
    for found in inputs:
        key = found.data_id.key
        if found.file is None or found.version is None:
            no_input.append(key)
            continue
        work = Work(found.data_id, found.file.path, found.version)
        reason = why_incomplete(known.get(key), found.data_id, found.version, store)
        if reason is None and overwrite:
            reason = "overwrite"
        if reason is None:
            complete.append(work)
        elif not overwrite and (written := store.find(found.data_id, found.version)):
            there.append((work, written))
        else:
            incomplete.append((work, reason))
    return Plan(
        tuple(complete),
        tuple(there),
        tuple(incomplete),
        tuple(no_input),
        tuple(invalid),
        {found.data_id.key: found for found in inputs},
    )
