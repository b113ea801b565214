"""The rows of a table in a database: SQLite in any case, PostgreSQL where a server can be started."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from astra_dagster.errors import ConfigurationError, OutputError
from astra_dagster.outputs.record import Record
from astra_dagster.outputs.store import OutputStore
from astra_dagster.tables import database, database_types
from astra_dagster.tables.collection import collect
from astra_dagster.tables.database import configured_url, parse_url, upsert
from astra_dagster.tasks.snr import ap_visit_snr
from astra_dagster_tests.tables.collected import free_toy, key_of, results_of, rows_of, store_of, write, write_many


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/results.sqlite"
    found: str = request.getfixturevalue("postgresql")()
    return found


def query(url: str, *statements: str) -> list[dict[str, Any]]:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        for statement in statements:
            result = connection.exec_driver_sql(statement)
        return [dict(row) for row in result.mappings()] if result.returns_rows else []


def table(url: str, name: str) -> list[dict[str, Any]]:
    """Rows as SQLAlchemy has them after a look at the table."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        found = sa.Table(name, sa.MetaData(), autoload_with=connection)
        rows = connection.execute(sa.select(found).order_by(found.c.key, found.c.spectrum, found.c.digest))
        return [dict(row) for row in rows.mappings()]


def put(url: str, store: OutputStore, records: dict[str, Record]) -> tuple[int, int, int]:
    made = upsert(url, collect(store, records, fits=False).parquet)
    return made.written, made.deleted, made.unchanged


def test_rows_are_those_of_the_table(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "AT_ONCE", 3)
    store = store_of(tmp_path)
    records = write_many(store, range(8))
    made = collect(store, records)
    assert str(upsert(url, made.parquet)) == "table visit_toy: 8 rows written, 0 deleted, 0 unchanged"
    expected = [{"key": key_of(i), **row} for i, row in enumerate(rows_of(made.parquet))]
    assert table(url, "visit_toy") == expected
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    inspector = sa.inspect(engine)
    assert inspector.get_pk_constraint("visit_toy")["constrained_columns"] == ["key", "spectrum", "digest"]
    kinds = {column["name"]: database_types._find_kind(column["type"]) for column in inspector.get_columns("visit_toy")}
    assert [kinds[name] for name in results_of(0)] == ["float", "int", "bool", "text", "json"]
    if "postgresql" in url:
        comments = {column["name"]: column["comment"] for column in inspector.get_columns("visit_toy")}
        assert comments["velocity"] == "Radial velocity. [km/s]"


def test_only_what_changed_is_written(url: str, tmp_path: Path) -> None:
    store = store_of(tmp_path)
    records = write_many(store, range(6))
    assert put(url, store, records) == (6, 0, 0)
    assert put(url, store, records) == (0, 0, 6)
    records |= write(store, key_of(1), results_of(11)) | write_many(store, [9])
    del records[key_of(4)]
    assert put(url, store, records) == (2, 1, 4)
    assert [row["count"] for row in table(url, "visit_toy")] == [0, 11, 2, 3, 5, 9]
    assert put(url, store, {}) == (0, 6, 0)
    assert table(url, "visit_toy") == []


def test_parameters_live_side_by_side(url: str, tmp_path: Path) -> None:
    stores = [OutputStore(tmp_path, ap_visit_snr, ap_visit_snr.values({"fudge_factor": f})) for f in (1, 2)]
    for factor, store in enumerate(stores, start=1):
        results = dict.fromkeys(ap_visit_snr.columns, float(factor))
        assert put(url, store, write(store, key_of(1), results)) == (1, 0, 0)
    assert put(url, stores[0], {}) == (0, 1, 0)
    (row,) = table(url, "ap_visit_snr")
    assert (row["snr"], row["digest"]) == (2.0, stores[1].digest)


def test_a_file_with_fewer_spectra(url: str, tmp_path: Path) -> None:
    from astra_dagster_tests.tables.collected import star_toy

    store = store_of(tmp_path, star_toy)
    key = "DR17/apo25m/120+12/-/2M00000032+5737103"
    assert put(url, store, write(store, key, {"velocity": [1.0, 2.0, 3.0], "name": ["a", "b", "c"]})) == (3, 0, 0)
    assert put(url, store, write(store, key, {"velocity": [1.0, None], "name": ["a", "d"]})) == (2, 1, 0)
    assert [(row["spectrum"], row["velocity"], row["name"]) for row in table(url, "star_toy")] == [
        (0, 1.0, "a"),
        (1, None, "d"),
    ]


STEPS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"empty": None, "b": True}, {"b": True}),
    ({"n": 1, "b": False, "j": [1]}, {"n": 1, "b": False, "j": [1]}),
    ({"n": 2.5, "empty": 4}, {"n": 2.5, "b": None, "empty": 4, "j": None}),
    ({"n": 1}, {"n": 1.0, "b": None, "empty": None, "j": None}),
]
WIDENED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"b": 3}, {"b": 3}),
    ({"b": 1.5}, {"b": 1.5}),
    ({"n": "x", "b": True, "j": 5}, {"n": "x", "b": 1.0, "j": "5"}),
    ({"n": 7, "j": [8]}, {"n": "7", "j": "[8]"}),
]


def test_columns_are_added_and_widened(url: str, tmp_path: Path) -> None:
    store = store_of(tmp_path, free_toy)
    # SQLite keeps each value as it is, whatever the column was declared as: nothing is to be widened there.
    for results, expected in STEPS + (WIDENED if "postgresql" in url else []):
        assert put(url, store, write(store, key_of(1), results)) == (1, 0, 0)
        (row,) = table(url, "free_toy")
        assert {name: row.get(name) for name in expected} == expected
        assert put(url, store, write(store, key_of(1), results)) == (0, 0, 1)
    assert put(url, store, write(store, key_of(1), {"n": "y"})) == (1, 0, 0)
    assert query(url, "SELECT n FROM free_toy") == [{"n": "y"}]


def test_a_table_of_somebody_else_is_left_alone(url: str, tmp_path: Path) -> None:
    query(url, "CREATE TABLE visit_toy (a INTEGER PRIMARY KEY)")
    store = store_of(tmp_path)
    with pytest.raises(ConfigurationError, match="did not make"):
        put(url, store, write_many(store, [1]))
    assert query(url, "SELECT * FROM visit_toy") == []


def test_all_or_nothing(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of(tmp_path)
    records = write_many(store, range(4))
    put(url, store, records)
    before = table(url, "visit_toy")
    monkeypatch.setattr(database, "AT_ONCE", 1)
    inner = database._Upsert._read_rows

    def broken(*arguments: Any) -> Iterator[Any]:
        yield next(inner(*arguments))
        raise sa.exc.SQLAlchemyError("the power went")

    monkeypatch.setattr(database._Upsert, "_read_rows", broken)
    records |= write_many(store, range(2), "v2")
    del records[key_of(3)]
    with pytest.raises(OutputError, match="the power went"):
        put(url, store, records)
    assert table(url, "visit_toy") == before


@pytest.mark.parametrize(
    "text",
    [
        "sesame",
        "mysql://u:sesame@host/db",
        "postgresql://u:ses@ame@host/db",
        "postgresql://u:sesame@host:port/db",
        "sqlite://",
        "sqlite:///:memory:",
    ],
)
def test_a_bad_url_is_an_error_that_does_not_repeat_it(text: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        parse_url(text)
    assert "ses" not in str(error.value)
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__ or error.value.__context__ is None


def test_no_password_in_errors(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    made = collect(store, write_many(store, [1]))
    for url in ("postgresql+psycopg2://u:sesame@127.0.0.1:9/db", "postgresql+nodriver://u:sesame@h/db"):
        with pytest.raises((ConfigurationError, OutputError)) as error:
            upsert(url, made.parquet)
        assert "sesame" not in str(error.value)
        assert "***" in str(error.value)
        assert error.value.__suppress_context__
    with pytest.raises(OutputError, match="unable to open database file"):
        upsert(f"sqlite:///{tmp_path}/missing/r.sqlite", made.parquet)


def test_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert configured_url() is None
    path = tmp_path / "astra.toml"
    monkeypatch.setenv("ASTRA_CONFIG", str(path))
    monkeypatch.setenv("ASTRA_OUTPUTS", str(tmp_path / "out"))
    expected = {
        "": None,
        '[database]\nurl = ""': None,
        '[database]\nurl = "sqlite"': tmp_path / "out" / "results.sqlite",
        '[database]\nurl = "sqlite:///r.sqlite"': tmp_path / "r.sqlite",
        f'[database]\nurl = "sqlite:///{tmp_path}/x/r.sqlite"': tmp_path / "x" / "r.sqlite",
    }
    for number, (text, database_file) in enumerate(expected.items()):
        path.write_text(text)
        os.utime(path, ns=(number, number))
        found = configured_url()
        assert found == (None if database_file is None else sa.URL.create("sqlite", database=str(database_file)))
    for number, text in enumerate(
        ('database = "sqlite"', "[database]\nurl = 5", '[database]\nuri = "sqlite"'), start=9
    ):
        path.write_text(text)
        os.utime(path, ns=(number, number))
        with pytest.raises(ConfigurationError, match="nothing but url"):
            configured_url()
