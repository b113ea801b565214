"""The command line for programs and shells: JSON, exit codes, help, completion."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from astra_dagster import product
from astra_dagster.cli import main
from astra_dagster.spectra.pixel_flags import APOGEE_REJECTED
from astra_dagster.tasks.registry import tasks

COMMANDS = sorted(main.commands)
KEY = "DR17/apo25m/120+12/5226/56000/001"


@pytest.fixture
def places(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAS_BASE_DIR", str(mirror))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ASTRA_OUTPUTS", str(tmp_path / "outputs"))
    (tmp_path / "astra.toml").write_text('workers = "in-process"\n')
    monkeypatch.setenv("ASTRA_CONFIG", str(tmp_path / "astra.toml"))
    return tmp_path


def document(*arguments: str, exit_code: int = 0) -> Any:
    result = CliRunner().invoke(main, [*arguments, "--json"])
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout)


def test_every_command_that_tells_something_tells_it_as_json(places: Path, mirror: Path) -> None:
    (found,) = document("discover", "--product", "apVisit", "--release", "DR17")
    assert (found["product"], found["release"], found["files"], found["new"]) == ("apVisit", "DR17", 12, 12)
    assert document("discover", "--product", "apVisit", "--release", "DR17")[0]["new"] == 0
    (plan,) = document("plan", "ap_visit_snr")
    assert plan["to_do"] == {"no record": 12}
    assert plan["parameters"] == {"fudge_factor": 1.0, "reject": list(APOGEE_REJECTED)}
    broken = product("apVisit").parse_key(KEY).path(mirror)
    whole = broken.read_bytes()
    broken.write_bytes(whole[:20_000])
    (failed,) = document("run", "ap_visit_snr", exit_code=1)["failed"]
    assert failed["partition"] == KEY
    assert "incomplete" in failed["reason"]
    assert document("plan", "ap_visit_snr", "--explain", KEY)[0]["why"].startswith("to do: failed before: ")
    broken.write_bytes(whole)
    assert document("run", "ap_visit_snr")["computed"] == 1
    again = document("run", "ap_visit_snr")
    assert (again["computed"], again["plans"][0]["complete"], again["failed"]) == (0, 12, [])
    table = document("table", "ap_visit_snr")
    assert (table["rows"], table["new"]) == (12, 12)
    assert Path(table["parquet"]).is_file()
    assert document("clean") == []
    listed = places / "list.csv"
    listed.write_text("telescope,field,plate,mjd,fibre\napo25m,120+12,5226,56000,299\napo25m,120+12,x,y,z\n")
    expected = document("register", str(listed), "--product", "apVisit", "--release", "DR17")
    assert (expected["files"], expected["new"], expected["on_disk"], len(expected["rejected"])) == (1, 1, 0, 1)
    (place,) = document("fetch", KEY, "--product", "apVisit", "--dry-run")
    assert place["here"] is True
    assert place["url"].endswith(".fits")


def test_help_fits_a_screen_and_every_command_has_an_example() -> None:
    text = CliRunner().invoke(main, ["--help"]).output
    assert len(text.splitlines()) <= 30
    assert max(map(len, text.splitlines())) <= 80
    assert not any(line.endswith("...") for line in text.splitlines()[1:])
    assert "Exit codes: 0 all is well; 1 something failed or is missing" in text
    for name in COMMANDS:
        command = main.commands[name]
        assert f"Example: astra-dagster {name}" in str(command.help), name
        for option in command.params:
            assert isinstance(option, click.Argument) or option.help, f"{name} {option.name}"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("words", "expected"), [("run ap_vis", "ap_visit_snr"), ("pla", "plan"), ("table spec_", "spec_continuum")]
)
def test_completion_of_commands_and_tasks(words: str, expected: str) -> None:
    environment = {
        **os.environ,
        "_ASTRA_DAGSTER_COMPLETE": "bash_complete",
        "COMP_WORDS": f"astra-dagster {words}",
        "COMP_CWORD": str(len(words.split())),
    }
    program = "from astra_dagster.cli import main; main(prog_name='astra-dagster')"
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert f"plain,{expected}" in run.stdout.splitlines(), run.stderr
    assert expected in (*tasks(), *COMMANDS)


def test_a_pipe_gets_no_progress(places: Path, programs: Path) -> None:
    for arguments in (["init"], ["discover"], ["run", "ap_visit_snr"]):
        made = subprocess.run([programs / "astra-dagster", *arguments], capture_output=True, text=True, check=True)
        assert made.stderr == ""
        assert "%|" not in made.stdout
