"""Injected spectra: lines times a continuum that is known, with noise, night sky and gaps.

They look like apVisit spectra: three chips of 4,096 pixels, at the observatory. Lines are those of a model spectrum, or
drawn at random with depths and widths of late-type stars, and the Brackett series of hydrogen by Rydberg's formula.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from astra_dagster.analysis.brackett import LINES
from astra_dagster.analysis.velocity import LIGHT
from astra_dagster.arrays import BoolArray, FloatArray

REGIONS = ((15090.0, 15822.0), (15823.0, 16451.0), (16452.0, 16971.0))
REST = 10 ** (4.179 + 6e-6 * np.arange(8575))
"""Wavelengths in Angstrom at which lines are given: the common grid of APOGEE."""

CHIPS = ((15145.0, 15810.0), (15858.0, 16433.0), (16475.0, 16955.0))
SKY_LINES = np.random.default_rng(3).uniform(15150, 16950, 90)


class Injected(NamedTuple):
    """A spectrum, and its true continuum."""

    wavelength: FloatArray
    flux: FloatArray
    ivar: FloatArray
    bad: BoolArray
    continuum: FloatArray


def draw_lines(seed: int, mean: float, per_angstrom: float = 0.5) -> FloatArray:
    """Return the flux of lines on `REST`, 1 without any: Gaussians of 0.7 Angstrom, with exponential depths."""
    rng = np.random.default_rng(seed)
    number = rng.poisson(per_angstrom * (REST[-1] - REST[0]))
    depth = np.zeros(len(REST))
    for centre, strength in zip(rng.uniform(REST[0], REST[-1], number), rng.exponential(mean, number), strict=True):
        near = slice(*np.searchsorted(REST, (centre - 2, centre + 2)))
        depth[near] += strength * np.exp(-0.5 * np.square((REST[near] - centre) / 0.3))
    return np.exp(-depth)


def make_brackett(depth: float, width: float) -> FloatArray:
    """Return the flux of Brackett lines on `REST` with Stark wings, which fall with the power 2.5 of the distance."""
    flux = np.ones(len(REST))
    for level, centre in enumerate(LINES, start=10):
        flux *= 1 - depth * (11 / level) ** 1.1 / (1 + np.abs((REST - centre) / (width / 2)) ** 2.5)
    return flux


def make_stars(giant: FloatArray | None = None) -> Mapping[str, FloatArray]:
    """Return the lines of each type of star, given those of a giant of 3,800 K, or else with lines drawn at random."""
    lines = draw_lines(1, 0.15) if giant is None else giant

    def weaken(part: float) -> FloatArray:
        return 1 - part * (1 - lines)

    return {
        "featureless": np.ones(len(REST)),
        "B": make_brackett(0.10, 40),
        "A": make_brackett(0.20, 36),
        "F": make_brackett(0.12, 20) * weaken(0.25),
        "G dwarf": make_brackett(0.05, 12) * weaken(0.4),
        "K dwarf": weaken(0.6),
        "K giant": weaken(0.8),
        "M0 giant": lines,
        "Be": 2 - make_brackett(0.25, 12),
    }


def make_grid() -> FloatArray:
    """Return the wavelengths of three chips."""
    return np.concatenate([np.linspace(*chip, 4096) for chip in CHIPS])


def draw_continuum(wavelength: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Draw a continuum that is no sum of the fitted sines: a star's slope times the response of each chip."""
    x = (wavelength - 16_000) / 900
    continuum = [
        1 - 0.25 * x,
        1 + 0.3 * x + 0.1 * x**2 - 0.15 * x**3,
        1 / ((wavelength / 16_000) ** 5 * (np.exp(1.4388e8 / (wavelength * rng.uniform(3500, 12_000))) - 1)),
        1 + 0.1 * np.sin(2 * np.pi * wavelength / rng.uniform(500, 900) + rng.uniform(0, 6)),
    ][rng.integers(4)]
    continuum /= np.median(continuum)
    for start, end in CHIPS:
        chip = (wavelength >= start) & (wavelength <= end)
        u = np.linspace(-1, 1, chip.sum())
        edges = rng.uniform(0, 0.25) * u**2 - rng.uniform(-0.08, 0.08) * u**3 + rng.uniform(0, 0.1) * u**6
        continuum[chip] *= rng.uniform(0.85, 1.1) * (1 - edges)
    return 1000 * continuum


def inject(lines: FloatArray, snr: float, rng: np.random.Generator, velocity: float | None = None) -> Injected:
    """Make a spectrum; by default its velocity is drawn between -500 and 500 km/s."""
    wavelength = make_grid()
    velocity = rng.uniform(-500, 500) if velocity is None else velocity
    flux = np.interp(wavelength, REST * (1 + velocity / LIGHT), lines)
    bad = ~np.isfinite(flux)
    flux = np.where(bad, 1.0, flux)
    continuum = draw_continuum(wavelength, rng)
    error = continuum / snr * np.sqrt(0.5 + 0.5 * np.clip(flux, 0, None))
    sky = np.abs(wavelength[:, None] - SKY_LINES).min(axis=1) < 0.6
    residual = rng.exponential(3, len(wavelength)) * rng.choice([-0.3, 1], len(wavelength))
    error = np.where(sky, 5 * error, error)
    observed = continuum * flux + error * (rng.normal(size=len(wavelength)) + np.where(sky, residual, 0))
    for start in rng.integers(0, len(wavelength) - 120, 2):
        bad[start : start + rng.integers(20, 120)] = True
    return Injected(wavelength, observed, np.where(bad, 0.0, error**-2.0), bad, continuum)
