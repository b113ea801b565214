"""Results that are long arrays, in the FITS files of spectra."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from astra_dagster import SpectrumBatch
from astra_dagster.errors import SpectrumFileError
from astra_dagster.outputs import document
from astra_dagster.outputs.document import Label, Origin
from astra_dagster.spectra.output import read_output
from astra_dagster_tests.tasks.sample import two_spectra

ORIGIN = Origin(Label("DR17/a", "made", "0" * 12, "1"), {}, ())
SAMPLES = np.arange(200.0).tolist()
TWO = {
    "matrix": [[[1.0, None], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]],
    "whole": [[[1, 2]], [[3, 2**60]]],
    "samples": [SAMPLES, None],
    "short": [[1.0, 2.0], [3.0, 4.0]],
    "snr": [1.5, None],
}
ODD = {
    "holes": [[[1, None]], [[3, 4]]],
    "texts": [[["a"]], [["b"]]],
    "nothing": [None, None],
    "MATRIX": [[[1.0]], [[2.0]]],
}


@pytest.mark.parametrize("continuum", [False, True])
@pytest.mark.parametrize("results", [TWO, {**TWO, **ODD}], ids=["arrays", "odd"])
def test_arrays_are_columns_of_a_table_and_survive(results: dict[str, Any], continuum: bool, tmp_path: Path) -> None:
    batch = two_spectra()
    if continuum:
        batch = SpectrumBatch(batch.flux, batch.ivar, batch.wavelength, continuum=batch.flux)
    contents, version = document.encode(ORIGIN, results, batch, several=True)
    path = tmp_path / "a.fits"
    path.write_bytes(contents)
    assert document.read_same(path, "fits", ORIGIN) == (results, version, len(contents))
    assert document.read(path, "fits").results == results
    assert document.read_version(path, "fits") == version
    assert read_output(path).meta["matrix"] == tuple(results["matrix"])
    with fits.open(path) as hdus:
        hdus.verify("exception")
        table = hdus["RESULTS"].data
        assert table.columns.names == ["matrix", "whole", "samples"]
        assert table["whole"].tolist() == TWO["whole"]
        np.testing.assert_array_equal(table["matrix"][0], [[1, np.nan], [3, 4]])
        assert table["samples"].shape == (2, 200)
        assert len(hdus) == 4 if continuum else 3
    changed = bytearray(contents)
    changed[-2880 - 5] ^= 1
    path.write_bytes(changed)
    with pytest.raises(SpectrumFileError, match="DATASUM"):
        document.read_same(path, "fits", ORIGIN)


def test_of_one_spectrum_an_array_is_the_result(tmp_path: Path) -> None:
    results = {"samples": SAMPLES, "flux": 1.0}
    contents, _ = document.encode(ORIGIN, results, two_spectra()[0])
    (tmp_path / "a.fits").write_bytes(contents)
    assert document.read(tmp_path / "a.fits", "fits").results == results


def test_files_without_long_arrays_are_as_they_were() -> None:
    contents, _ = document.encode(ORIGIN, {"x": [[1.0] * 64, [2.0] * 64]}, two_spectra(), several=True)
    assert b"ARRAYS" not in contents
    assert b"RESULTS" not in contents
