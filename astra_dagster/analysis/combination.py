"""The combined spectrum of a star from its visits. NumPy only: arrays in, arrays out.

Each visit is put once on the grid of the combination, in the star's rest frame, and divided by its own level, so that
a visit through a cloud does not bend the mean. The mean has the weights of the errors, pixel by pixel, and the mean
level of the visits.
"""

from collections.abc import Sequence

import numpy as np

from astra_dagster.analysis.velocity import LIGHT
from astra_dagster.arrays import BoolArray, FloatArray, IndexArray

LOBES = 3
"""Lobes of the windowed sinc to each side."""

REACH = np.arange(-9, 10)
"""Pixels to each side that are looked at."""

WIDEST = 2.5
"""Largest ratio of output to input pixels over which is averaged, so that `REACH` holds the kernel."""

TOLERATED = 0.1
"""Weight of bad pixels in the kernel above which what is made of them is bad."""

LEVEL_WIDTH, LEVEL_STEP = 501, 25
"""Width of the running median that is the level of a visit, and distance at which it is taken, in pixels."""


def resample(
    wavelength: FloatArray,
    flux: FloatArray,
    variance: FloatArray,
    bad: BoolArray,
    chips: Sequence[tuple[str, int, int]],
    grid: FloatArray,
    velocity: FloatArray,
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Put spectra on a grid in the rest frame, with a sinc that is as wide as the wider of both pixels.

    Parameters
    ----------
    wavelength
        Increasing wavelength in Angstrom, shape (pixels,) or (n, pixels).
    flux, variance, bad
        Flux, its variance, and True for pixels to leave out, shape (n, pixels).
    chips
        Name, first pixel, and pixel after the last of each detector; nothing is made across a gap.
    grid
        Increasing wavelengths of the output in Angstrom.
    velocity
        How fast each spectrum recedes, in km/s, shape (n,).

    Returns
    -------
    flux, variance, bad
        Of shape (n, len(grid)); 0 and True where there is nothing.
    """
    shape = (len(flux), len(grid))
    values, spread, left_out = np.zeros(shape), np.zeros(shape), np.ones(shape, bool)
    for row in range(len(flux)):
        own = (wavelength if wavelength.ndim == 1 else wavelength[row]) / (1 + velocity[row] / LIGHT)
        for _, start, stop in chips:
            x, excluded = own[start:stop], bad[row, start:stop]
            good = np.flatnonzero(~excluded)
            here = slice(*np.searchsorted(grid, (x[0], x[-1])))
            if len(good) < 2 or here.stop - here.start < 2:
                continue
            pixels = np.arange(len(x))
            place = np.interp(grid[here], x, pixels)
            taken, kernel = _make_kernel(place, len(x))
            filled, noise = (np.interp(pixels, good, of[row, start:stop][good]) for of in (flux, variance))
            values[row, here] = (kernel * filled[taken]).sum(axis=1)
            spread[row, here] = (kernel**2 * noise[taken]).sum(axis=1)
            left_out[row, here] = (np.abs(kernel) * excluded[taken]).sum(axis=1) > TOLERATED
    return values, spread, left_out


def _make_kernel(place: FloatArray, pixels: int) -> tuple[IndexArray, FloatArray]:
    """Return pixels and their weights, of shape (places, reach)."""
    scale = np.clip(np.gradient(place), 1, WIDEST)[:, None]
    first = np.floor(place).astype(np.intp)
    taken = first[:, None] + REACH
    distance = (place[:, None] - taken) / scale
    kernel = np.where(np.abs(distance) < LOBES, np.sinc(distance) * np.sinc(distance / LOBES), 0)
    kernel[(taken < 0) | (taken >= pixels)] = 0
    return np.clip(taken, 0, pixels - 1), kernel / kernel.sum(axis=1, keepdims=True)


def combine(flux: FloatArray, variance: FloatArray, bad: BoolArray) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Combine spectra of one star that are on one grid.

    Parameters
    ----------
    flux, variance, bad
        Of shape (n, pixels).

    Returns
    -------
    flux, ivar, bad
        Of shape (pixels,); a pixel is bad if it is bad in all spectra.
    """
    good = ~bad & (variance > 0) & np.isfinite(flux)
    level = np.array([_find_level(values, there) for values, there in zip(flux, good, strict=True)])
    used = good & (level > 0)
    weight = np.where(used, level**2 / np.where(used, variance, 1), 0.0)
    total = weight.sum(axis=0)
    some = total > 0
    lowest = np.where(some, total, 1)
    shape = np.where(used, flux / np.where(used, level, 1), 0.0)
    trusted = (level > 0).any(axis=1)
    mean_level = level[trusted].mean(axis=0) if trusted.any() else np.ones(flux.shape[1])
    scale = np.where(some & (mean_level > 0), mean_level, 1.0)
    return (shape * weight).sum(axis=0) / lowest * scale, np.where(some, total / scale**2, 0.0), ~some


def _find_level(flux: FloatArray, good: BoolArray) -> FloatArray:
    """Return the running median of one spectrum over good pixels; 0 if there are none."""
    places, levels = [], []
    for place in range(0, len(flux), LEVEL_STEP):
        near = slice(max(place - LEVEL_WIDTH // 2, 0), place + LEVEL_WIDTH // 2 + 1)
        if np.count_nonzero(good[near]) > LEVEL_STEP:
            places.append(place)
            levels.append(np.median(flux[near][good[near]]))
    return np.interp(np.arange(len(flux)), places, levels) if places else np.zeros(len(flux))
