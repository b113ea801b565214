"""Results compared in Python and at the prompt: parameters, releases, the past, kept tables."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from astra_dagster import compare, product
from astra_dagster.cli import main
from astra_dagster.comparison.sides import parse_side
from astra_dagster.errors import ComparisonError, UnknownReleaseError
from astra_dagster.orchestration.internals import CODE_VERSION_TAG, DATA_VERSION_TAG
from astra_dagster.orchestration.partitions import register
from astra_dagster.orchestration.tables import latest
from astra_dagster.outputs.store import OutputStore
from astra_dagster.tables.collection import collect
from astra_dagster.tasks.snr import ap_visit_snr
from astra_dagster_tests.tables.collected import key_of, write

KEYS = [key_of(number) for number in range(1, 7)]
ELSEWHERE = [key.replace("DR17", "DR16").replace("120+12", "120+11") for key in KEYS[:2]]


def record(instance: dg.DagsterInstance, root: Path, key: str, snr: float, **parameters: Any) -> None:
    task = ap_visit_snr.setting(parameters)
    store = OutputStore(root, task, task.values())
    results: dict[str, Any] = {**dict.fromkeys(task.promised), "snr": snr, "object": f"star {key[-11:]}"}
    for made in write(store, key, results).values():
        tags = {DATA_VERSION_TAG: str(made), CODE_VERSION_TAG: task.version}
        instance.report_runless_asset_event(
            dg.AssetMaterialization(task.name, partition=key, tags=tags, metadata={"snr": round(snr, 1)})
        )


@pytest.fixture
def root(instance: dg.DagsterInstance, tmp_path: Path) -> Path:
    """Six partitions with one parameter, then five with another, of which one jumps."""
    root = tmp_path / "outputs"
    register(instance, product("apVisit"), KEYS)
    for number, key in enumerate(KEYS):
        record(instance, root, key, 10.0 + number)
    for number, key in enumerate(KEYS[:5]):
        record(instance, root, key, 20.0 + 2 * number + 50 * (number == 3), fudge_factor=2.0)
    return root


def astra(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["compare", "ap_visit_snr", *arguments])


def table_of(instance: dg.DagsterInstance, root: Path, **parameters: Any) -> Path:
    task = ap_visit_snr.setting(parameters)
    return collect(OutputStore(root, task, task.values()), latest(instance, task), fits=False).parquet


def test_parameters_are_compared_whichever_ran_last(root: Path) -> None:
    made = compare(ap_visit_snr.results(), ap_visit_snr.results(fudge_factor=2))
    assert (made.a.name, made.b.name) == ("default", "fudge_factor=2.0")
    assert made.columns["snr"].difference.tolist() == [10, 11, 12, 63, 14]
    assert [row["key"] for row in made.list_outliers("snr")] == [KEYS[3]]
    assert (made.matches.only_a, made.matches.only_b) == ((KEYS[5],), ())
    some = compare(ap_visit_snr.results(KEYS[:2]), ap_visit_snr.results(fudge_factor=2, where={"plate": 5001}))
    assert some.keys == KEYS[:1]


def test_the_prompt_prints_what_differs(root: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"compared.{suffix}" for suffix in ("parquet", "fits")]
    told = astra("default", "fudge_factor=2", *(text for path in files for text in ("--output", str(path))))
    assert told.exit_code == 0, told.output
    lines = [line.split() for line in told.stdout.splitlines()]
    assert ["snr", "5", "5", "12", "2.9652", "1"] in lines
    assert [KEYS[3], "13", "76"] in lines
    assert f"1 only in a: {KEYS[5]}" in told.stdout
    assert all(path.is_file() for path in files)
    found = json.loads(astra("default", "fudge_factor=2", "--columns", "snr", "--json").stdout)
    assert (found["matched"], found["only_a"], found["columns"][0]["median"]) == (5, [KEYS[5]], 12)
    assert found["outliers"] == [{"column": "snr", "key": KEYS[3], "a": 13, "b": 76}]


def test_a_current_table_is_taken_and_a_stale_one_is_told(root: Path, instance: dg.DagsterInstance) -> None:
    path = table_of(instance, root, fudge_factor=2)
    assert "b: fudge_factor=2, 5 rows, 5 from the table" in astra("default", "fudge_factor=2").stdout
    before = path.read_bytes()
    record(instance, root, KEYS[5], 30.0, fudge_factor=2.0)
    told = astra("default", "fudge_factor=2").stdout
    assert "6 rows, the table is stale (newer results: 1), 5 from the table, 1 from outputs" in told
    assert path.read_bytes() == before


def test_the_past_is_compared_as_records_have_it(
    root: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(instance, root, KEYS[0], 12.34)
    event = instance.fetch_materializations(dg.AssetKey("ap_visit_snr"), limit=1).records[0]
    monkeypatch.setattr("astra_dagster.comparison.sides._parse_time", lambda word: _time(event.timestamp, word))
    told = json.loads(astra("yesterday", "default", "--json").stdout)
    assert "four digits" in told["a"]["source"]
    assert told["columns"][0]["changed"] == 1
    assert told["outliers"] == [{"column": "snr", "key": KEYS[0], "a": 10, "b": 12.34}]
    told = json.loads(astra("code_version=3", "default", "--json").stdout)
    assert (told["matched"], told["outliers"][0]["a"]) == (6, 12.3)
    assert "no record of ap_visit_snr is of code_version=1" in astra("code_version=1", "default").stderr


def _time(timestamp: float, word: str) -> Any:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(timestamp, UTC) if word == "yesterday" else None


def test_a_table_that_was_kept_is_a_side(root: Path, instance: dg.DagsterInstance, tmp_path: Path) -> None:
    kept = tmp_path / "kept.parquet"
    kept.write_bytes(table_of(instance, root, fudge_factor=2).read_bytes())
    made = json.loads(astra(str(kept), "fudge_factor=2", "--json").stdout)
    assert (made["a"]["source"], made["matched"], made["outliers"]) == ("a kept table", 5, [])
    pq.write_table(pq.read_table(kept).select(["key"]), kept)
    assert "no table of results" in astra(str(kept), "default").stderr


def test_releases_are_matched_by_visit(root: Path, instance: dg.DagsterInstance) -> None:
    register(instance, product("apVisit"), ELSEWHERE)
    for key in ELSEWHERE:
        record(instance, root, key, 11.0)
    made = compare(ap_visit_snr.results(release="DR16"), ap_visit_snr.results(release="DR17"))
    assert (made.matches.by, made.keys, made.keys_b) == ("visit", ELSEWHERE, KEYS[:2])
    assert made.columns["snr"].difference.tolist() == [-1, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["default", "DR99"], "no release 'DR99'"),
        (["default", "fudge=2"], "did you mean fudge_factor?"),
        (["default", "fudge_factor=2", "--columns", "sn"], "did you mean snr"),
        (["default", "fudge_factor=3"], "nothing in common: 6 and 0 rows"),
        (["default", " "], "is empty"),
        (["default", "none.parquet"], "cannot be read"),
        (["default", "default", "--output", "table.csv"], "not in '.csv'"),
    ],
)
def test_mistakes_are_a_sentence_and_exit_code_2(root: Path, arguments: list[str], message: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    told = astra(*arguments)
    assert told.exit_code == 2
    assert message in told.stderr
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_the_words_of_a_side() -> None:
    side = parse_side('dr17 order=5 spec_continuum.order=3 code_version=2 2026-01-31 reject=["BAD"]')
    assert (side.releases, side.code_version) == (("DR17",), "2")
    assert side.parameters == {"order": 5, "spec_continuum.order": 3, "reject": ["BAD"]}
    assert side.before is not None
    assert side.before.isoformat().startswith("2026-01-31T00:00")
    with pytest.raises(UnknownReleaseError, match=r"order=3, DR17, code_version=2"):
        parse_side("2026-13-45")
    with pytest.raises(ComparisonError):
        parse_side("")
