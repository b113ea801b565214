"""The likelihood of a continuum with lines, and the climb to its maximum. NumPy only: arrays in, arrays out.

The flux of a bin is the continuum, less the depth of lines, plus normal noise. A part of the bins has no lines; the
depths of the others are distributed exponentially (see `frontier`). All arrays begin with an axis of spectra, which are
computed side by side; what is computed of one does not depend on the others, down to the bits.
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np

from astra_dagster.analysis.bins import Bins, Grid, make_normal
from astra_dagster.analysis.continuum import RIDGE
from astra_dagster.analysis.truncated import expect_depth
from astra_dagster.arrays import BoolArray, FloatArray, IndexArray

FLOOR = 0.003
"""Part of the continuum that is added to the errors, as no continuum is a sum of a few sines to all digits."""

OUTLIER = 3.5
"""Bins that are so many standard errors above the continuum are not used: night sky, cosmic rays, emission lines."""

DEPTH, LOG_DEPTHS = 0.04, (math.log(1e-3), math.log(0.5))
"""Mean depth that is expected, in units of the continuum, to a factor of e; and limits of its logarithm."""

FREE, PRIOR, LOG_ODDS = 0.3, 10.0, (-5.0, 5.0)
"""Part of the bins that is expected to have no lines, as if seen in so many; and limits of its log odds."""

LEAST_WEIGHT = 1e-2
"""Smallest part of its weight that a bin keeps, whatever lines may hide."""

BRACKETT_DOUBT = 0.1
"""Part of the depth of Brackett lines that is added to the errors, as they have different widths in different stars."""

STEPS, CLOSE = 40, 2e-3
"""Most steps of a climb, and the largest relative change in the last: one more would bring a tenth or less of it."""

LIMITS = (40.0, 20.0, 10.0, 5.0, OUTLIER)
"""What stands for `OUTLIER` in the first steps, and in all others, as the continuum is not known at first."""


@dataclass
class Fit:
    """What is fitted to n spectra.

    Attributes
    ----------
    amplitudes
        Amplitudes of the series, shape (n, regions, parameters).
    log_depth, log_free
        Logarithms of the mean depth, and of the odds that a bin has no lines, shape (n,).
    brackett
        Depth of the Brackett lines, shape (n,).
    profile
        Profile of the Brackett lines, shape (n, regions, bins); None where they are not fitted.
    steps, converged
        Number of steps, and whether the last changed next to nothing, shape (n,).
    """

    amplitudes: FloatArray
    log_depth: FloatArray
    log_free: FloatArray
    brackett: FloatArray
    profile: FloatArray | None
    steps: IndexArray
    converged: BoolArray

    def take(self, rows: IndexArray) -> Self:
        """Return a copy of the fits of some spectra."""
        return replace(self, **{name: array[rows] for name, array in vars(self).items() if array is not None})

    def put(self, rows: IndexArray, fit: Self) -> None:
        """Set the fits of some spectra; their profiles stay."""
        for name, array in vars(self).items():
            if name != "profile":
                array[rows] = getattr(fit, name)


class Scale(NamedTuple):
    """What a step is relative to, each of shape (n, regions, bins).

    ``reference`` is the continuum, ``ratio`` are the standard errors with doubts in units of it, and ``inverse`` is the
    inverse of these errors, 0 in unused bins.
    """

    reference: FloatArray
    ratio: FloatArray
    inverse: FloatArray


class Slopes(NamedTuple):
    """Derivatives of the likelihood.

    ``first`` and ``weight`` are the first derivative by the continuum, and the second with its sign changed, shape (n,
    regions, bins); ``normal`` is the second by amplitudes, sign changed, with its ridge, shape (n, regions, parameters,
    parameters). ``used`` is 1 for bins that are used and are no outliers.
    """

    first: FloatArray
    weight: FloatArray
    used: FloatArray
    normal: FloatArray

    @classmethod
    def make_empty(cls, shape: tuple[int, ...], parameters: int) -> Self:
        """Make arrays for bins of shape (n, regions, bins), to be filled."""
        return cls(np.empty(shape), np.empty(shape), np.empty(shape), np.empty((*shape[:2], parameters, parameters)))

    def put(self, rows: IndexArray, slopes: Self, which: IndexArray | slice = slice(None)) -> None:
        """Set those of some spectra to some of others."""
        for array, given in zip(self, slopes, strict=True):
            array[rows] = given[which]


def climb(grid: Grid, bins: Bins, fit: Fit, near: bool = False) -> Slopes:
    """Climb to the maximum of the likelihood by Newton's method, and change the fit.

    Returns
    -------
    Slopes
        Where the last step of each spectrum began.
    """
    count, slopes = len(bins.flux), Slopes.make_empty(bins.flux.shape, grid.parameters)
    rows, now = np.arange(count), fit.take(np.arange(count))
    change, scale = np.full(count, np.inf), None
    for step in range(STEPS):
        continuum = evaluate(now.amplitudes, grid)
        renewed = change > 10 * CLOSE
        if scale is None or (renewed.any() and step < STEPS // 2):  # from then on it is the same function
            scale = _renew(renewed, _make_scale(bins, now, continuum), scale)
        limit = LIMITS[min(step + near * (len(LIMITS) - 2), len(LIMITS) - 1)]
        here, change = _step(grid, bins, now, continuum, scale, limit)
        if step > STEPS // 4:  # bins that are outliers now and again are left out
            bins = bins._replace(used=here.used)
        now.steps += 1
        now.converged = change < CLOSE
        if not now.converged.any() and step < STEPS - 1:
            continue
        ended, rest = (np.flatnonzero(which) for which in (now.converged | (step == STEPS - 1), ~now.converged))
        fit.put(rows[ended], now.take(ended))
        slopes.put(rows[ended], here, ended)
        if not len(rest):
            break
        rows, now, change, grid = rows[rest], now.take(rest), change[rest], grid.take(rest)
        bins, scale = bins.take(rest), Scale(*(array[rest] for array in scale))
    return slopes


def _renew(which: BoolArray, new: Scale, old: Scale | None) -> Scale:
    """Return the new scale of some spectra, and the old one of the others."""
    if old is None or which.all():
        return new
    return Scale(*(np.where(which[:, None, None], one, other) for one, other in zip(new, old, strict=True)))


def _make_scale(bins: Bins, fit: Fit, continuum: FloatArray) -> Scale:
    reference = np.maximum(continuum, 1e-3)
    doubt: float | FloatArray = FLOOR
    if fit.profile is not None:
        doubt = FLOOR + BRACKETT_DOUBT * np.abs(_broaden(fit.brackett)) * fit.profile
    error = np.sqrt(np.square(bins.error) + np.square(doubt * reference))
    return Scale(reference, error / reference, bins.used / error)


def evaluate(amplitudes: FloatArray, grid: Grid) -> FloatArray:
    """Return the sum of the series in each bin, shape (n, regions, bins)."""
    return np.asarray(np.matmul(amplitudes[:, :, None], grid.design)[:, :, 0])


def add_ridge(normal: FloatArray) -> FloatArray:
    """Add their ridges to normal matrices, and return these, shape (n, regions)."""
    ridge = np.asarray(np.maximum(RIDGE * np.trace(normal, axis1=2, axis2=3), 1e-12))
    diagonal = np.arange(normal.shape[-1])
    normal[..., diagonal, diagonal] += ridge[..., None]
    return ridge


def _step(
    grid: Grid, bins: Bins, fit: Fit, continuum: FloatArray, scale: Scale, limit: float
) -> tuple[Slopes, FloatArray]:
    """Make one step, and return where it began and how much each continuum changed, relative to itself."""
    absorbed = None if fit.profile is None else 1 - _broaden(fit.brackett) * fit.profile
    deviation = (bins.flux - (continuum if absorbed is None else continuum * absorbed)) * scale.inverse
    inside = deviation < limit
    used, inverse = bins.used * inside, scale.inverse * inside
    np.minimum(deviation, limit, out=deviation)
    # Probability that a bin has lines, and their expected depth in standard errors, without and with this probability.
    scaled = scale.ratio * _broaden(np.exp(-fit.log_depth))
    argument = deviation + scaled
    mean = expect_depth(argument)
    lined = scaled / (scaled + _broaden(np.exp(fit.log_free)) * (mean + argument))
    depth = lined * mean
    first = inverse * (deviation + depth)
    weight = np.square(inverse) * np.maximum(1 - lined + depth * (argument + depth), LEAST_WEIGHT)
    normal = make_normal(grid, weight if absorbed is None else weight * np.square(absorbed))
    ridge = add_ridge(normal)
    hidden, equations = _differentiate(fit, scale, (used, inverse, weight, first), (scaled, argument, mean, lined))
    sides = np.stack([first, *hidden], axis=2)
    if absorbed is not None:
        sides *= absorbed[:, :, None]
    right = np.matmul(grid.design, sides.swapaxes(2, 3))
    right[..., 0] -= ridge[..., None] * fit.amplitudes
    solved = np.asarray(np.linalg.solve(normal, right), np.float64)
    found = _solve_hidden(fit, equations, right, solved)
    moved = solved[..., 0] - np.matmul(solved[..., 1:], found[:, None, :, None])[..., 0]

    change = np.abs(evaluate(moved, grid) / scale.reference).max(axis=(1, 2))
    largest = np.abs(found[:, :2]).max(axis=1)
    length = np.minimum(1.0, np.minimum(0.7 / np.maximum(largest, 1e-9), 0.25 / np.maximum(change, 1e-9)))
    fit.amplitudes += length[:, None, None] * moved
    free = 1 / (1 + np.exp(-fit.log_free))
    fit.log_depth = np.clip(fit.log_depth + length * found[:, 0], *LOG_DEPTHS)
    fit.log_free = np.clip(fit.log_free + length * found[:, 1], *LOG_ODDS)
    if absorbed is not None:
        fit.brackett = np.clip(fit.brackett + length * found[:, 2], -0.6, 0.6)
    lines = (1 - free) * np.exp(fit.log_depth)
    change = np.maximum(change, lines * np.maximum(np.abs(found[:, 0]), free * np.abs(found[:, 1])))
    return Slopes(first, weight, used, normal), np.where(length == 1, change, 1.0)


def _broaden(values: FloatArray) -> FloatArray:
    """Give values of spectra, shape (n,), the axes of regions and bins."""
    return values[:, None, None]


def _dot(one: FloatArray, other: FloatArray) -> FloatArray:
    """Return the sum over regions and bins of products, shape (n,)."""
    return np.asarray(np.matmul(one.reshape(len(one), 1, -1), other.reshape(len(one), -1, 1))[:, 0, 0])


def _differentiate(
    fit: Fit,
    scale: Scale,
    bins: tuple[FloatArray, FloatArray, FloatArray, FloatArray],
    lines: tuple[FloatArray, FloatArray, FloatArray, FloatArray],
) -> tuple[list[FloatArray], tuple[FloatArray, FloatArray, FloatArray]]:
    """Return derivatives by what is fitted beside the amplitudes.

    That is the logarithm of the mean depth, the part without lines and, if they are fitted, the depth of the Brackett
    lines.

    Parameters
    ----------
    bins, lines
        What `_step` has computed for each bin.

    Returns
    -------
    mixed
        Second derivatives by each of these and the continuum, their sign changed, each of shape (n, regions, bins).
    square, slope, whole
        Second derivatives by two of these, sign changed, and first derivatives; and what the diagonal of the former
        would be if every bin said whether it has lines, and how deep they are.
    """
    (used, inverse, weight, first), (scaled, argument, mean, lined) = bins, lines
    free = 1 / (1 + np.exp(-fit.log_free))
    score = mean * scaled - 1
    varying = lined * (1 - (mean + argument) * mean) * scaled
    unsure = lined * (1 - lined)
    unsure_depth = unsure * mean
    mixed = [-inverse * (varying + unsure_depth * score), inverse * unsure_depth]
    number, count = len(free), 2 if fit.profile is None else 3
    square, slope, whole = np.zeros((number, count, count)), np.zeros((number, count)), np.ones((number, count))
    unsure *= used
    counted, with_lines, without_use = used.reshape(number, -1).sum(axis=1), _dot(used, lined), _dot(unsure, score)
    slope[:, 0] = _dot(used * lined, score)
    whole[:, 0] = slope[:, 0] + with_lines + 1
    slope[:, 0] -= fit.log_depth - math.log(DEPTH)
    square[:, 0, 0] = whole[:, 0] - _dot(used * varying, scaled) - _dot(unsure * score, score)
    slope[:, 1] = counted * (1 - free) - with_lines + PRIOR * (FREE - free)
    whole[:, 1] = (counted + PRIOR) * free * (1 - free)
    square[:, 1, 1] = whole[:, 1] - unsure.reshape(number, -1).sum(axis=1)
    square[:, 0, 1] = square[:, 1, 0] = without_use
    if fit.profile is not None:
        dimmed = -scale.reference * fit.profile
        for i in (0, 1):
            square[:, i, 2] = square[:, 2, i] = _dot(mixed[i], dimmed)
        mixed.append(weight * dimmed)
        square[:, 2, 2] = whole[:, 2] = _dot(mixed[2], dimmed)
        slope[:, 2] = _dot(first, dimmed)
    return mixed, (square, slope, np.maximum(whole, 1e-9))


def _solve_hidden(
    fit: Fit, equations: tuple[FloatArray, FloatArray, FloatArray], right: FloatArray, solved: FloatArray
) -> FloatArray:
    """Return the step of what is fitted beside the amplitudes, from equations without these; at a limit it is 0."""
    square, slope, whole = equations
    flat = right[..., 1:].reshape(len(slope), -1, slope.shape[1]).swapaxes(1, 2)
    shared = np.matmul(flat, solved.reshape(len(slope), -1, solved.shape[-1]))
    found = _solve_upwards(square - shared[..., 1:], slope - shared[..., 0], whole)
    for number, (values, (low, high)) in enumerate(((fit.log_depth, LOG_DEPTHS), (fit.log_free, LOG_ODDS))):
        step = found[:, number]
        step[((values <= low) & (step < 0)) | ((values >= high) & (step > 0))] = 0.0
    return found


def _solve_upwards(square: FloatArray, slope: FloatArray, whole: FloatArray) -> FloatArray:
    """Solve equations so that the step goes upwards, also where the function does not curve downwards."""
    scale = 1 / np.sqrt(whole)
    eigenvalues, vectors = np.linalg.eigh(square * scale[:, None] * scale[:, :, None])
    along = np.matmul(vectors.swapaxes(1, 2), (scale * slope)[..., None]) / np.maximum(eigenvalues, 0.03)[..., None]
    return np.asarray(scale * np.matmul(vectors, along)[..., 0])
