"""Registered tasks and their partitions, as a clean-up needs them: keys, records, and statuses from a plan."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from astra_dagster.outputs.digests import find_setting
from astra_dagster.outputs.layout import place_of
from astra_dagster.outputs.record import Record
from astra_dagster.planning.status import Status
from astra_dagster.tasks.task import Task


@dataclass(frozen=True)
class Family:
    """The registered tasks that share a folder, with their partitions.

    Attributes
    ----------
    tasks
        A task and its variants.
    registered
        Registered partition keys.
    records
        Latest records by task name and key, also of keys that are not registered.
    statuses
        Status of each key in a plan, by the digest of today's parameters; empty if no plan was made. Keys that wait, or
        whose input never existed or is of too few, are left out, so that NO_INPUT means that the input was removed.
    altered
        Keys of outputs that differ from their records, by digest, if the plan was to read them.
    chosen
        Keys whose files may be removed; None for all.
    """

    tasks: Sequence[Task]
    registered: Collection[str] = frozenset()
    records: Mapping[str, Mapping[str, Record]] = field(default_factory=dict)
    statuses: Mapping[str, Mapping[str, Status]] = field(default_factory=dict)
    altered: Mapping[str, Collection[str]] = field(default_factory=dict)
    chosen: Collection[str] | None = None

    @cached_property
    def today(self) -> dict[str, list[Task]]:
        """Tasks, by the digest of today's parameters."""
        found: dict[str, list[Task]] = {}
        for task in self.tasks:
            found.setdefault(task.digest(task.values()), []).append(task)
        return found

    @cached_property
    def places(self) -> dict[str, str]:
        """Registered and recorded keys, by the place of their outputs."""
        recorded = itertools.chain.from_iterable(self.records.values())
        return {place_of(self.tasks[0].family, key): key for key in itertools.chain(recorded, self.registered)}

    @cached_property
    def carried(self) -> dict[str, set[str]]:
        """Keys, by the digests in their latest records."""
        found: dict[str, set[str]] = {}
        for records in self.records.values():
            for key, record in records.items():
                found.setdefault(record.digest, set()).add(key)
        return found

    def has_chosen(self, key: str | None) -> bool:
        """Whether a key, None for one that was never heard of, is among those whose files may be removed."""
        return self.chosen is None or key in self.chosen

    def leads_to(self, root: str, digest: str) -> bool:
        """Whether parameters can be set today that have a digest of which there are outputs."""
        return any(find_setting(root, task, digest) for task in self.tasks)
