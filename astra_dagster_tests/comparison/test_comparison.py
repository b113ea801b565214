"""What differs between two sides: matched rows, statistics, outliers and the joined table."""

from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from astra_dagster.comparison.comparison import compare_sides, write_table
from astra_dagster.errors import ComparisonError, UnknownColumnError
from astra_dagster_tests.comparison.sides import key_of, make

N = 1000
KEYS = [key_of(i) for i in range(N)]
RNG = np.random.default_rng(1)
VALUES = RNG.normal(50, 10, N)
NOISE = RNG.normal(0.2, 0.1, N)
NOISE[[3, 7]] = [5.0, -9.0]


def test_the_statistics_are_those_of_the_difference() -> None:
    made = compare_sides(make("a", KEYS, snr=VALUES), make("b", KEYS, snr=VALUES + NOISE))
    column = made.columns["snr"]
    assert (column.n, column.changed, column.one_sided) == (N, N, 0)
    assert column.median == pytest.approx(np.median(NOISE))
    assert column.scatter == pytest.approx(1.4826 * np.median(np.abs(NOISE - np.median(NOISE))))
    assert column.outliers.tolist() == [7, 3]
    assert made.outliers.tolist() == [7, 3]
    worst = made.list_outliers("snr")[0]
    assert worst == {"column": "snr", "key": KEYS[7], "a": VALUES[7], "b": pytest.approx(VALUES[7] - 9)}
    assert column.in_errors is None
    assert 0.4 < column.share_within(0.004) < 0.6


def test_where_most_rows_agree_all_others_are_outliers() -> None:
    column = compare_sides(make("a", KEYS[:5], x=[1, 2, 3, 4, 5]), make("b", KEYS[:5], x=[1, 2, 3, 5, 9])).columns["x"]
    assert (column.scatter, column.changed, column.outliers.tolist()) == (0, 2, [4, 3])


@pytest.mark.parametrize("name", ["v_error", "e_v", "v_uncertainty"])
def test_a_difference_is_in_units_of_the_errors_of_both_sides(name: str) -> None:
    a = make("a", KEYS[:3], v=[1.0, 2.0, 3.0], **{name: [3.0, 4.0, 0.0]})
    b = make("b", KEYS[:3], v=[2.0, 4.0, 6.0], **{name: [3.0, 4.0, 0.0]})
    found = compare_sides(a, b).columns["v"].in_errors
    assert found is not None
    assert found.tolist() == pytest.approx([1 / np.hypot(3, 3), 2 / np.hypot(4, 4), np.nan], nan_ok=True)


def test_missing_values_are_counted_and_left_out() -> None:
    made = compare_sides(
        make("a", KEYS[:4], x=[1.0, None, 3.0, None], who=["p", "q", None, None]),
        make("b", KEYS[:4], x=[1.5, 2.0, None, None], who=["p", "r", "s", None]),
    )
    assert (made.columns["x"].n, made.columns["x"].one_sided, made.changed) == (1, 2, {"who": 2})


def test_rows_on_one_side_only_are_named() -> None:
    matches = compare_sides(make("a", KEYS[:4], x=[1, 2, 3, 4]), make("b", KEYS[2:5], x=[3, 4, 5])).matches
    assert (matches.by, matches.only_a, matches.only_b) == ("key", tuple(KEYS[:2]), (KEYS[4],))
    assert (matches.a.tolist(), matches.b.tolist()) == ([2, 3], [0, 1])


def test_other_releases_are_matched_by_visit_or_by_object() -> None:
    """The field of a plate may have another name; an object that is there twice has no partner."""
    other = [key_of(fibre, "DR16", "NGC1") for fibre in (2, 1, 9)]
    a = make("a", KEYS[:3], x=[0.0, 1.0, 2.0], object=["p", "q", "q"])
    b = make("b", other, x=[2.5, 1.5, 9.0], object=["q", "p", "r"])
    by_visit = compare_sides(a, b)
    assert by_visit.matches.by == "visit"
    assert by_visit.columns["x"].difference.tolist() == [0.5, 0.5]
    assert by_visit.table["key_b"].to_pylist() == [other[1], other[0]]
    by_object = compare_sides(a, b, by="object")
    assert by_object.columns["x"].difference.tolist() == [1.5]
    assert by_object.matches.repeated == 2


def test_cells_of_short_arrays_are_compared() -> None:
    made = compare_sides(make("a", KEYS[:2], c=[[1.0, 2.0], None]), make("b", KEYS[:2], c=[[1.0, 4.0], [1.0, 1.0]]))
    assert {name: (one.n, one.median) for name, one in made.columns.items()} == {"c[0]": (1, 0.0), "c[1]": (1, 2.0)}


def test_what_cannot_be_compared_is_an_error_that_says_why() -> None:
    a = make("order=3", KEYS[:2], {"v": "km/s"}, v=[1.0, 2.0], n=[1, 2])
    with pytest.raises(ComparisonError, match="order=3 and b have nothing in common: 2 and 1 rows, matched by key"):
        compare_sides(a, make("b", KEYS[5:6], n=[1]))
    with pytest.raises(
        ComparisonError, match=r"v has different units: float \[km/s\] in order=3 and float \[m/s\] in b"
    ):
        compare_sides(a, make("b", KEYS[:2], {"v": "m/s"}, v=[1.0, 2.0]))
    with pytest.raises(ComparisonError, match="n has different types: int in order=3 and text in b"):
        compare_sides(a, make("b", KEYS[:2], n=["1", "2"]))
    with pytest.raises(UnknownColumnError, match="b has no column 'v'"):
        compare_sides(a, make("b", KEYS[:2], n=[1, 2]), columns=["v"])
    with pytest.raises(ComparisonError, match="no column in common"):
        compare_sides(a, make("b", KEYS[:2], w=[1, 2]))
    with pytest.raises(ComparisonError, match="by 'star'"):
        compare_sides(a, a, by="star")


def test_units_that_are_spelled_otherwise_and_columns_without_values_are_alike() -> None:
    a = make("a", KEYS[:2], {"v": "km/s"}, v=[1.0, 2.0], w=[1.0, 2.0])
    made = compare_sides(a, make("b", KEYS[:2], {"v": "km / s"}, v=[1, 2], w=pa.nulls(2, pa.string())))
    assert made.columns["v"].median == 0


@pytest.mark.parametrize("suffix", [".parquet", ".fits"])
def test_the_joined_table_has_values_differences_and_outliers(suffix: str) -> None:
    a, b = (make(name, KEYS, {"snr": "km/s"}, snr=VALUES + i * NOISE) for i, name in enumerate(("order=3", "order=5")))
    stream = BytesIO()
    write_table(stream, compare_sides(a, b), suffix)
    stream.seek(0)
    table = Table.read(stream) if suffix == ".fits" else pq.read_table(stream)
    names = table.colnames if suffix == ".fits" else table.column_names
    assert names == ["key", "snr_a", "snr_b", "snr_difference", "outlier"]
    assert np.allclose(table["snr_difference"], NOISE)
    assert [i for i, text in enumerate(table["outlier"]) if str(text) == "snr"] == [3, 7]
