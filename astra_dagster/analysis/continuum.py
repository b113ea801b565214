"""Sinusoidal continuum normalisation, batched. NumPy only: arrays in, arrays out.

The method is that of The Cannon (Ness et al. 2015, ApJ 808, 16; Casey et al. 2016, arXiv:1603.03040) and of Astra:
in each region of the spectrum, weighted least squares of the flux in continuum pixels on a constant and the first
sines and cosines of a long period, with a small ridge on the normal matrix.

Every spectrum is computed by itself, whatever its batch: one spectrum and many give the same bits.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from astra_dagster.arrays import BoolArray, FloatArray, IndexArray
from astra_dagster.errors import AnalysisError

Regions = Sequence[tuple[float, float]]

RIDGE = 1e-6
"""The ridge, which is added to the diagonal of a normal matrix, in units of the matrix's largest eigenvalue."""


@dataclass(frozen=True)
class Continuum:
    """A fitted continuum.

    Attributes
    ----------
    values
        Continuum in the unit of the flux, shape (n, pixels); the fill value where nothing was fitted.
    fitted
        True where the continuum was fitted, shape (n, pixels).
    condition
        Condition number of the normal matrix of each region, ridge included, shape (n, regions); NaN where a region
        was not fitted.
    used
        True for the pixels to which the continuum was fitted, shape (n, pixels).
    steps, converged
        Number of steps of the fit, and whether its last one changed next to nothing, shape (n,).
    brackett
        Depth of the first Brackett line of hydrogen, negative in emission, shape (n,); 0 where there are none.
    """

    values: FloatArray
    fitted: BoolArray
    condition: FloatArray
    used: BoolArray
    steps: IndexArray
    converged: BoolArray
    brackett: FloatArray

    @classmethod
    def make_empty(cls, shape: tuple[int, ...], regions: int, fill_value: float) -> Self:
        """Make a continuum of shape (n, pixels) in which nothing is fitted."""
        count = shape[0]
        return cls(
            np.full(shape, float(fill_value)),
            np.zeros(shape, bool),
            np.full((count, regions), np.nan),
            np.zeros(shape, bool),
            np.zeros(count, np.intp),
            np.zeros(count, bool),
            np.zeros(count),
        )

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Join continua of as many pixels and regions, in order."""
        return cls(*(np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(cls)))


def fit_continuum(
    wavelength: FloatArray,
    flux: FloatArray,
    ivar: FloatArray,
    *,
    regions: Regions,
    continuum_regions: Regions,
    period: float = 1400.0,
    order: int = 3,
    fill_value: float = 1.0,
) -> Continuum:
    """Fit a sum of sines and cosines to the continuum pixels of each region.

    Parameters
    ----------
    wavelength
        Increasing wavelength in Angstrom, of shape (pixels,) for a grid that all spectra share (which is faster), else
        (n, pixels).
    flux, ivar
        Flux and inverse variance, shape (n, pixels). Pixels whose inverse variance is not positive, or whose flux is
        not finite, have no weight.
    regions
        Start and end in Angstrom of each stretch that is fitted by itself. Where two overlap, the later fit is used.
    continuum_regions
        Start and end in Angstrom, both inclusive, of each stretch of continuum. As in the original method, the first
        pixel beyond the end of a region belongs to its fit, if it is a continuum pixel.
    period
        Longest period L, in Angstrom.
    order
        Number of sines, and of cosines; the shortest period is ``period / order``.
    fill_value
        Continuum outside the regions, and in regions without a fit. A region is fitted if it has at least as many
        continuum pixels of positive weight as there are parameters, ``1 + 2 * order``.

    Raises
    ------
    AnalysisError
        If wavelengths do not increase, the shapes do not fit together, or a parameter is impossible.
    """
    flux, ivar = np.atleast_2d(flux), np.atleast_2d(ivar)
    check_arguments(wavelength, flux, ivar, regions, continuum_regions, period, order)
    found = Continuum.make_empty(flux.shape, len(regions), fill_value)
    values, fitted, condition = found.values, found.fitted, found.condition
    shared, windows = wavelength.ndim == 1, _merge(continuum_regions)
    grids = [(wavelength, slice(None))] if shared else [(grid, slice(i, i + 1)) for i, grid in enumerate(wavelength)]
    for grid, rows in grids:
        first = compute_first_harmonic(grid, period)
        design = make_design(first, order) if shared else None
        pixels = _find_pixels(grid, regions, windows)
        equations = [
            # np.take, unlike indexing, gives one memory layout, and so the same bits, for one spectrum and for many.
            _make_equations(
                design.take(used, axis=1) if design is not None else make_design(first.take(used, axis=1), order),
                flux[rows].take(used, axis=1),
                ivar[rows].take(used, axis=1),
                shared,
            )
            for _, used in pixels
        ]
        amplitudes, condition[rows], good = _solve(*(np.stack(parts, axis=1) for parts in zip(*equations, strict=True)))
        for number, (inside, used) in enumerate(pixels):
            enough = good[:, number]
            if not enough.any():
                continue
            model = values[rows, inside]
            if design is not None:
                np.matmul(amplitudes[:, number, None, :], design[:, inside], out=model[:, None, :])
            else:
                model[0] = _sum_series(first[:, inside], amplitudes[0, number])
            if not enough.all():
                model[~enough] = fill_value
            fitted[rows, inside] = enough[:, None]
            found.used[rows, used] |= enough[:, None]
    found.used[...] &= find_usable(flux, ivar)
    found.steps[...], found.converged[...] = 1, fitted.any(axis=1)
    return found


def normalise(
    flux: FloatArray, ivar: FloatArray, bad: BoolArray, continuum: Continuum
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Divide spectra by their continuum.

    Returns
    -------
    flux, ivar, bad
        ``flux / continuum``, ``ivar * continuum**2`` and the mask, each of shape (n, pixels). Where the flux is not
        finite, nothing was fitted, or the fit is not positive, the flux is 1 and the pixel bad; bad pixels have
        inverse variance 0.
    """
    usable = continuum.fitted & (continuum.values > 0) & np.isfinite(flux)
    bad = bad | ~usable
    normalised = np.ones_like(flux)
    np.divide(flux, continuum.values, out=normalised, where=usable)
    scaled = np.square(continuum.values)
    scaled *= ivar
    scaled[bad] = 0.0
    return normalised, scaled, bad


def _merge(regions: Regions) -> FloatArray:
    """Sort regions and join those that overlap; returns shape (regions, 2)."""
    merged: list[list[float]] = []
    for start, end in sorted(regions):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    return np.array(merged, dtype=np.float64)


def _find_pixels(wavelength: FloatArray, regions: Regions, windows: FloatArray) -> list[tuple[slice, IndexArray]]:
    """Find the pixels of each region, and its continuum pixels, on one grid."""
    starts = np.searchsorted(wavelength, windows[:, 0], side="left")
    counts = np.searchsorted(wavelength, windows[:, 1], side="right") - starts
    before = np.cumsum(counts) - counts
    continuum = np.repeat(starts - before, counts) + np.arange(counts.sum())
    found = []
    for inside, (_, end) in zip(find_inside(wavelength, regions), regions, strict=True):
        last = np.searchsorted(wavelength, end, side="left")
        found.append((inside, continuum[slice(*np.searchsorted(continuum, (inside.start, last + 1)))]))
    return found


def find_inside(wavelength: FloatArray, regions: Regions) -> list[slice]:
    """Return the pixels of each region on one grid, both ends of which belong to it."""
    starts, ends = np.array(regions, dtype=np.float64).T
    first, after = np.searchsorted(wavelength, starts, side="left"), np.searchsorted(wavelength, ends, side="right")
    return [slice(*pair) for pair in zip(first.tolist(), after.tolist(), strict=True)]


def find_usable(flux: FloatArray, ivar: FloatArray) -> BoolArray:
    """Return True for pixels that can have weight: of positive, finite inverse variance, and finite flux."""
    return np.asarray((ivar > 0) & (ivar < np.inf) & np.isfinite(flux))


def compute_first_harmonic(wavelength: FloatArray, period: float) -> FloatArray:
    """Return cosine and sine of the longest period at every pixel, shape (2, pixels).

    Both follow from the tangent of half the angle, so that one trigonometric function is computed for the two.
    """
    tangent = np.tan(wavelength * (np.pi / period))
    square = np.square(tangent)
    scale = 1 / (1 + square)
    return np.stack([(1 - square) * scale, 2 * tangent * scale])


def make_design(first: FloatArray, order: int) -> FloatArray:
    """Make the design matrix, shape (1 + 2 order, pixels): a constant, then cosines and sines in turn.

    `first` holds the first cosine and sine; the others follow by the addition theorems.
    """
    design = np.empty((1 + 2 * order, first.shape[1]))
    design[0] = 1
    cosine, sine = first
    if order:
        design[1:3] = first
    for k in range(1, order):
        design[2 * k + 1] = design[2 * k - 1] * cosine - design[2 * k] * sine
        design[2 * k + 2] = design[2 * k] * cosine + design[2 * k - 1] * sine
    return design


def _sum_series(first: FloatArray, amplitudes: FloatArray) -> FloatArray:
    """Sum the series at every pixel from its first cosine and sine, by Clenshaw's recurrence.

    This is faster than a design matrix that is used for one spectrum only.
    """
    cosine, sine = first
    twice = 2 * cosine
    sums: list[tuple[FloatArray | float, FloatArray | float]] = []
    for terms in (amplitudes[1::2], amplitudes[2::2]):
        this: FloatArray | float = 0.0
        last: FloatArray | float = 0.0
        for term in terms[::-1]:
            this, last = term + twice * this - last, this
        sums.append((this, last))
    (cosines, last), (sines, _) = sums
    return np.asarray(amplitudes[0] + cosine * cosines - last + sine * sines, dtype=np.float64)


def _make_equations(
    design: FloatArray, flux: FloatArray, ivar: FloatArray, shared: bool
) -> tuple[FloatArray, FloatArray, IndexArray]:
    """Return normal matrices, right-hand sides and numbers of pixels that have weight; all pixels are continuum.

    On a shared grid the normal matrices of all spectra are one product of the weights with the products of the
    design's rows. It is a stacked product, so that BLAS takes each spectrum by itself, and sums in the same order
    whatever their number.
    """
    usable = find_usable(flux, ivar)
    weight = np.where(usable, ivar, 0.0)
    right = np.matmul((weight * np.where(usable, flux, 0.0))[:, None, :], design.T)[:, 0]
    size = len(design)
    if shared:
        upper, lower = _triangle(size)
        entries = np.matmul(weight[:, None, :], (design[upper] * design[lower]).T)[:, 0]
        normal = np.empty((len(weight), size, size))
        normal[:, upper, lower] = entries
        normal[:, lower, upper] = entries
    else:
        normal = np.matmul(design * weight[:, None, :], design.T)
    return normal, right, np.count_nonzero(usable, axis=1)


@functools.cache
def _triangle(size: int) -> tuple[IndexArray, IndexArray]:
    return np.triu_indices(size)


def _solve(normal: FloatArray, right: FloatArray, pixels: IndexArray) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Return amplitudes, condition numbers, and which fits have enough pixels, shapes (n, regions[, parameters])."""
    size = normal.shape[-1]
    good = pixels >= size
    if not good.all():
        normal[~good] = np.eye(size)
    eigenvalues = np.linalg.eigvalsh(normal)
    ridge = RIDGE * eigenvalues[..., -1]
    diagonal = np.arange(size)
    normal[..., diagonal, diagonal] += ridge[..., None]
    amplitudes = np.linalg.solve(normal, right[..., None])[..., 0]
    condition = np.where(good, (eigenvalues[..., -1] + ridge) / (eigenvalues[..., 0] + ridge), np.nan)
    return np.asarray(amplitudes, np.float64), np.asarray(condition, np.float64), np.asarray(good)


def check_arguments(
    wavelength: FloatArray,
    flux: FloatArray,
    ivar: FloatArray,
    regions: Regions,
    continuum_regions: Regions,
    period: float,
    order: int,
) -> None:
    """Check the arguments of a fit.

    Raises
    ------
    AnalysisError
        If wavelengths do not increase, the shapes do not fit together, or a parameter is impossible.
    """
    if flux.ndim != 2 or flux.shape != ivar.shape or wavelength.shape not in (flux.shape, flux.shape[1:]):
        raise AnalysisError(
            f"wavelength, flux and ivar have the shapes {wavelength.shape}, {flux.shape} and {ivar.shape}",
            hint="flux and ivar must be (n, pixels), wavelength (n, pixels) or (pixels,)",
        )
    if not (wavelength[..., 1:] > wavelength[..., :-1]).all() or not np.isfinite(wavelength).all():
        raise AnalysisError("the wavelengths do not increase", hint="reverse spectra whose wavelengths decrease")
    for start, end in (*regions, *continuum_regions):
        if not start < end:
            raise AnalysisError(f"a region goes from {start} to {end} Angstrom", hint="it must start before it ends")
    if not regions or not continuum_regions:
        raise AnalysisError("no regions" if not regions else "no continuum regions", hint="name at least one")
    if not (period > 0 and np.isfinite(period)) or order < 0:
        raise AnalysisError(f"period {period} and order {order} make no fit", hint="a period above 0, an order from 0")
