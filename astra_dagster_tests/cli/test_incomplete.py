"""A file that is shorter than its headers say is incomplete: for discover, a run, a tick and fetch alike."""

import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from astra_dagster import product
from astra_dagster.cli import main
from astra_dagster_tests.archive.server import Server

KEY = "DR17/apo25m/120+12/5226/56000/001"
SELECTION = ("--where", "fibre=1")


def astra(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def path(instance: object, mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that lacks its end, which the task does not read."""
    config = tmp_path / "astra.toml"
    config.write_text('workers = "in-process"\n')
    monkeypatch.setenv("ASTRA_CONFIG", str(config))
    path = product("apVisit").parse_key(KEY).path(mirror)
    os.truncate(path, path.stat().st_size - 3000)
    return path


def test_a_file_without_its_end_is_not_computed(path: Path) -> None:
    found = astra("discover", "--product", "apVisit", "--release", "DR17")
    assert "12 new, 0 changed, 0 skipped, 1 incomplete" in found.output
    assert f"incomplete, shorter than its headers say: {path}" in found.output
    made = astra("run", "ap_visit_snr", *SELECTION)
    assert made.exit_code == 1
    assert re.search(f"{re.escape(KEY)}: HDU \\d+ is incomplete: ", made.output)
    assert "fetch it again" in made.output
    assert "is incomplete" in astra("plan", "ap_visit_snr", "--explain", KEY).output
    os.utime(path, (1, 1))  # it came long ago, and nobody writes it any more
    assert "incomplete" not in astra("discover", "--product", "apVisit", "--release", "DR17").output
    assert astra("run", "ap_visit_snr", *SELECTION).exit_code == 1


def test_files_are_verified_if_asked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server() as server:
        monkeypatch.setenv("ASTRA_SAS_URL", server.url)
        found = astra("discover", "--product", "apVisit", "--release", "DR17", "--verify")
        assert found.exit_code == 1
        assert "is incomplete" in found.output
        assert found.output.endswith("Error: 1 files are damaged\n")
        assert str(path) in found.output
        path.unlink()
        assert astra("discover", "--product", "apVisit", "--release", "DR17", "--verify").exit_code == 0
    assert any(request.path.endswith("/") for request in server.requests)  # for published checksums


def test_names_with_control_characters_are_escaped(path: Path) -> None:
    (path.parent / "apVisit-dr17-\x1b[31m.fits").write_bytes(b"x")
    told = astra("discover", "--product", "apVisit", "--release", "DR17").output
    assert "\\x1b[31m" in told
    assert "\x1b" not in told
