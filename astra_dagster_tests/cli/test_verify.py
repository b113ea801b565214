"""Outputs that were altered after they were written: found when they are asked for, left out, and made again."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from astra_dagster.cli import main
from astra_dagster.fits.reader import FitsFile

NAMES = ("ap_visit_snr", "ap_visit_continuum")


def astra(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def outputs(instance: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """The first output of each task, JSON and FITS."""
    config = tmp_path / "astra.toml"
    config.write_text('workers = "in-process"\n')
    monkeypatch.setenv("ASTRA_CONFIG", str(config))
    assert astra("discover", "--product", "apVisit", "--release", "DR17").exit_code == 0
    made = astra("run", *NAMES)
    assert made.exit_code == 0, made.output
    folders = {name: tmp_path / "outputs" / name for name in NAMES}
    return {name: min(path for path in folders[name].rglob(f"{name}-*.*")) for name in NAMES}


def alter(path: Path) -> None:
    """Change one digit of a result, or one bit of a flux; the size stays."""
    contents = bytearray(path.read_bytes())
    if path.suffix == ".json":
        place = contents.index(b'"snr": ') + 7
        contents[place] = ord("1") if contents[place] != ord("1") else ord("2")
    else:
        with FitsFile(path) as file:
            place = file.hdu(1).offset + 8 + 3
        contents[place] ^= 1
    path.write_bytes(contents)


@pytest.mark.parametrize("name", NAMES)
def test_an_altered_output_is_found_and_made_again(outputs: dict[str, Path], name: str) -> None:
    path, whole = outputs[name], outputs[name].read_bytes()
    alter(path)
    assert "12 complete, 0 to do" in astra("plan", name).output  # nobody has looked into it
    told = astra("plan", name, "--verify").output
    assert "11 complete, 1 to do" in told
    assert "1 output differs from its record" in told
    assert "1 computed" in astra("run", name, "--verify").output
    assert path.read_bytes() == whole
    assert "12 complete, 0 to do" in astra("plan", name, "--verify").output


@pytest.mark.parametrize("name", NAMES)
def test_an_altered_output_is_left_out_of_the_table(outputs: dict[str, Path], name: str) -> None:
    alter(outputs[name])
    made = astra("table", name, "--no-fits")
    if name == "ap_visit_snr":  # the results of the other are in its header, which is whole
        assert "left out: the output cannot be read: ValueError: damaged: the results do not agree" in made.output
        assert "1 outputs cannot be read" in made.output
    assert made.output.startswith("11 rows" if name == "ap_visit_snr" else "12 rows")


def test_a_results_card_of_a_fits_output_that_was_altered(outputs: dict[str, Path]) -> None:
    path = outputs["ap_visit_continuum"]
    contents = path.read_bytes()
    place = contents.index(b"RESV1   = ") + 29
    path.write_bytes(contents[:place] + bytes([contents[place] ^ 1]) + contents[place + 1 :])
    made = astra("table", "ap_visit_continuum", "--no-fits")
    assert "HDU 0 does not agree with the CHECKSUM in its header" in made.output
    assert made.output.startswith("11 rows")


def test_altered_outputs_can_be_cleaned_up(outputs: dict[str, Path]) -> None:
    alter(outputs["ap_visit_snr"])
    assert "nothing to clean" in astra("clean").output
    assert re.search("altered +ap_visit_snr", astra("clean", "--verify").output)
    assert "1 removed" in astra("clean", "--verify", "--yes").output
    assert not outputs["ap_visit_snr"].exists()
