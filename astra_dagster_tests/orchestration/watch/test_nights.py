"""Nights on a real instance: what is said of one, and the page that a watch keeps up to date."""

import json
import os
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner, Result

from astra_dagster.cli import main
from astra_dagster.outputs.layout import night_path
from astra_dagster_tests.orchestration.watch.arrivals import FOLDER, KEY, NAME, Daemon, outputs, put


def command(*words: str) -> Result:
    return CliRunner().invoke(main, ["night", *words])


def page(mjd: str) -> Path:
    return Path(os.environ["ASTRA_OUTPUTS"]) / night_path(mjd)


@pytest.fixture
def analysed(daemon: Daemon, mirror: Path) -> Daemon:
    """A watch that has seen everything, with a broken file in the first night."""
    put(mirror / FOLDER / NAME.format(50), b"no FITS file" * 1000)
    daemon()
    daemon.tick()
    return daemon


def test_the_watch_writes_the_page_when_a_run_has_ended(daemon: Daemon, mirror: Path, whole: bytes) -> None:
    daemon()
    assert not page("56000").exists()  # the run is over, and no tick has seen that yet
    made = daemon.tick()
    assert made.notes == []
    assert "8 complete" in page("56000").read_text()
    assert sorted(path.name for path in page("index").parent.iterdir()) == [
        *(f"{mjd}.html" for mjd in (56000, 57900, 59162, 59601)),
        "index.html",
    ]
    before = {path: path.stat().st_mtime_ns for path in page("index").parent.iterdir()}
    put(mirror / FOLDER / NAME.format(51), whole)
    daemon()
    daemon.tick()
    assert "9 complete" in page("56000").read_text()
    changed = {path.name for path, then in before.items() if path.stat().st_mtime_ns != then}
    assert changed == {"56000.html", "index.html"}


def test_a_page_that_cannot_be_written_is_told_and_the_tick_goes_on(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon()
    page("x").parent.write_text("a file is in the way")
    made = daemon.tick()
    assert len(made.notes) == 4
    assert all("is not written" in note for note in made.notes)
    assert daemon.tick().notes == []


def test_what_a_night_says(analysed: Daemon) -> None:
    before = outputs()
    found = command("56000", "--json")
    assert found.exit_code == 0, found.output
    (night,) = json.loads(found.stdout)
    tasks = {task["task"]: task for task in night["tasks"]}
    assert night["mjd"] == "56000"
    assert list(tasks) == ["ap_visit_snr", "ap_visit_continuum"]
    snr = tasks["ap_visit_snr"]
    assert snr["counts"] == {"complete": 8, "failed": 1}
    assert snr["plates"] == [{"name": KEY[:-6], "counts": {"complete": 8, "failed": 1}}]
    assert [one["partition"] for one in snr["failures"]] == [KEY.format(50)]
    assert "SIMPLE" in snr["failures"][0]["error"]
    assert {one["name"] for one in snr["columns"]} >= {"snr", "good_pixels"}
    assert all(one["count"] == 8 for one in snr["columns"])
    assert [(one["key"], one["column"]) for one in snr["outliers"]] == [(KEY.format(8), "good_pixels")]  # not dithered
    assert outputs() == before


def test_reasons_are_those_of_the_plan(analysed: Daemon, mirror: Path, whole: bytes) -> None:
    put(mirror / FOLDER / NAME.format(3), whole, age=10)
    (mirror / FOLDER / NAME.format(4)).unlink()
    said = command("56000").output
    assert "ap_visit_snr: 6 complete, 1 to do, 1 no input, 1 failed" in said
    assert "1 to do: input changed" in said
    assert "1 no input: no input yet" in said or "1 no input: input gone" in said
    assert f"wrote {page('56000')}" in said
    assert page("56000").exists()


def test_several_nights_the_last_and_part_of_one(analysed: Daemon) -> None:
    def nights(*words: str) -> list[str]:
        found = command(*words, "--json")
        assert found.exit_code == 0, found.output
        return [night["mjd"] for night in json.loads(found.stdout)]

    assert nights() == ["59601"]
    assert nights("56000..58000") == ["56000", "57900"]
    assert nights("--release", "DR17") == ["57900"]
    assert nights("--field", "120+12") == ["56000"]
    (night,) = json.loads(command("56000", "--where", "fibre=001..003", "--json").stdout)
    assert night["tasks"][0]["counts"] == {"complete": 3}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["99999"], "no partition of night 99999 is registered"),
        (["soon"], "no partition of night soon is registered"),
        (["56000", "--where", "fibr=1"], "apVisit has no fibr; its parts are"),
        (["56000", "--release", "DR99"], "DR99"),
        (["56000", "--release", "DR19"], "no partition of night 56000 is registered"),
        (["56000", "--release", "DR8"], "no partition of night 56000 is registered"),
    ],
)
def test_nights_that_are_not_there_are_wrong_usage(analysed: Daemon, words: list[str], said: str) -> None:
    found = command(*words)
    assert found.exit_code == 2
    assert said in found.output
    assert "Traceback" not in found.output


def test_without_any_file(instance: dg.DagsterInstance) -> None:
    found = command()
    assert found.exit_code == 2
    assert "no night is registered; run astra-dagster discover, or name another" in found.output


def test_the_web_ui_names_the_pages(instance: dg.DagsterInstance) -> None:
    from astra_dagster.datamodel.products import product
    from astra_dagster.orchestration.sources import source_asset

    def metadata(name: str) -> dict[str, object]:
        (spec,) = source_asset(product(name)).specs
        return dict(spec.metadata)

    assert metadata("apVisit")["nights"] == dg.MetadataValue.path(str(page("index")))
    assert "nights" not in metadata("apStar")
