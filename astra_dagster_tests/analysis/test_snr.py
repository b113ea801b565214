"""Signal-to-noise ratios: against the survey's own headers, and at the edges."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from astra_dagster.analysis.snr import der_snr, mean_snr, median_snr, pixel_snr, window_snr
from astra_dagster.spectra.batch import stack
from astra_dagster.spectra.products.ap_visit import read_ap_visit
from astra_dagster_tests.mirrors import find_real


@pytest.mark.parametrize("where", ["real", "synthetic"])
def test_green_chip_is_the_snr_of_the_header(where: str, request: pytest.FixtureRequest) -> None:
    mirrors = request.getfixturevalue("real_mirrors") if where == "real" else [request.getfixturevalue(where)]
    for path in find_real(mirrors, "apVisit"):
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


def test_damaged_values_give_no_warning_and_no_mean() -> None:
    """Warnings are errors here. A ratio that is too large for a number is infinite."""
    snr = pixel_snr(np.array([[1e300, 2.0, -1e300]]), np.array([[1e-300, 1.0, 1e-300]]))
    assert snr.tolist() == [[np.inf, 2.0, -np.inf]]
    good = np.zeros((1, 3), bool)
    assert mean_snr(snr, good).tolist() == median_snr(snr, good).tolist() == [2.0]
    assert mean_snr(np.full((1, 3), 1e308), good).tolist() == [np.inf]


def test_der_snr_is_what_its_authors_define() -> None:
    rng = np.random.default_rng(5)
    flux = 50 + rng.normal(0, 2, (2, 20_001))
    np.testing.assert_allclose(der_snr(flux), 25, rtol=0.03)
    row = flux[0]
    noise = 1.482602 / np.sqrt(6) * np.median([abs(2 * row[i] - row[i - 2] - row[i + 2]) for i in range(2, 19_999)])
    assert der_snr(flux[:1])[0] == pytest.approx(np.median(row) / noise, rel=1e-12)
    spoiled, bad = flux.copy(), np.zeros(flux.shape, bool)
    spoiled[0, ::50], spoiled[0, 1::50], spoiled[0, 2::50], bad[0, 2::50] = np.nan, 0.0, 1e9, True
    assert der_snr(spoiled, bad)[0] == pytest.approx(25, rel=0.05)
    assert np.isnan(der_snr(np.ones((1, 100)))[0])
    assert np.isnan(der_snr(np.array([[1.0, 2.0, 3.0, 4.0]]))[0])


def test_window() -> None:
    wavelength = np.array([1.0, 2.0, 3.0, 4.0])
    snr = np.array([[10.0, 20.0, 30.0, 40.0], [1.0, 2.0, np.nan, 4.0]])
    np.testing.assert_array_equal(window_snr(wavelength, snr, 2, 3), [25.0, 2.0])
    np.testing.assert_array_equal(window_snr(np.array([wavelength, wavelength + 1]), snr, 2, 3), [25.0, 1.5])
    bad = np.array([[False, True, False, False], [False, True, False, False]])
    np.testing.assert_array_equal(window_snr(wavelength, snr, 2, 3, bad), [30.0, np.nan])
    np.testing.assert_array_equal(window_snr(wavelength, snr, 8, 9), [np.nan, np.nan])
