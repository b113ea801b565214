"""The check that compares the last reduction in a table with the one before: nearly all agree, and some jump."""

import re
from typing import TYPE_CHECKING

from astra_dagster.checks.check import Check, Finding, Verdict
from astra_dagster.checks.table_checks import Table
from astra_dagster.errors import ComparisonError
from astra_dagster.tables.table_columns import KEY, OBJECT, VISIT, part_names
from astra_dagster.tasks.task import Task

if TYPE_CHECKING:  # takes pyarrow along, which is slow to import
    from astra_dagster.comparison.comparison import Comparison

SHARE, WITHIN = 0.99, 0.005
"""Smallest share of the results of a column that agree with the reduction before, and the fraction within which."""

NAMED = 12
"""Most keys that jump that a verdict names where all columns agree."""


def reductions_alike(table: Table) -> Verdict:
    """Check that 99 % of the results of the last release agree with those of the one before to 0.5 %.

    If they do, results that jump are no fault, but are named.
    """
    import pyarrow.compute as pc

    from astra_dagster.comparison.comparison import compare_sides
    from astra_dagster.comparison.sides import Side

    others = [OBJECT] if OBJECT in table.store.task.result_columns else []
    data = table.read(KEY, "release", *others, *table.numbers)
    releases = sorted(pc.unique(data["release"]).to_pylist(), key=_sort_by_number)[-2:]
    if len(releases) < 2 or not table.numbers:
        return Verdict(0, "pairs", note="there is one release" if table.numbers else "there is no column of numbers")
    rows = data.drop_columns(["release"])
    sides = [Side(name, rows.filter(pc.equal(data["release"], name)), table.parts) for name in releases]
    try:
        made = compare_sides(*sides, columns=table.numbers)
    except ComparisonError as error:
        return Verdict(0, "pairs", note=str(error.message))
    shares = {name: one.share_within(WITHIN) for name, one in made.columns.items()}
    expected = f"{SHARE:.0%} within {WITHIN:.1%} of {releases[0]}"
    wrong = tuple(
        Finding(f"{releases[1]}/{name}", f"{share:.1%} within {WITHIN:.1%}", expected)
        for name, share in shares.items()
        if share < SHARE
    )
    return Verdict(len(made.matches.a), "pairs", wrong, _name_jumps(made))


def _name_jumps(made: "Comparison") -> str:
    """Name the keys of the last release whose results jump, the worst first; empty if there are none."""
    jumping = [
        made.keys_b[row]
        for row in made.outliers.tolist()
        if any(abs(one.difference[row]) > WITHIN * abs(one.a[row]) for one in made.columns.values())
    ]
    more = [f"and {len(jumping) - NAMED} more"] if len(jumping) > NAMED else []
    return f"{len(jumping)} jump from {made.a.name}: {', '.join([*jumping[:NAMED], *more])}" if jumping else ""


def _sort_by_number(release: str) -> list[tuple[int, str]]:
    """Sort DR9 before DR17, and names without a number last."""
    return [(int(digits or 0), text) for text, digits in re.findall(r"(\D+)(\d*)", release)]


def _can_match(task: Task) -> bool:
    parts = part_names(task.domain)
    return set(VISIT) <= set(parts) or "obj" in parts


CHECK = Check(
    reductions_alike,
    "99 % of the last release agree with the one before to 0.5 %; those that jump are named.",
    _can_match,
)
"""The check."""
