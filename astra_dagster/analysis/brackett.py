"""Brackett lines of hydrogen, whose wings hide the continuum of hot stars. NumPy only: arrays in, arrays out."""

import functools
from collections.abc import Sequence

import numpy as np

from astra_dagster.analysis.velocity import LIGHT
from astra_dagster.arrays import FloatArray

LINES = 1e10 / (1.0973731568e7 * (1 - 1 / 1836.15267) * (1 / 16 - 1 / np.arange(10.0, 22.0) ** 2))
"""Vacuum wavelengths in Angstrom of the Brackett lines of hydrogen with upper levels 10 to 21."""

WIDTH, LEAST_DEPTH, SIGNIFICANCE = 31.0, 0.035, 5.0
"""Full width at half depth in Angstrom; and the least depth, and depth in standard errors, that are taken for real."""

VELOCITIES = (-450.0, -300.0, -150.0, 0.0, 150.0, 300.0, 450.0)
"""Velocities in km/s at which Brackett lines are looked for; their width is that of 650 km/s."""


def find_brackett(
    wavelength: FloatArray,
    continuum: FloatArray,
    design: FloatArray,
    first: FloatArray,
    weight: FloatArray,
    normal: FloatArray,
    part: float,
) -> tuple[float, float] | None:
    """Look for Brackett lines in a spectrum by a test of the slopes of a likelihood that does not know of them.

    Parameters
    ----------
    wavelength, continuum, first, weight
        Wavelengths in Angstrom; the fitted continuum; and the first derivative of the likelihood by it and the second
        with its sign changed, shape (regions, bins).
    design, normal
        Design matrices, shape (regions, parameters, bins), and second derivatives by the amplitudes, sign changed.
    part
        Part of all bins that these are, by which the significance would be higher for all.

    Returns
    -------
    velocity, depth
        Velocity in km/s at which they are clearest, and a first value of their depth; None if there are none.
    """
    dimmed = -continuum * make_profiles(wavelength)
    weighted = weight * dimmed
    shared = np.matmul(design, np.moveaxis(weighted, 0, 2))
    slope = (first * dimmed).sum(axis=(1, 2))
    information = (weighted * dimmed).sum(axis=(1, 2)) - (shared * np.linalg.solve(normal, shared)).sum((0, 1))
    information = np.maximum(information, 1e-12)
    best = int(np.argmax(np.abs(slope) / np.sqrt(information)))
    if abs(slope[best]) < max(SIGNIFICANCE * np.sqrt(information[best] * part), LEAST_DEPTH * information[best]):
        return None
    velocity = _find_vertex(np.array(VELOCITIES), np.abs(slope) / np.sqrt(information), best)
    return velocity, float(np.clip(slope[best] / information[best], -0.5, 0.5))


def _find_vertex(x: FloatArray, y: FloatArray, best: int) -> float:
    """Return where the parabola through the highest point and its neighbours has its vertex."""
    if not 0 < best < len(x) - 1:
        return float(x[best])
    before, here, after = y[best - 1 : best + 2]
    return float(x[best] + 0.5 * (before - after) / (before - 2 * here + after) * (x[1] - x[0]))


def make_profiles(wavelength: FloatArray, velocities: Sequence[float] = VELOCITIES) -> FloatArray:
    """Return the depth of all Brackett lines where that of the first would be 1, shape (velocities, regions, bins)."""
    shifted = np.log(wavelength) - np.log1p(np.array(velocities) / LIGHT)[:, None, None]
    return np.asarray(np.interp(shifted, *_tabulate_profile()), np.float64)


@functools.cache
def _tabulate_profile() -> tuple[FloatArray, FloatArray]:
    """Return logarithms of wavelengths, and the depth of all Brackett lines there."""
    wavelength = np.arange(14_900.0, 17_400.0, 1.0)
    level = np.arange(10.0, 10.0 + len(LINES))
    lines = 10 / level / (1 + np.abs((wavelength[:, None] - LINES) / (WIDTH / 2)) ** 2.5)
    return np.log(wavelength), lines.sum(axis=1)
