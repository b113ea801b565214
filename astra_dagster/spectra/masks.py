"""Which pixels are bad, the same for every APOGEE and BOSS product, and the assembly of a checked batch."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from astra_dagster.arrays import AnyArray, BoolArray, FloatArray
from astra_dagster.errors import SpectrumFileError
from astra_dagster.fits.header import Scalar
from astra_dagster.fits.reader import FitsFile
from astra_dagster.spectra.batch import SpectrumBatch

BAD_BITS = 16639
"""Bits 0-7 and 14 of the APOGEE pixel mask; the others are warnings, not reasons to reject a pixel."""

HUGE_ERROR = 1e10
"""Errors from here on mark pixels without data, whatever their mask says."""


TINY_ERROR = 1e-150
"""Errors up to here, 0 included, are none: their inverse variance is no number."""


def native(array: AnyArray) -> FloatArray:
    """An array of the file as float64 in the machine's byte order, shape unchanged."""
    with np.errstate(invalid="ignore"):  # not every NaN is quiet
        return array.astype(np.float64)


def flagged(mask: AnyArray) -> BoolArray:
    """Where an APOGEE pixel mask, of whatever integer type, rejects a pixel."""
    wide = mask if mask.itemsize > 1 else mask.astype(np.int16)
    native = wide.dtype.newbyteorder("=")
    # Both sides in the file's byte order, read as if they were in the machine's: nothing need be swapped.
    rejected = wide.view(native) & np.array(BAD_BITS, wide.dtype).view(native)
    return np.asarray(rejected != 0)


def from_errors(
    file: FitsFile,
    flux: FloatArray,
    error: FloatArray,
    rejected: BoolArray | None,
    huge: float = HUGE_ERROR,
    **others: Any,
) -> SpectrumBatch:
    """Batch from flux and standard error: bad is what is rejected, not finite, or has no usable error.

    Parameters
    ----------
    rejected
        Pixels that the file's mask rejects, if it has one.
    huge
        Errors from here on mean that there are no data.
    others
        Other fields of the batch.

    Raises
    ------
    SpectrumFileError
        If no pixel of any spectrum is good.
    """
    # Written so that NaN is bad, and so that what is not finite in flux spoils no other pixel.
    good = error > TINY_ERROR
    good &= error < huge
    good &= np.isfinite(flux)
    bad = np.logical_not(good, out=good)
    if rejected is not None:
        bad |= rejected
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        ivar = np.square(error)
        np.divide(1.0, ivar, out=ivar)
    np.copyto(ivar, 0.0, where=bad)
    return check_good(file, SpectrumBatch(flux=flux, ivar=ivar, bad=bad, error=error, **others))


def from_ivar(file: FitsFile, flux: FloatArray, ivar: FloatArray, **others: Any) -> SpectrumBatch:
    """Batch from flux and inverse variance, as `ivar_batch` makes it.

    Raises
    ------
    SpectrumFileError
        If no pixel of any spectrum is good.
    """
    return check_good(file, ivar_batch(flux, ivar, **others))


def ivar_batch(flux: FloatArray, ivar: FloatArray, **others: Any) -> SpectrumBatch:
    """Batch from flux and inverse variance: bad is where either is not finite, or the latter not positive."""
    good = (ivar > 0) & np.isfinite(ivar) & np.isfinite(flux)
    return SpectrumBatch(flux=flux, ivar=np.where(good, ivar, 0.0), bad=~good, **others)


def single(values: Mapping[str, Scalar]) -> dict[str, tuple[Scalar, ...]]:
    """Metadata of a file with one spectrum."""
    return {name: (value,) for name, value in values.items()}


def check_increasing(file: FitsFile, wavelength: FloatArray, index: int) -> None:
    """Check that a wavelength grid is finite, positive and increasing.

    Raises
    ------
    SpectrumFileError
        If it is not.
    """
    if not (wavelength[..., 1:] > wavelength[..., :-1]).all() or not (
        np.isfinite(wavelength[..., -1]).all() and (wavelength[..., 0] > 0).all()
    ):
        raise SpectrumFileError(f"HDU {index} (wavelength) is not one increasing grid", path=file.path)


def check_good(file: FitsFile, batch: SpectrumBatch) -> SpectrumBatch:
    """Check that a batch has a good pixel, and return it.

    Raises
    ------
    SpectrumFileError
        If no pixel of any spectrum is good.
    """
    if batch.bad.all():
        raise SpectrumFileError("no good pixel", path=file.path)
    return batch
