"""Continuum from all good pixels, by maximum likelihood. NumPy only: arrays in, arrays out.

The flux of a pixel is taken to be the continuum, less the depth of the lines there, plus noise. The noise is normal,
with the error of the pixel; depths are distributed exponentially, with a mean that is fitted too. In statistics this is
the normal-exponential stochastic frontier (Aigner, Lovell & Schmidt 1977, J. Econometrics 6, 21; Meeusen & van den
Broeck 1977, Int. Econ. Rev. 18, 435). For a given mean depth the likelihood has one maximum, so that nothing depends on
where the search begins; and noise does not raise the level, as it does where pixels are clipped.

The continuum itself is that of `continuum`: in each region a constant and the first sines and cosines of a long period.
Every spectrum is computed by itself, whatever its batch: one spectrum and many give the same bits.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from astra_dagster.analysis.continuum import (
    RIDGE,
    Continuum,
    Regions,
    check_arguments,
    compute_first_harmonic,
    make_design,
)
from astra_dagster.analysis.velocity import C
from astra_dagster.arrays import BoolArray, FloatArray, IndexArray

WIDTH = 3
"""Pixels in a bin: about an element of resolution of the SDSS spectrographs."""

FLOOR = 0.003
"""Part of the continuum that is added to the errors, as no continuum is a sum of a few sines to all digits."""

OUTLIER = 3.5
"""Bins that are so many standard errors above the continuum are not used: night sky, cosmic rays, emission lines."""

NOISY = 3.0
"""Bins whose error is larger than so many times the median error of the spectrum are not used."""

DEPTH, DEPTHS = 0.04, (1e-3, 0.5)
"""Mean depth that is expected, in units of the continuum, to a factor of e; and the least and the largest possible."""

FREE, PRIOR, LARGEST_ODDS = 0.3, 10.0, 5.0
"""Part of the bins that is expected to have no lines, as if seen in so many; and the largest logarithm of the odds."""

LEAST_WEIGHT = 1e-2
"""Smallest part of its weight that a bin keeps, whatever lines may hide."""

SHARE = 5
"""A region is fitted if it has at least so many bins for each parameter."""

REACH = 0.1
"""The continuum is good within this part of the shortest period from bins that were used."""

LARGEST_ERROR = 0.1
"""The continuum is good where its standard error is at most this part of it."""

BRACKETT = 1e10 / (1.0973731568e7 * (1 - 1 / 1836.15267) * (1 / 16 - 1 / np.arange(10.0, 22.0) ** 2))
"""Vacuum wavelengths in Angstrom of the Brackett lines of hydrogen with upper levels 10 to 21."""

BRACKETT_WIDTH, BRACKETT_DEPTH, SIGNIFICANCE = 31.0, 0.035, 5.0
"""Full width at half depth in Angstrom; and the least depth, and depth in standard errors, that are taken for real."""

BRACKETT_DOUBT = 0.1
"""Part of the depth of Brackett lines that is added to the errors, as they have different widths in different stars."""

VELOCITIES = (-450.0, -300.0, -150.0, 0.0, 150.0, 300.0, 450.0)
"""Velocities in km/s at which Brackett lines are looked for; their width is that of 650 km/s."""

SPARSE = 4
"""The fit begins with every bin of so many, which costs a fraction and ends near the maximum for all."""

STEPS, CLOSE = 40, 2e-3
"""Most steps of a fit, and the largest relative change in the last: that of one more would be a tenth or less of it."""


class _Grid(NamedTuple):
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


class _Bins(NamedTuple):
    """Flux of a spectrum, its standard error, and 1 where a bin is used, else 0, each of shape (regions, bins)."""

    flux: FloatArray
    error: FloatArray
    used: FloatArray


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
    usable: BoolArray | None = None,
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
    usable
        False for pixels that the fit must not use, shape (n, pixels); all by default.
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
    good = (ivar > 0) & (ivar < np.inf) & np.isfinite(flux)
    if usable is not None:
        good &= usable
    for i in range(len(flux)):
        if i == 0 or wavelength.ndim == 2:
            grid = wavelength if wavelength.ndim == 1 else wavelength[i]
            bins = _make_grid(grid, regions, period, order)
        _fit_one(found, i, bins, (flux[i], ivar[i], good[i]), REACH * period / max(order, 1), brackett)
    return found


def _make_grid(wavelength: FloatArray, regions: Regions, period: float, order: int) -> _Grid:
    """Divide the pixels of each region into bins; the last pixels, fewer than a bin, are left out."""
    inside = [
        slice(*(int(i) for i in np.searchsorted(wavelength, (low, np.nextafter(high, np.inf)))))
        for low, high in regions
    ]
    counts = np.array([(part.stop - part.start) // WIDTH for part in inside])
    numbers = np.arange(max(counts.max(), 1))
    real = numbers < counts[:, None]
    starts = np.where(real, np.array([part.start for part in inside])[:, None] + WIDTH * numbers, 0)
    middle = starts + (WIDTH // 2 if wavelength.size >= WIDTH else 0)
    centres = wavelength.take(middle)
    design = make_design(compute_first_harmonic(centres.ravel(), period), order).reshape(-1, *real.shape)
    design = np.ascontiguousarray(design.swapaxes(0, 1) * real[:, None])
    pixels = (starts[..., None] + np.arange(WIDTH)).ravel()
    return _Grid(np.minimum(pixels, wavelength.size - 1), real, centres, design, inside)


def _make_bins(grid: _Grid, flux: FloatArray, ivar: FloatArray, good: BoolArray) -> _Bins:
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
    return _Bins(total / number, np.where(enough, error, 1.0), enough.astype(np.float64))


def _fit_one(
    found: Continuum,
    row: int,
    grid: _Grid,
    pixels: tuple[FloatArray, FloatArray, BoolArray],
    reach: float,
    brackett: bool,
) -> None:
    """Fit one spectrum, given its flux, inverse variance and good pixels, and write what was found in its row."""
    bins = _make_bins(grid, *pixels)
    level = float(np.median(bins.flux[bins.used > 0])) if bins.used.any() else 0.0
    if not level > 0:
        return
    # What is out of bounds here is no spectrum; bounded it does no harm, and overflows nowhere.
    bins = _Bins(np.clip(bins.flux / level, -1e4, 1e4), np.clip(bins.error / level, 1e-6, 1e6), bins.used)
    thin = (slice(None), slice(None, None, SPARSE))
    sparse = grid._replace(wavelength=grid.wavelength[thin], design=np.ascontiguousarray(grid.design[:, :, ::SPARSE]))
    fewer = _Bins(*(np.ascontiguousarray(array[thin]) for array in bins))
    fit = _begin(sparse, fewer)
    slopes = _climb(sparse, fewer, fit)
    if brackett:
        _fit_brackett(sparse, fewer, fit, slopes)
        if fit.profile is not None:
            fit.profile = _make_profiles(grid.wavelength, [fit.velocity])[0]
    slopes = _climb(grid, bins, fit)
    eigenvalues = np.linalg.eigvalsh(slopes.normal)
    continuum = np.matmul(fit.amplitudes[:, None], grid.design)[:, 0]
    supported = _find_support(grid, continuum, slopes.normal, slopes.used > 0, reach)
    for number, inside in enumerate(grid.inside):
        if not bins.used[number].any():
            continue
        count = int(grid.real[number].sum())
        spread = level * _spread(continuum[number, :count], inside.stop - inside.start)
        found.values[row, inside] = spread
        padding = (0, len(spread) - WIDTH * count)
        near = np.pad(np.repeat(supported[number, :count], WIDTH), padding, mode="edge")
        found.fitted[row, inside] = near & (spread > 0)
        found.used[row, inside] |= np.pad(np.repeat(slopes.used[number, :count] > 0, WIDTH), padding)
        found.condition[row, number] = eigenvalues[number, -1] / eigenvalues[number, 0]
    found.used[row] &= pixels[2]
    found.steps[row], found.converged[row] = fit.steps, fit.converged
    found.depth[row], found.brackett[row] = np.exp(fit.log_depth), fit.brackett


def _spread(values: FloatArray, pixels: int) -> FloatArray:
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


def _begin(grid: _Grid, bins: _Bins) -> _Fit:
    """Fit by least squares in which bins above the fit count four times as much as others: where the search begins."""
    used, weight = bins.used, bins.used
    ordered, count = np.sort(np.where(used > 0, bins.flux, np.inf)), used.sum(axis=1)
    low, high = (np.take_along_axis(ordered, (part * count).astype(np.intp)[:, None], axis=1) for part in (0.05, 0.9))
    flux = np.where(used > 0, np.clip(bins.flux, low, high), 0.0)
    for _ in range(3):
        normal, _ = _make_normal(grid.design, weight)
        amplitudes = np.linalg.solve(normal, np.matmul(grid.design, (weight * flux)[..., None]))[..., 0]
        continuum = np.matmul(amplitudes[:, None], grid.design)[:, 0]
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


def _climb(grid: _Grid, bins: _Bins, fit: _Fit) -> _Slopes:
    """Climb to the maximum of the likelihood by Newton's method, and change the fit."""
    change, far, fit.converged = 1.0, fit.profile is None, False
    for step in range(STEPS):
        continuum = np.matmul(fit.amplitudes[:, None], grid.design)[:, 0]
        if change > 10 * CLOSE and step < STEPS // 2:  # from then on it is the same function that is climbed
            reference = np.maximum(continuum, 1e-3)
            doubt = FLOOR if fit.profile is None else FLOOR + BRACKETT_DOUBT * abs(fit.brackett) * fit.profile
            error = np.sqrt(np.square(bins.error) + np.square(doubt * reference))
            inverse = bins.used / error
        far &= change > 0.02
        slopes, change = _step(grid, bins, fit, continuum, reference, error, inverse, far)
        if step > STEPS // 4:  # bins that are outliers now and again are left out
            bins = bins._replace(used=slopes.used)
        fit.steps += 1
        if change < CLOSE:
            fit.converged = True
            break
    return slopes


def _step(
    grid: _Grid,
    bins: _Bins,
    fit: _Fit,
    continuum: FloatArray,
    reference: FloatArray,
    error: FloatArray,
    inverse: FloatArray,
    far: bool,
) -> tuple[_Slopes, float]:
    """Make one step, and return where it began and how much the continuum changed, relative to itself.

    Far from the maximum outliers pull as much as bins at the limit, near it not at all.
    """
    design = grid.design
    if fit.profile is not None:
        absorbed = 1 - fit.brackett * fit.profile
        continuum, design = continuum * absorbed, design * absorbed[:, None]
    deviation = (bins.flux - continuum) / error
    scaled = error * (np.exp(-fit.log_depth) / reference)
    mean, hazard = _expect_depth(deviation + scaled)
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

    change = float(np.max(np.abs(np.matmul(moved[:, None], grid.design)[:, 0]) / reference))
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


_EXPECTED = (
    0.2750106816812303,
    0.27368429726877097,
    0.2595890796802098,
    -0.03899440131868386,
    0.6601946930860166,
    -0.9964410541890374,
    0.36481095010923975,
)
"""Coefficients of the powers of 1 / (1 + 0.275 x), from the first: their sum is `_expect_depth` to 4e-5 for x >= 0."""


def _expect_depth(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the mean of a normal distribution of mean -x and width 1 above 0, and its density at 0."""
    far = np.abs(x)
    inverse = 1 / (1 + 0.275 * far)
    mean = inverse * _EXPECTED[-1]
    for coefficient in _EXPECTED[-2::-1]:
        mean += coefficient
        mean *= inverse
    hazard = mean + far  # both are those of -|x|, from which those of |x| follow
    density = np.exp(np.square(x) * -0.5)
    density *= 0.3989422804014327
    density /= 1 - density / hazard
    below = x < 0
    np.copyto(hazard, density, where=below)
    np.copyto(mean, density + far, where=below)
    return mean, hazard


def _find_support(grid: _Grid, continuum: FloatArray, normal: FloatArray, used: BoolArray, reach: float) -> BoolArray:
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


def _fit_brackett(grid: _Grid, bins: _Bins, fit: _Fit, slopes: _Slopes) -> None:
    """Look for Brackett lines by a test of the slopes, and fit those of the clearest velocity if there are any."""
    profiles = _make_profiles(grid.wavelength)
    dimmed = -np.matmul(fit.amplitudes[:, None], grid.design)[:, 0] * profiles
    weighted = slopes.weight * dimmed
    shared = np.einsum("vrb,rpb->rpv", weighted, grid.design, optimize=True)
    slope = (slopes.first * dimmed).sum(axis=(1, 2))
    information = (weighted * dimmed).sum(axis=(1, 2)) - (shared * np.linalg.solve(slopes.normal, shared)).sum((0, 1))
    information = np.maximum(information, 1e-12)
    best = int(np.argmax(np.abs(slope) / np.sqrt(information)))
    if abs(slope[best]) < max(SIGNIFICANCE * np.sqrt(information[best] / SPARSE), BRACKETT_DEPTH * information[best]):
        return
    before = replace(fit)
    fit.velocity = _find_vertex(np.array(VELOCITIES), np.abs(slope) / np.sqrt(information), best)
    fit.profile = _make_profiles(grid.wavelength, [fit.velocity])[0]
    fit.brackett = float(np.clip(slope[best] / information[best], -0.5, 0.5))
    _climb(grid, bins, fit)
    if abs(fit.brackett) < BRACKETT_DEPTH:
        fit.amplitudes, fit.log_depth, fit.log_free = before.amplitudes, before.log_depth, before.log_free
        fit.brackett, fit.profile = 0.0, None


def _find_vertex(x: FloatArray, y: FloatArray, best: int) -> float:
    """Return where the parabola through the highest point and its neighbours has its vertex."""
    if not 0 < best < len(x) - 1:
        return float(x[best])
    before, here, after = y[best - 1 : best + 2]
    return float(x[best] + 0.5 * (before - after) / (before - 2 * here + after) * (x[1] - x[0]))


def _make_profiles(wavelength: FloatArray, velocities: Sequence[float] = VELOCITIES) -> FloatArray:
    """Return the depth of all Brackett lines where that of the first would be 1, shape (velocities, regions, bins)."""
    shifted = np.log(wavelength) - np.log1p(np.array(velocities) / C)[:, None, None]
    return np.asarray(np.interp(shifted, *_tabulate_profile()), np.float64)


@functools.cache
def _tabulate_profile() -> tuple[FloatArray, FloatArray]:
    """Return logarithms of wavelengths, and the depth of all Brackett lines there."""
    wavelength = np.arange(14_900.0, 17_400.0, 1.0)
    level = np.arange(10.0, 10.0 + len(BRACKETT))
    lines = 10 / level / (1 + np.abs((wavelength[:, None] - BRACKETT) / (BRACKETT_WIDTH / 2)) ** 2.5)
    return np.log(wavelength), lines.sum(axis=1)
