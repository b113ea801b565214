"""The columns of a table, and its files: types, names, units, and the same bytes however it came about."""

import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from astra_dagster import Column, grouped, product, spectrum_task
from astra_dagster.fits.reader import FitsFile
from astra_dagster.outputs.record import Record
from astra_dagster.tables import column_types as kinds
from astra_dagster.tables import rows
from astra_dagster.tables.collection import collect, table_path
from astra_dagster.tables.table import read_head
from astra_dagster_tests.tables.collected import (
    COLUMNS,
    both,
    counts,
    free_toy,
    key_of,
    rows_of,
    store_of,
    visit_toy,
    write,
    write_many,
)


def test_astropy_reads_the_fits_table_with_units(tmp_path: Path) -> None:
    from astropy.io import fits
    from astropy.table import Table
    from astropy.units import Unit

    store = store_of(tmp_path)
    made = collect(store, write_many(store, [3, 4]))
    assert made.fits is not None
    table = Table.read(made.fits)
    assert table.colnames == made.schema.names
    assert table["velocity"].unit == Unit("km/s")
    assert table["cells"].unit == Unit("1e-17 erg / (Angstrom s cm2)")
    for row, expected in zip(table, rows_of(made.parquet), strict=True):
        assert {n: row[n] for n in ("velocity", "count", "good")} == {
            n: expected[n] for n in ("velocity", "count", "good")
        }
        assert row["cells"].tolist() == [expected["cells"][0], None, expected["cells"][2]]
        texts = [name for name in table.colnames if name not in ("velocity", "count", "good", "cells", "spectrum")]
        assert {name: row[name] for name in texts} == {name: expected[name] for name in texts}
    with fits.open(made.fits) as opened:
        opened.verify("exception")
    with FitsFile(made.fits) as file:
        assert file.hdu(0).header.text("VERSION") == made.version
        assert file.hdu(1).header.text("TCOMM9") == "Radial velocity."


def test_a_unit_that_fits_does_not_know_is_told_in_the_description(tmp_path: Path) -> None:
    from astropy.table import Table

    task = replace(free_toy, name="furlongs", family="furlongs", columns={"x": Column("Länge.", unit="furlong")})
    store = store_of(tmp_path, task)
    table = Table.read(collect(store, write(store, key_of(1), {"x": 1.0})).fits)
    assert table["x"].unit is None
    assert table.meta["TCOMM9"] == "L?nge. [furlong]"


def test_fits_holds_what_is_missing_or_odd(tmp_path: Path) -> None:
    from astropy.table import Table

    store = store_of(tmp_path, free_toy)
    records = write(store, key_of(1), {"n": 1, "t": "é|", "b": True, "v": [1, 2], "w": ["a", "b"], "x": None})
    records |= write(store, key_of(2), {"v": [3], "x": None})
    made = collect(store, records)
    assert "x" not in made.schema.names
    table = Table.read(made.fits)
    assert table["n"].tolist() == [1, None]
    assert table["t"].tolist() == ["?|", ""]
    assert table["b"].tolist() == [1, None]
    assert table["v"].tolist() == [[1, 2], [3, None]]
    assert table["w"].tolist() == ['["a", "b"]', ""]
    assert [row["v"] for row in rows_of(made.parquet)] == [[1, 2], [3]]
    assert [row["w"] for row in rows_of(made.parquet)] == [["a", "b"], None]


def test_arrays_of_several_axes_stay_arrays(tmp_path: Path) -> None:
    from astropy.io import fits
    from astropy.table import Table

    store = store_of(tmp_path, free_toy)
    whole, real = [[1, 2, 3], [4, 5, 6]], [[[0.5, None]], [[1.5, 2.5]]]
    records = write(store, key_of(1), {"n": whole, "x": real, "t": [["a"], ["b"]], "u": [[1], [2]]})
    records |= write(store, key_of(2), {"n": whole[::-1], "x": None, "t": [["c"]], "u": [[3]]})
    made = collect(store, records)
    assert rows_of(made.parquet)[0]["x"] == real
    assert [str(made.schema.field(name).type) for name in ("n", "x", "t")] == [
        f"list<element: list<element: {inner}>>" for inner in ("int64", "list<element: double>", "string")
    ]
    table = Table.read(made.fits)
    assert table["n"].tolist() == [whole, whole[::-1]]
    assert table["x"].shape == (2, 2, 1, 2)
    assert table["x"][0].filled(-1).tolist() == [[[0.5, -1]], [[1.5, 2.5]]]
    assert table["x"][1].mask.all()
    assert table["t"].tolist() == ['[["a"], ["b"]]', '[["c"]]']
    assert table["u"].tolist() == ["[[1], [2]]", "[[3]]"], "arrays of several shapes"
    assert made.fits is not None
    with fits.open(made.fits) as opened:
        opened.verify("exception")


VALUES: tuple[Callable[[random.Random], Any], ...] = (
    lambda r: r.random(),
    lambda r: r.randint(-5, 5),
    lambda _: None,
    lambda r: r.random() < 0.5,
    lambda r: r.choice(["a", "é", "", "1"]),
    lambda r: [r.random() for _ in range(r.randint(0, 3))],
    lambda r: [r.choice([None, 1]) for _ in range(2)],
    lambda _: 2**63 + 1,
    lambda r: [[r.random()] * 2 for _ in range(r.randint(1, 2))],
)


@pytest.mark.parametrize("task", [visit_toy, free_toy])
@pytest.mark.parametrize("seed", range(12))
def test_the_same_bytes_however_it_came_about(
    task: Any, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values of unlike types come and go, a few at a time; the table built at once from what remains is the same."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(rows, "CHUNK", 3)
    draw = random.Random(seed)
    made = {name: draw.sample(VALUES, draw.randint(1, 2)) for name in COLUMNS}
    one, other = store_of(tmp_path / "a", task), store_of(tmp_path / "b", task)
    records: dict[str, Record] = {}
    for _ in range(5):
        for number in draw.sample(range(12), 4):
            names = [name for name in COLUMNS if task is visit_toy or draw.random() < 0.8]
            results = {name: draw.choice(made[name])(draw) for name in names}
            records |= write(one, key_of(number), results)
            write(other, key_of(number), results)
        for key in draw.sample(sorted(records), 2):
            del records[key]
        first = collect(one, records)
        for path in (table_path(other), table_path(other, "fits")):
            path.unlink(missing_ok=True)
        shuffled = draw.sample(sorted(records.items()), len(records))
        second = collect(other, shuffled)
        assert first.unreadable == second.unreadable == ()
        assert both(one) == both(other)
        assert first.version == second.version


def test_the_fits_table_never_has_other_rows(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    records = write_many(store, range(2))
    made = collect(store, records, fits=False)
    assert made.fits is None
    fits = table_path(store, "fits")
    assert not fits.exists()
    collect(store, records)
    contents = fits.read_bytes()
    collect(store, records, fits=False)
    assert fits.read_bytes() == contents
    records |= write_many(store, [2])
    collect(store, records, fits=False)
    assert not fits.exists()
    fits.write_bytes(contents)
    collect(store, records)
    assert fits.read_bytes() != contents


def test_nothing_complete_is_an_empty_table(tmp_path: Path) -> None:
    from astropy.table import Table

    made = collect(store_of(tmp_path), {})
    assert (made.rows, counts(made)) == (0, (0, 0, 0, 0))
    assert rows_of(made.parquet) == []
    assert len(Table.read(made.fits)) == 0
    assert read_head(made.parquet, 3) == []


def test_groups_of_files(tmp_path: Path) -> None:
    @spectrum_task(requires=grouped(product("spec"), by=("run2d", "plate")), version="1")
    def plate_toy(spectra, parameters):
        """One result a plate."""

    store = store_of(tmp_path, plate_toy)
    made = collect(store, write(store, "DR17/v5_13_2/3586", {"n": 3}))
    (row,) = rows_of(made.parquet)
    assert list(row)[:6] == ["key", "release", "run2d", "plate", "spectrum", "n"]
    assert (row["run2d"], row["plate"], row["n"]) == ("v5_13_2", 3586, 3)


def test_names_that_are_taken(tmp_path: Path) -> None:
    store = store_of(tmp_path, free_toy)
    names = ["mjd", "MJD", "key", "a", "A", "digest", "result_a"]
    records = write(store, key_of(1), {name: i for i, name in enumerate(names)})
    for _ in range(2):
        made = collect(store, records)
        (row,) = rows_of(made.parquet)
        assert row["mjd"] == 56000
        found = {
            field.metadata[b"result"].decode(): row[field.name]
            for field in made.schema
            if row[field.name] in range(7) and b"result" in field.metadata
        }
        assert found == {name: i for i, name in enumerate(names)}
        assert len({name.lower() for name in made.schema.names}) == len(made.schema.names)
        records |= write(store, key_of(2), {"a": 1})
        collect(store, records)
        del records[key_of(2)]


@pytest.mark.parametrize(
    ("values", "kind", "stored"),
    [
        ([1, None, 2.5], pa.float64(), [1.0, None, 2.5]),
        ([True, 2], pa.int64(), [1, 2]),
        ([1, "a", 2.5, True], pa.string(), ["1", "a", "2.5", "true"]),
        ([2**64, 1], pa.string(), ["18446744073709551616", "1"]),
        ([[1], [2.5, None]], None, [[1.0], [2.5, None]]),
        ([[], [True]], None, [[], [True]]),
        ([[1], 2], pa.string(), ["[1]", "2"]),
        ([[[1]], {"a": 1}], pa.string(), ["[[1]]", '{"a": 1}']),
        ([None, None], pa.float64(), [None, None]),
        (["é", "\ud800"], pa.string(), ["é", "?"]),
        ([["\ud800"]], None, [["?"]]),
    ],
)
def test_unlike_values_become_the_widest(values: list[Any], kind: pa.DataType | None, stored: list[Any]) -> None:
    column = kinds.make_array(values, kinds.find_kinds(values))
    assert kind is None or column.type == kind
    assert column.to_pylist() == stored
