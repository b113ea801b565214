"""Reader of apVisit files: one visit of a star, extracted from the three APOGEE chips.

Data model: https://data.sdss.org/datamodel/files/APOGEE_REDUX/APRED_VERS/visit/TELESCOPE/FIELD/PLATE_ID/MJD5/apVisit.html
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from astra_dagster.errors import AstraError, InputMissingError, SpectrumFileError
from astra_dagster.spectra.batch import SpectrumBatch

BAD_BITS = 16639
"""Bits 0-7 and 14 of the APOGEE pixel mask; the others are warnings, not reasons to reject a pixel."""

HUGE_ERROR = 1e10
"""Errors from here on mark pixels without data, whatever their mask says."""

PIXELS_PER_CHIP = (2048, 4096)
"""Undithered and dithered visits."""

_HDUS = (("flux", 1), ("error", 2), ("mask", 3))


def read_ap_visit(path: Path) -> SpectrumBatch:
    """Read flux, error and mask of one apVisit file; nothing else of it is decoded.

    Returns
    -------
    SpectrumBatch
        One spectrum, pixels in the order blue, green, red, wavelength increasing: the file has the chips, and the
        pixels in them, the other way round.

    Raises
    ------
    InputMissingError
        If there is no such file.
    SpectrumFileError
        If it is not an apVisit file, or no pixel of it is good.
    """
    try:
        arrays = _arrays(path)
    except AstraError:
        raise
    except FileNotFoundError as error:
        raise InputMissingError("the file is not there", path=path) from error
    except IsADirectoryError as error:
        raise SpectrumFileError("a folder, not a file", path=path) from error
    except PermissionError as error:
        raise SpectrumFileError("permission denied", path=path, hint="ask its owner") from error
    except Exception as error:  # a damaged file makes astropy raise almost anything
        raise SpectrumFileError(
            f"not a readable FITS file: {_first_line(error)}", path=path, hint="fetch it again"
        ) from error
    flux, stored_error, mask = arrays["flux"], arrays["error"], arrays["mask"]
    with np.errstate(invalid="ignore"):
        bad = (mask & BAD_BITS) != 0
        bad |= ~np.isfinite(flux) | ~(stored_error < HUGE_ERROR) | ~(stored_error > 0)
    if bad.all():
        raise SpectrumFileError("no good pixel", path=path)
    pixels = flux.shape[1] // 3
    names = ("blue", "green", "red")
    chips = tuple((name, i * pixels, (i + 1) * pixels) for i, name in enumerate(names))
    return SpectrumBatch(flux, stored_error, bad, chips)


def _arrays(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    from astropy.io import (
        fits,
    )  # here, because it takes a third of a second that loading the definitions can do without

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of bad cards and short files; what matters is checked below
        with fits.open(path, mode="readonly", memmap=False, lazy_load_hdus=True) as hdus:
            return {name: _row(hdus, name, index, path) for name, index in _HDUS}


def _row(hdus: Any, name: str, index: int, path: Path) -> np.ndarray[Any, Any]:
    """One array of shape (3, pixels), as (1, 3 * pixels) with the wavelength increasing."""
    try:
        data = hdus[index].data
    except IndexError as error:
        raise SpectrumFileError(
            f"HDU {index} ({name}) is missing", path=path, hint="an apVisit file has 11 or 12 HDUs"
        ) from error
    kind = "iu" if name == "mask" else "f"
    if not isinstance(data, np.ndarray) or data.dtype.names or data.dtype.kind not in kind:
        raise SpectrumFileError(f"HDU {index} ({name}) holds no image of numbers", path=path)
    if data.ndim != 2 or data.shape[0] != 3 or data.shape[1] not in PIXELS_PER_CHIP:
        raise SpectrumFileError(
            f"HDU {index} ({name}) has shape {data.shape}", path=path, hint="an apVisit has (3, 4096) or (3, 2048)"
        )
    dtype = np.int64 if name == "mask" else np.float64
    return np.ascontiguousarray(data[::-1, ::-1].reshape(1, -1), dtype=dtype)


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
