"""Some rows of a table are what all of them would be, and little else of it is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astra_dagster.outputs.record import Record
from astra_dagster.outputs.store import OutputStore
from astra_dagster.tables import table
from astra_dagster.tables.collection import collect, gather, table_path
from astra_dagster_tests.tables.collected import free_toy, key_of, star_toy, store_of, write, write_many

COUNT = 23


@pytest.fixture(scope="module", autouse=True)
def small_groups() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "GROUP", 4)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[OutputStore, dict[str, Record]]:
    """A table, and its records; of five files the table does not know the newest."""
    store = store_of(tmp_path_factory.mktemp("outputs"))
    records = write_many(store, range(COUNT))
    collect(store, records)
    return store, {**records, **write_many(store, range(7, 12), "v2")}


def some_rows(store: OutputStore, records: Mapping[str, Record]) -> list[dict[str, Any]]:
    found = gather(store, records, keys=records).table.to_pylist()
    assert found == gather(store, records).table.to_pylist()
    return found


@settings(max_examples=40)
@given(st.sets(st.integers(0, COUNT + 3)))
def test_any_partitions(made: tuple[OutputStore, dict[str, Record]], numbers: set[int]) -> None:
    store, records = made
    wanted = {key_of(number): records[key_of(number)] for number in sorted(numbers) if number < COUNT}
    assert [row["key"] for row in some_rows(store, wanted)] == list(wanted)


def test_few_groups_are_read(made: tuple[OutputStore, dict[str, Record]], monkeypatch: pytest.MonkeyPatch) -> None:
    store, records = made
    read: list[int] = []
    inner = pq.ParquetFile.read_row_groups
    monkeypatch.setattr(
        pq.ParquetFile, "read_row_groups", lambda file, groups: read.extend(groups) or inner(file, groups)
    )
    assert pq.ParquetFile(table_path(store)).num_row_groups == 6
    gather(store, records, keys=[key_of(0), key_of(21), key_of(22)])
    assert read == [0, 5]


def test_files_of_several_spectra(tmp_path: Path) -> None:
    store, records = store_of(tmp_path, star_toy), {}
    for number in range(5):
        key = f"DR17/apo25m/120+12/-/2M0000000{number}+0000000"
        velocity = [float(i) for i in range(number % 3 + 1)]
        records |= write(store, key, {"velocity": velocity, "name": ["a"] * len(velocity)})
    collect(store, records)
    wanted = dict(list(records.items())[1:4])
    assert len(some_rows(store, wanted)) == 6


def test_a_column_of_several_kinds_is_read_from_outputs(tmp_path: Path) -> None:
    store = store_of(tmp_path, free_toy)
    records = write(store, key_of(0), {"what": 1.5}) | write(store, key_of(1), {"what": "text"})
    collect(store, records)
    for key in records:
        (row,) = some_rows(store, {key: records[key]})
        assert row["what"] == {key_of(0): 1.5, key_of(1): "text"}[key]


@dataclass(frozen=True, repr=False)
class Damaged:
    """A table that is to be damaged, and what it was."""

    store: OutputStore
    records: dict[str, Record]
    contents: bytes


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Damaged:
    store = store_of(tmp_path_factory.mktemp("damaged"))
    records = write_many(store, range(9))
    collect(store, records)
    return Damaged(store, records, table_path(store).read_bytes())


@settings(max_examples=300)
@given(st.floats(0, 1, exclude_max=True), st.integers(0, 7), st.booleans())
def test_no_damaged_bit_changes_a_result(damaged: Damaged, where: float, bit: int, in_footer: bool) -> None:
    """Rows, or what the file says of its columns; then outputs are read."""
    store, records, contents = damaged.store, damaged.records, damaged.contents
    footer = int.from_bytes(contents[-8:-4], "little") + 8
    start, length = (len(contents) - footer, footer) if in_footer else (0, len(contents) - footer)
    flipped = bytearray(contents)
    flipped[start + int(where * length)] ^= 1 << bit
    table_path(store).write_bytes(flipped)
    wanted = {key: records[key] for key in (key_of(1), key_of(7))}
    found = gather(store, wanted, keys=wanted).table
    assert found.to_pylist() == gather(store, wanted).table.to_pylist()
    assert {field.name: field.metadata for field in found.schema} == {
        field.name: field.metadata for field in gather(store, wanted).table.schema
    }


def test_a_table_of_earlier_is_read_as_a_whole(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    records = write_many(store, range(9))
    collect(store, records)
    path = table_path(store)
    whole = pq.read_table(path)
    metadata = {name: text for name, text in whole.schema.metadata.items() if name != b"head"}
    pq.write_table(whole.replace_schema_metadata(metadata), path)
    wanted = {key_of(1): records[key_of(1)]}
    assert gather(store, wanted, keys=wanted).sources == ["1 from the table"]
    assert len(some_rows(store, wanted)) == 1
