"""What the panels of the page of a comparison show of a column: its points, densities and histogram, as plain arrays.

Of few rows every one is a point; of many the outliers are, and a density stands for the others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from astra_dagster.arrays import AnyArray, FloatArray, IndexArray
from astra_dagster.comparison.columns import ColumnDifference
from astra_dagster.comparison.comparison import Comparison
from astra_dagster.comparison.matching import part_column
from astra_dagster.viewer.shown import find_limits

FEW = 5_000
"""Number of rows up to which every row is a point."""

POINTS = 40_000
"""Most outliers that are points, of all columns together, those of each column from its worst."""

CELLS = (120, 80)
"""Cells of a density, across and up."""

BINS = 80
"""Bins of a histogram."""

BEYOND = 12.0
"""Distance from the median difference, in units of the scatter, that a panel shows; points beyond are at its edge."""

RATIOS = ("snr", "header_snr", "snr_median")
"""Columns that the ratio of signal to noise is taken from, the first that there is."""

Range = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Axes:
    """The values of the matched rows that residuals are drawn over, by name: MJD, fibre, S/N."""

    values: Mapping[str, FloatArray]

    @classmethod
    def of(cls, made: Comparison) -> "Axes":
        """Take MJD and fibre from the keys, and the ratio of signal to noise from the results."""
        found: dict[str, FloatArray] = {}
        for label, name in (("MJD", "mjd"), ("fibre", "fibre")):
            texts = part_column(made.a, name)
            if texts is not None:
                found[label] = _to_numbers(texts)[made.matches.a]
        ratio = next((name for name in RATIOS if name in made.columns), None)
        if ratio is not None:
            found["S/N"] = made.columns[ratio].a
        return cls({label: values for label, values in found.items() if np.isfinite(values).any()})


@dataclass(frozen=True, eq=False)
class ColumnPanels:
    """What is drawn of a column.

    Attributes
    ----------
    column
        The difference of the column.
    axes
        What its residuals are drawn over.
    rows
        Numbers of the rows that are points.
    """

    column: ColumnDifference
    axes: Axes
    rows: IndexArray

    @cached_property
    def panels(self) -> dict[str, tuple[FloatArray, FloatArray]]:
        """Values across and up of all rows, by name of the panel."""
        column = self.column
        return {
            "b over a": (column.a, column.b),
            **{f"b - a over {label}": (values, column.difference) for label, values in self.axes.values.items()},
            "b - a over a": (column.a, column.difference),
        }

    @cached_property
    def ranges(self) -> dict[str, tuple[Range, Range]]:
        """What a panel shows across and up."""
        return {
            name: (find_limits(x), find_limits(y) if name == "b over a" else self.spread)
            for name, (x, y) in self.panels.items()
        }

    @cached_property
    def spread(self) -> Range:
        """Range of the difference that is shown: all differences and zero, if they are not beyond."""
        column = self.column
        if column.scatter > 0:
            reach = BEYOND * column.scatter
            finite = column.difference[np.isfinite(column.difference)]
            low, high = min(0.0, float(finite.min())), max(0.0, float(finite.max()))
            room = 0.05 * (high - low)
            return max(column.median - reach, low - room), min(column.median + reach, high + room)
        return find_limits(column.difference)

    def points(self) -> dict[str, AnyArray]:
        """Return the points of all panels, moved to the edge where they are beyond, with number and both values."""
        data: dict[str, AnyArray] = {"row": self.rows.astype(np.int32)}
        for name, (x, y) in self.panels.items():
            for label, values, limits in zip(self.names[name], (x, y), self.ranges[name], strict=True):
                if label not in data:
                    data[label] = np.clip(values[self.rows], *limits).astype(np.float32)
        data["a"] = self.column.a[self.rows].astype(np.float32)
        data["b"] = self.column.b[self.rows].astype(np.float32)
        return data

    @cached_property
    def names(self) -> dict[str, tuple[str, str]]:
        """Names of the columns of `points` across and up, by name of the panel."""
        over = {f"b - a over {label}": (label, "difference") for label in self.axes.values}
        return {"b over a": ("across", "up"), **over, "b - a over a": ("across", "difference")}

    def density(self, name: str) -> dict[str, list[Any]]:
        """Return the density of all rows in a panel, as the logarithm of their number; none if all are points."""
        if len(self.rows) == len(self.column.a):
            return {label: [] for label in ("image", "x", "y", "dw", "dh")}
        (left, right), (low, high) = self.ranges[name]
        x, y = self.panels[name]
        wide, tall = CELLS
        with np.errstate(invalid="ignore"):
            column, line = (x - left) * (wide / (right - left)), (y - low) * (tall / (high - low))
            there = (column >= 0) & (column < wide) & (line >= 0) & (line < tall)
        cells = line[there].astype(np.int64) * wide + column[there].astype(np.int64)
        counts = np.bincount(cells, minlength=wide * tall).reshape(tall, wide)
        depth = np.log1p(counts)
        scaled = (255 * depth / (depth.max() or 1)).astype(np.uint8)
        return {"image": [scaled], "x": [left], "y": [low], "dw": [right - left], "dh": [high - low]}

    def histogram(self) -> dict[str, AnyArray]:
        """Return the number of rows by difference; what is beyond the range is in the first and the last bin."""
        difference = self.column.difference
        values = np.clip(difference[np.isfinite(difference)], *self.spread)
        counts, edges = np.histogram(values, bins=BINS, range=self.spread)
        return {"top": np.maximum(counts, 0.5), "left": edges[:-1], "right": edges[1:]}


def choose_panels(made: Comparison) -> dict[str, ColumnPanels]:
    """Choose what is drawn, for each column that differs at all; of a comparison without differences the first."""
    axes, count = Axes.of(made), len(made.matches.a)
    drawn = {name: one for name, one in made.columns.items() if one.changed and np.isfinite(one.a).any()}
    drawn = drawn or dict(list(made.columns.items())[:1])
    most = POINTS // max(len(drawn), 1)
    every = np.arange(count)
    return {
        name: ColumnPanels(one, axes, every if count <= FEW else one.outliers[:most]) for name, one in drawn.items()
    }


def _to_numbers(texts: pa.Array) -> FloatArray:
    distinct = texts.dictionary_encode()
    numbers = np.array([_to_number(text) for text in distinct.dictionary.to_pylist()] or [np.nan])
    values: FloatArray = numbers[distinct.indices.to_numpy(zero_copy_only=False)]
    return values


def _to_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
