"""Signal-to-noise ratios of spectra. NumPy only: arrays in, arrays out."""

import numpy as np

from astra_dagster.spectra.batch import BoolArray, FloatArray


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
