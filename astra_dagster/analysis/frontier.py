"""Continuum from all good pixels, by maximum likelihood. NumPy only: arrays in, arrays out.

The flux of a pixel is taken to be the continuum, less the depth of the lines there, plus noise. The noise is normal,
with the error of the pixel. A part of the pixels has no lines; the depths of the others are distributed exponentially.
That part and the mean depth are fitted too. In statistics this is the normal-exponential stochastic frontier (Aigner,
Lovell & Schmidt 1977, J. Econometrics 6, 21; Meeusen & van den Broeck 1977, Int. Econ. Rev. 18, 435), here with some
pixels that lie at the frontier itself. Noise does not raise the level, as it does where pixels are clipped.

The continuum is that of `continuum`: in each region a constant and the first sines and cosines of a long period. It is
fitted in bins (see `bins`), where there are any together with Brackett lines (see `brackett`). Every spectrum is
computed by itself, whatever its batch: one spectrum and many give the same bits.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from astra_dagster.analysis.bins import WIDTH, Bins, Grid, make_bins, make_grid, spread_bins
from astra_dagster.analysis.brackett import LEAST_DEPTH, find_brackett, make_profiles
from astra_dagster.analysis.continuum import RIDGE, Continuum, Regions, check_arguments, find_usable
from astra_dagster.analysis.truncated import expect_depth
from astra_dagster.arrays import BoolArray, FloatArray

FLOOR = 0.003
"""Part of the continuum that is added to the errors, as no continuum is a sum of a few sines to all digits."""

OUTLIER = 3.5
"""Bins that are so many standard errors above the continuum are not used: night sky, cosmic rays, emission lines."""

DEPTH, DEPTHS = 0.04, (1e-3, 0.5)
"""Mean depth that is expected, in units of the continuum, to a factor of e; and the least and the largest possible."""

FREE, PRIOR, LARGEST_ODDS = 0.3, 10.0, 5.0
"""Part of the bins that is expected to have no lines, as if seen in so many; and the largest logarithm of the odds."""

LEAST_WEIGHT = 1e-2
"""Smallest part of its weight that a bin keeps, whatever lines may hide."""

REACH = 0.1
"""The continuum is good within this part of the shortest period from bins that were used."""

LARGEST_ERROR = 0.1
"""The continuum is good where its standard error is at most this part of it."""

BRACKETT_DOUBT = 0.1
"""Part of the depth of Brackett lines that is added to the errors, as they have different widths in different stars."""

SPARSE = 4
"""The fit begins with every bin of so many, which costs a fraction and ends near the maximum for all."""

STEPS, CLOSE = 40, 2e-3
"""Most steps of a fit, and the largest relative change in the last: that of one more would be a tenth or less of it."""


@dataclass
class _Fit:
    """What is fitted.

    These are amplitudes (regions, parameters), the logarithms of the mean depth and of the odds that a bin has no
    lines, and the depth of the Brackett lines.

    ``profile`` is that of the Brackett lines, shape (regions, bins), None where they are not fitted.
    """

    amplitudes: FloatArray
    log_depth: float
    log_free: float
    brackett: float = 0.0
    profile: FloatArray | None = None
    velocity: float = 0.0
    steps: int = 0
    converged: bool = False


class _Scale(NamedTuple):
    """What a step is relative to: the continuum, standard errors with doubts, and their inverse, 0 in unused bins."""

    reference: FloatArray
    error: FloatArray
    inverse: FloatArray


class _Slopes(NamedTuple):
    """Derivatives of the likelihood.

    ``first`` and ``weight`` are the first derivative by the continuum, and the second with its sign changed, shape
    (regions, bins); ``normal`` is the second by amplitudes, sign changed, with its ridge, shape (regions, parameters,
    parameters). ``used`` is 1 for bins that are used and are no outliers.
    """

    first: FloatArray
    weight: FloatArray
    used: FloatArray
    normal: FloatArray


def fit_all_pixels(
    wavelength: FloatArray,
    flux: FloatArray,
    ivar: FloatArray,
    *,
    regions: Regions,
    period: float = 1400.0,
    order: int = 3,
    brackett: bool = False,
    fill_value: float = 1.0,
) -> Continuum:
    """Fit a sum of sines and cosines, and the mean depth of lines, to all good pixels of each region.

    Parameters
    ----------
    wavelength
        Increasing wavelength in Angstrom, of shape (pixels,) for a grid that all spectra share, else (n, pixels).
    flux, ivar
        Flux and inverse variance, shape (n, pixels). Pixels whose inverse variance is not positive, or whose flux is
        not finite, are not used.
    regions
        Start and end in Angstrom of each stretch that is fitted by itself. Where two overlap, the later fit is used.
    period, order
        Longest period in Angstrom, and number of sines, and of cosines.
    brackett
        Whether to look for Brackett lines, whose wings hide the continuum of hot stars, and to fit their depth.
    fill_value
        Continuum outside the regions, and in regions without a fit.

    Returns
    -------
    Continuum
        ``fitted`` is False where the continuum has no support: too far from pixels that were used, too uncertain, or
        not positive. A region is fitted if it has five bins of three pixels for each parameter.

    Raises
    ------
    AnalysisError
        If wavelengths do not increase, the shapes do not fit together, or a parameter is impossible.
    """
    flux, ivar = np.atleast_2d(flux), np.atleast_2d(ivar)
    check_arguments(wavelength, flux, ivar, regions, regions, period, order)
    found = Continuum.make_empty(flux.shape, len(regions), fill_value)
    good = find_usable(flux, ivar)
    for i in range(len(flux)):
        if i == 0 or wavelength.ndim == 2:
            grid = wavelength if wavelength.ndim == 1 else wavelength[i]
            bins = make_grid(grid, regions, period, order)
        _fit_one(found, i, bins, (flux[i], ivar[i], good[i]), REACH * period / max(order, 1), brackett)
    return found


def _fit_one(
    found: Continuum,
    row: int,
    grid: Grid,
    pixels: tuple[FloatArray, FloatArray, BoolArray],
    reach: float,
    brackett: bool,
) -> None:
    """Fit one spectrum, given its flux, inverse variance and good pixels, and write what was found in its row."""
    bins = make_bins(grid, *pixels)
    level = float(np.median(bins.flux[bins.used > 0])) if bins.used.any() else 0.0
    if not level > 0:
        return
    # What is out of bounds here is no spectrum; bounded it does no harm, and overflows nowhere.
    bins = Bins(np.clip(bins.flux / level, -1e4, 1e4), np.clip(bins.error / level, 1e-6, 1e6), bins.used)
    thin = (slice(None), slice(None, None, SPARSE))
    sparse = grid._replace(wavelength=grid.wavelength[thin], design=np.ascontiguousarray(grid.design[:, :, ::SPARSE]))
    fewer = Bins(*(np.ascontiguousarray(array[thin]) for array in bins))
    fit = _begin(sparse, fewer)
    slopes = _climb(sparse, fewer, fit)
    if brackett:
        _fit_brackett(sparse, fewer, fit, slopes)
        if fit.profile is not None:
            fit.profile = make_profiles(grid.wavelength, [fit.velocity])[0]
    slopes = _climb(grid, bins, fit)
    eigenvalues = np.linalg.eigvalsh(slopes.normal)
    continuum = _evaluate(fit.amplitudes, grid)
    supported = _find_support(grid, continuum, slopes.normal, slopes.used > 0, reach)
    for number, inside in enumerate(grid.inside):
        if not bins.used[number].any():
            continue
        count = int(grid.real[number].sum())
        spread = level * spread_bins(continuum[number, :count], inside.stop - inside.start)
        found.values[row, inside] = spread
        padding = (0, len(spread) - WIDTH * count)
        near = np.pad(np.repeat(supported[number, :count], WIDTH), padding, mode="edge")
        found.fitted[row, inside] = near & (spread > 0)
        found.used[row, inside] |= np.pad(np.repeat(slopes.used[number, :count] > 0, WIDTH), padding)
        found.condition[row, number] = eigenvalues[number, -1] / eigenvalues[number, 0]
    found.used[row] &= pixels[2]
    found.steps[row], found.converged[row] = fit.steps, fit.converged
    found.brackett[row] = fit.brackett


def _begin(grid: Grid, bins: Bins) -> _Fit:
    """Fit by least squares in which bins above the fit count four times as much as others: where the search begins."""
    used, weight = bins.used, bins.used
    ordered, count = np.sort(np.where(used > 0, bins.flux, np.inf)), used.sum(axis=1)
    low, high = (np.take_along_axis(ordered, (part * count).astype(np.intp)[:, None], axis=1) for part in (0.05, 0.9))
    flux = np.where(used > 0, np.clip(bins.flux, low, high), 0.0)
    for _ in range(3):
        normal, _ = _make_normal(grid.design, weight)
        amplitudes = np.linalg.solve(normal, np.matmul(grid.design, (weight * flux)[..., None]))[..., 0]
        continuum = _evaluate(np.asarray(amplitudes, np.float64), grid)
        weight = used * np.where(flux > continuum, 4.0, 1.0)
    depth = (used * np.maximum(continuum - flux, 0)).sum() / max((used * continuum).sum(), 1e-3)
    return _Fit(
        np.asarray(amplitudes, np.float64),
        float(np.log(np.clip(depth, DEPTHS[0], 2 * DEPTH))),
        float(np.log(FREE / (1 - FREE))),
    )


def _make_normal(design: FloatArray, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return normal matrices with their ridges, shape (regions, parameters, parameters), and the ridges, (regions,)."""
    normal = np.matmul(design * weight[:, None], design.swapaxes(1, 2))
    ridge = np.maximum(RIDGE * np.trace(normal, axis1=1, axis2=2), 1e-12)
    diagonal = np.arange(design.shape[1])
    normal[:, diagonal, diagonal] += ridge[:, None]
    return normal, ridge


def _climb(grid: Grid, bins: Bins, fit: _Fit) -> _Slopes:
    """Climb to the maximum of the likelihood by Newton's method, and change the fit."""
    change, far, fit.converged = 1.0, fit.profile is None, False
    for step in range(STEPS):
        continuum = _evaluate(fit.amplitudes, grid)
        if change > 10 * CLOSE and step < STEPS // 2:  # from then on it is the same function that is climbed
            scale = _make_scale(bins, fit, continuum)
        far &= change > 0.02
        slopes, change = _step(grid, bins, fit, continuum, scale, far)
        if step > STEPS // 4:  # bins that are outliers now and again are left out
            bins = bins._replace(used=slopes.used)
        fit.steps += 1
        if change < CLOSE:
            fit.converged = True
            break
    return slopes


def _make_scale(bins: Bins, fit: _Fit, continuum: FloatArray) -> _Scale:
    reference = np.maximum(continuum, 1e-3)
    doubt = FLOOR if fit.profile is None else FLOOR + BRACKETT_DOUBT * abs(fit.brackett) * fit.profile
    error = np.sqrt(np.square(bins.error) + np.square(doubt * reference))
    return _Scale(reference, error, bins.used / error)


def _evaluate(amplitudes: FloatArray, grid: Grid) -> FloatArray:
    """Return the sum of the series in each bin, shape (regions, bins)."""
    return np.asarray(np.matmul(amplitudes[:, None], grid.design)[:, 0])


def _step(
    grid: Grid,
    bins: Bins,
    fit: _Fit,
    continuum: FloatArray,
    scale: _Scale,
    far: bool,
) -> tuple[_Slopes, float]:
    """Make one step, and return where it began and how much the continuum changed, relative to itself.

    Far from the maximum outliers pull as much as bins at the limit, near it not at all.
    """
    (reference, error, inverse), design = scale, grid.design
    if fit.profile is not None:
        absorbed = 1 - fit.brackett * fit.profile
        continuum, design = continuum * absorbed, design * absorbed[:, None]
    deviation = (bins.flux - continuum) / error
    scaled = error * (np.exp(-fit.log_depth) / reference)
    mean, hazard = expect_depth(deviation + scaled)
    used = bins.used
    if far:
        deviation = np.minimum(deviation, OUTLIER)
    else:
        used = used * (deviation < OUTLIER)
        inverse = inverse * used
    # Probability that a bin has lines, and its expected depth and the variance of it if so.
    free = 1 / (1 + np.exp(-fit.log_free))
    lined = scaled * (1 - free)
    lined /= lined + free * hazard
    both = lined * (1 - lined)
    variance = 1 - hazard * mean
    score = mean * scaled - 1
    first = inverse * (deviation + lined * mean)
    weight = np.square(inverse) * np.maximum(1 - lined * variance - both * np.square(mean), LEAST_WEIGHT)
    normal, ridge = _make_normal(design, weight)

    # Second derivatives, with their sign changed, by the logarithm of the mean depth, the part without lines and, if
    # they are fitted, the depth of the Brackett lines. These few are found first, from equations without amplitudes.
    sides = [first, -inverse * (lined * variance * scaled + both * mean * score), inverse * both * mean]
    others = 2 if fit.profile is None else 3
    square, slope, whole = np.zeros((others, others)), np.zeros(others), np.ones(others)
    there, both = used * lined, used * both
    counted = float(used.sum())
    slope[0] = np.vdot(there, score) - (fit.log_depth - np.log(DEPTH))
    whole[0] = np.vdot(there, score) + there.sum() + 1
    square[0, 0] = whole[0] - np.vdot(there, variance * np.square(scaled)) - np.vdot(both, np.square(score))
    slope[1] = counted * (1 - free) - there.sum() + PRIOR * (FREE - free)
    whole[1] = (counted + PRIOR) * free * (1 - free)
    square[1, 1] = whole[1] - both.sum()
    square[0, 1] = square[1, 0] = np.vdot(both, score)
    if fit.profile is not None:
        dimmed = -reference * fit.profile
        sides.append(weight * dimmed)
        for number in (0, 1):
            square[number, 2] = square[2, number] = np.vdot(sides[number + 1], dimmed)
        square[2, 2] = whole[2] = np.vdot(weight, np.square(dimmed))
        slope[2] = np.vdot(first, dimmed)
    right = np.matmul(design, np.stack(sides, axis=-1))
    right[..., 0] -= ridge[:, None] * fit.amplitudes
    solved = np.linalg.solve(normal, right)
    square -= np.einsum("rpi,rpj->ij", right[..., 1:], solved[..., 1:])
    slope -= np.einsum("rpi,rp->i", right[..., 1:], solved[..., 0])
    found = _solve_upwards(square, slope, np.maximum(whole, 1e-9))
    limits = (np.log(DEPTHS[0]), np.log(DEPTHS[1])), (-LARGEST_ODDS, LARGEST_ODDS)
    for number, (value, (low, high)) in enumerate(zip((fit.log_depth, fit.log_free), limits, strict=True)):
        # Far from the maximum outliers would raise the depth together with the continuum.
        if far or (value <= low and found[number] < 0) or (value >= high and found[number] > 0):
            found[number] = 0.0
    moved = solved[..., 0] - solved[..., 1:] @ found

    change = float(np.max(np.abs(_evaluate(moved, grid)) / reference))
    length = min(1.0, 0.7 / max(float(np.max(np.abs(found[:2]))), 1e-9), 0.25 / max(change, 1e-9))
    fit.amplitudes = fit.amplitudes + length * moved
    fit.log_depth = _bound(fit.log_depth + length * float(found[0]), *limits[0])
    fit.log_free = _bound(fit.log_free + length * float(found[1]), *limits[1])
    if others > 2:
        fit.brackett = _bound(fit.brackett + length * float(found[2]), -0.6, 0.6)
    depth = float(np.exp(fit.log_depth))
    change = max(change, (1 - free) * depth * float(abs(found[0])), free * (1 - free) * depth * float(abs(found[1])))
    return _Slopes(first, weight, used, normal), change if length == 1 else 1.0


def _solve_upwards(square: FloatArray, slope: FloatArray, whole: FloatArray) -> FloatArray:
    """Solve equations so that the step goes upwards, also where the function does not curve downwards.

    `whole` is what the diagonal would be if every bin said whether it has lines, and how deep they are.
    """
    scale = 1 / np.sqrt(whole)
    eigenvalues, vectors = np.linalg.eigh(square * scale * scale[:, None])
    return np.asarray(scale * (vectors @ ((vectors.T @ (scale * slope)) / np.maximum(eigenvalues, 0.03))))


def _bound(value: float, low: float, high: float) -> float:
    return float(min(max(value, low), high))


def _find_support(grid: Grid, continuum: FloatArray, normal: FloatArray, used: BoolArray, reach: float) -> BoolArray:
    """Return which bins have a continuum that can be used, shape (regions, bins)."""
    variance = (np.matmul(np.linalg.inv(normal), grid.design) * grid.design).sum(axis=1)
    good = grid.real & (continuum > 0) & (variance <= np.square(LARGEST_ERROR * continuum))
    number = np.arange(good.shape[1])
    for row, wavelength, there in zip(good, grid.wavelength, used, strict=True):
        before = np.maximum.accumulate(np.where(there, number, 0))
        after = np.minimum.accumulate(np.where(there, number, number[-1])[::-1])[::-1]
        row &= (there[before] & (wavelength - wavelength[before] <= reach)) | (
            there[after] & (wavelength[after] - wavelength <= reach)
        )
    return np.asarray(good)


def _fit_brackett(grid: Grid, bins: Bins, fit: _Fit, slopes: _Slopes) -> None:
    """Fit Brackett lines too if there are any, at the velocity where they are clearest."""
    continuum = _evaluate(fit.amplitudes, grid)
    found = find_brackett(
        grid.wavelength, continuum, grid.design, slopes.first, slopes.weight, slopes.normal, 1 / SPARSE
    )
    if found is None:
        return
    before = replace(fit)
    fit.velocity, fit.brackett = found
    fit.profile = make_profiles(grid.wavelength, [fit.velocity])[0]
    _climb(grid, bins, fit)
    if abs(fit.brackett) < LEAST_DEPTH:
        fit.amplitudes, fit.log_depth, fit.log_free = before.amplitudes, before.log_depth, before.log_free
        fit.brackett, fit.profile = 0.0, None
