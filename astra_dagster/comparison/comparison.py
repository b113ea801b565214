"""A comparison of two sides: the matched rows, the difference of each column, and the joined table."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from astra_dagster.arrays import FloatArray, IndexArray
from astra_dagster.comparison.columns import ColumnDifference, choose_columns, count_changed, find_difference, unit_of
from astra_dagster.comparison.matching import Matches, match_rows
from astra_dagster.comparison.sides import Side
from astra_dagster.tables.table_columns import KEY, SPECTRUM
from astra_dagster.tables.table_fits import write_fits
from astra_dagster.tables.texts import write_cell


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two sides, and what differs between them.

    Attributes
    ----------
    a, b
        The sides.
    matches
        Which rows belong together.
    columns
        The difference of each column of numbers, by name.
    changed
        Number of rows in which a column of texts or logical values differs, by its name.
    left_out
        Why columns are not compared, by their names.
    """

    a: Side
    b: Side
    matches: Matches
    columns: dict[str, ColumnDifference]
    changed: dict[str, int]
    left_out: dict[str, str]

    @property
    def sides(self) -> tuple[tuple[str, Side], ...]:
        """Both sides with their letters."""
        return ("a", self.a), ("b", self.b)

    @cached_property
    def keys(self) -> list[str]:
        """Partition key of each matched row, on side a."""
        return list(self._take(self.a, KEY, self.matches.a).to_pylist())

    @cached_property
    def keys_b(self) -> list[str]:
        """Partition key of each matched row, on side b."""
        return list(self._take(self.b, KEY, self.matches.b).to_pylist())

    @cached_property
    def score(self) -> FloatArray:
        """How far each row jumps: the largest of its scores in all columns in which it is an outlier."""
        worst = np.zeros(len(self.matches.a))
        for column in self.columns.values():
            worst[column.outliers] = np.maximum(worst[column.outliers], column.score[column.outliers])
        return worst

    @cached_property
    def outliers(self) -> IndexArray:
        """Numbers of the rows that jump in any column, the worst first."""
        rows = np.flatnonzero(self.score > 0)
        return rows[np.argsort(-self.score[rows], kind="stable")]

    @cached_property
    def table(self) -> pa.Table:
        """The matched rows: keys, values of both sides, differences, and in which columns a row is an outlier."""
        a, b = self.matches.a, self.matches.b
        fields: list[tuple[str, pa.Array | pa.ChunkedArray, dict[str, str]]] = [
            (KEY, self._take(self.a, KEY, a), {"description": "Partition key."})
        ]
        if self.matches.by != "key":
            fields.append(("key_b", self._take(self.b, KEY, b), {"description": f"Partition key in {self.b.name}."}))
        if SPECTRUM in self.a.table.column_names:
            fields.append((SPECTRUM, self._take(self.a, SPECTRUM, a), {"description": "Which spectrum of the file."}))
        for name in [*self.columns, *self.changed]:
            about = {"unit": unit_of(self.a, name) or unit_of(self.b, name)}
            for side, rows, label in ((self.a, a, "a"), (self.b, b, "b")):
                fields.append((f"{name}_{label}", self._take(side, name, rows), {"description": side.name, **about}))
            if (column := self.columns.get(name)) is not None:
                values = pa.array(column.difference, mask=~np.isfinite(column.difference))
                fields.append((f"{name}_difference", values, {"description": "b - a", **about}))
        fields.append(("outlier", self._name_outliers(), {"description": "Columns in which the row jumps."}))
        schema = [
            pa.field(name, values.type, metadata={key: text for key, text in about.items() if text})
            for name, values, about in fields
        ]
        return pa.table([values for _, values, _ in fields], schema=pa.schema(schema))

    def summary(self) -> list[dict[str, Any]]:
        """Return the statistics of each column of numbers; see `ColumnDifference.summary`."""
        return [column.summary() for column in self.columns.values()]

    def list_outliers(self, name: str, most: int | None = None) -> list[dict[str, Any]]:
        """Return the outliers of a column with both values, the worst first."""
        column = self.columns[name]
        return [
            {"column": name, **self._name_row(row), "a": float(column.a[row]), "b": float(column.b[row])}
            for row in column.outliers[:most].tolist()
        ]

    def spectrum_of(self, row: int) -> int:
        """Return which spectrum of its file a matched row is."""
        several = SPECTRUM in self.a.table.column_names
        return int(self.a.table[SPECTRUM][int(self.matches.a[row])].as_py()) if several else 0

    def _name_row(self, row: int) -> dict[str, Any]:
        named: dict[str, Any] = {KEY: self.keys[row]}
        if self.keys_b[row] != self.keys[row]:
            named["key_b"] = self.keys_b[row]
        if SPECTRUM in self.a.table.column_names:
            named[SPECTRUM] = self.spectrum_of(row)
        return named

    def _name_outliers(self) -> pa.Array:
        names = np.full(len(self.matches.a), "", dtype=object)
        for name, column in self.columns.items():
            names[column.outliers] = [f"{text}, {name}" if text else name for text in names[column.outliers]]
        return pa.array(names, pa.string())

    @staticmethod
    def _take(side: Side, name: str, rows: IndexArray) -> pa.ChunkedArray:
        return side.table[name].take(pa.array(rows))


def tabulate(made: Comparison) -> list[list[str]]:
    """Return the statistics of all columns of numbers as texts, the names first; without what no column has."""
    rows = made.summary()
    names = [name for name in (rows[0] if rows else ()) if any(row[name] not in (None, "") for row in rows)]
    names = [name for name in names if name != "one_sided" or any(row[name] for row in rows)]
    heads = [name.replace("_in_errors", "/error").replace("one_sided", "one-sided") for name in names]
    return [heads, *(["" if row[name] is None else write_cell(row[name]) for name in names] for row in rows)]


def compare_sides(a: Side, b: Side, *, by: str = "", columns: Sequence[str] = ()) -> Comparison:
    """Compare two sides.

    Parameters
    ----------
    by
        How rows are matched, see `match_rows`.
    columns
        Columns to compare; by default all that both sides have.

    Raises
    ------
    ComparisonError
        If the sides have nothing in common, or their columns are of different types or units.
    UnknownColumnError
        If a side does not have one of the columns.
    """
    chosen = choose_columns(a, b, columns)
    matches = match_rows(a, b, by)
    left_out = {
        **dict.fromkeys(chosen.only_a, f"only in {a.name}"),
        **dict.fromkeys(chosen.only_b, f"only in {b.name}"),
        **dict.fromkeys(chosen.arrays, "holds arrays"),
    }
    return Comparison(
        a,
        b,
        matches,
        {name: find_difference(a, b, matches, name) for name in chosen.numbers},
        {name: count_changed(a, b, matches, name) for name in chosen.others},
        {} if columns else left_out,
    )


def write_table(stream: BinaryIO, made: Comparison, suffix: str) -> None:
    """Write the joined table, as FITS if the suffix is ``.fits``, else as Parquet."""
    if suffix == ".fits":
        cards = [("SIDEA", made.a.name, "side a"), ("SIDEB", made.b.name, "side b"), ("MATCHED", made.matches.by, "by")]
        write_fits(stream, made.table, "comparison", cards)
    else:
        about = {"a": made.a.name, "b": made.b.name, "matched by": made.matches.by}
        pq.write_table(made.table.replace_schema_metadata(about), stream, compression="zstd")
