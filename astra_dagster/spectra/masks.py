"""The rule for bad pixels, one for all APOGEE and BOSS products, and the assembly of a batch.

A spectrum without a good pixel is a spectrum too: that of a dead fibre is a result, with 0 good pixels.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from astra_dagster.arrays import AnyArray, BoolArray, FloatArray
from astra_dagster.errors import SpectrumFileError
from astra_dagster.fits.header import Scalar
from astra_dagster.fits.reader import FitsFile
from astra_dagster.spectra.batch import HUGE_ERROR, TINY_ERROR, SpectrumBatch
from astra_dagster.spectra.pixel_flags import find_bits


def to_native(array: AnyArray) -> FloatArray:
    """Convert an array of the file to float64 in the machine's byte order, with the same shape."""
    with np.errstate(invalid="ignore"):  # a signalling NaN would warn
        return array.astype(np.float64)


def find_flagged(mask: AnyArray, name: str, reject: tuple[str, ...]) -> BoolArray | None:
    """Return True where a pixel mask, of any integer type, has a bit set that makes a pixel bad.

    Parameters
    ----------
    mask
        The mask as it is in the file, of any shape.
    name
        Name by which SDSS calls it.
    reject
        Names of the bits, as `order_names` returns them.

    Returns
    -------
    BoolArray or None
        An array of the shape of the mask; None if no bit makes a pixel bad.
    """
    bits = find_bits(name, reject)
    wide = mask if mask.itemsize > 1 else mask.astype(np.int16)
    native = wide.dtype.newbyteorder("=")
    if bits > np.iinfo(np.int16).max:
        bits &= int(np.iinfo(native).max)  # a mask of two bytes has no bit 16
    if not bits:
        return None
    # Mask and bits are both in the file's byte order, so that no bytes need be swapped.
    rejected = wide.view(native) & np.array(bits, wide.dtype).view(native)
    return np.asarray(rejected != 0)


def from_errors(
    flux: FloatArray,
    error: FloatArray,
    rejected: BoolArray | None,
    huge: float = HUGE_ERROR,
    **others: Any,
) -> SpectrumBatch:
    """Make a batch from flux and standard error; pixels are bad that are rejected, not finite, or have no usable error.

    Parameters
    ----------
    rejected
        Pixels that the file's mask rejects, if it has one.
    huge
        Pixels with this error, or a larger one, have no data.
    others
        Other fields of the batch.
    """
    # Comparisons with NaN are False, so that such pixels are bad. Flux that is not finite spoils no other pixel.
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
    return SpectrumBatch(flux=flux, ivar=ivar, bad=bad, error=error, **others)


def make_ivar_batch(
    flux: FloatArray, ivar: FloatArray, rejected: BoolArray | None = None, **others: Any
) -> SpectrumBatch:
    """Make a batch from flux and inverse variance; pixels are bad where one is not finite, or ivar is not positive.

    Parameters
    ----------
    rejected
        Pixels that are bad as well, because the file's mask rejects them; they keep their error.
    others
        Other fields of the batch.
    """
    good = (ivar > 0) & np.isfinite(ivar) & np.isfinite(flux)
    usable = np.where(good, ivar, 0.0)
    if rejected is not None:
        with np.errstate(divide="ignore"):
            others["error"] = 1 / np.sqrt(usable)
        good &= ~rejected
        usable[~good] = 0.0
    return SpectrumBatch(flux=flux, ivar=usable, bad=~good, **others)


def wrap_values(values: Mapping[str, Scalar]) -> dict[str, tuple[Scalar, ...]]:
    """Make the metadata of a file with one spectrum."""
    return {name: (value,) for name, value in values.items()}


def check_increasing(
    file: FitsFile, wavelength: FloatArray, index: int, limits: tuple[float, float] = (0.0, math.inf)
) -> None:
    """Check that a wavelength grid is finite and increasing, and lies between limits.

    Raises
    ------
    SpectrumFileError
        If the grid is not.
    """
    low, high = limits
    if not (wavelength[..., 1:] > wavelength[..., :-1]).all():
        raise SpectrumFileError(f"HDU {index} (wavelength) is not one increasing grid", path=file.path)
    if not ((wavelength[..., 0] > low).all() and (wavelength[..., -1] < high).all()):
        problem = f"HDU {index} (wavelength) has values that are not between {low:g} and {high:g} Angstrom"
        raise SpectrumFileError(problem, path=file.path)
