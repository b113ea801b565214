"""Bins of the pixels of a spectrum, in which a continuum is fitted. NumPy only: arrays in, arrays out."""

from typing import NamedTuple

import numpy as np

from astra_dagster.analysis.continuum import Regions, compute_first_harmonic, find_inside, make_design
from astra_dagster.arrays import BoolArray, FloatArray, IndexArray

WIDTH = 3
"""Pixels in a bin: about an element of resolution of the SDSS spectrographs."""

NOISY = 3.0
"""Bins whose error is larger than so many times the median error of the spectrum are not used."""

SHARE = 5
"""A region is fitted if it has at least so many bins for each parameter."""


class Grid(NamedTuple):
    """Bins of a wavelength grid, the same number in each region: those too many have no pixels, and a design of 0.

    Attributes
    ----------
    pixels
        Pixels of the bins of all regions; of bins without pixels the first pixel.
    real
        True for bins that have pixels, shape (regions, bins).
    wavelength
        Of the pixel in the middle of each bin, shape (regions, bins).
    design
        Design matrix of each region, shape (regions, parameters, bins).
    inside
        Pixels of each region.
    """

    pixels: IndexArray
    real: BoolArray
    wavelength: FloatArray
    design: FloatArray
    inside: list[slice]


class Bins(NamedTuple):
    """Flux of a spectrum, its standard error, and 1 where a bin is used, else 0, each of shape (regions, bins)."""

    flux: FloatArray
    error: FloatArray
    used: FloatArray


def make_grid(wavelength: FloatArray, regions: Regions, period: float, order: int) -> Grid:
    """Divide the pixels of each region into bins; the last pixels, fewer than a bin, are left out."""
    inside = find_inside(wavelength, regions)
    counts = np.array([(part.stop - part.start) // WIDTH for part in inside])
    numbers = np.arange(max(counts.max(), 1))
    real = numbers < counts[:, None]
    starts = np.where(real, np.array([part.start for part in inside])[:, None] + WIDTH * numbers, 0)
    middle = starts + (WIDTH // 2 if wavelength.size >= WIDTH else 0)
    centres = wavelength.take(middle)
    design = make_design(compute_first_harmonic(centres.ravel(), period), order).reshape(-1, *real.shape)
    design = np.ascontiguousarray(design.swapaxes(0, 1) * real[:, None])
    pixels = (starts[..., None] + np.arange(WIDTH)).ravel()
    return Grid(np.minimum(pixels, wavelength.size - 1), real, centres, design, inside)


def make_bins(grid: Grid, flux: FloatArray, ivar: FloatArray, good: BoolArray) -> Bins:
    """Average the good pixels of each bin, all with the same weight, as weights by errors follow the noise."""
    good = good.take(grid.pixels)
    variance = np.zeros(len(good))
    np.divide(1.0, ivar.take(grid.pixels), out=variance, where=good)
    values = np.where(good, flux.take(grid.pixels), 0.0)
    count, total, spread = (
        np.asarray(sum(array[k::WIDTH] for k in range(1, WIDTH)) + array[::WIDTH]).reshape(grid.real.shape)
        for array in (good.astype(np.float64), values, variance)
    )
    enough = (2 * count >= WIDTH) & grid.real
    number = np.maximum(count, 1.0)
    error = np.sqrt(spread) / number
    if enough.any():
        enough &= error < NOISY * np.median(error[enough])
    enough &= enough.sum(axis=1)[:, None] >= SHARE * grid.design.shape[1]
    return Bins(total / number, np.where(enough, error, 1.0), enough.astype(np.float64))


def spread_bins(values: FloatArray, pixels: int) -> FloatArray:
    """Return values of bins at each pixel: a continuum is straight over two bins to 1e-5."""
    slope = np.diff(values, append=2 * values[-1] - values[-2]) / WIDTH
    middle = np.repeat(values, WIDTH).reshape(-1, WIDTH)
    for k in range(WIDTH // 2 + 1, WIDTH):
        middle[:, k] += (k - WIDTH // 2) * slope
    before = np.concatenate([slope[:1], slope[:-1]])
    for k in range(WIDTH // 2):
        middle[:, k] += (k - WIDTH // 2) * before
    last = middle[-1, -1] + slope[-1] * np.arange(1, pixels - middle.size + 1)
    return np.concatenate([middle.ravel(), last])
