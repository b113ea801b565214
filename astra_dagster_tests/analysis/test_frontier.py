"""The continuum from all pixels against spectra whose continuum is known, and whatever else can be in a file."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_ndtr

from astra_dagster.analysis.continuum import normalise
from astra_dagster.analysis.frontier import fit_all_pixels
from astra_dagster.analysis.quality import ContinuumFlag, judge_continuum
from astra_dagster.analysis.regions import named_regions
from astra_dagster.analysis.truncated import expect_depth
from astra_dagster.analysis.velocity import LIGHT, SIGNIFICANT, measure_velocity
from astra_dagster.errors import AnalysisError
from astra_dagster_tests.analysis.injection import REGIONS, REST, Injected, draw_lines, inject, make_grid, make_stars

STARS = make_stars()


def fit(spectrum: Injected, **options: object):  # type: ignore[no-untyped-def]
    return fit_all_pixels(
        spectrum.wavelength, spectrum.flux, spectrum.ivar, regions=REGIONS, brackett=True, **{**options}
    )


def flags_of(spectrum: Injected) -> ContinuumFlag:
    found = fit(spectrum)
    flux, ivar = spectrum.flux[None], spectrum.ivar[None]
    quality = judge_continuum(
        spectrum.wavelength, flux, ivar, spectrum.bad[None], found, regions=REGIONS, period=1400.0
    )
    return ContinuumFlag(int(quality.flags[0]))


def test_the_expected_depth_is_that_of_a_truncated_normal_distribution() -> None:
    x = np.linspace(-30, 200, 20_000)
    hazard = np.exp(-0.5 * x**2 - log_ndtr(-x) - 0.5 * np.log(2 * np.pi))
    mean, near = expect_depth(x), np.abs(x) < 100  # where the difference of the two means something in double precision
    np.testing.assert_allclose(mean[near], (hazard - x)[near], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(expect_depth(np.array([1e3, 1e7])), [1e-3, 1e-7], rtol=1e-5)


@pytest.mark.parametrize("snr", [50, 100])
@pytest.mark.parametrize("star", ["featureless", "B", "F", "G dwarf", "K dwarf", "K giant", "M0 giant"])
def test_bias_and_scatter_against_known_continua(star: str, snr: float) -> None:
    rng, biases = np.random.default_rng(int(snr)), []
    for _ in range(3):
        spectrum = inject(STARS[star], snr, rng)
        found = fit(spectrum)
        assert found.converged.all()
        good = found.fitted[0] & ~spectrum.bad
        assert good.sum() > 0.97 * (~spectrum.bad).sum()
        ratio = found.values[0][good] / spectrum.continuum[good] - 1
        biases.append(np.median(ratio))
        assert np.std(ratio) < 0.025
    assert abs(np.mean(biases)) < (0.010 if star == "F" else 0.007)


@pytest.mark.parametrize("velocity", [-100.0, 100.0])
@pytest.mark.parametrize("star", ["A", "K giant", "M0 giant"])
def test_a_shift_in_wavelength_changes_nothing(star: str, velocity: float) -> None:
    spectrum = inject(STARS[star], 60, np.random.default_rng(5), velocity=0.0)
    shifted = spectrum._replace(wavelength=spectrum.wavelength * (1 + velocity / LIGHT))
    here, there = fit(spectrum), fit(shifted)
    good = here.fitted & there.fitted
    change = there.values[good] / here.values[good] - 1
    assert np.sqrt(np.mean(change**2)) < 0.005


def test_one_spectrum_and_many_give_the_same_bits() -> None:
    spectra = [inject(lines, 40, np.random.default_rng(i)) for i, lines in enumerate(STARS.values())]
    flux, ivar = np.stack([item.flux for item in spectra]), np.stack([item.ivar for item in spectra])
    together = fit_all_pixels(spectra[0].wavelength, flux, ivar, regions=REGIONS, brackett=True)
    own = fit_all_pixels(np.stack([make_grid()] * len(flux)), flux, ivar, regions=REGIONS, brackett=True)
    np.testing.assert_array_equal(together.values, own.values)
    for row, spectrum in enumerate(spectra):
        np.testing.assert_array_equal(fit(spectrum).values[0], together.values[row])


def test_gaps_are_bridged_no_worse_than_by_a_constant_and_not_for_long() -> None:
    rng = np.random.default_rng(8)
    for _ in range(5):
        spectrum = inject(STARS["K giant"], 80, rng)
        start = rng.uniform(15200, 15700)
        gap = (spectrum.wavelength > start) & (spectrum.wavelength < start + 60)
        found = fit(spectrum._replace(ivar=np.where(gap, 0.0, spectrum.ivar)))
        chip = (spectrum.wavelength < 15822) & found.fitted[0]
        error = found.values[0] / spectrum.continuum - 1
        constant = np.median(spectrum.continuum[chip]) / spectrum.continuum - 1
        inside = gap & found.fitted[0]
        assert np.sqrt(np.mean(error[inside] ** 2)) < max(0.02, np.sqrt(np.mean(constant[inside] ** 2)))
    half = np.where((spectrum.wavelength > 15400) & (spectrum.wavelength < 15822), 0.0, spectrum.ivar)
    far = fit(spectrum._replace(ivar=half)).fitted[0]
    assert not far[(spectrum.wavelength > 15500) & (spectrum.wavelength < 15822)].any()


@pytest.mark.parametrize("strength", [20.0, 1000.0])
def test_emission_and_cosmic_rays_do_not_lift_the_continuum(strength: float) -> None:
    spectrum = inject(STARS["K giant"], 80, np.random.default_rng(2))
    before = fit(spectrum).values[0]
    flux = spectrum.flux.copy()
    for centre in (15300.0, 15700.0, 16100.0, 16700.0):
        flux += strength * spectrum.continuum * np.exp(-0.5 * ((spectrum.wavelength - centre) / 2) ** 2)
    found = fit(spectrum._replace(flux=flux))
    assert found.converged.all()
    np.testing.assert_allclose(found.values[0], before, rtol=0.01)


def test_what_cannot_be_fitted_is_said() -> None:
    spectrum = inject(STARS["K giant"], 50, np.random.default_rng(1))
    dead = spectrum._replace(ivar=np.zeros_like(spectrum.ivar), bad=np.ones_like(spectrum.bad))
    assert not fit(dead).fitted.any()
    assert flags_of(dead) == ContinuumFlag.NO_DATA
    negative = spectrum._replace(flux=-spectrum.flux)
    assert not fit(negative).fitted.any()
    assert ContinuumFlag.NOT_FITTED in flags_of(negative)
    few = spectrum.wavelength < 15145 + 5
    short = spectrum._replace(ivar=np.where(few | (spectrum.wavelength > 15822), spectrum.ivar, 0.0))
    short = short._replace(bad=short.ivar == 0)
    assert ContinuumFlag.NOT_FITTED in flags_of(short)
    assert not fit(short).fitted[0][spectrum.wavelength < 15822].any()
    assert ContinuumFlag.LOW_SNR in flags_of(inject(STARS["K giant"], 10, np.random.default_rng(1)))
    assert ContinuumFlag.HYDROGEN in flags_of(inject(STARS["A"], 100, np.random.default_rng(1)))
    assert flags_of(spectrum) == ContinuumFlag(0)
    with pytest.raises(AnalysisError, match="do not increase"):
        fit(spectrum._replace(wavelength=spectrum.wavelength[::-1]))


@settings(max_examples=30, deadline=None)
@given(
    flux=arrays(np.float64, 600, elements=st.floats(allow_nan=True, allow_infinity=True, width=64)),
    ivar=arrays(np.float64, 600, elements=st.floats(min_value=-1, max_value=1e6, allow_nan=False)),
    order=st.integers(0, 5),
)
def test_any_numbers_give_finite_continua(flux: np.ndarray, ivar: np.ndarray, order: int) -> None:
    wavelength = np.linspace(15100, 15200, 600)
    with np.errstate(all="ignore"):
        found = fit_all_pixels(wavelength, flux, ivar, regions=[(15100, 15150), (15150, 15300)], order=order)
        normal, _scaled, bad = normalise(flux[None], ivar[None], ~(ivar > 0)[None], found)
    assert np.isfinite(found.values[found.fitted]).all()
    assert (found.values[found.fitted] > 0).all()
    assert np.isfinite(normal[~bad]).all()


def test_regions_without_pixels_and_spectra_shorter_than_a_bin() -> None:
    wavelength = np.array([15000.0, 15001.0])
    found = fit_all_pixels(wavelength, np.ones((1, 2)), np.ones((1, 2)), regions=[(15000, 15001), (16000, 17000)])
    assert not found.fitted.any()
    assert (found.values == 1).all()


@pytest.mark.parametrize("velocity", [-250.0, 0.0, 84.0])
def test_velocities_are_measured_by_windows_free_of_lines(velocity: float) -> None:
    windows = np.array(named_regions("apogee"))
    lines = draw_lines(9, 0.2)
    for start, end in windows:
        lines[slice(*np.searchsorted(REST, (start - 0.3, end + 0.3)))] = 1.0
    spectrum = inject(lines, 80, np.random.default_rng(4), velocity)
    found = fit(spectrum)
    normal, _, bad = normalise(spectrum.flux[None], spectrum.ivar[None], spectrum.bad[None], found)
    measured, significance = measure_velocity(spectrum.wavelength, normal, bad, windows)
    assert measured[0] == pytest.approx(velocity, abs=4)
    assert significance[0] > SIGNIFICANT
    noise = spectrum._replace(flux=1000 + 100 * np.random.default_rng(1).normal(size=len(spectrum.flux)))
    nothing, unclear = measure_velocity(spectrum.wavelength, noise.flux[None] / 1000, bad, windows)
    assert unclear[0] < SIGNIFICANT or np.isnan(nothing[0])
