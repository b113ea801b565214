"""What an earlier version recorded and wrote is complete in this one; `make` says how it was made."""

import hashlib
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from astra_dagster.cli import main

ARCHIVE = Path(__file__).with_name("earlier.tar.xz")


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The outputs of the earlier version, with its instance and its input files set as they were."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    spectra = tmp_path / "sas/dr17/sdss/spectro/redux/26/spectra"
    for plate in (spectra / "full").iterdir():  # where the SDSS tree has them, and the archive has not
        plate.rename(spectra / plate.name)
    for name, folder in (("SAS_BASE_DIR", "sas"), ("DAGSTER_HOME", "home"), ("ASTRA_OUTPUTS", "outputs")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    return tmp_path / "outputs"


def said(*words: str, exit_code: int = 0) -> str:
    result = CliRunner().invoke(main, words)
    assert result.exit_code == exit_code, result.output
    return result.output


def contents(folder: Path) -> dict[Path, str]:
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def test_everything_is_complete(outputs: Path) -> None:
    before = contents(outputs)
    assert "4 complete, 0 to do" in said("plan", "ap_star_snr")
    assert "3 complete, 0 to do" in said("plan", "spec_snr")
    order = ("ap_visit_continuum", "--where", "fibre=008", "--set", "order=2")
    assert "1 complete, 0 to do" in said("plan", *order)
    assert said("discover").count("0 new, 0 changed, 0 skipped") == 5
    for words in (("ap_star_snr",), ("spec_snr",), order):
        assert "computed" not in said("run", *words)
    assert "17 rows of 17 partitions: 0 new, 0 changed, 0 dropped" in said("table", "ap_visit_snr")
    assert "0 to remove" in said("clean")
    assert contents(outputs) == before


def test_results_are_read(outputs: Path) -> None:
    (table,) = outputs.rglob("*_table.fits")
    before = table.read_bytes()
    for path in outputs.rglob("*_table.*"):
        path.unlink()
    assert "17 rows of 17 partitions: 17 new, 0 changed, 0 dropped" in said("table", "ap_visit_snr")
    assert table.read_bytes() == before


def test_a_failure_is_remembered(outputs: Path) -> None:
    plan = said("plan", "ap_visit_snr")
    assert "17 complete, 1 to do" in plan
    assert "failed before" in plan
