"""Velocities by cross-correlation: those of synthetic visits, and relative ones of real visits."""

import numpy as np
import pytest
from astropy.io import fits

from astra_dagster.analysis.cross_correlation import (
    GRID,
    Flattened,
    align,
    correlate,
    flatten,
    make_template,
    measure_relative,
)
from astra_dagster.analysis.lines import make_templates, read_lines
from astra_dagster.spectra.pixel_flags import APOGEE_REJECTED
from astra_dagster.spectra.readers import read_spectra
from astra_dagster_tests.analysis.stars import stars_with_visits
from astra_dagster_tests.analysis.visits import CHIPS, Visits, make_visits

VELOCITIES = (-312.4, -20.05, 0.0, 13.7, 421.3)


def flatten_visits(visits: Visits) -> Flattened:
    return flatten(visits.wavelength, visits.flux, visits.bad, CHIPS)


@pytest.mark.parametrize("lines", ["atoms", "m_dwarf"])
def test_velocities_of_a_batch_are_found(lines: str) -> None:
    spectra = flatten_visits(make_visits(VELOCITIES, lines=lines))
    velocity, height, error = correlate(spectra, make_templates()[f"{lines}_18"])
    assert np.abs(velocity - VELOCITIES).max() < 0.3
    assert height.min() > 0.5
    assert (error > 0.01).all()
    assert (error < 1).all()


def test_velocities_of_noisy_spectra_are_within_their_errors() -> None:
    truth = np.linspace(-50, 50, 24)
    velocity, _, error = correlate(flatten_visits(make_visits(list(truth), snr=15)), make_templates()["atoms_18"])
    assert 0.3 < np.std((velocity - truth) / error) < 2


def test_a_single_spectrum_gives_the_bits_of_a_batch() -> None:
    spectra = flatten_visits(make_visits(VELOCITIES))
    template = make_templates()["atoms_18"]
    together = correlate(spectra, template)
    for row in range(len(spectra)):
        alone = correlate(spectra[row : row + 1], template)
        assert [float(a[0]) for a in alone] == [float(t[row]) for t in together]


def test_the_template_of_the_star_fits_best() -> None:
    spectra = flatten_visits(make_visits([30.0], lines="m_dwarf"))
    heights = {name: float(correlate(spectra, template)[1][0]) for name, template in make_templates().items()}
    assert max(heights, key=heights.__getitem__) == "m_dwarf_18"


def test_relative_velocities_need_no_template() -> None:
    centres, depths = read_lines("atoms")
    truth = np.array([-120.0, -20.05, 0.0, 13.7, 210.3])
    visits = make_visits(list(truth), snr=40)
    velocity, error = measure_relative(flatten_visits(visits))
    assert np.abs(velocity - (truth - truth.mean())).max() < 0.5
    assert error.max() < 0.5
    mean = align(flatten_visits(visits), velocity)
    found, height, _ = correlate(mean, make_template(centres, depths, 20.0))
    assert float(found[0]) == pytest.approx(truth.mean(), abs=0.3)
    assert float(height[0]) > 0.8


def test_spectra_without_good_pixels_have_no_velocity() -> None:
    nothing = Flattened(np.zeros((2, len(GRID))), np.zeros((2, len(GRID))))
    for values in (*correlate(nothing, make_templates()["atoms_18"]), *measure_relative(nothing)):
        assert np.isnan(values).all()


def test_wavelengths_of_lists_increase_and_are_of_the_instrument() -> None:
    for name in ("atoms", "m_dwarf"):
        centres, depths = read_lines(name)
        assert (np.diff(centres) > 0).all()
        assert np.exp(GRID[0]) < centres[0] < centres[-1] < np.exp(GRID[-1])
        assert (depths > 0).all()


def test_relative_velocities_of_real_visits_agree_with_those_of_the_survey(real_mirrors) -> None:  # type: ignore[no-untyped-def]
    differences = []
    for star, visits in stars_with_visits(real_mirrors):
        header = fits.getheader(star)
        found = []
        for path in visits:
            spectra = read_spectra(path, reject=(*APOGEE_REJECTED, "SIG_SKYLINE", "SIG_TELLURIC"))
            found.append(flatten(spectra.wavelength, spectra.flux, spectra.bad, spectra.chips))
        joined = Flattened(*(np.concatenate([getattr(one, name) for one in found]) for name in ("values", "weight")))
        velocity, _ = measure_relative(joined)
        survey = np.array([header[f"VRAD{i}"] for i in range(1, len(visits) + 1)])
        difference = velocity - survey
        differences.extend(difference - np.median(difference))
    assert 1.4826 * np.median(np.abs(differences)) <= 0.3
