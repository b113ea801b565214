"""Signal-to-noise ratios: against the survey's own headers, and at the edges."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from astra_dagster.analysis.snr import mean_snr, median_snr, pixel_snr
from astra_dagster.spectra.ap_visit import read_ap_visit
from astra_dagster.spectra.batch import stack


@pytest.mark.parametrize("where", ["real", "synthetic"])
def test_green_chip_is_the_snr_of_the_header(where: str, request: pytest.FixtureRequest) -> None:
    paths = sorted(request.getfixturevalue(where).rglob("a?Visit*.fits"))
    assert len(paths) > 10
    for path in paths:
        spectrum = read_ap_visit(path)
        ratio = pixel_snr(spectrum.flux, spectrum.error)[:, spectrum.chip("green")]
        assert median_snr(ratio)[0] == pytest.approx(fits.getval(path, "SNR"), rel=4e-4)


def test_one_spectrum_gives_the_same_bits_as_many(synthetic: Path) -> None:
    spectra = [s for p in sorted(synthetic.rglob("a?Visit*.fits")) if (s := read_ap_visit(p)).flux.shape[1] == 12288]
    batch = stack(spectra)
    many = pixel_snr(batch.flux, batch.error)
    for i, one in enumerate(spectra):
        snr = pixel_snr(one.flux, one.error)
        assert mean_snr(snr, one.bad)[0] == mean_snr(many, batch.bad)[i]
        assert median_snr(snr, one.bad)[0] == median_snr(many, batch.bad)[i]


def test_edges() -> None:
    flux = np.array([[1.0, 2.0, 3.0, np.nan], [1.0, 1.0, 1.0, 1.0]])
    error = np.array([[1.0, 0.0, 1.0, 1.0], [np.inf, -1.0, 0.0, np.nan]])
    snr = pixel_snr(flux, error)
    np.testing.assert_array_equal(snr, [[1.0, np.nan, 3.0, np.nan], [np.nan] * 4])
    none = np.zeros(flux.shape, bool)
    np.testing.assert_array_equal(mean_snr(snr, none), [2.0, np.nan])
    np.testing.assert_array_equal(median_snr(snr), [2.0, np.nan])
    np.testing.assert_array_equal(mean_snr(snr, np.array([[True, False, False, False]] * 2)), [3.0, np.nan])
    np.testing.assert_array_equal(median_snr(snr, ~none), [np.nan, np.nan])
