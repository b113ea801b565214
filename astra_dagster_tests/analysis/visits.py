"""Synthetic visits: lines of a list of the package at a velocity, on the pixels of three APOGEE chips."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from astra_dagster.analysis.lines import read_lines
from astra_dagster.analysis.velocity import LIGHT
from astra_dagster.arrays import BoolArray, FloatArray

EDGES = ((15_145.0, 15_810.0), (15_855.0, 16_435.0), (16_475.0, 16_955.0))
PIXELS = 4096
CHIPS = tuple((name, i * PIXELS, (i + 1) * PIXELS) for i, name in enumerate(("blue", "green", "red")))


@dataclass(frozen=True)
class Visits:
    """Spectra of one star at several velocities."""

    wavelength: FloatArray
    flux: FloatArray
    error: FloatArray
    bad: BoolArray


def make_visits(
    velocities: Sequence[float], *, lines: str = "atoms", snr: float = 100.0, width: float = 20.0
) -> Visits:
    """Make visits with a slope, noise, and stretches of bad pixels that are different in each and very wrong."""
    generator = np.random.default_rng(1)
    wavelength = np.concatenate([np.linspace(*edges, PIXELS) for edges in EDGES])
    centres, depths = read_lines(lines)
    flux = np.stack([1 - _absorb(wavelength, centres * (1 + v / LIGHT), depths, width / 2.3548) for v in velocities])
    flux *= 500 * (wavelength / 16_000) ** -2
    bad = np.zeros(flux.shape, bool)
    for row in range(len(flux)):
        for start in generator.integers(0, flux.shape[1] - 40, 12):
            bad[row, start : start + 40] = True
    error = np.full(flux.shape, 500 / snr)
    flux += generator.normal(0, error)
    return Visits(wavelength, np.where(bad, 1e5, flux), error, bad)


def _absorb(wavelength: FloatArray, centres: FloatArray, depths: FloatArray, sigma: float) -> FloatArray:
    total = np.zeros(len(wavelength))
    for centre, depth in zip(centres, depths, strict=True):
        near = slice(*np.searchsorted(wavelength, (centre - 8, centre + 8)))
        total[near] += depth * np.exp(-0.5 * ((wavelength[near] / centre - 1) * LIGHT / sigma) ** 2)
    return total
