"""Compare results of a task: those of two sets of parameters, releases, code versions or points in time.

Dagster is imported when something is compared, not before.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from astra_dagster.comparison.comparison import Comparison, compare_sides
from astra_dagster.comparison.sides import Side, SideRequest, parse_side
from astra_dagster.tables.table_columns import KEY
from astra_dagster.tasks.task import Task

if TYPE_CHECKING:
    from astra_dagster.orchestration.records import DagsterLedger
    from astra_dagster.results.results import Results


def compare(a: "Results", b: "Results", *, by: str = "", columns: Sequence[str] = ()) -> Comparison:
    """Compare two sets of results: ``compare(task.results(order=3), task.results(order=5))``.

    Parameters
    ----------
    a, b
        Results as `Task.results` selects them.
    by
        How rows are matched: by ``"key"``, by ``"visit"`` (telescope, plate, MJD and fibre), or by ``"object"``. By
        default by key, and of different releases by visit, or by object where there is no plate.
    columns
        Columns to compare; by default all that both have.

    Returns
    -------
    Comparison
        ``.columns["snr"].median`` and so on, ``.summary()``, ``.list_outliers("snr")``, ``.table``, a pyarrow Table of
        the matched rows; `astra_dagster.comparison.page.page` makes a page of it.

    Raises
    ------
    ComparisonError
        If nothing is in common, or columns have different types or units.
    UnknownColumnError
        If a side does not have one of the columns.
    """
    with _open_ledger() as ledger:
        return compare_sides(_read(ledger, a), _read(ledger, b), by=by, columns=columns)


def compare_requests(task: Task, a: str, b: str, *, by: str = "", columns: Sequence[str] = ()) -> Comparison:
    """Compare two sides of a task that are given in words, as ``astra-dagster compare`` takes them.

    Raises
    ------
    UnknownReleaseError, ParameterError
        If a word names no release, or no parameter of the task.
    AstraError
        See `compare`.
    """
    from astra_dagster.results.sides import read_side

    requests = parse_side(a), parse_side(b)
    for one in requests:
        task.setting(one.parameters)  # a mistake in the second shows before the first is read
    with _open_ledger() as ledger:
        left, right = (read_side(ledger, task, one) for one in requests)
    return compare_sides(left, right, by=by, columns=columns)


@contextmanager
def _open_ledger() -> Iterator["DagsterLedger"]:
    from astra_dagster.orchestration.records import DagsterLedger
    from astra_dagster.orchestration.runs.instance import open_instance

    with open_instance() as instance:
        yield DagsterLedger(instance)


def _read(ledger: "DagsterLedger", results: "Results") -> Side:
    """Read the rows of selected results."""
    from astra_dagster.results.sides import read_side

    task, selection = results.task, results.selection
    values, usual = task.values().as_dict(all=True), task.parameters.from_mapping({}).as_dict(all=True)
    changed = {name: value for name, value in values.items() if usual.get(name) != value}
    name = " ".join([*(f"{key}={value}" for key, value in changed.items()), *selection.releases]) or "default"
    side = read_side(ledger, task, SideRequest(name, changed, tuple(selection.releases)))
    keys = side.table[KEY].to_pylist()
    kept = results.keys or task.domain.select(keys, selection.releases, selection.where)
    return replace(side, table=side.table.filter(pc.is_in(side.table[KEY], value_set=pa.array(kept, pa.string()))))
