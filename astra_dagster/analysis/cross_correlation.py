"""Velocities of spectra by cross-correlation on one logarithmic grid. NumPy only: arrays in, arrays out.

Spectra are flattened: what varies slowly is divided out, so that lines are left. The correlation is that of Pearson
over the pixels that both have at a lag, so that gaps do not pull the peak.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from astra_dagster.analysis.velocity import LIGHT
from astra_dagster.arrays import BoolArray, FloatArray

STEP = 3e-6 * np.log(10)
"""Step of the grid in natural logarithms of wavelength: half of that of apStar files, 2.07 km/s."""

GRID = np.arange(np.log(15_140.0), np.log(16_960.0), STEP)
"""Natural logarithms of the wavelengths in Angstrom on which spectra are correlated."""

SMOOTHED = 60
"""Standard deviation, in steps of the grid, of the smoothing that tells what varies slowly: 124 km/s."""

LARGEST = 600.0
"""Largest velocity that is tried, in km/s."""

LAGS = int(LARGEST / (STEP * LIGHT))
"""Largest lag, in steps of the grid."""

SPECTRUM_LIMITS = (-0.5, 0.2)
"""Limits of a flattened spectrum: below are few lines, above are remains of sky lines and cosmic rays."""

_LENGTH = 1 << int(np.ceil(np.log2(len(GRID) + LAGS)))


@dataclass(frozen=True, eq=False)
class Flattened:
    """Spectra on `GRID` without their continuum: values around 0, and weights from 0 to 1, of shape (n, len(GRID))."""

    values: FloatArray
    weight: FloatArray

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice) -> "Flattened":
        return Flattened(self.values[rows], self.weight[rows])


def flatten(
    wavelength: FloatArray, flux: FloatArray, bad: BoolArray, chips: Sequence[tuple[str, int, int]]
) -> Flattened:
    """Put spectra on the grid, chip by chip, without their continuum.

    Parameters
    ----------
    wavelength
        Increasing wavelength in Angstrom, shape (pixels,) or (n, pixels).
    flux
        Flux, shape (n, pixels).
    bad
        True for pixels to leave out, same shape.
    chips
        Name, first pixel, and pixel after the last of each detector.
    """
    values, weight = np.zeros((2, len(flux), len(GRID)))
    for row in range(len(flux)):
        logarithm = np.log(wavelength if wavelength.ndim == 1 else wavelength[row])
        for _, start, stop in chips:
            x, y, left_out = logarithm[start:stop], flux[row, start:stop], bad[row, start:stop]
            if np.count_nonzero(~left_out) < (stop - start) / 5:
                continue
            here = slice(*np.searchsorted(GRID, (x[0], x[-1])))
            inside = GRID[here]
            if len(inside) < SMOOTHED:
                continue
            level = np.interp(inside, x[~left_out], y[~left_out])
            good = np.interp(inside, x, left_out.astype(float)) < 0.01
            values[row, here], weight[row, here] = _flatten_chip(level, good)
    return Flattened(values, weight)


def make_template(centres: FloatArray, depths: FloatArray, width: float) -> Flattened:
    """Make the spectrum of Gaussian lines at wavelengths in Angstrom, of full width `width` km/s at half depth.

    It is smoothed away as spectra are, so that broad lines weigh what they weigh in these.
    """
    sigma = width / 2.3548 / LIGHT
    flux = np.ones(len(GRID))
    for centre, depth in zip(np.log(centres), depths, strict=True):
        near = slice(*np.searchsorted(GRID, (centre - 6 * sigma, centre + 6 * sigma)))
        flux[near] -= depth * np.exp(-0.5 * ((GRID[near] - centre) / sigma) ** 2)
    values, weight = _flatten_chip(flux, np.ones(len(GRID), bool))
    return Flattened(values[None], weight[None])


def _flatten_chip(level: FloatArray, good: BoolArray) -> tuple[FloatArray, FloatArray]:
    share = np.maximum(_smooth(good.astype(float)), 1e-3)
    continuum = _smooth(level * good) / share
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.nan_to_num(level / continuum - 1, nan=0.0, posinf=0.0, neginf=0.0)
    ratio = np.clip(ratio, *SPECTRUM_LIMITS)
    ratio -= _smooth(ratio * good) / share
    weight = np.where(good, np.clip(2 * _smooth(np.ones(len(level))) - 1, 0, 1), 0.0)
    return ratio * (weight > 0), weight


def _smooth(values: FloatArray) -> FloatArray:
    """Convolve with a Gaussian; beyond the ends there is nothing."""
    reach = np.arange(-4 * SMOOTHED, 4 * SMOOTHED + 1)
    kernel = np.exp(-0.5 * (reach / SMOOTHED) ** 2)
    length = 1 << int(np.ceil(np.log2(len(values) + len(kernel))))
    product = np.fft.rfft(values, length) * np.fft.rfft(kernel / kernel.sum(), length)
    return np.asarray(np.fft.irfft(product, length)[4 * SMOOTHED :][: len(values)])


def correlate(spectra: Flattened, template: Flattened) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Measure how fast spectra recede from one template, or each from one of its own.

    Returns
    -------
    velocity, height, error
        Velocity in km/s, positive if the spectrum is redder; height of the peak, at most 1; and standard error in km/s
        after Zucker (2003, MNRAS 342, 1291), of shape (n,). All are NaN where no peak is.
    """
    sums = [_cross(a, b) for a, b in _products(spectra, template)]
    with np.errstate(divide="ignore", invalid="ignore"):
        curve = np.where(sums[3] > 0.2 * sums[3].max(axis=1, keepdims=True), sums[0] / np.sqrt(sums[1] * sums[2]), 0)
    curve = np.nan_to_num(curve, nan=0.0, posinf=0.0, neginf=0.0)
    found = np.full((3, len(curve)), np.nan)
    reach = np.arange(-3, 4)
    for row, height in enumerate(curve):
        best = int(np.argmax(height[3:-3])) + 3
        bend, slope, _ = np.polyfit(reach, height[best + reach], 2)
        peak = height[best]
        if not (bend < 0 < peak):
            continue
        lag = best - LAGS - slope / (2 * bend)
        pixels = sums[3][row, best] / 2  # two steps of the grid are one pixel of its own
        error = np.sqrt(peak * max(1 - peak**2, 1e-6) / (pixels * -2 * bend * peak**2))
        found[:, row] = LIGHT * np.expm1(lag * STEP), peak, error * STEP * LIGHT
    return found[0], found[1], found[2]


def _products(a: Flattened, b: Flattened) -> list[tuple[FloatArray, FloatArray]]:
    weighted, other = a.values * a.weight, b.values * b.weight
    return [(weighted, other), (a.values * weighted, b.weight), (a.weight, b.values * other), (a.weight, b.weight)]


def _cross(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return sums of products of `a` shifted back by -LAGS to LAGS steps with `b`."""
    product = np.fft.rfft(a, _LENGTH) * np.conj(np.fft.rfft(b, _LENGTH))
    sums = np.fft.irfft(product, _LENGTH)
    return np.concatenate([sums[:, -LAGS:], sums[:, : LAGS + 1]], axis=1)


def measure_relative(spectra: Flattened) -> tuple[FloatArray, FloatArray]:
    """Measure velocities of spectra of one star, relative to their mean, from each with each other.

    Returns
    -------
    velocity, error
        In km/s, of shape (n,): the solution of least squares, in which pairs with sharp peaks weigh more. NaN for a
        spectrum that has no peak with any other; 0 for a single one.
    """
    count = len(spectra)
    if count == 1:
        return np.zeros(1), np.zeros(1)
    normal, right = np.zeros((count, count)), np.zeros(count)
    for first in range(count - 1):
        later = np.arange(first + 1, count)
        velocity, _, error = correlate(spectra[first + 1 :], spectra[first : first + 1])
        known = np.isfinite(velocity) & np.isfinite(error)
        weight = np.where(known, 1 / np.maximum(np.nan_to_num(error), 1e-3) ** 2, 0)
        pull = weight * LIGHT * np.log1p(np.nan_to_num(velocity) / LIGHT)
        normal[first, later] = normal[later, first] = -weight
        normal[later, later] += weight
        normal[first, first] += weight.sum()
        right[later] += pull
        right[first] -= pull.sum()
    inverse = np.linalg.pinv(normal, hermitian=True)
    joined = normal.diagonal() > 0
    # All pairs of a spectrum share its noise, so that there are n / 2 times fewer independent ones than pairs.
    error = np.sqrt(np.maximum(inverse.diagonal(), 0) * count / 2)
    velocity = LIGHT * np.expm1(inverse @ right / LIGHT)
    return np.where(joined, velocity, np.nan), np.where(joined, error, np.nan)


def align(spectra: Flattened, velocity: FloatArray) -> Flattened:
    """Return the mean of spectra of one star, each shifted back by its velocity in km/s."""
    total, weight = np.zeros((2, len(GRID)))
    for values, share, speed in zip(spectra.values, spectra.weight, velocity, strict=True):
        place = GRID + np.log1p(speed / LIGHT)
        total += np.interp(place, GRID, values * share, left=0, right=0)
        weight += np.interp(place, GRID, share, left=0, right=0)
    enough = weight > 0.3
    mean = np.where(enough, total / np.where(enough, weight, 1), 0.0)
    return Flattened(mean[None], np.where(enough, np.minimum(weight, 1), 0.0)[None])
