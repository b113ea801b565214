"""Signal-to-noise ratios of spectra. NumPy only: arrays in, arrays out."""

import numpy as np

from astra_dagster.arrays import BoolArray, FloatArray


def pixel_snr(flux: FloatArray, error: FloatArray) -> FloatArray:
    """Signal-to-noise ratio of each pixel, NaN where flux or error is no usable number.

    Parameters
    ----------
    flux, error
        Flux and its standard error in one unit, shape (n, pixels).
    """
    usable = np.isfinite(flux) & np.isfinite(error) & (error > 0)
    ratio = np.full(flux.shape, np.nan)
    np.divide(flux, error, out=ratio, where=usable)
    return ratio


def mean_snr(snr: FloatArray, bad: BoolArray) -> FloatArray:
    """Mean over the good pixels, shape (n,); NaN for a spectrum that has none.

    Parameters
    ----------
    snr
        As from `pixel_snr`, shape (n, pixels).
    bad
        True for pixels to leave out, same shape.
    """
    good = ~bad & np.isfinite(snr)
    count = good.sum(axis=1)
    total = np.where(good, snr, 0.0).sum(axis=1)
    mean = np.full(len(snr), np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean


def median_snr(snr: FloatArray, bad: BoolArray | None = None) -> FloatArray:
    """Median over the good pixels, or over all if `bad` is None, shape (n,); NaN where there is none.

    Over all pixels of the green chip this is the SNR card of an apVisit header, which the APOGEE pipeline takes
    before it masks pixels.
    """
    values = snr if bad is None else np.where(bad, np.nan, snr)
    result = np.full(len(values), np.nan)
    some = np.isfinite(values).any(axis=1)
    if some.any():
        result[some] = np.nanmedian(values[some], axis=1)
    return result


def der_snr(flux: FloatArray, bad: BoolArray | None = None) -> FloatArray:
    """Signal-to-noise ratio from the flux alone, shape (n,): the DER_SNR of Stoehr et al. 2008 (ASPC 394, 505).

    The median flux over the noise that the scatter of second neighbours shows, which takes the noise to be normal and
    not correlated over two pixels, and the spectrum to change little over four.

    Parameters
    ----------
    flux
        Shape (n, pixels).
    bad
        True for pixels to leave out, same shape; the others are taken as neighbours across them. What is not finite,
        or exactly 0, is left out anyway.

    Returns
    -------
    FloatArray
        NaN for a spectrum of fewer than five pixels, or without any scatter.
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
    """Median over the pixels of a window, both ends included, shape (n,); NaN where it holds none.

    Parameters
    ----------
    wavelength
        In Angstrom, shape (pixels,) or (n, pixels).
    snr
        As from `pixel_snr`, shape (n, pixels).
    start, end
        The window, in Angstrom.
    bad
        True for pixels to leave out, shape (n, pixels).
    """
    outside = np.broadcast_to((wavelength < start) | (wavelength > end), snr.shape)
    return median_snr(snr, outside if bad is None else outside | bad)
