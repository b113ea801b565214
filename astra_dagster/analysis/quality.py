"""How good a fitted continuum is: figures and flags for each spectrum. NumPy only: arrays in, arrays out."""

from dataclasses import dataclass
from enum import IntFlag

import numpy as np

from astra_dagster.analysis.continuum import Continuum, Regions, find_inside
from astra_dagster.analysis.likelihood import OUTLIER
from astra_dagster.arrays import BoolArray, FloatArray, IndexArray

WINDOWS = 70
"""Windows in a period, in each of which the envelope is measured: 20 Angstrom for a period of 1400."""

ENVELOPE = 0.9
"""The envelope is this quantile of the normalised flux."""

FEW = 10
"""Smallest number of good pixels of a window, or above the continuum, of which anything is said."""

LOW_SNR = 20.0
"""Median signal-to-noise ratio below which a continuum from all pixels may be off by more than 1 %, by injection."""

NO_CONTINUUM = 1.4
"""Value of `chi2` from which pixels lie higher above the continuum than noise lifts them.

Of real visits of S/N > 30 those of a K giant and of K dwarfs have 1.0 to 1.3, and most of M dwarfs 1.4 to 2."""

CLEAR = 0.1
"""Pixels whose error is a larger part of the continuum are left out of the envelope, unless they are most of all."""

UNEVEN = 0.05
"""Scatter of the envelope that is more than lines cause; in real visits of S/N > 30 it is 0.012 to 0.04."""


class ContinuumFlag(IntFlag):
    """What is to be known of a continuum before it is used; 0 if there is nothing."""

    NO_DATA = 1
    "No pixel of the spectrum is good."
    NOT_FITTED = 2
    "A region has too few good pixels for a fit, or no flux above zero; its pixels are bad."
    NO_SUPPORT = 4
    "Pixels were made bad that are far from fitted ones, or where the fit is not positive or too uncertain."
    NOT_CONVERGED = 8
    "The last step of the fit still changed it."
    LOW_SNR = 16
    "The signal-to-noise ratio is below 20 a pixel: the level may be off by more than 1 %."
    PSEUDO_CONTINUUM = 32
    "Pixels lie higher above the continuum than noise lifts them: an M dwarf, a quasar, or errors that are too small."
    UNEVEN = 64
    "The envelope of the normalised spectrum is not level."
    HYDROGEN = 128
    "Broad Brackett lines were fitted together with the continuum."
    VELOCITY_UNKNOWN = 256
    "The continuum regions lie in the rest frame of the object, whose velocity is not known: it was taken as 0."
    UNUSABLE = NOT_FITTED | NOT_CONVERGED
    "Those with which a result should not be used; a check finds them."


@dataclass(frozen=True)
class Quality:
    """Figures of a continuum, by spectrum and region, and its flags.

    Attributes
    ----------
    chi2
        Mean square of the deviations, in standard errors, of fitted pixels above the continuum, shape (n, regions). It
        is 1 if noise alone lifts them; lines, which only lower pixels, have no part in it.
    scatter
        Standard deviation of the envelope over windows, shape (n, regions).
    used
        Fraction of the pixels of a region to which the continuum was fitted, shape (n, regions).
    depth
        Mean depth of lines: of 1 less the normalised flux over good pixels, shape (n,).
    flags
        Sum of the members of `ContinuumFlag`, shape (n,).
    """

    chi2: FloatArray
    scatter: FloatArray
    used: FloatArray
    depth: FloatArray
    flags: IndexArray


def judge_continuum(
    wavelength: FloatArray,
    flux: FloatArray,
    ivar: FloatArray,
    bad: BoolArray,
    continuum: Continuum,
    *,
    sky: BoolArray | None = None,
    regions: Regions,
    period: float,
) -> Quality:
    """Measure how good a continuum is.

    Parameters
    ----------
    wavelength
        Increasing wavelength in Angstrom, shape (pixels,) or (n, pixels).
    flux, ivar, bad
        Flux and inverse variance before normalisation, and the mask, shape (n, pixels).
    continuum
        The fit.
    sky
        True for pixels that show the night sky, same shape, which count neither for `chi2` nor for the envelope.
    regions, period
        Those of the fit.

    Returns
    -------
    Quality
        Figures are NaN where there are too few pixels.
    """
    shape = len(flux), len(regions)
    chi2, scatter, used = (np.full(shape, np.nan) for _ in range(3))
    flags = np.zeros(len(flux), np.intp)
    values, pixels, depth = np.zeros(len(flux)), np.zeros(len(flux)), np.full(len(flux), np.nan)
    for row in range(len(flux)):
        grid = wavelength if wavelength.ndim == 1 else wavelength[row]
        level, support = continuum.values[row], continuum.fitted[row] & (continuum.values[row] > 0)
        good = ~bad[row] & support
        dark = good if sky is None else good & ~sky[row]
        root = np.sqrt(ivar[row], out=np.zeros(len(level)), where=~bad[row])
        deviation, normal = (
            (flux[row] - level) * root,
            np.divide(flux[row], level, out=np.zeros(len(level)), where=good),
        )
        above = dark & continuum.used[row] & (deviation > 0) & (deviation < OUTLIER)
        square = np.where(above, deviation, 0.0) ** 2
        clear = dark & (root * level >= 1 / CLEAR)
        inside, unfitted = np.zeros(len(level), bool), False
        for number, part in enumerate(find_inside(grid, regions)):
            inside[part] = True
            if part.start == part.stop or bad[row, part].all():
                continue
            used[row, number] = continuum.used[row, part].mean()
            unfitted |= not continuum.fitted[row, part].any()
            count = np.count_nonzero(above[part])
            if count >= FEW:
                total = float(square[part].sum())
                chi2[row, number] = total / count
                values[row] += total
                pixels[row] += count
            there = clear if 2 * np.count_nonzero(clear[part]) >= np.count_nonzero(dark[part]) else dark
            windows = max(int(WINDOWS * (grid[part.stop - 1] - grid[part.start]) / period), 1)
            scatter[row, number] = _measure_envelope(np.where(there[part], normal[part], np.inf), windows)
        flags[row] |= ContinuumFlag.NO_DATA * bool(bad[row].all())
        flags[row] |= ContinuumFlag.NOT_FITTED * unfitted
        flags[row] |= ContinuumFlag.NO_SUPPORT * bool((inside & ~bad[row] & ~support).any() and not unfitted)
        if count := np.count_nonzero(good):
            depth[row] = 1 - normal.sum() / count
            low = good & (flux[row] * root < LOW_SNR)
            flags[row] |= ContinuumFlag.LOW_SNR * bool(2 * np.count_nonzero(low) > count)
    fitted = continuum.fitted.any(axis=1)
    flags[fitted & ~continuum.converged] |= ContinuumFlag.NOT_CONVERGED
    flags[values > NO_CONTINUUM * np.maximum(pixels, 1)] |= ContinuumFlag.PSEUDO_CONTINUUM
    flags[(np.nan_to_num(scatter) > UNEVEN).any(axis=1) & (flags & ContinuumFlag.LOW_SNR == 0)] |= ContinuumFlag.UNEVEN
    flags[continuum.brackett != 0] |= ContinuumFlag.HYDROGEN
    return Quality(chi2, scatter, used, depth, flags)


def _measure_envelope(normal: FloatArray, windows: int) -> float:
    """Return the scatter of the envelope over windows of equal numbers of pixels; bad pixels are infinite."""
    width = len(normal) // windows
    if width == 0:
        return float("nan")
    envelope, count = find_envelope(normal[: width * windows].reshape(windows, width))
    enough = count >= FEW
    return float(np.std(envelope[enough])) if np.count_nonzero(enough) >= 3 else float("nan")


def find_envelope(normal: FloatArray) -> tuple[FloatArray, IndexArray]:
    """Return the envelope of the normalised flux in each window, and of how many pixels it is, shape (windows,).

    Parameters
    ----------
    normal
        Normalised flux, shape (windows, pixels); pixels to leave out are infinite.
    """
    ordered = np.sort(normal, axis=1)
    count = np.isfinite(ordered).sum(axis=1)
    last = (ENVELOPE * count).astype(np.intp)[:, None]
    return np.asarray(np.take_along_axis(ordered, last, axis=1)[:, 0]), np.asarray(count)
