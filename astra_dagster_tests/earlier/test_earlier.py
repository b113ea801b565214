"""What an earlier version recorded and wrote is read by this one; `make` says how it was made.

The tasks of the package give more columns by now, and so are at other code versions. Where a test is about results of
unchanged code, the tasks are set back to what they were.
"""

import hashlib
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from click.testing import CliRunner

from astra_dagster.cli import main
from astra_dagster.outputs.document import FORMAT, read
from astra_dagster.spectra.output import BY_PIXEL, read_output
from astra_dagster.tasks import registry

ARCHIVE = Path(__file__).with_name("earlier.tar.xz")
VERSIONS = {"ap_visit_snr": "2", "ap_star_snr": "1", "spec_snr": "1", "ap_visit_continuum": "1"}


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


@pytest.fixture
def unchanged() -> Iterator[None]:
    """Tasks as they were: of the code version, and with the columns, that they had."""
    tasks = {name: registry.tasks()[name] for name in VERSIONS}
    before = {name: (task.version, task.columns) for name, task in tasks.items()}
    for name, task in tasks.items():
        columns = {name: column for name, column in task.columns.items() if not column.identity}
        _set(task, VERSIONS[name], columns)
    yield
    for name, task in tasks.items():
        _set(task, *before[name])


def _set(task: object, version: str, columns: object) -> None:
    object.__setattr__(task, "version", version)
    object.__setattr__(task, "columns", columns)


def said(*words: str, exit_code: int = 0) -> str:
    result = CliRunner().invoke(main, words)
    assert result.exit_code == exit_code, result.output
    return result.output


def contents(folder: Path) -> dict[Path, str]:
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and "_table." not in path.name
    }


@pytest.mark.usefixtures("unchanged")
def test_everything_is_complete(outputs: Path) -> None:
    before = contents(outputs)
    assert "4 complete, 0 to do" in said("plan", "ap_star_snr")
    assert "3 complete, 0 to do" in said("plan", "spec_snr")
    assert said("discover").count("0 new, 0 changed, 0 skipped") == 5
    for name in ("ap_star_snr", "spec_snr"):
        assert "computed" not in said("run", name)
    assert "17 rows of 17 partitions: 17 new, 0 changed, 0 dropped" in said("table", "ap_visit_snr")
    assert "17 rows of 17 partitions: 0 new, 0 changed, 0 dropped" in said("table", "ap_visit_snr")
    assert "0 to remove" in said("clean")
    assert contents(outputs) == before


@pytest.mark.usefixtures("outputs")
def test_what_a_continuum_is_fitted_to_is_a_parameter_by_now() -> None:
    order = ("ap_visit_continuum", "--where", "fibre=008", "--set", "order=2")
    assert "1 parameters changed: frame unset -> rest, pixels unset -> all" in said("plan", *order)


@pytest.mark.usefixtures("unchanged")
def test_results_are_read(outputs: Path) -> None:
    (path,) = outputs.rglob("*_table.fits")
    before = Table.read(path)
    assert "17 rows of 17 partitions" in said("table", "ap_visit_snr")
    after = Table.read(path)
    assert after.colnames == ["key", *before.colnames]
    numbers = {"plate", "mjd", "fibre"}
    for name in before.colnames:
        expected = [int(value) for value in before[name]] if name in numbers else list(before[name])
        assert list(after[name]) == expected


@pytest.mark.usefixtures("unchanged")
def test_a_failure_is_remembered(outputs: Path) -> None:
    plan = said("plan", "ap_visit_snr")
    assert "17 complete, 1 to do" in plan
    assert "failed before" in plan


def test_results_of_earlier_code_are_computed_again(outputs: Path) -> None:
    for name, count in (("ap_star_snr", 4), ("spec_snr", 3)):
        plan = said("plan", name)
        assert f"0 complete, {count} to do" in plan
        assert "code version 1 -> 2" in plan


def test_spectra_are_read_in_the_layout_that_they_have(outputs: Path) -> None:
    (path,) = outputs.rglob("ap_visit_continuum-*.fits")
    assert BY_PIXEL < FORMAT
    assert len(Table.read(path, hdu=1)) == 6144  # a row for each pixel
    spectra = read_output(path)
    assert spectra.flux.shape == spectra.ivar.shape == spectra.continuum.shape == (1, 6144)
    assert (np.diff(spectra.wavelength) > 0).all()
    assert [name for name, _, _ in spectra.chips] == ["blue", "green", "red"]
    assert (~spectra.bad).sum() == read(path, "fits").results["good_pixels"] == spectra.meta["good_pixels"][0] > 5000
    assert np.median(spectra.flux[~spectra.bad]) == pytest.approx(1, abs=0.05)
