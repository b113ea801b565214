"""Texts of events are packed into a fraction of their bytes, and read wherever Dagster reads them."""

import hashlib
import sqlite3
from pathlib import Path

import dagster as dg
import pytest
from dagster._serdes import deserialize_value, serialize_value

from astra_dagster.cli.init import DAGSTER_YAML
from astra_dagster.errors import StorageError
from astra_dagster.orchestration.storage.packing import DICTIONARIES, pack, unpack
from astra_dagster_tests.orchestration.storage.contract import store
from astra_dagster_tests.orchestration.storage.events import RUNS, materialisation, materialisations


@pytest.mark.parametrize("text", ["", "{}", "é\N{SNOWMAN}\x00" * 5000, serialize_value(materialisations("a", 1)[0])])
def test_a_text_is_what_it_was(text: str) -> None:
    assert unpack(pack(text)) == text


def test_an_event_takes_a_sixth(tmp_path: Path) -> None:
    text = serialize_value(materialisation(RUNS[0], 1.7e9, "ap_visit", "DR17/apo25m/120+12/5226/56000/001", {"a": "b"}))
    assert len(pack(text)) < len(text) / 6


def test_a_dictionary_that_was_released_stays_as_it_is() -> None:
    digests = {number: hashlib.sha256(text).hexdigest()[:16] for number, text in DICTIONARIES.items()}
    assert digests == {1: "1e5f7cb98b27e224"}


def test_what_cannot_be_unpacked_is_told() -> None:
    packed = pack("a text" * 20)
    for damaged, reason in (
        (b"", "later version"),
        (b"\xff" + packed[1:], "later version"),
        (packed[:-1], "cut off"),
        (packed + b"x", "cut off"),
        (packed[:1] + b"\xff" * 9, "damaged"),
    ):
        with pytest.raises(StorageError, match=reason):
            unpack(damaged)


def test_an_instance_becomes_compact_and_is_read_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written before stays as it is; so it does if the database is to be compact no longer."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    kinds = []
    for i, compact in enumerate((False, True, False)):
        settings = DAGSTER_YAML if compact else DAGSTER_YAML.replace("      compact: true\n", "")
        (tmp_path / "dagster.yaml").write_text(settings)
        with dg.DagsterInstance.get() as instance:
            store(instance, materialisations(RUNS[i], 2))
            found = instance.fetch_materializations(dg.AssetKey("a"), limit=9, ascending=True).records
            assert [record.run_id for record in found] == [run for run in RUNS[: i + 1] for _ in range(2)]
            assert all(len(instance.all_logs(run)) == 2 for run in RUNS[: i + 1])
    for shard in ("index", *RUNS[:3]):
        (path,) = tmp_path.rglob(f"{shard}.db")
        with sqlite3.connect(path) as database:
            kinds.append(database.execute("SELECT group_concat(typeof(event)) FROM event_logs ORDER BY id").fetchone())
        database.close()
    assert [kind for (kind,) in kinds] == ["text,text,blob,blob,text,text", "text,text", "blob,blob", "text,text"]


def test_what_is_packed_is_what_dagster_would_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").write_text(DAGSTER_YAML)
    events = materialisations(RUNS[0], 3)
    with dg.DagsterInstance.get() as instance:
        store(instance, events)
    (path,) = tmp_path.rglob(f"{RUNS[0]}.db")
    with sqlite3.connect(path) as database:
        rows = database.execute("SELECT event FROM event_logs ORDER BY id").fetchall()
    database.close()
    assert [deserialize_value(unpack(packed)) for (packed,) in rows] == events
