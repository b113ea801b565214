"""What a plan says: which partitions are complete, which would run and why, which cannot yet; as data and in words.

How it is found out is the business of `planner`.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from astra_dagster.datamodel.products import Product
from astra_dagster.errors import Fault
from astra_dagster.outputs.record import Record
from astra_dagster.outputs.store import OutputStore, PartitionWork, StoredOutput
from astra_dagster.planning.inputs import Input
from astra_dagster.planning.status import GONE, NEVER_CAME, Reason, ReasonKind, Status, sentence

CAUSES = 5
"""Reasons for which inputs cannot be looked at that a plan in words spells out."""


@dataclass(frozen=True, slots=True)
class PartitionPlan:
    """What becomes of one partition.

    Attributes
    ----------
    reason
        Why it is not complete; None if it is.
    work
        What it is given today; None where that cannot be told, or something is lacking.
    written
        Its output, where that is there and is to be recorded.
    """

    key: str
    status: Status
    reason: Reason | None = None
    work: PartitionWork | None = None
    written: StoredOutput | None = None

    @property
    def kind(self) -> ReasonKind | None:
        """Of its reason."""
        return None if self.reason is None else self.reason.kind

    @property
    def given_up(self) -> bool:
        """Whether it failed before by the fault of the file or of the task's code, or waits for what did.

        Nothing tries that again by itself before the file or the code changes.
        """
        waits = self.status in (Status.TO_DO, Status.WAITING)
        return waits and self.reason is not None and self.reason.fault in (Fault.FILE, Fault.TASK)


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes
    ----------
    store
        Of the task.
    partitions
        What becomes of each partition, by key.
    inputs
        The files as they are now, by product and key.
    records
        Latest record of each partition, by key.
    """

    store: OutputStore
    partitions: Mapping[str, PartitionPlan]
    inputs: Mapping[Product, Mapping[str, Input]] = field(repr=False, default_factory=dict)
    records: Mapping[str, Record] = field(repr=False, default_factory=dict)

    @cached_property
    def _sorted(self) -> dict[Status | ReasonKind, list[PartitionPlan]]:
        found: dict[Status | ReasonKind, list[PartitionPlan]] = {}
        for one in self.partitions.values():
            found.setdefault(one.status, []).append(one)
            if one.reason is not None:
                found.setdefault(one.reason.kind, []).append(one)
        return found

    def of(self, what: Status | ReasonKind) -> list[PartitionPlan]:
        """Partitions of a status, or with a kind of reason."""
        return self._sorted.get(what, [])

    def work(self, *statuses: Status) -> list[PartitionWork]:
        """What partitions of these statuses are given, one status after the other."""
        return [one.work for status in statuses for one in self.of(status) if one.work is not None]

    def explain(self, status: Status) -> list[tuple[str, str]]:
        """Key of each partition of a status, and why it has it, in words."""
        return [(one.key, sentence(one.reason)) for one in self.of(status) if one.reason is not None]

    @property
    def to_record(self) -> list[tuple[PartitionWork, StoredOutput]]:
        """Outputs that are there, made from today's input by today's code and parameters: to be recorded only."""
        found = ((one.work, one.written) for one in self.of(Status.TO_RECORD))
        return [(work, written) for work, written in found if work is not None and written is not None]

    @property
    def reasons(self) -> Counter[str]:
        """Number of partitions to do by reason."""
        return self._counted(Status.TO_DO)

    def _counted(self, status: Status) -> Counter[str]:
        return Counter(sentence(one.reason, short=True) for one in self.of(status) if one.reason is not None)

    def lines(self) -> list[str]:
        """The plan in words."""
        lines = [f"{len(self.of(Status.COMPLETE))} complete, {len(self.of(Status.TO_DO))} to do"]
        lines += [f"  {count} {reason}" for reason, count in self.reasons.most_common()]
        if waiting := self.of(Status.WAITING):
            lines.append(f"{len(waiting)} wait for a task that they require")
            lines += [f"  {count} {reason}" for reason, count in self._counted(Status.WAITING).most_common()]
        if there := self.of(Status.TO_RECORD):
            lines.append(f"{len(there)} outputs are there already, to be recorded again and not computed")
        for reason in (NEVER_CAME, GONE):
            if lacking := self.of(reason.kind):
                lines.append(f"{sentence(reason)}: {len(lacking)}")
        if unreachable := self.of(Status.UNREACHABLE):
            lines.append(f"{len(unreachable)} cannot be looked at")
            causes = self._counted(Status.UNREACHABLE).most_common()
            lines += [f"  {count} {cause}" for cause, count in causes[:CAUSES]]
            lines += [f"  and {len(causes) - CAUSES} more reasons"] if len(causes) > CAUSES else []
        if invalid := self.of(Status.INVALID):
            lines.append(f"{len(invalid)} with an invalid partition key")
        return lines

    def why(self, key: str) -> str:
        """What becomes of one partition, and why, in words."""
        one = self.partitions.get(key)
        if one is None:
            return "not registered"
        if one.status is Status.TO_RECORD:
            return "its output is there already, to be recorded again and not computed"
        if one.reason is None:
            return "complete"
        return _BEGINNINGS.get(one.status, "") + sentence(one.reason)


_BEGINNINGS = {Status.TO_DO: "to do: ", Status.WAITING: "waits: ", Status.INVALID: "invalid: "}
"""What is said of a partition before the reason."""
