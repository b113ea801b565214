"""Bins of the pixels of a spectrum, in which a continuum is fitted. NumPy only: arrays in, arrays out."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from astra_dagster.analysis.continuum import Regions, compute_first_harmonic, find_inside, make_design
from astra_dagster.arrays import BoolArray, FloatArray, IndexArray

WIDTH = 4
"""Pixels in a bin: about an element of resolution of the SDSS spectrographs.

By injection, bins of four make continua of S/N 5 half as wrong as bins of three, and as right of higher S/N."""

NOISY = 3.0
"""Bins whose error is larger than so many times the median error of the spectrum are not used."""

SHARE = 5
"""A region is fitted if it has at least so many bins for each parameter."""


ROUND = 32
"""The number of bins in a region is a multiple of this, so that most spectra of one kind have as many."""


class Grid(NamedTuple):
    """Bins of wavelength grids, as many in each region: those too many have no pixels, and harmonics of 0.

    The first axis of all arrays is that of the spectra, of length 1 if they share a grid.

    Attributes
    ----------
    pixels
        Pixels of the bins of all regions, one after the other, shape (n, pixels); of bins without pixels the first.
    real
        True for bins that have pixels, shape (n, regions, bins).
    wavelength
        Of the pixel in the middle of each bin, shape (n, regions, bins).
    harmonics
        A constant, cosines and sines in turn, up to twice the order, shape (n, regions, 1 + 4 order, bins). The first
        ``parameters`` are the design matrix; products of its rows are sums of two of these.
    parameters
        Number of parameters of a region.
    inside
        Pixels of each region, for each grid.
    """

    pixels: IndexArray
    real: BoolArray
    wavelength: FloatArray
    harmonics: FloatArray
    parameters: int
    inside: list[list[slice]]

    @property
    def design(self) -> FloatArray:
        """Design matrices, shape (n, regions, parameters, bins)."""
        return self.harmonics[:, :, : self.parameters]

    def place(self, number: int) -> int:
        """Return where the arrays have the grid of a spectrum, by its number."""
        return min(number, len(self.harmonics) - 1)

    def take(self, rows: IndexArray) -> "Grid":
        """Return the grids of some of the spectra, given once each and in order."""
        if len(self.harmonics) in (1, len(rows)):
            return self
        inside = [self.inside[row] for row in rows]
        harmonics = self.harmonics[rows]
        return Grid(self.pixels[rows], self.real[rows], self.wavelength[rows], harmonics, self.parameters, inside)

    def take_every(self, number: int) -> "Grid":
        """Return grids with every bin of so many, whose pixels are not to be used."""
        thin = np.ascontiguousarray(self.harmonics[..., ::number])
        return self._replace(wavelength=np.ascontiguousarray(self.wavelength[..., ::number]), harmonics=thin)


class Bins(NamedTuple):
    """Flux, its standard error, and 1 where a bin is used, else 0, each of shape (n, regions, bins)."""

    flux: FloatArray
    error: FloatArray
    used: FloatArray

    def take(self, rows: IndexArray) -> "Bins":
        """Return the bins of some of the spectra."""
        return Bins(*(array[rows] for array in self))

    def take_every(self, number: int) -> "Bins":
        """Return every bin of so many."""
        return Bins(*(np.ascontiguousarray(array[..., ::number]) for array in self))


def make_grids(
    wavelengths: Sequence[FloatArray], regions: Regions, period: float, order: int
) -> list[tuple[list[int], Grid]]:
    """Divide the pixels of each region into bins; the last pixels, fewer than a bin, are left out.

    Parameters
    ----------
    wavelengths
        Wavelengths of each spectrum, of shape (pixels,).

    Returns
    -------
    list of tuple
        Numbers of the spectra that have as many bins, and their grids.
    """
    inside = [find_inside(wavelength, regions) for wavelength in wavelengths]
    counts = np.array([[(part.stop - part.start) // WIDTH for part in parts] for parts in inside])
    sizes = -(-np.maximum(counts.max(axis=1), 1) // ROUND) * ROUND
    found = []
    for size in dict.fromkeys(sizes.tolist()):
        rows = np.flatnonzero(sizes == size).tolist()
        real = np.arange(size) < counts[rows][..., None]
        begin = np.array([[part.start for part in inside[row]] for row in rows])
        starts = np.where(real, begin[..., None] + WIDTH * np.arange(size), 0)
        last = wavelengths[0].size - 1
        middle = np.minimum(starts + WIDTH // 2, last)
        centres = np.stack([wavelengths[row].take(places) for row, places in zip(rows, middle, strict=True)])
        design = make_design(compute_first_harmonic(centres.ravel(), period), 2 * order).reshape(-1, *real.shape)
        harmonics = np.ascontiguousarray(np.moveaxis(design, 0, 2))
        harmonics *= real[:, :, None]
        pixels = np.minimum(starts[..., None] + np.arange(WIDTH), last).reshape(len(rows), -1)
        parts = [inside[row] for row in rows]
        found.append((rows, Grid(pixels, real, centres, harmonics, 1 + 2 * order, parts)))
    return found


def make_normal(grid: Grid, weight: FloatArray) -> FloatArray:
    """Return the normal matrices of weighted bins, shape (n, regions, parameters, parameters)."""
    sums = np.matmul(weight[:, :, None], grid.harmonics.swapaxes(2, 3))
    products = np.matmul(sums, _add_harmonics(grid.parameters))
    return np.asarray(products.reshape(*weight.shape[:2], grid.parameters, grid.parameters))


@functools.cache
def _add_harmonics(parameters: int) -> FloatArray:
    """Return how the harmonics add up to products of two rows of the design, shape (harmonics, parameters squared)."""
    found = np.zeros((2 * parameters - 1, parameters, parameters))
    for i in range(parameters):
        for j in range(parameters):
            k, m = (i + 1) // 2, (j + 1) // 2
            sine, other = (n > 0 and n % 2 == 0 for n in (i, j))
            if sine == other:  # cos k cos m and sin k sin m are half of cos(k - m) and of plus or minus cos(k + m)
                found[_find_cosine(k - m), i, j] += 0.5
                found[_find_cosine(k + m), i, j] += -0.5 if sine else 0.5
            else:  # sin k cos m is half of sin(k + m) and of sin(k - m)
                k, m = (k, m) if sine else (m, k)
                found[2 * (k + m), i, j] += 0.5
                if k != m:
                    found[2 * abs(k - m), i, j] += 0.5 if k > m else -0.5
    return found.reshape(len(found), -1)


def _find_cosine(number: int) -> int:
    return max(2 * abs(number) - 1, 0)


def make_bins(grid: Grid, number: int, flux: FloatArray, ivar: FloatArray, good: BoolArray) -> Bins:
    """Average the good pixels of each bin of one spectrum, all with the same weight, as errors follow the noise.

    Parameters
    ----------
    grid, number
        The grids, and the number of the spectrum among them.
    flux, ivar, good
        Flux, inverse variance and good pixels, each of shape (pixels,).

    Returns
    -------
    Bins
        Each of shape (regions, bins).
    """
    place = grid.place(number)
    pixels, real = grid.pixels[place], grid.real[place]
    good = good.take(pixels)
    variance = np.zeros(len(good))
    np.divide(1.0, ivar.take(pixels), out=variance, where=good)
    values = np.where(good, flux.take(pixels), 0.0)
    count, total, spread = (
        np.asarray(sum(array[k::WIDTH] for k in range(1, WIDTH)) + array[::WIDTH]).reshape(real.shape)
        for array in (good.astype(np.float64), values, variance)
    )
    enough = (2 * count >= WIDTH) & real
    divisor = np.maximum(count, 1.0)
    error = np.sqrt(spread) / divisor
    if enough.any():
        enough &= error < NOISY * np.median(error[enough])
    enough &= enough.sum(axis=1)[:, None] >= SHARE * grid.parameters
    return Bins(total / divisor, np.where(enough, error, 1.0), enough.astype(np.float64))


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


def repeat_bins(values: BoolArray, pixels: int, last: bool) -> BoolArray:
    """Return values of bins for each of their pixels, and a last value for pixels behind the last bin."""
    found = np.full(pixels, last)
    found[: WIDTH * len(values)].reshape(-1, WIDTH)[:] = values[:, None]
    return found
