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

from collections.abc import Sequence

import numpy as np

from astra_dagster.analysis.bins import Bins, Grid, make_bins, make_grids, make_normal, repeat_bins, spread_bins
from astra_dagster.analysis.brackett import LEAST_DEPTH, find_brackett, make_profiles
from astra_dagster.analysis.continuum import Continuum, Regions, check_arguments, find_usable
from astra_dagster.analysis.likelihood import DEPTH, FREE, LOG_DEPTHS, Fit, Slopes, add_ridge, climb, evaluate
from astra_dagster.arrays import BoolArray, FloatArray

REACH = 0.1
"""The continuum is good within this part of the shortest period from bins that were used."""

LARGEST_ERROR = 0.1
"""The continuum is good where its standard error is at most this part of it."""

SPARSE = 4
"""The fit begins with every bin of so many, which costs a fraction and ends near the maximum for all."""

TOGETHER = 8
"""Spectra that are fitted side by side: few enough that their arrays stay in the processor's cache."""


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
        not positive. A region is fitted if it has five bins of four pixels for each parameter.

    Raises
    ------
    AnalysisError
        If wavelengths do not increase, the shapes do not fit together, or a parameter is impossible.
    """
    flux, ivar = np.atleast_2d(flux), np.atleast_2d(ivar)
    check_arguments(wavelength, flux, ivar, regions, regions, period, order)
    found = Continuum.make_empty(flux.shape, len(regions), fill_value)
    good, reach = find_usable(flux, ivar), REACH * period / max(order, 1)
    options = (regions, period, order)
    grids = make_grids([wavelength], *options) if wavelength.ndim == 1 else []
    for start in range(0, len(flux), TOGETHER):
        stop = min(start + TOGETHER, len(flux))
        if wavelength.ndim == 2:
            grids = make_grids(list(wavelength[start:stop]), *options)
        for places, grid in grids:
            rows = [start + place for place in (places if wavelength.ndim == 2 else range(stop - start))]
            _fit_rows(found, rows, grid, (flux, ivar, good), reach, brackett)
    found.used[:] &= good
    return found


def _fit_rows(
    found: Continuum,
    rows: list[int],
    grid: Grid,
    pixels: tuple[FloatArray, FloatArray, BoolArray],
    reach: float,
    brackett: bool,
) -> None:
    """Fit some rows of flux, inverse variance and good pixels side by side, and write what was found in these rows."""
    made = [make_bins(grid, i, *(array[row] for array in pixels)) for i, row in enumerate(rows)]
    bins = Bins(*map(np.stack, zip(*made, strict=True)))
    levels = np.array([np.median(one.flux[one.used > 0]) if one.used.any() else 0.0 for one in made])
    some = np.flatnonzero(levels > 0)
    if not len(some):
        return
    rows, grid, level = [rows[i] for i in some.tolist()], grid.take(some), levels[some][:, None, None]
    # What is out of bounds here is no spectrum; bounded it does no harm, and overflows nowhere.
    bounded = np.clip(bins.flux[some] / level, -1e4, 1e4), np.clip(bins.error[some] / level, 1e-6, 1e6)
    bins = Bins(*bounded, bins.used[some])
    fit, slopes = _fit_together(grid, bins, brackett)
    continuum = evaluate(fit.amplitudes, grid)
    supported = _find_support(grid, continuum, slopes, reach)
    eigenvalues = np.linalg.eigvalsh(slopes.normal)
    condition = eigenvalues[..., -1] / eigenvalues[..., 0]
    found.condition[rows] = np.where(bins.used.any(axis=2), condition, np.nan)
    found.steps[rows], found.converged[rows], found.brackett[rows] = fit.steps, fit.converged, fit.brackett
    for i, row in enumerate(rows):
        place = grid.place(i)
        for number, inside in enumerate(grid.inside[place]):
            count, size = int(grid.real[place, number].sum()), inside.stop - inside.start
            if np.isnan(found.condition[row, number]):
                continue
            spread = spread_bins(level[i, 0] * continuum[i, number, :count], size)
            near = supported[i, number, :count]
            found.values[row, inside] = spread
            found.fitted[row, inside] = repeat_bins(near, size, near[-1]) & (spread > 0)
            found.used[row, inside] |= repeat_bins(slopes.used[i, number, :count] > 0, size, last=False)


def _fit_together(grid: Grid, bins: Bins, brackett: bool) -> tuple[Fit, Slopes]:
    """Fit spectra with as many bins side by side."""
    sparse = grid.take_every(SPARSE)
    fewer = bins.take_every(SPARSE)
    fit = _begin(sparse, fewer)
    slopes = climb(sparse, fewer, fit)
    velocities = _fit_brackett(sparse, fewer, fit, slopes) if brackett else {}
    hot = np.array(sorted(velocities), np.intp)
    cool = np.setdiff1d(np.arange(len(bins.flux)), hot)
    if not len(hot):
        return fit, climb(grid, bins, fit, near=True)
    slopes = Slopes.make_empty(bins.flux.shape, grid.parameters)
    for rows in (part for part in (cool, hot) if len(part)):
        part, own = fit.take(rows), grid.take(rows)
        if rows is hot:
            part.profile = _make_profiles(own, [velocities[row] for row in rows.tolist()])
        slopes.put(rows, climb(own, bins.take(rows), part, near=True))
        fit.put(rows, part)
    return fit, slopes


def _begin(grid: Grid, bins: Bins) -> Fit:
    """Fit by least squares in which bins above the fit count four times as much as others: where the search begins."""
    used, weight, spectra = bins.used, bins.used, len(bins.used)
    ordered, count = np.sort(np.where(used > 0, bins.flux, np.inf)), used.sum(axis=2)
    low, high = (np.take_along_axis(ordered, (part * count).astype(np.intp)[..., None], axis=2) for part in (0.05, 0.9))
    flux = np.where(used > 0, np.clip(bins.flux, low, high), 0.0)
    for _ in range(3):
        normal = make_normal(grid, weight)
        add_ridge(normal)
        solved = np.linalg.solve(normal, np.matmul(grid.design, (weight * flux)[..., None]))
        amplitudes = np.asarray(solved[..., 0], np.float64)
        continuum = evaluate(amplitudes, grid)
        weight = used * np.where(flux > continuum, 4.0, 1.0)
    depths, levels = used * np.maximum(continuum - flux, 0), used * continuum
    depth = depths.reshape(spectra, -1).sum(axis=1) / np.maximum(levels.reshape(spectra, -1).sum(axis=1), 1e-3)
    return Fit(
        amplitudes,
        np.clip(np.log(np.maximum(depth, 1e-9)), LOG_DEPTHS[0], np.log(2 * DEPTH)),
        np.full(spectra, np.log(FREE / (1 - FREE))),
        np.zeros(spectra),
        None,
        np.zeros(spectra, np.intp),
        np.zeros(spectra, bool),
    )


def _fit_brackett(grid: Grid, bins: Bins, fit: Fit, slopes: Slopes) -> dict[int, float]:
    """Fit Brackett lines where there are any, and return the velocity at which they are clearest, by spectrum."""
    continuum, velocities = evaluate(fit.amplitudes, grid), {}
    for row in range(len(continuum)):
        place = grid.place(row)
        derivatives = slopes.first[row], slopes.weight[row], slopes.normal[row]
        found = find_brackett(grid.wavelength[place], continuum[row], grid.design[place], *derivatives, 1 / SPARSE)
        if found is None:
            continue
        only = np.array([row])
        alone, one = fit.take(only), grid.take(only)
        velocities[row], alone.brackett[0] = found
        alone.profile = _make_profiles(one, [velocities[row]])
        climb(one, bins.take(only), alone, near=True)
        if abs(alone.brackett[0]) < LEAST_DEPTH:
            del velocities[row]
            fit.steps[row] = alone.steps[0]
        else:
            fit.put(only, alone)
    return velocities


def _make_profiles(grid: Grid, velocities: Sequence[float]) -> FloatArray:
    """Return the profile of the Brackett lines of each spectrum at its velocity, shape (n, regions, bins)."""
    grids = np.broadcast_to(grid.wavelength, (len(velocities), *grid.wavelength.shape[1:]))
    return np.concatenate([make_profiles(one, [velocity]) for one, velocity in zip(grids, velocities, strict=True)])


def _find_support(grid: Grid, continuum: FloatArray, slopes: Slopes, reach: float) -> BoolArray:
    """Return which bins have a continuum that can be used, shape (n, regions, bins)."""
    variance = (np.matmul(np.linalg.inv(slopes.normal), grid.design) * grid.design).sum(axis=2)
    good = grid.real & (continuum > 0) & (variance <= np.square(LARGEST_ERROR * continuum))
    there, number = slopes.used > 0, np.arange(good.shape[-1])
    wavelength = np.broadcast_to(grid.wavelength, good.shape)
    before = np.maximum.accumulate(np.where(there, number, 0), axis=2)
    after = np.minimum.accumulate(np.where(there, number, number[-1])[..., ::-1], axis=2)[..., ::-1]
    near = np.zeros_like(good)
    for place in (before, after):
        distance = np.abs(np.take_along_axis(wavelength, place, axis=2) - wavelength)
        near |= np.take_along_axis(there, place, axis=2) & (distance <= reach)
    return np.asarray(good & near)
