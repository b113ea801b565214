"""Signal-to-noise ratios of spectra. NumPy only: arrays in, arrays out."""

import numpy as np

from astra_dagster.arrays import BoolArray, FloatArray


def pixel_snr(flux: FloatArray, error: FloatArray) -> FloatArray:
    """Return the signal-to-noise ratio of each pixel; NaN where flux or error is not finite, or the error not positive.

    A ratio that no number can hold, as of damaged values, is infinite; `mean_snr` leaves it out.

    Parameters
    ----------
    flux, error
        Flux and its standard error in one unit, shape (n, pixels).
    """
    usable = np.isfinite(flux) & np.isfinite(error) & (error > 0)
    ratio = np.full(flux.shape, np.nan)
    with np.errstate(over="ignore"):
        np.divide(flux, error, out=ratio, where=usable)
    return ratio


def mean_snr(snr: FloatArray, bad: BoolArray) -> FloatArray:
    """Return the mean over the good pixels, shape (n,); NaN for a spectrum that has none.

    Parameters
    ----------
    snr
        Signal-to-noise ratio as from `pixel_snr`, shape (n, pixels).
    bad
        True for pixels to leave out, same shape.
    """
    good = ~bad & np.isfinite(snr)
    count = good.sum(axis=1)
    with np.errstate(over="ignore"):
        total = np.where(good, snr, 0.0).sum(axis=1)
    mean = np.full(len(snr), np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean


def median_snr(snr: FloatArray, bad: BoolArray | None = None) -> FloatArray:
    """Return the median over the good pixels, or all if `bad` is None, shape (n,); NaN where there is none.

    The median over all pixels of the green chip is the SNR card of an apVisit header, which the APOGEE pipeline
    computes before it masks pixels.
    """
    values = snr if bad is None else np.where(bad, np.nan, snr)
    result = np.full(len(values), np.nan)
    some = np.isfinite(values).any(axis=1)
    if some.any():
        result[some] = np.nanmedian(values[some], axis=1)
    return result


def der_snr(flux: FloatArray, bad: BoolArray | None = None) -> FloatArray:
    """Return the signal-to-noise ratio from the flux alone, shape (n,): DER_SNR of Stoehr et al. 2008 (ASPC 394, 505).

    It is the median flux divided by the noise, which is estimated from the scatter of second neighbours. The noise is
    assumed to be normal and not correlated over two pixels, and the spectrum to change little over four.

    It is a test of the errors, and not a better ratio. Lines change over four pixels too and count as noise: in real
    visits of late-type stars it is 6 to 40 % lower than the ratio by the errors, most at high ratios. A ratio that is
    higher tells of errors that are too large, or of pixels that were smoothed.

    Parameters
    ----------
    flux
        Flux, shape (n, pixels).
    bad
        True for pixels to leave out, same shape; pixels on both sides of them are taken as neighbours. Flux that is
        not finite, or exactly 0, is left out anyway.

    Returns
    -------
    FloatArray
        Signal-to-noise ratios; NaN for a spectrum of fewer than five pixels, or without any scatter.
    """
    result = np.full(len(flux), np.nan)
    for i, row in enumerate(flux):
        usable = np.isfinite(row) & (row != 0)
        if bad is not None:
            usable &= ~bad[i]
        good = row[usable]
        if len(good) > 4:
            noise = 1.482602 / np.sqrt(6) * np.median(np.abs(2 * good[2:-2] - good[:-4] - good[4:]))
            if noise > 0:
                result[i] = np.median(good) / noise
    return result


def window_snr(
    wavelength: FloatArray, snr: FloatArray, start: float, end: float, bad: BoolArray | None = None
) -> FloatArray:
    """Return the median over the pixels of a window, both ends included, shape (n,); NaN if it holds no pixel.

    Parameters
    ----------
    wavelength
        Wavelength in Angstrom, shape (pixels,) or (n, pixels).
    snr
        Signal-to-noise ratio as from `pixel_snr`, shape (n, pixels).
    start, end
        Ends of the window, in Angstrom.
    bad
        True for pixels to leave out, shape (n, pixels).
    """
    outside = np.broadcast_to((wavelength < start) | (wavelength > end), snr.shape)
    return median_snr(snr, outside if bad is None else outside | bad)
