"""What a plan says: which partitions are complete, which would run and why, which cannot yet; as data and in words.

How it is found out is the business of `planning`.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from astra_dagster.datamodel.products import Product
from astra_dagster.errors import AstraError, Fault, UnreachableError
from astra_dagster.orchestration.sources import Input
from astra_dagster.outputs.record import Record
from astra_dagster.outputs.store import OutputStore, Work, Written


class Reason(str):
    """Why something is not complete; `fault` is whose fault it was, of what failed when it was tried last."""

    fault: Fault | None

    def __new__(cls, text: str, fault: Fault | None = None) -> Self:
        """A reason in these words."""
        made = super().__new__(cls, text)
        made.fault = fault
        return made


NO_INPUT = Reason("no input yet")
GONE = Reason("input gone")

FAILED_BEFORE = "failed before: "
"""Beginning of the reason of what failed when the same was tried last."""

CAUSES = 5
"""Reasons for which inputs cannot be looked at that a plan in words spells out."""


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
        Keys whose file is not on this disk, and never was.
    gone
        Keys whose file was here before and was removed. What was made of it stays.
    unreachable
        Keys of which nobody can tell whether their file is there, or their output, with the error.
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
    gone: tuple[str, ...]
    unreachable: tuple[tuple[str, UnreachableError], ...]
    invalid: tuple[tuple[str, AstraError], ...]
    inputs: Mapping[Product, Mapping[str, Input]]
    records: Mapping[str, Record] = field(repr=False, default_factory=dict)

    @property
    def partitions(self) -> int:
        """Number of partitions."""
        kinds = (self.complete, self.found, self.incomplete, self.waiting, self.no_input, self.gone)
        return sum(map(len, (*kinds, self.unreachable, self.invalid)))

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
            lines.append(f"{NO_INPUT}: {len(self.no_input)}")
        if self.gone:
            lines.append(f"{GONE}: {len(self.gone)}")
        if self.unreachable:
            lines.append(f"{len(self.unreachable)} cannot be looked at")
            causes = Counter(error.without_key() for _, error in self.unreachable).most_common()
            lines += [f"  {count} {cause}" for cause, count in causes[:CAUSES]]
            lines += [f"  and {len(causes) - CAUSES} more reasons"] if len(causes) > CAUSES else []
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
        for other, error in self.unreachable:
            if other == key:
                return error.without_key()
        if key in self.gone:
            return GONE
        return NO_INPUT if key in self.no_input else "not registered"


def _short(reason: str) -> str:
    """A reason as plans count it: what failed before is told file by file, and counted as one."""
    return reason.partition(FAILED_BEFORE)[0] + "failed before" if FAILED_BEFORE in reason else reason
