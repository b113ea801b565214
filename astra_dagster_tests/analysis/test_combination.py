"""Combined spectra: of synthetic visits, and of real ones against the survey's own."""

import numpy as np
import pytest
from astropy.io import fits

from astra_dagster.analysis.combination import combine, resample
from astra_dagster.spectra.products.ap_star import log_grid
from astra_dagster.spectra.readers import read_spectra
from astra_dagster_tests.analysis.stars import stars_with_visits
from astra_dagster_tests.analysis.visits import CHIPS, make_visits

VELOCITIES = (-40.0, 5.0, 60.0)


def put_on_grid(snr: float, rows: slice = slice(None)):  # type: ignore[no-untyped-def]
    visits = make_visits(VELOCITIES, snr=snr)
    return resample(
        visits.wavelength,
        visits.flux[rows],
        visits.error[rows] ** 2,
        visits.bad[rows],
        CHIPS,
        log_grid(),
        np.array(VELOCITIES)[rows],
    )


def test_visits_at_their_velocities_are_alike_in_the_rest_frame() -> None:
    flux, _, bad = put_on_grid(1e4)
    good = ~bad.any(axis=0)
    assert good.sum() > 6000
    assert np.abs(flux[1:, good] / flux[0, good] - 1).max() < 0.02
    assert np.median(np.abs(flux[1:, good] / flux[0, good] - 1)) < 1e-3


def test_noise_is_what_the_errors_say() -> None:
    flux, variance, bad = put_on_grid(30)
    truth = put_on_grid(1e6)[0]
    pulls = ((flux - truth) / np.sqrt(np.where(variance > 0, variance, 1)))[~bad]
    assert np.std(pulls) == pytest.approx(1, abs=0.05)


def test_bad_pixels_do_not_leak() -> None:
    flux, _, bad = put_on_grid(1e4)
    assert flux[~bad].max() < 600


def test_a_single_spectrum_gives_the_bits_of_a_batch() -> None:
    together = put_on_grid(30)
    for row in range(3):
        for alone, one in zip(put_on_grid(30, slice(row, row + 1)), together, strict=True):
            np.testing.assert_array_equal(alone[0], one[row])


def test_the_combination_is_as_good_as_its_visits_together() -> None:
    flux, variance, bad = put_on_grid(30)
    truth = put_on_grid(1e6)[0]
    combined, ivar, nothing = combine(flux, variance, bad)
    everywhere = ~bad.any(axis=0)
    pulls = (combined - truth[0]) * np.sqrt(ivar)
    assert np.std(pulls[everywhere]) == pytest.approx(1, abs=0.1)
    assert np.median(np.sqrt(ivar * variance[0])[everywhere]) == pytest.approx(np.sqrt(3), rel=0.05)
    assert (nothing == bad.all(axis=0)).all()


def test_a_faint_visit_does_not_bend_the_combination() -> None:
    flux, variance, bad = put_on_grid(1e4)
    dimmed = flux * np.array([[1.0], [0.1], [1.0]])
    combined, _, _ = combine(dimmed, variance, bad)
    good = ~bad.any(axis=0)
    ratio = combined[good] / flux[0, good]
    assert ratio == pytest.approx(np.full(len(ratio), 0.7), rel=0.02)


def test_no_spectrum_with_good_pixels_gives_none() -> None:
    flux, ivar, bad = combine(np.ones((2, 60)), np.ones((2, 60)), np.ones((2, 60), bool))
    assert bad.all()
    assert not ivar.any()
    assert np.isfinite(flux).all()


def test_real_combinations_agree_with_those_of_the_survey(real_mirrors) -> None:  # type: ignore[no-untyped-def]
    for star, visits in stars_with_visits(real_mirrors):
        header = fits.getheader(star)
        made = []
        for number, path in enumerate(visits, start=1):
            spectra = read_spectra(path)
            velocity = np.array([header[f"VHELIO{number}"] - header[f"BC{number}"]])
            made.append(
                resample(
                    spectra.wavelength,
                    spectra.flux,
                    spectra.error**2,
                    spectra.bad,
                    spectra.chips,
                    log_grid(),
                    velocity,
                )
            )
        flux, ivar, bad = combine(*(np.concatenate(arrays) for arrays in zip(*made, strict=True)))
        survey = read_spectra(star)
        good = ~bad & ~survey.bad[0]
        assert good.sum() > 5000, star
        sigma = np.sqrt(1 / ivar[good] + survey.error[0, good] ** 2)
        assert np.mean(np.abs(flux - survey.flux[0])[good] < 3 * sigma) > 0.95, star
        assert np.median(np.abs(flux[good] / survey.flux[0, good] - 1)) < 0.005, star
