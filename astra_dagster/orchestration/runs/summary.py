"""What became of a task in a run, for the web UI: counts, failures, and histograms of the results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import numpy as np

from astra_dagster.errors import AstraError
from astra_dagster.execution.runner import Outcome
from astra_dagster.planning.plan import Plan
from astra_dagster.planning.status import GONE, NEVER_CAME, Status, sentence

SHOWN = 20
"""Failures that the message of a failed run spells out."""

LISTED = 1000
"""Failures that the table of a run lists."""

COLUMNS, BINS, WIDTH = 6, 12, 40
"""Columns that get a histogram, its bins, and the length of the longest bar."""


@dataclass
class Done:
    """What became of the partitions of one task.

    Attributes
    ----------
    failures
        Key and reason of what failed, or waits for what failed.
    values
        Numbers by column, one a partition: of several spectra that of the first.
    """

    plan: Plan
    failures: list[tuple[str, str]]
    computed: int = 0
    values: dict[str, list[float]] = field(default_factory=dict)

    @classmethod
    def planned(cls, plan: Plan, unfetched: Mapping[str, AstraError]) -> "Done":
        """Before anything is done; `unfetched` are files that could not be fetched, by partition key."""
        missing = (one.key for kind in (NEVER_CAME.kind, GONE.kind) for one in plan.of(kind))
        not_fetched = [(key, unfetched[key].without_key()) for key in missing if key in unfetched]
        failed = [*_told(plan, Status.INVALID), *_told(plan, Status.UNREACHABLE), *not_fetched]
        return cls(plan, [*failed, *_told(plan, Status.WAITING)])

    def add(self, outcome: Outcome) -> None:
        """Count what became of one partition."""
        if outcome.written is None:
            reason = outcome.error.without_key() if outcome.error else ""
            self.failures.append((outcome.work.data_id.key, reason))
            return
        self.computed += 1
        for name, value in outcome.written.results.items():
            first = value[0] if outcome.store.several and value else value
            if isinstance(first, (int, float)) and not isinstance(first, bool):
                self.values.setdefault(name, []).append(first)

    @property
    def counts(self) -> dict[str, int]:
        """Number of partitions by what became of them; those without any are left out."""
        counts = {
            "computed": self.computed,
            "complete before": len(self.plan.of(Status.COMPLETE)),
            "recorded again": len(self.plan.of(Status.TO_RECORD)),
            sentence(NEVER_CAME): len(self.plan.of(NEVER_CAME.kind)),
            sentence(GONE): len(self.plan.of(GONE.kind)),
            "failed": len(self.failures),
        }
        return {name: count for name, count in counts.items() if count}

    @property
    def metadata(self) -> dict[str, Any]:
        """Counts, failures and histograms for the web UI."""
        shown: dict[str, Any] = dict(self.counts)
        if self.failures:
            shown["failures"] = failure_table(self.failures)
        if any(len(values) > 1 for values in self.values.values()):
            shown["results"] = dg.MetadataValue.md(histograms(self.values))
        return shown


def _told(plan: Plan, status: Status) -> list[tuple[str, str]]:
    """Key and reason of the partitions of a status."""
    return [(one.key, sentence(one.reason)) for one in plan.of(status) if one.reason is not None]


def failure_table(failures: Sequence[tuple[str, str]]) -> dg.TableMetadataValue:
    """Failures as a table: what failed, why, and what to do, which the reason says."""
    return dg.MetadataValue.table(
        [dg.TableRecord({"partition": key, "reason": reason}) for key, reason in failures[:LISTED]],
        schema=dg.TableSchema([dg.TableColumn("partition"), dg.TableColumn("reason")]),
    )


def failure(failures: Sequence[tuple[str, str]], total: int, metadata: Mapping[str, Any]) -> dg.Failure:
    """Of a run in which these partitions failed."""
    listed = [f"{key}: {reason}" for key, reason in failures]
    more = f"\nand {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return dg.Failure(
        f"{len(failures)} of {total} partitions failed\n" + "\n".join(listed[:SHOWN]) + more,
        metadata={**metadata, "failures": failure_table(failures)},
        allow_retries=False,
    )


def histograms(columns: Mapping[str, Sequence[float]]) -> str:
    """Histograms of some columns as text, in Markdown."""
    lines = []
    for name, values in list(columns.items())[:COLUMNS]:
        numbers = np.array(values, dtype=float)
        counts, edges = np.histogram(numbers, BINS)
        lines.append(
            f"{name}: {len(numbers)} from {numbers.min():.4g} to {numbers.max():.4g}, median {np.median(numbers):.4g}"
        )
        for count, start in zip(counts, edges[:-1], strict=True):
            bar = "#" * -(-WIDTH * int(count) // int(counts.max()))
            lines.append(f"{start:>12.4g} | {bar} {count if count else ''}".rstrip())
        lines.append("")
    return "\n".join(["```", *lines[:-1], "```"])
