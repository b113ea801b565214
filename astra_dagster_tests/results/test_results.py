"""The results of a task, in Python and at the prompt: from its table where that is current, from outputs where not."""

import csv
import io
import json
import sys
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from click.testing import CliRunner, Result

from astra_dagster import product
from astra_dagster.cli import main
from astra_dagster.errors import (
    ConfigurationError,
    InvalidKeyError,
    ParameterError,
    TooManyRowsError,
    UnknownColumnError,
)
from astra_dagster.orchestration.internals import DATA_VERSION_TAG
from astra_dagster.orchestration.partitions import register
from astra_dagster.orchestration.records import latest
from astra_dagster.results import results
from astra_dagster.tables.collection import collect
from astra_dagster.tasks import registry
from astra_dagster.tasks.snr import ap_visit_snr
from astra_dagster_tests.tables.collected import key_of, results_of, store_of, visit_toy, write

KEYS = [key_of(number) for number in range(1, 6)]


def record(instance: dg.DagsterInstance, root: Path, number: int, **changed: object) -> None:
    store = store_of(root)
    for key, made in write(store, key_of(number), {**results_of(number), **changed}).items():
        instance.report_runless_asset_event(
            dg.AssetMaterialization("visit_toy", partition=key, tags={DATA_VERSION_TAG: str(made)})
        )


@pytest.fixture
def root(instance: dg.DagsterInstance, tmp_path: Path) -> Path:
    """Five registered partitions of a task; the first three have results."""
    register(instance, product("apVisit"), KEYS)
    for number in (1, 2, 3):
        record(instance, tmp_path / "outputs", number)
    return tmp_path / "outputs"


@pytest.fixture
def known(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry has the task."""
    monkeypatch.setattr(registry, "tasks", lambda: {"visit_toy": visit_toy})


def astra(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["results", "visit_toy", *arguments])


def test_they_are_read_from_outputs_and_say_so(root: Path) -> None:
    found = visit_toy.results()
    assert found.columns == ["key", "velocity", "count", "good", "name", "cells"]
    assert found.source == "3 from outputs, 2 partitions are without results"
    assert found.to_arrow()["key"].to_pylist() == KEYS[:3]
    assert "visit_toy: 3 rows, 3 from outputs" in repr(found)
    assert KEYS[1] in repr(found)
    assert f"<td>{KEYS[1]}</td><td>2.25</td><td>2</td>" in found._repr_html_()


def test_what_the_table_has_is_taken_from_it(root: Path, instance: dg.DagsterInstance) -> None:
    collect(store_of(root), latest(instance, visit_toy), fits=False)
    record(instance, root, 3, velocity=-1.0)
    found = visit_toy.results()
    assert found.source == "2 from the table, 1 from outputs, 2 partitions are without results"
    assert found.to_arrow()["velocity"].to_pylist() == [1.25, 2.25, -1.0]
    assert visit_toy.results(KEYS[0]).source == "1 from the table"


def test_what_is_no_longer_registered_is_left_out(root: Path, instance: dg.DagsterInstance) -> None:
    instance.delete_dynamic_partition("ap_visit", KEYS[1])
    assert visit_toy.results().to_arrow()["key"].to_pylist() == [KEYS[0], KEYS[2]]


def test_a_table_of_astropy_has_units_and_masks(root: Path, instance: dg.DagsterInstance) -> None:
    record(instance, root, 4, count=None, velocity=None)
    table = visit_toy.results().to_table()
    assert str(table["velocity"].unit) == "km / s"
    assert table["velocity"][0].value == 1.25
    assert list(table["velocity"].mask) == list(table["count"].mask) == [False, False, False, True]
    assert list(table["name"]) == ["star 1", "star 2", "star 3", "star 4"]
    assert table["cells"].shape == (4, 3)
    assert np.array(table["cells"].mask)[:, 1].all()
    assert table["good"].dtype == bool


def test_they_are_selected_by_key_and_by_part(root: Path) -> None:
    assert len(visit_toy.results([KEYS[2], KEYS[0]])) == 2
    assert visit_toy.results(where={"plate": 5002}).to_arrow()["key"].to_pylist() == [KEYS[1]]
    assert len(visit_toy.results(release="DR17", where={"plate": [5001, "5002", 5005]})) == 2
    assert str(visit_toy.results()["velocity"].unit) == "km / s"


def test_nothing_is_read_before_it_is_looked_at() -> None:
    assert visit_toy.results(release="DR17").keys is None  # no DAGSTER_HOME is set


def test_mistakes_are_typed_and_name_what_is_nearest(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownColumnError, match="velocity"):
        visit_toy.results()["velocty"]
    with pytest.raises(InvalidKeyError, match=r"not registered.*did you mean"):
        len(visit_toy.results(KEYS[0].replace("5001", "5009")))
    with pytest.raises(InvalidKeyError, match="its parts are"):
        visit_toy.results("DR17/5001")
    with pytest.raises(ParameterError, match="fudge_factor"):
        ap_visit_snr.results(fudge=1)
    monkeypatch.setattr(results, "LIMIT", 4)
    with pytest.raises(TooManyRowsError, match=r"5 partitions of visit_toy are more than the 4.*to_polars\(\)"):
        len(visit_toy.results())


def test_pandas_has_them(root: Path) -> None:
    pytest.importorskip("pandas")
    frame = visit_toy.results().to_pandas(["key", "velocity"])
    assert frame["velocity"].tolist() == [1.25, 2.25, 3.25]


def test_polars_reads_the_table_when_it_is_asked(
    root: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    polars = pytest.importorskip("polars")
    assert visit_toy.results().to_polars().collect()["key"].to_list() == KEYS[:3]
    collect(store_of(root), latest(instance, visit_toy), fits=False)
    record(instance, root, 2, velocity=-1.0)
    record(instance, root, 5)
    monkeypatch.setattr(results, "LIMIT", 2)  # in memory
    frame = visit_toy.results().to_polars(["key", "velocity"])
    assert isinstance(frame, polars.LazyFrame)
    assert frame.collect().rows() == [
        (KEYS[0], 1.25),
        (KEYS[2], 3.25),
        (KEYS[1], -1.0),
        (KEYS[4], 5.25),
    ]
    assert "PARQUET" in frame.explain().upper()
    one = visit_toy.results(KEYS[2]).to_polars().filter(polars.col("velocity") > 0)
    assert one.select("name").collect().item() == "star 3"
    assert visit_toy.results().to_polars().collect_schema().names() == [
        "key",
        "velocity",
        "count",
        "good",
        "name",
        "cells",
    ]
    with pytest.raises(UnknownColumnError, match="did you mean velocity"):
        visit_toy.results().to_polars(["velocty"])
    monkeypatch.setattr(results, "LIMIT", 1)
    with pytest.raises(TooManyRowsError, match=r"2 outputs of visit_toy are not in its table.*run astra-dagster table"):
        visit_toy.results().to_polars()


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_library_that_is_not_there_is_named(library: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigurationError, match=f"{library} is not installed"):
        getattr(visit_toy.results(), f"to_{library}")()


@pytest.mark.usefixtures("known")
def test_the_prompt_prints_them(monkeypatch: pytest.MonkeyPatch) -> None:
    told = astra("--columns", "velocity,name", "--sort", "-velocity")
    assert told.exit_code == 0, told.output
    lines = told.stdout.splitlines()
    assert lines[0].split() == ["key", "velocity", "name"]
    assert [line.split()[1] for line in lines[1:]] == ["3.25", "2.25", "1.25"]
    assert "3 rows, 3 from outputs, 2 partitions are without results" in told.stderr
    assert len(astra(KEYS[0]).stdout.splitlines()) == 2
    monkeypatch.setattr(sys.modules["astra_dagster.cli.looking.results"], "SHOWN", 2)
    assert "and 1 more rows" in astra().stdout


@pytest.mark.usefixtures("known")
def test_the_prompt_prints_them_for_programs() -> None:
    assert json.loads(astra("--json", "--columns", "count").stdout)[2] == {"key": KEYS[2], "count": 3}
    rows = list(csv.DictReader(io.StringIO(astra("--csv", "--where", "plate=5002").stdout)))
    assert [(row["key"], row["velocity"], row["cells"]) for row in rows] == [(KEYS[1], "2.25", "[2.5, null, 2.0]")]
    assert 'unit="km' in astra("--votable", "--columns", "velocity").stdout


@pytest.mark.usefixtures("known")
def test_mistakes_at_the_prompt_are_one_line() -> None:
    assert "did you mean velocity?" in astra("--columns", "velocty").stderr
    assert "did you mean velocity?" in astra("--sort", "-velocty").stderr
    assert "not registered" in astra(KEYS[0].replace("5001", "5009")).stderr
    assert astra("--csv", "--json").exit_code == 2
