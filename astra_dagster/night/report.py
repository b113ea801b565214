"""Summarise the plans of a night: counts and reasons for each plate and task, and the results that stand out.

What is summarised are plans and the results that they name; nothing is computed, recorded or removed.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from astra_dagster.analysis.robust import find_middle
from astra_dagster.arrays import FloatArray
from astra_dagster.outputs.record import Record
from astra_dagster.outputs.store import Failure
from astra_dagster.planning.plan import PartitionPlan, Plan
from astra_dagster.planning.status import ReasonKind, Status, sentence
from astra_dagster.tables.collection import gather
from astra_dagster.tables.column_types import to_floats
from astra_dagster.tables.table import find_numbers, find_results
from astra_dagster.tables.table_columns import KEY, SPECTRUM

FAR = 5.0
"""Distance of an outlier from the median of its plate, in units of the robust scatter."""

ENOUGH = 8
"""Smallest number of values among which one can be an outlier."""

LISTED = 20
"""Most outliers, and most failures, of a task that are listed; all are counted."""

WORDS: Mapping[Status, str] = {
    Status.COMPLETE: "complete",
    Status.TO_RECORD: "to record",
    Status.TO_DO: "to do",
    Status.WAITING: "waiting",
    Status.NO_INPUT: "no input",
    Status.UNREACHABLE: "unreachable",
    Status.INVALID: "invalid",
}
"""Words of the statuses; "failed" is what is to do and failed before with the same input and code."""

FAILED = "failed"


def say(value: float) -> str:
    """Return a number with four digits, or with all before the decimal point, such as a count of pixels."""
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"


@dataclass(frozen=True)
class Outlier:
    """A result that is far from the median of its plate.

    Attributes
    ----------
    distance
        From the median, in units of the robust scatter.
    """

    key: str
    column: str
    value: float
    median: float
    distance: float


@dataclass(frozen=True)
class ColumnReport:
    """The values of a column of results over the spectra of a night.

    Attributes
    ----------
    scatter
        Of the median absolute deviation, as large as the standard deviation of normal values.
    """

    name: str
    unit: str
    count: int
    median: float
    scatter: float


@dataclass(frozen=True)
class Position:
    """Where a spectrum was taken, in degrees, and its results by the name of the column."""

    key: str
    ra: float
    dec: float
    values: Mapping[str, float | None]


@dataclass(frozen=True)
class PlateReport:
    """The partitions of a plate: those whose keys differ in the last part only.

    Attributes
    ----------
    name
        The key without its last part.
    counts
        Number of partitions by the word of their status.
    positions
        Spectra whose position is known.
    """

    name: str
    counts: Mapping[str, int]
    positions: tuple[Position, ...] = ()

    @property
    def registered(self) -> int:
        """Number of partitions."""
        return sum(self.counts.values())


@dataclass(frozen=True)
class TaskReport:
    """A night of a task.

    Attributes
    ----------
    reasons
        Number of partitions that are neither complete nor failed, by word of the status and reason.
    failures
        Key and error of failed partitions, the first of them.
    columns, outliers
        Columns of results that are numbers, and what is far from the rest, the furthest first.
    more
        Number of outliers that are not listed.
    """

    task: str
    digest: str
    plates: tuple[PlateReport, ...]
    reasons: tuple[tuple[str, str, int], ...]
    failures: tuple[tuple[str, str], ...]
    columns: tuple[ColumnReport, ...]
    outliers: tuple[Outlier, ...]
    more: int

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of partitions by the word of their status."""
        return sum((Counter(plate.counts) for plate in self.plates), Counter())

    @property
    def column_names(self) -> list[str]:
        """Names of the columns."""
        return [column.name for column in self.columns]


@dataclass(frozen=True)
class Night:
    """A night of observations: its modified Julian date, and what each task has done of it."""

    mjd: str
    tasks: tuple[TaskReport, ...]

    def lines(self) -> list[str]:
        """Return it in words."""
        said = [f"night {self.mjd}"]
        for task in self.tasks:
            counts = ", ".join(f"{count} {word}" for word, count in task.counts.items())
            said.append(f"  {task.task}: {counts}")
            said += [f"    {count} {word}: {why}" for word, why, count in task.reasons]
            said += [f"    {key} failed: {error}" for key, error in task.failures]
            for one in task.outliers:
                said.append(f"    {one.key}: {one.column} {say(one.value)}, median of the plate {say(one.median)}")
            said += [f"    and {task.more} more far from their plate"] if task.more else []
        return said

    def as_dict(self) -> dict[str, Any]:
        """Return it as a JSON document, without the positions."""
        tasks = []
        for task in self.tasks:
            document = asdict(task)
            document["counts"] = dict(task.counts)
            document["reasons"] = [{"status": one, "reason": why, "count": n} for one, why, n in task.reasons]
            document["failures"] = [{"partition": key, "error": error} for key, error in task.failures]
            for plate in document["plates"]:
                del plate["positions"]
            tasks.append(document)
        return {"mjd": self.mjd, "tasks": tasks}


def summarise(mjd: str, plans: Iterable[Plan]) -> Night:
    """Summarise the plans of tasks over the partitions of a night.

    Results are read from the table of each task where it has them, and from outputs otherwise.
    """
    return Night(mjd, tuple(_summarise_task(plan) for plan in plans))


def _summarise_task(plan: Plan) -> TaskReport:
    counts: dict[str, Counter[str]] = {}
    reasons: Counter[tuple[str, str]] = Counter()
    for key, one in plan.partitions.items():
        word = _word(one)
        counts.setdefault(_plate_of(key), Counter())[word] += 1
        if one.reason is not None and word != FAILED:
            reasons[word, sentence(one.reason, short=True)] += 1
    reasons_failed = ((one.key, one.reason.cause) for one in plan.of(ReasonKind.FAILED_BEFORE) if one.reason)
    failed = [(key, cause.error) for key, cause in reasons_failed if isinstance(cause, Failure)]
    there = {one.key: plan.records[one.key] for one in plan.of(Status.COMPLETE)}
    columns, outliers, positions = _look_at_results(plan, there)
    plates = (PlateReport(name, dict(count), tuple(positions.get(name, ()))) for name, count in counts.items())
    return TaskReport(
        plan.store.task.name,
        plan.store.digest,
        tuple(plates),
        tuple((*pair, count) for pair, count in reasons.most_common()),
        tuple(failed[:LISTED]),
        columns,
        tuple(outliers[:LISTED]),
        max(len(outliers) - LISTED, 0),
    )


def _word(one: PartitionPlan) -> str:
    return FAILED if one.kind is ReasonKind.FAILED_BEFORE else WORDS[one.status]


def _plate_of(key: str) -> str:
    return key.rpartition("/")[0]


def _look_at_results(
    plan: Plan, records: Mapping[str, Record]
) -> tuple[tuple[ColumnReport, ...], list[Outlier], dict[str, list[Position]]]:
    """Return the columns, the outliers, and the positions by plate."""
    if not records:
        return (), [], {}
    table = gather(plan.store, records, keys=records).table
    first = table.filter(pa.compute.equal(table[SPECTRUM], 0))
    promised = plan.store.task.result_columns
    fields = [
        field
        for name, field in find_numbers(plan.store.task, first.schema)
        if name not in promised or promised[name].flags is None
    ]
    numbers = {field.name: to_floats(first[field.name]) for field in fields}
    keys: list[str] = first[KEY].to_pylist()
    plates: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        plates.setdefault(_plate_of(key), []).append(row)
    columns, outliers = [], []
    for field in fields:
        name, values = field.name, numbers[field.name]
        count = int(np.isfinite(values).sum())
        if count:
            unit = (field.metadata or {}).get(b"unit", b"").decode()
            columns.append(ColumnReport(name, unit, count, *find_middle(values)))
        for rows in plates.values():
            outliers += _far(name, [keys[row] for row in rows], values[rows])
    outliers.sort(key=lambda one: -one.distance)
    return tuple(columns), outliers, _positions(first, keys, numbers, plates)


def _far(column: str, keys: Sequence[str], values: FloatArray) -> list[Outlier]:
    """Return the values of a plate that are far from its median."""
    known = np.isfinite(values)
    if known.sum() < ENOUGH:
        return []
    middle, scatter = find_middle(values)
    if scatter == 0:
        return []
    distances = np.abs(values - middle) / scatter
    return [
        Outlier(keys[row], column, float(values[row]), middle, float(distances[row]))
        for row in map(int, np.flatnonzero(known & (distances > FAR)))
    ]


def _positions(
    table: pa.Table,
    keys: Sequence[str],
    numbers: Mapping[str, FloatArray],
    plates: Mapping[str, Sequence[int]],
) -> dict[str, list[Position]]:
    """Return the positions of spectra by plate, if the task tells right ascension and declination."""
    columns = {name: field.name for name, field in find_results(table.schema)}
    if not {"ra", "dec"} <= set(columns):
        return {}
    ra, dec = (to_floats(table[columns[name]]) for name in ("ra", "dec"))
    found = {}
    for plate, rows in plates.items():
        found[plate] = [
            Position(keys[row], ra[row], dec[row], {name: _finite(of[row]) for name, of in numbers.items()})
            for row in rows
            if np.isfinite(ra[row]) and np.isfinite(dec[row])
        ]
    return found


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
