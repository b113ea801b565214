"""A plan: which partitions are complete, which would run and why, and which cannot yet; as data and in words.

`planner` makes plans.
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
"""Most reasons why files cannot be examined, and most numbers of members, that a plan in words lists."""


@dataclass(frozen=True, slots=True)
class PartitionPlan:
    """The plan for one partition.

    Attributes
    ----------
    reason
        Why it is not complete; None if it is.
    work
        Its inputs as they are today; None if some are missing or cannot be examined.
    written
        Its output, if it exists and is to be recorded.
    """

    key: str
    status: Status
    reason: Reason | None = None
    work: PartitionWork | None = None
    written: StoredOutput | None = None

    @property
    def kind(self) -> ReasonKind | None:
        """Kind of the reason; None if there is no reason."""
        return None if self.reason is None else self.reason.kind

    @property
    def given_up(self) -> bool:
        """Whether it, or what it waits for, failed before through a fault of the file or of the task's code.

        Watches do not try it again before the file or the code changes.
        """
        waits = self.status in (Status.TO_DO, Status.WAITING)
        return waits and self.reason is not None and self.reason.fault in (Fault.FILE, Fault.TASK)


@dataclass(frozen=True)
class Plan:
    """A plan of what a run would do.

    Attributes
    ----------
    store
        Outputs of the task.
    partitions
        Plan for each partition, by key.
    inputs
        The files as they are now, by product and key.
    records
        Latest record of each partition, by key.
    brief_shares
        What `shares` counts, in a plan in brief; None in others. A plan in brief, of very many partitions, has statuses
        and reasons alone: no work, outputs, inputs and records.
    """

    store: OutputStore
    partitions: dict[str, PartitionPlan]
    inputs: Mapping[Product, Mapping[str, Input]] = field(repr=False, default_factory=dict)
    records: Mapping[str, Record] = field(repr=False, default_factory=dict)
    brief_shares: Counter[str] | None = None

    @property
    def is_brief(self) -> bool:
        """Whether it has statuses and reasons alone."""
        return self.brief_shares is not None

    def add_in_brief(self, other: "Plan", reasons: dict[Reason, Reason]) -> None:
        """Add to this plan in brief the statuses and reasons of another one, of other partitions.

        Parameters
        ----------
        reasons
            Reasons that many have, by themselves: each is kept once.
        """
        for key, one in other.partitions.items():
            reason = one.reason
            if reason is not None and reason.cause is None:
                reason = reasons.setdefault(reason, reason)
            self.partitions[key] = PartitionPlan(key, one.status, reason)
        if self.brief_shares is not None:
            self.brief_shares.update(other.shares)

    @cached_property
    def _sorted(self) -> dict[Status | ReasonKind, list[PartitionPlan]]:
        found: dict[Status | ReasonKind, list[PartitionPlan]] = {}
        for one in self.partitions.values():
            found.setdefault(one.status, []).append(one)
            if one.reason is not None:
                found.setdefault(one.reason.kind, []).append(one)
        return found

    def of(self, what: Status | ReasonKind) -> list[PartitionPlan]:
        """Return the partitions of a status, or with a kind of reason."""
        return self._sorted.get(what, [])

    def share(self, one: PartitionPlan) -> str:
        """Say from how many of the many that it requires a partition is made, "3 of 5 ap_visit"; "" if from all."""
        given = zip(self.store.task.requires, () if one.work is None else one.work.given, strict=False)
        return ", ".join(
            f"{len(files.keys)} of {files.expected} {item.asset_name}"
            for item, files in given
            if len(files.keys) < files.expected
        )

    @cached_property
    def shares(self) -> Counter[str]:
        """Number of partitions that are made from fewer than are expected, by what `share` says."""
        if self.brief_shares is not None:
            return self.brief_shares
        if all(item.one_to_one for item in self.store.task.requires):
            return Counter()
        return Counter(share for one in self.partitions.values() if (share := self.share(one)))

    def work(self, *statuses: Status) -> list[PartitionWork]:
        """Return the work of the partitions of these statuses, in order of the statuses."""
        return [one.work for status in statuses for one in self.of(status) if one.work is not None]

    def explain(self, what: Status | ReasonKind) -> list[tuple[str, str]]:
        """Return the key of each partition of a status, or with a kind of reason, and the reason in words."""
        return [(one.key, sentence(one.reason)) for one in self.of(what) if one.reason is not None]

    @property
    def to_record(self) -> list[tuple[PartitionWork, StoredOutput]]:
        """Outputs to record, which were made from today's inputs with today's code and parameters."""
        found = ((one.work, one.written) for one in self.of(Status.TO_RECORD))
        return [(work, written) for work, written in found if work is not None and written is not None]

    @property
    def reasons(self) -> Counter[str]:
        """Number of partitions to do, by reason."""
        return self._counted(Status.TO_DO)

    def _counted(self, status: Status) -> Counter[str]:
        return Counter(sentence(one.reason, short=True) for one in self.of(status) if one.reason is not None)

    def lines(self) -> list[str]:
        """Return the plan in words."""
        lines = [f"{len(self.of(Status.COMPLETE))} complete, {len(self.of(Status.TO_DO))} to do"]
        lines += [f"  {count} {reason}" for reason, count in self.reasons.most_common()]
        if waiting := self.of(Status.WAITING):
            missing = all(one.kind is ReasonKind.FILE_MISSING for one in waiting)
            lines.append(f"{len(waiting)} wait for a {'file' if missing else 'task'} that they require")
            lines += [f"  {count} {reason}" for reason, count in self._counted(Status.WAITING).most_common()]
        if there := self.of(Status.TO_RECORD):
            lines.append(f"{len(there)} outputs are there already, to be recorded again and not computed")
        if self.shares:
            lines.append(f"{self.shares.total()} from fewer than are expected")
            lines += [f"  {count} from {share}" for share, count in self.shares.most_common(CAUSES)]
        if few := self.of(ReasonKind.TOO_FEW):
            lines.append(f"too few yet: {len(few)}")
            said = Counter(sentence(one.reason) for one in few if one.reason is not None)
            lines += [f"  {count} {words}" for words, count in said.most_common(CAUSES)]
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
        """Describe the plan for one partition, with its reason."""
        one = self.partitions.get(key)
        if one is None:
            return "not registered"
        share = f", from {self.share(one)}" if self.share(one) else ""
        if one.status is Status.TO_RECORD:
            return f"its output is there already, to be recorded again and not computed{share}"
        if one.reason is None:
            return f"complete{share}"
        return _BEGINNINGS.get(one.status, "") + sentence(one.reason)


_BEGINNINGS = {Status.TO_DO: "to do: ", Status.WAITING: "waits: ", Status.INVALID: "invalid: "}
"""Texts before the reason, by status."""
