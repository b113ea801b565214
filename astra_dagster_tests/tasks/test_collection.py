"""The table of a task holds what its outputs say, is kept up to date cheaply, and is never half written."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from astra_dagster import Column, grouped, product, spectrum_task
from astra_dagster.datamodel.discovery import find_files
from astra_dagster.errors import OutputError
from astra_dagster.spectra.fits import FitsFile
from astra_dagster.tasks import kinds, rows, runner
from astra_dagster.tasks.collection import Collection, collect, table_path
from astra_dagster.tasks.completeness import Record, record_of
from astra_dagster.tasks.continuum import ap_star_continuum
from astra_dagster.tasks.snr import ap_visit_snr
from astra_dagster.tasks.store import Given, OutputStore, Work
from astra_dagster.tasks.table import read_head
from astra_dagster_tests.tasks.collected import (
    COLUMNS,
    document,
    free_toy,
    key_of,
    results_of,
    rows_of,
    schema_of,
    star_toy,
    store_of,
    visit_toy,
    write,
    write_many,
)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Outputs that were read."""
    seen: list[Path] = []
    inner = rows._from_json

    def counted(path: Path) -> Any:
        seen.append(path)
        return inner(path)

    monkeypatch.setattr(rows, "_from_json", counted)
    return seen


def counts(made: Collection) -> tuple[int, int, int, int]:
    return made.new, made.changed, made.dropped, len(made.unreadable)


def both(store: OutputStore) -> tuple[bytes, bytes]:
    return table_path(store).read_bytes(), table_path(store, "fits").read_bytes()


def test_a_table_holds_what_the_outputs_say(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    records = write_many(store, [10, 9, 2, 1])
    made = collect(store, records)
    assert made.parquet == tmp_path / "visit_toy" / store.digest / "visit_toy_table.parquet"
    assert (made.rows, made.partitions) == (4, 4)
    assert counts(made) == (4, 0, 0, 0)
    for row, number in zip(rows_of(made.parquet), [1, 2, 9, 10], strict=True):
        key = key_of(number)
        assert row == {
            **dict(zip(("release", "telescope", "field", "plate", "mjd", "fibre"), key.split("/"), strict=True)),
            "spectrum": 0,
            **document(store, key)["results"],
            "digest": store.digest,
            "code_version": "1",
            "data_version": str(records[key]),
            "input_version": "v1",
        }
    schema = schema_of(made.parquet)
    assert list(schema)[7:12] == list(COLUMNS)
    types = [pa.float64(), pa.int64(), pa.bool_(), pa.string(), pa.list_(pa.field("element", pa.float64()))]
    assert [schema[name].type for name in COLUMNS] == types
    for name, column in COLUMNS.items():
        assert schema[name].metadata[b"description"].decode() == column.description
        assert schema[name].metadata.get(b"unit", b"").decode() == column.unit
    assert pq.read_schema(made.parquet).metadata[b"version"].decode() == made.version
    assert read_head(made.parquet, 2) == rows_of(made.parquet)[:2]


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
        assert file.hdu(1).header.text("TCOMM8") == "Radial velocity."


def test_a_unit_that_fits_does_not_know_is_told_in_the_description(tmp_path: Path) -> None:
    from astropy.table import Table

    task = replace(free_toy, name="furlongs", family="furlongs", columns={"x": Column("Länge.", unit="furlong")})
    store = store_of(tmp_path, task)
    table = Table.read(collect(store, write(store, key_of(1), {"x": 1.0})).fits)
    assert table["x"].unit is None
    assert table.meta["TCOMM8"] == "L?nge. [furlong]"


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


def test_only_new_and_changed_outputs_are_read(tmp_path: Path, read: list[Path]) -> None:
    store = store_of(tmp_path)
    records = write_many(store, range(6))
    collect(store, records)
    assert len(read) == 6
    read.clear()
    before = both(store)
    times = [table_path(store, kind).stat().st_mtime_ns for kind in ("parquet", "fits")]
    assert counts(collect(store, records)) == (0, 0, 0, 0)
    assert read == []
    assert times == [table_path(store, kind).stat().st_mtime_ns for kind in ("parquet", "fits")]

    records |= write(store, key_of(2), results_of(22))
    records |= write_many(store, [7])
    del records[key_of(5)]
    made = collect(store, iter(records.items()))
    assert {path.name.split("-")[4] for path in read} == {"5002", "5007"}
    assert counts(made) == (1, 1, 1, 0)
    assert [row["count"] for row in rows_of(made.parquet)] == [0, 1, 22, 3, 4, 7]
    assert both(store) != before
    read.clear()
    collect(store, records, overwrite=True)
    assert len(read) == 6


def test_other_parameters_and_code_have_no_rows(tmp_path: Path) -> None:
    once, twice = (OutputStore(tmp_path, ap_visit_snr, ap_visit_snr.values({"fudge_factor": f})) for f in (1, 2))
    results = dict.fromkeys(ap_visit_snr.columns, 1.5)
    records = write(once, key_of(1), results) | write(twice, key_of(2), results)
    records[key_of(3)] = replace(records[key_of(1)], code_version="0")
    one, two = collect(once, records), collect(twice, records)
    assert [row["plate"] for row in rows_of(one.parquet)] == ["5001"]
    assert [row["plate"] for row in rows_of(two.parquet)] == ["5002"]
    assert one.parquet.parent.parent == two.parquet.parent.parent
    newer = replace(once, task=replace(ap_visit_snr, version="9"))
    assert counts(collect(newer, records)) == (0, 0, 1, 0)
    assert rows_of(one.parquet) == []


def test_one_row_for_each_spectrum_of_a_file(tmp_path: Path) -> None:
    store = store_of(tmp_path, star_toy)
    keys = [f"DR17/apo25m/120+12/-/2M0000003{i}+5737103" for i in range(3)]
    records: dict[str, Record] = {}
    for i, key in enumerate(keys):
        records |= write(store, key, {"velocity": [float(k) for k in range(i)], "name": [f"{i} {k}" for k in range(i)]})
    made = collect(store, records)
    assert (made.rows, made.partitions) == (3, 2)
    found = [(row["obj"][9], row["spectrum"], row["velocity"], row["name"]) for row in rows_of(made.parquet)]
    assert found == [("1", 0, 0.0, "1 0"), ("2", 0, 0.0, "2 0"), ("2", 1, 1.0, "2 1")]
    fewer = collect(store, records | write(store, keys[2], {"velocity": [5.0], "name": ["x"]}))
    assert [row["velocity"] for row in rows_of(fewer.parquet)] == [0.0, 5.0]
    odd = collect(store, records | write(store, keys[2], {"velocity": [5.0], "name": ["x", "y"]}))
    assert [key for key, _ in odd.unreadable] == [keys[2]]


def test_of_spectra_only_the_first_header_is_read(
    synthetic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(tmp_path, ap_star_continuum)
    work = [
        Work(f.data_id, (Given("apStar", f.data_id.relative_path, f.version, (f.path,)),))
        for f in find_files(product("apStar"), "DR17", synthetic)[0]
    ]
    (outcomes,) = runner.run(store, work)
    records = {o.work.data_id.key: record_of(store, o.work, o.written) for o in outcomes if o.written}
    monkeypatch.setattr(FitsFile, "_read", None)
    made = collect(store, records)
    assert made.unreadable == ()
    expected = [
        (condition, good)
        for outcome in sorted(outcomes, key=lambda o: o.work.data_id.key)
        for condition, good in zip(*(outcome.written.results[n] for n in ("condition", "good_pixels")), strict=True)
    ]
    assert [(row["condition"], row["good_pixels"]) for row in rows_of(made.parquet)] == expected
    assert {row["input_version"] for row in rows_of(made.parquet)} == {item.input_version for item in work}


def _cut(path: Path, contents: bytes) -> None:
    path.write_bytes(contents[:-40])


def _edit(old: bytes, new: bytes) -> Callable[[Path, bytes], None]:
    return lambda path, contents: path.write_bytes(contents.replace(old, new)) and None


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path, _: path.unlink(), "not there"),
        (_cut, "cannot be read: JSONDecodeError"),
        (lambda path, _: path.write_text("[" * 100_000), "cannot be read: RecursionError"),
        (lambda path, _: path.write_text('{"results": {}}'), "cannot be read: KeyError"),
        (lambda path, _: path.write_bytes(b"\xff\xfe"), "cannot be read"),
        (_edit(b"1.25", b"1.125"), "bytes, recorded were"),
        (_edit(b"5001/56000", b"5002/56000"), "another origin"),
        (_edit(b'"v1"', b'"v2"'), "another input"),
        (_edit(b'"code_version": "1"', b'"code_version": "2"'), "another origin"),
    ],
)
def test_an_output_that_cannot_be_read_costs_itself(
    damage: Callable[[Path, bytes], object], reason: str, tmp_path: Path
) -> None:
    store = store_of(tmp_path)
    records = write_many(store, range(3))
    path = store.path(visit_toy.domain.parse_key(key_of(1)))
    whole = path.read_bytes()
    damage(path, whole)
    made = collect(store, records)
    ((key, why),) = made.unreadable
    assert key == key_of(1)
    assert reason in why
    assert str(path) in why
    assert [row["count"] for row in rows_of(made.parquet)] == [0, 2]
    path.write_bytes(whole)
    assert counts(collect(store, records)) == (1, 0, 0, 0)


VALUES: tuple[Callable[[random.Random], Any], ...] = (
    lambda r: r.random(),
    lambda r: r.randint(-5, 5),
    lambda _: None,
    lambda r: r.random() < 0.5,
    lambda r: r.choice(["a", "é", "", "1"]),
    lambda r: [r.random() for _ in range(r.randint(0, 3))],
    lambda r: [r.choice([None, 1]) for _ in range(2)],
    lambda _: 2**63 + 1,
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


def test_killed_while_writing_leaves_the_old_table(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    records = write_many(store, range(3))
    collect(store, records)
    before = both(store)
    records |= write_many(store, [5])
    script = f"""
import os, signal
from pathlib import Path
from astra_dagster.tasks.collection import collect
from astra_dagster.tasks.completeness import Record
from astra_dagster_tests.tasks.collected import store_of
fsync = os.fsync
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
records = { ({key: str(record) for key, record in records.items()})!r}
collect(store_of(Path({str(tmp_path)!r})), {{key: Record.parse(text) for key, text in records.items()}})
"""
    killed = subprocess.run([sys.executable, "-c", script], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert both(store) == before
    assert len(list(store.folder.glob(".astra-*.tmp"))) == 1
    assert counts(collect(store, records)) == (1, 0, 0, 0)


def test_what_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of(tmp_path)
    records = write_many(store, range(2))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    store.prepare()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        collect(store, records)
    assert [path.name for path in store.folder.iterdir() if path.is_file()] == ["parameters.json"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "other"])
def test_a_damaged_table_is_built_anew(damage: str, tmp_path: Path) -> None:
    store = store_of(tmp_path)
    records = write_many(store, range(3))
    collect(store, records)
    before = both(store)
    path = table_path(store)
    contents = bytearray(before[0])
    if damage == "flipped":
        contents[60] ^= 0xFF
    path.write_bytes({"cut": contents[:-9], "flipped": contents, "other": b""}[damage])
    if damage == "other":
        pq.write_table(pa.table({"a": [1]}), path)
    assert counts(collect(store, records)) == (3, 0, 0, 0)
    assert both(store) == before


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
    assert list(row)[:5] == ["release", "run2d", "plate", "spectrum", "n"]
    assert (row["run2d"], row["plate"], row["n"]) == ("v5_13_2", "3586", 3)


def test_names_that_are_taken(tmp_path: Path) -> None:
    store = store_of(tmp_path, free_toy)
    names = ["mjd", "MJD", "key", "a", "A", "digest", "result_a"]
    records = write(store, key_of(1), {name: i for i, name in enumerate(names)})
    for _ in range(2):
        made = collect(store, records)
        (row,) = rows_of(made.parquet)
        assert row["mjd"] == "56000"
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
    column = kinds.array(values, kinds.kinds_of(values))
    assert kind is None or column.type == kind
    assert column.to_pylist() == stored
