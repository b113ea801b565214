"""What is known of registered tasks and their partitions, as plain data: keys, records, and what a plan says."""

import contextlib
import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from astra_dagster.errors import ParameterError
from astra_dagster.outputs.layout import place_of
from astra_dagster.outputs.record import Record
from astra_dagster.planning.status import Status
from astra_dagster.tasks.task import Task


@dataclass(frozen=True)
class Family:
    """What is known of the registered tasks that share a folder.

    Attributes
    ----------
    tasks
        A task and its variants.
    registered
        Registered partition keys.
    records
        Latest records by task name and key, also of keys that are not registered.
    statuses
        What a plan says of each key, by the digest of today's parameters; empty if none was made. There is nothing to
        be said of a key that waits, or whose input never came: those that have no input are those that had one.
    """

    tasks: Sequence[Task]
    registered: Collection[str] = frozenset()
    records: Mapping[str, Mapping[str, Record]] = field(default_factory=dict)
    statuses: Mapping[str, Mapping[str, Status]] = field(default_factory=dict)

    @cached_property
    def today(self) -> dict[str, list[Task]]:
        """Tasks by the digest of today's parameters."""
        found: dict[str, list[Task]] = {}
        for task in self.tasks:
            found.setdefault(task.digest(task.values()), []).append(task)
        return found

    @cached_property
    def places(self) -> dict[str, str]:
        """Keys that are registered or recorded, by the place of their outputs."""
        recorded = itertools.chain.from_iterable(self.records.values())
        return {place_of(self.tasks[0].family, key): key for key in itertools.chain(recorded, self.registered)}

    @cached_property
    def carried(self) -> dict[str, set[str]]:
        """Keys by the digests that their latest records carry."""
        found: dict[str, set[str]] = {}
        for records in self.records.values():
            for key, record in records.items():
                found.setdefault(record.digest, set()).add(key)
        return found

    def leads_to(self, digest: str, parameters: Mapping[str, Any]) -> bool:
        """Whether these parameters can be set today, and have this digest."""
        for task in self.tasks:
            with contextlib.suppress(ParameterError, TypeError):
                if task.digest(task.values(parameters)) == digest:
                    return True
        return False
