"""The table of a task holds what its outputs say, is kept up to date cheaply, and is never half written."""

import os
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

from astra_dagster import product
from astra_dagster.errors import OutputError
from astra_dagster.execution import runner
from astra_dagster.fits.reader import FitsFile
from astra_dagster.outputs.record import Record, record_of
from astra_dagster.outputs.store import InputFiles, OutputStore, PartitionWork
from astra_dagster.tables import rows
from astra_dagster.tables.collection import collect, table_path
from astra_dagster.tables.table import read_head
from astra_dagster.tasks.continuum import ap_star_continuum
from astra_dagster.tasks.snr import ap_visit_snr
from astra_dagster_tests.archive.found import find_files
from astra_dagster_tests.tables.collected import (
    COLUMNS,
    both,
    counts,
    document,
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
    inner = rows.document.read

    def counted(path: Path, suffix: str) -> Any:
        seen.append(path)
        return inner(path, suffix)

    monkeypatch.setattr(rows.document, "read", counted)
    return seen


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
            "key": key,
            **dict(zip(("release", "telescope", "field"), key.split("/"), strict=False)),
            **dict(zip(("plate", "mjd", "fibre"), map(int, key.split("/")[3:]), strict=True)),
            "spectrum": 0,
            **document(store, key)["results"],
            "digest": store.digest,
            "code_version": "1",
            "data_version": str(records[key]),
            "input_version": "v1",
        }
    schema = schema_of(made.parquet)
    assert list(schema)[8:13] == list(COLUMNS)
    types = [pa.float64(), pa.int64(), pa.bool_(), pa.string(), pa.list_(pa.field("element", pa.float64()))]
    assert [schema[name].type for name in COLUMNS] == types
    for name, column in COLUMNS.items():
        assert schema[name].metadata[b"description"].decode() == column.description
        assert schema[name].metadata.get(b"unit", b"").decode() == column.unit
    assert pq.read_schema(made.parquet).metadata[b"version"].decode() == made.version
    assert read_head(made.parquet, 2) == rows_of(made.parquet)[:2]


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
    assert [row["plate"] for row in rows_of(one.parquet)] == [5001]
    assert [row["plate"] for row in rows_of(two.parquet)] == [5002]
    assert one.parquet.parent.parent == two.parquet.parent.parent
    newer = replace(once, task=replace(ap_visit_snr, version="9"))
    assert counts(collect(newer, records)) == (0, 0, 1, 0)
    assert rows_of(one.parquet) == []


def test_a_run_with_other_parameters_takes_no_rows_away(tmp_path: Path, read: list[Path]) -> None:
    store = store_of(tmp_path)
    records = {}
    for number in range(4):
        records |= write(store, key_of(number), results_of(number))
    first = collect(store, records)
    contents = first.parquet.read_bytes()
    read.clear()
    other = {key: replace(record, digest="0123456789ab") for key, record in records.items()}
    again = collect(store, other)
    assert (again.rows, again.dropped, read) == (4, 0, [])
    assert again.parquet.read_bytes() == contents
    store.path(store.task.domain.parse_key(key_of(1))).unlink()
    store.path(store.task.domain.parse_key(key_of(2))).write_text("changed")
    assert collect(store, other).rows == 2
    del other[key_of(3)]
    assert collect(store, other).rows == 1


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
        PartitionWork(f.data_id, (InputFiles("apStar", f.data_id.relative_path, f.version, (f.location,)),))
        for f in find_files(product("apStar"), "DR17", synthetic)[0]
    ]
    outcomes = [outcome for some in runner.run([(store, work)]) for outcome in some]
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
        (lambda path, _: path.write_text("[" * 100_000), "nested too deeply"),
        (lambda path, _: path.write_text('{"results": {}}'), "cannot be read: KeyError"),
        (lambda path, _: path.write_bytes(b"\xff\xfe"), "cannot be read"),
        (_edit(b"1.25", b"1.125"), "the results do not agree with their hash"),
        (_edit(b'"format": 3', b'"format": 1'), "its layout 1 is not one of 2"),
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


def test_killed_while_writing_leaves_the_old_table(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    records = write_many(store, range(3))
    collect(store, records)
    before = both(store)
    records |= write_many(store, [5])
    script = f"""
import os, signal
from pathlib import Path
from astra_dagster.tables.collection import collect
from astra_dagster.outputs.record import Record
from astra_dagster_tests.tables.collected import store_of
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
