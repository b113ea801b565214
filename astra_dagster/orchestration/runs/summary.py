"""Sum up a task in a run for the web UI: counts, failures, and histograms of the results."""

from array import array
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import numpy as np

from astra_dagster.errors import AstraError
from astra_dagster.execution.runner import Outcome
from astra_dagster.orchestration.causes import PlainFailure
from astra_dagster.planning.plan import Plan
from astra_dagster.planning.status import GONE, NEVER_CAME, ReasonKind, Status, sentence

SHOWN = 20
"""Largest number of failures that the message of a failed run lists."""

LISTED = 1000
"""Largest number of failures in the table of a run."""

COLUMNS, BINS, WIDTH = 6, 12, 40
"""Largest number of columns with a histogram, number of its bins, and length of the longest bar in characters."""


@dataclass(frozen=True, slots=True)
class FailedPartition:
    """A partition that failed, or that waits for one that failed.

    Attributes
    ----------
    shared
        The reason without its file, which is the same where one mistake makes many fail; empty if it is told by itself.
    """

    key: str
    reason: str
    shared: str = ""


@dataclass
class TaskSummary:
    """The outcomes of the partitions of one task.

    Attributes
    ----------
    failures
        The partitions that failed, or that wait for one that failed.
    planned
        Number of partitions by status, and by kind of reason, before anything was done.
    values
        Numbers of the first columns, one for each partition; of several spectra, that of the first.
    setups
        Seconds that the task's setup took, each time that a worker called it.
    """

    failures: list[FailedPartition] = field(default_factory=list)
    planned: Counter[Status | ReasonKind] = field(default_factory=Counter)
    computed: int = 0
    values: dict[str, "array[float]"] = field(default_factory=dict)
    setups: list[float] = field(default_factory=list)

    def begin(
        self, plan: Plan, unfetched: Mapping[str, AstraError], statuses: Collection[Status] = frozenset(Status)
    ) -> None:
        """Add the partitions of a plan that have one of these statuses, before anything is done.

        Parameters
        ----------
        unfetched
            Files that could not be fetched, by partition key.
        """
        for status in (one for one in Status if one in statuses):
            of = plan.of(status)
            self.planned[status] += len(of)
            self.planned.update(one.kind for one in of if one.kind is not None)
            if status in (Status.INVALID, Status.UNREACHABLE):
                self.failures += [FailedPartition(key, reason) for key, reason in plan.explain(status)]
            elif status is Status.NO_INPUT:
                missing = (one.key for one in of if one.kind in (NEVER_CAME.kind, GONE.kind) and one.key in unfetched)
                self.failures += [FailedPartition(key, unfetched[key].without_key()) for key in missing]
        for one in plan.of(Status.WAITING) if Status.WAITING in statuses else ():
            if one.reason is not None:
                told, short = sentence(one.reason), sentence(one.reason, short=True)
                self.failures.append(FailedPartition(one.key, told, short))

    def add(self, outcome: Outcome) -> None:
        """Add the outcome of one partition."""
        if outcome.written is None:
            assert outcome.error is not None  # noqa: S101 (it is one or the other)
            error = outcome.error
            self.failures.append(FailedPartition(outcome.work.data_id.key, error.without_key(), error.without_place()))
            return
        self.computed += 1
        if outcome.written.setup:
            self.setups.append(outcome.written.setup)
        for name, value in outcome.written.results.items():
            first = value[0] if outcome.store.several and value else value
            known = name in self.values or len(self.values) < COLUMNS
            if known and isinstance(first, (int, float)) and not isinstance(first, bool):
                self.values.setdefault(name, array("d")).append(first)

    @property
    def counts(self) -> dict[str, int]:
        """Number of partitions by outcome, without outcomes that none has."""
        counts = {
            "computed": self.computed,
            "complete before": self.planned[Status.COMPLETE],
            "recorded again": self.planned[Status.TO_RECORD],
            sentence(NEVER_CAME): self.planned[NEVER_CAME.kind],
            sentence(GONE): self.planned[GONE.kind],
            "too few yet": self.planned[ReasonKind.TOO_FEW],
            "failed": len(self.failures),
        }
        return {name: count for name, count in counts.items() if count}

    @property
    def words(self) -> str:
        """Counts, and how long setups took, in one line."""
        told = [f"{count} {what}" for what, count in self.counts.items()]
        if self.setups:
            told.append(f"setup in {len(self.setups)} workers, {sum(self.setups) / len(self.setups):.1f} s each")
        return ", ".join(told) or "nothing"

    @property
    def metadata(self) -> dict[str, Any]:
        """Counts, failures and histograms for the web UI."""
        shown: dict[str, Any] = dict(self.counts)
        if self.setups:
            shown["setup seconds"] = round(sum(self.setups), 3)
        if self.failures:
            shown["failures"] = make_failure_table(self.failures)
        if any(len(values) > 1 for values in self.values.values()):
            shown["results"] = dg.MetadataValue.md(draw_histograms(self.values))
        return shown


def make_failure_table(failures: Sequence[FailedPartition]) -> dg.TableMetadataValue:
    """Make a table of failures, with partition key and reason."""
    return dg.MetadataValue.table(
        [dg.TableRecord({"partition": one.key, "reason": one.reason}) for one in failures[:LISTED]],
        schema=dg.TableSchema([dg.TableColumn("partition"), dg.TableColumn("reason")]),
    )


def make_failure(failures: Sequence[FailedPartition], total: int, metadata: Mapping[str, Any]) -> PlainFailure:
    """Make the error of a run in which partitions failed; a reason that several share is told once."""
    groups: dict[str, list[FailedPartition]] = {}
    for one in failures:
        groups.setdefault(one.shared or one.key, []).append(one)
    listed = [
        f"{one.key}: {one.reason}"
        if not others
        else f"{1 + len(others)} partitions: {one.shared}; the first is {one.key}"
        for one, *others in groups.values()
    ]
    left = sum(map(len, [*groups.values()][SHOWN:]))
    more = f"\nand {left} more" if left else ""
    return PlainFailure(
        f"{len(failures)} of {total} partitions failed\n" + "\n".join(listed[:SHOWN]) + more,
        {**metadata, "failures": make_failure_table(failures)},
    )


def draw_histograms(columns: Mapping[str, Sequence[float]]) -> str:
    """Draw histograms of columns as text in Markdown."""
    lines = []
    for name, values in columns.items():
        numbers = np.array(values, dtype=float)
        counts, edges = np.histogram(numbers, BINS)
        low, high, middle = numbers.min(), numbers.max(), np.median(numbers)
        label = name.replace("`", "")  # which would end the block
        lines.append(f"{label}: {len(numbers)} from {low:.4g} to {high:.4g}, median {middle:.4g}")
        for count, start in zip(counts, edges[:-1], strict=True):
            bar = "#" * -(-WIDTH * int(count) // int(counts.max()))
            lines.append(f"{start:>12.4g} | {bar} {count if count else ''}".rstrip())
        lines.append("")
    return "\n".join(["```", *lines[:-1], "```"])
