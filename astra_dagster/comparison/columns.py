"""Which columns of two sides are compared, and the statistics of the difference of a column of numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from astra_dagster.analysis.robust import find_middle
from astra_dagster.arrays import FloatArray, IndexArray
from astra_dagster.comparison.matching import Matches
from astra_dagster.comparison.sides import Side
from astra_dagster.errors import ComparisonError, UnknownColumnError, nearest
from astra_dagster.tables.column_types import kind_name, to_floats
from astra_dagster.tables.table_columns import KEY, SPECTRUM

JUMP = 5.0
"""Distance from the median difference beyond which a row is an outlier, in units of the robust scatter."""

ERRORS = ("{}_error", "e_{}", "{}_err", "{}_uncertainty")
"""Names that the column with the errors of a column may have."""

_NUMBERS = ("int", "float")


@dataclass(frozen=True, eq=False)
class ColumnDifference:
    """The difference of a column of numbers, b - a.

    Attributes
    ----------
    name, unit
        Name and unit of the column.
    a, b
        Values of shape (matches,), NaN where one is missing.
    error
        Errors of a and b together; None if there is no column of errors.
    """

    name: str
    unit: str
    a: FloatArray
    b: FloatArray
    error: FloatArray | None

    @cached_property
    def difference(self) -> FloatArray:
        """The difference of each row."""
        return self.b - self.a

    @cached_property
    def n(self) -> int:
        """Number of rows that have a value on both sides."""
        return int(np.isfinite(self.difference).sum())

    @cached_property
    def one_sided(self) -> int:
        """Number of matched rows that have a value on one side only."""
        return int((np.isfinite(self.a) != np.isfinite(self.b)).sum())

    @cached_property
    def changed(self) -> int:
        """Number of rows whose values differ at all."""
        return int((np.isfinite(self.difference) & (self.difference != 0)).sum())

    @cached_property
    def _middle(self) -> tuple[float, float]:
        return find_middle(self.difference)

    @property
    def median(self) -> float:
        """Median difference; NaN without any."""
        return self._middle[0]

    @property
    def scatter(self) -> float:
        """Robust scatter of the difference: 1.4826 times its median absolute deviation."""
        return self._middle[1]

    @cached_property
    def in_errors(self) -> FloatArray | None:
        """The difference in units of its error; None without errors."""
        if self.error is None:
            return None
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.error > 0, self.difference / self.error, np.nan)

    @cached_property
    def score(self) -> FloatArray:
        """Distance of each row from the median difference, in units of the robust scatter.

        Where more than half of the rows agree, so that this scatter is 0, it is in units of the standard deviation.
        """
        distance = np.abs(self.difference - self.median)
        scale = self.scatter or float(np.nanstd(distance) if self.n else 0.0)
        return np.nan_to_num(distance / scale) if scale > 0 else np.zeros_like(distance)

    @cached_property
    def outliers(self) -> IndexArray:
        """Numbers of the rows that jump, the worst first.

        They are further than `JUMP` times the scatter from the median; if the scatter is 0, all that are not at it.
        """
        jump = self.score > (JUMP if self.scatter > 0 else 0.0)
        rows = np.flatnonzero(jump)
        return rows[np.argsort(-self.score[rows], kind="stable")]

    def share_within(self, fraction: float) -> float:
        """Return the share of the rows whose difference is at most this fraction of the value of a."""
        there = np.isfinite(self.difference)
        near = np.abs(self.difference[there]) <= fraction * np.abs(self.a[there])
        return float(near.mean()) if near.size else 1.0

    def summary(self) -> dict[str, float | int | str | None]:
        """Return the statistics by name; None for what there is not."""
        sigma = (None, None) if self.in_errors is None else tuple(map(_none, find_middle(self.in_errors)))
        return {
            "column": self.name,
            "unit": self.unit,
            "n": self.n,
            "one_sided": self.one_sided,
            "changed": self.changed,
            "median": _none(self.median),
            "scatter": _none(self.scatter),
            "median_in_errors": sigma[0],
            "scatter_in_errors": sigma[1],
            "outliers": len(self.outliers),
        }


@dataclass(frozen=True, slots=True)
class Chosen:
    """The names of the columns: numbers to compare, what is on one side alone, and what is left out."""

    numbers: tuple[str, ...]
    others: tuple[str, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    arrays: tuple[str, ...]


def choose_columns(a: Side, b: Side, wanted: Sequence[str] = ()) -> Chosen:
    """Choose the columns to compare, all or those wanted, and check that they are alike.

    Raises
    ------
    UnknownColumnError
        If a side does not have a wanted column.
    ComparisonError
        If columns have other types or units, or there is nothing to compare.
    """
    names = [[name for name in side.table.column_names if name not in (KEY, SPECTRUM)] for side in (a, b)]
    for side, own in zip((a, b), names, strict=True):
        for name in wanted:
            if name not in own:
                raise UnknownColumnError(f"{side.name} has no column {name!r}", hint=nearest(name, own))
    both = [name for name in names[0] if name in names[1] and (not wanted or name in wanted)]
    kinds = {name: _check_alike(a, b, name) for name in both}
    numbers = tuple(name for name, kind in kinds.items() if kind in _NUMBERS)
    if not both:
        raise ComparisonError(f"{a.name} and {b.name} have no column in common")
    return Chosen(
        numbers,
        tuple(name for name, kind in kinds.items() if kind in ("text", "bool")),
        tuple(name for name in names[0] if name not in names[1]),
        tuple(name for name in names[1] if name not in names[0]),
        tuple(name for name, kind in kinds.items() if kind.startswith("[")),
    )


def find_difference(a: Side, b: Side, matches: Matches, name: str) -> ColumnDifference:
    """Return the difference of a column of numbers."""
    column = [_values(side, name, rows) for side, rows in ((a, matches.a), (b, matches.b))]
    both = set(a.table.column_names) & set(b.table.column_names)
    of = next((text.format(name) for text in ERRORS if text.format(name) in both), None)
    error = None if of is None else np.hypot(_values(a, of, matches.a), _values(b, of, matches.b))
    return ColumnDifference(name, unit_of(a, name) or unit_of(b, name), column[0], column[1], error)


def count_changed(a: Side, b: Side, matches: Matches, name: str) -> int:
    """Return the number of rows in which a column of texts or logical values differs."""
    left, right = (side.table[name].take(pa.array(rows)) for side, rows in ((a, matches.a), (b, matches.b)))
    same = pc.fill_null(pc.equal(left, right), False)
    neither = pc.and_(pc.is_null(left), pc.is_null(right))
    return len(left) - int(pc.sum(pc.or_(same, neither)).as_py() or 0)


def unit_of(side: Side, name: str) -> str:
    """Return the unit of a column; empty if it has none."""
    return _about(side, name).get("unit", "")


def _about(side: Side, name: str) -> dict[str, str]:
    metadata = side.table.schema.field(name).metadata or {}
    return {key.decode(): text.decode() for key, text in metadata.items()}


def _check_alike(a: Side, b: Side, name: str) -> str:
    """Check type and unit of a column, and return the name of the type; a column without values is of any."""
    kinds, units = [_find_kind(side, name) for side in (a, b)], [unit_of(side, name) for side in (a, b)]
    known = [kind for kind in kinds if kind]
    alike = len(set(known)) < 2 or set(known) <= set(_NUMBERS)
    if alike and (len(known) < 2 or _same_unit(*units)):
        return known[0] if known else "text"
    texts = [
        f"{kind}{f' [{unit}]' if unit else ''} in {side.name}"
        for kind, unit, side in zip(kinds, units, (a, b), strict=True)
    ]
    what = "units" if alike else "types"
    hint = "name other columns with --columns"
    raise ComparisonError(f"{name} has different {what}: {' and '.join(texts)}", hint=hint)


def _find_kind(side: Side, name: str) -> str:
    column = side.table[name]
    return "" if column.null_count == len(column) else kind_name(column.type)


def _same_unit(one: str, other: str) -> bool:
    if one == other:
        return True
    from astropy.units import Unit  # here, because it is slow to import

    try:
        return bool(Unit(one) == Unit(other))
    except ValueError:
        return False


def _values(side: Side, name: str, rows: IndexArray) -> FloatArray:
    values: FloatArray = to_floats(side.table[name])[rows]
    return values


def _none(value: float) -> float | None:
    return value if np.isfinite(value) else None
