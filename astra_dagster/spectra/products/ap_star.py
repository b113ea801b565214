"""Readers of apStar and aspcapStar files: a star's visits on the common APOGEE grid, in the rest frame.

Data models: https://data.sdss.org/datamodel/files/APOGEE_REDUX/APRED_VERS/stars/TELESCOPE/FIELD/apStar.html and
https://data.sdss.org/datamodel/files/APOGEE_ASPCAP/APRED_VERS/ASPCAP_VERS/TELESCOPE/FIELD/aspcapStar.html

Stars of the 1-m telescope are `apStar-1m`, whose paths have the name of the star in the reduction. Up to DR17 the same
files are apStar files too. They have no data model of their own, and are unverified on a real file.
"""

import functools
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from astra_dagster.arrays import AnyArray, FloatArray
from astra_dagster.datamodel.keys import ONE_METRE
from astra_dagster.fits.header import Header, Scalar
from astra_dagster.fits.model import Model, Shape
from astra_dagster.fits.reader import FitsFile
from astra_dagster.spectra.batch import FLUX_UNIT, SpectrumBatch
from astra_dagster.spectra.masks import find_flagged, from_errors, to_native, wrap_values
from astra_dagster.spectra.pixel_flags import APOGEE, APOGEE_REJECTED, order_names
from astra_dagster.spectra.recognition import find_shape

AP_STAR = ("apStar", "apStar-1m")
"""Products whose files are apStar files."""

PIXELS = 8575

GRID = (4.179, 6e-6)
"""Decimal logarithm of the first wavelength in Angstrom of the common APOGEE grid, and its step."""

MAX_ROWS = 1000
"""Largest number of rows that a file may have, far more than any star has visits."""

SHAPES: tuple[Shape, ...] = ((range(1, MAX_ROWS + 1), PIXELS), (PIXELS,))
"""Shapes that an image of an apStar file may have."""

ONE_ROW: tuple[Shape, ...] = ((1, PIXELS), (PIXELS,))
"""Shapes that an image of an aspcapStar file may have."""

CHIPS = (("blue", 246, 3274), ("green", 3585, 6080), ("red", 6344, 8335))
"""Name of each detector, and first and end pixel of the range that ASPCAP takes from it (since DR14)."""

COMBINED = ("combined, pixel weights", "combined, global weights")
"""Meaning of the first two rows; the visits follow."""

ASPCAP_BAD = 10.0
"""Error that ASPCAP gives to pixels that it does not use, in units of the continuum."""


@functools.lru_cache(maxsize=8)
def log_grid(first: float = GRID[0], step: float = GRID[1], pixels: int = PIXELS) -> FloatArray:
    """Return the wavelengths ``10**(first + step * i)`` in Angstrom, as a read-only array of shape (pixels,)."""
    grid = np.asarray(10 ** (first + step * np.arange(pixels)), dtype=np.float64)
    grid.flags.writeable = False
    return grid


def read_ap_star(
    path: Path, *, wavelength: bool = True, bitmask: bool = False, reject: Iterable[str] = APOGEE_REJECTED
) -> SpectrumBatch:
    """Read flux, error and mask of one apStar file.

    Parameters
    ----------
    wavelength
        Without effect, as the grid costs nothing; the parameter is that of all readers.
    bitmask
        Whether to keep the file's own mask.
    reject
        Names of the bits of APOGEE_PIXMASK for which pixels are bad, in upper or lower case; by default those that the
        survey rejects. With none of them, only pixels without usable flux and error are bad.

    Returns
    -------
    SpectrumBatch
        The rows of the file, on one shared grid of 8575 vacuum wavelengths: the combination with pixel weights, the
        combination with global weights, then the visits. Files of one visit have one row up to DR16, and two in
        DR17, of which the second is empty (all bad). ``meta["row"]`` says what a row is.

    Raises
    ------
    UnknownFlagError
        If the mask has no bit of a name in `reject`.
    InputMissingError
        If there is no such file.
    SpectrumFileError
        If it is not an apStar file.
    """
    rejected = order_names(APOGEE, reject)
    with FitsFile(path) as file:
        flux = to_native(_read_rows(file, 1, "flux", "f", SHAPES))
        shapes = (file.hdu(1).shape,)
        error = to_native(_read_rows(file, 2, "error", "f", shapes))
        mask = _read_rows(file, 3, "mask", "iu", shapes)
        grid = _check_grid(file, 1)
        header = file.hdu(0).header
        return from_errors(
            flux,
            error,
            find_flagged(mask, APOGEE, rejected),
            wavelength=grid if wavelength else None,
            unit=FLUX_UNIT,
            chips=CHIPS,
            bitmask=mask.astype(np.int64) if bitmask else None,
            mask_name=APOGEE,
            reject=rejected,
            meta=_make_meta(header, len(flux)),
        )


def read_aspcap_star(
    path: Path, *, wavelength: bool = True, bitmask: bool = False, reject: Iterable[str] = ()
) -> SpectrumBatch:
    """Read flux and error of one aspcapStar file, in which the continuum is divided out already.

    Parameters
    ----------
    wavelength, bitmask
        Without effect, as the grid costs nothing and the file has no mask; all readers have these parameters.
    reject
        Nothing, as the file has no mask.

    Returns
    -------
    SpectrumBatch
        One spectrum without unit on the grid of apStar files. Gaps, and pixels with errors of 10 or more, are bad.
        ``models["model_flux"]`` is the best-fitting model.

    Raises
    ------
    UnknownFlagError
        If a name is given in `reject`.
    InputMissingError
        If there is no such file.
    SpectrumFileError
        If it is not an aspcapStar file.
    """
    order_names("", reject)
    with FitsFile(path) as file:
        flux = to_native(_read_rows(file, 1, "normalised flux", "f", ONE_ROW))
        shapes = (file.hdu(1).shape,)
        error = to_native(_read_rows(file, 2, "error", "f", shapes))
        # An apStar file of one row has its mask there, and is the same otherwise.
        model = to_native(_read_rows(file, 3, "best-fitting model", "f", shapes))
        grid = _check_grid(file, 1)
        header = file.hdu(0).header
        meta = wrap_values(
            {
                "frame": "SOURCE",
                "object": header.text("OBJ") or header.text("OBJID"),
                "telescope": header.text("TELESCOP"),
                "field": header.text("FIELD"),
                "location": header.integer("LOCID"),
                "ra": header.number("RA"),
                "dec": header.number("DEC"),
                "snr": header.number("SNR"),
                "v_helio": header.number("VHELIO"),
            }
        )
        return from_errors(
            flux,
            error,
            None,
            huge=ASPCAP_BAD,
            wavelength=grid if wavelength else None,
            chips=CHIPS,
            meta=meta,
            models={"model_flux": model},
        )


def is_ap_star(file: FitsFile, *, one_metre: bool = False) -> bool:
    """Whether the headers of a file are those of an apStar file, and if asked, of one of the 1-m telescope."""
    shape = find_shape(file, "ffi")
    found = shape is not None and len(shape) <= 2 and shape[-1] == PIXELS
    return found and (not one_metre or file.hdu(0).header.text("TELESCOP") == ONE_METRE)


def is_aspcap_star(file: FitsFile) -> bool:
    """Whether the headers of a file are those of an aspcapStar file: as of an apStar file, without a mask."""
    return find_shape(file, "fff") in ONE_ROW


def _read_rows(file: FitsFile, index: int, name: str, kinds: str, shapes: tuple[Shape, ...]) -> AnyArray:
    """Read an image as rows of 8575 pixels."""
    return file.image(index, name, Model(kinds, shapes)).reshape(-1, PIXELS)


def _check_grid(file: FitsFile, index: int) -> FloatArray:
    """Return the common APOGEE grid; what the header says of the grid must agree with it."""
    header = file.hdu(index).header
    first, step = header.number("CRVAL1"), header.number("CDELT1")
    for said, true in ((first, GRID[0]), (step, GRID[1]), (header.number("CRPIX1"), 1.0)):
        if said is not None and not math.isclose(said, true, rel_tol=1e-9):
            found = f"has the grid 10**({first} + {step} i), where APOGEE's is 10**({GRID[0]} + {GRID[1]} i)"
            raise file.error(index, found, "wavelength", damaged=True)
    return log_grid()


def _make_meta(header: Header, rows: int) -> dict[str, tuple[Scalar, ...]]:
    """Return metadata by row: what the header says of the star, and of each visit."""
    names = [*COMBINED, *(f"visit {i}" for i in range(1, rows - 1))][:rows]
    visits = range(1, rows - 1)
    combined = rows - len(visits)
    star = {
        "frame": "SOURCE",
        "object": header.text("OBJID"),
        "telescope": header.text("TELESCOP"),
        "field": header.text("FIELD"),
        "location": header.integer("LOCID"),
        "healpix": header.integer("HEALPIX"),
        "ra": header.number("RA"),
        "dec": header.number("DEC"),
        "visits": header.integer("NVISITS"),
    }
    return {
        "row": tuple(names),
        **{name: (value,) * rows for name, value in star.items()},
        "snr": (header.number("SNR"), *(None,) * (combined - 1), *(header.number(f"SNRVIS{i}") for i in visits)),
        "v_helio": (
            *(header.number("VHELIO"),) * combined,
            *(header.number(f"VHELIO{i}") for i in visits),
        ),
        "starflag": (
            *(header.integer("STARFLAG"),) * combined,
            *(header.integer(f"FLAG{i}") for i in visits),
        ),
        "fibre": (*(None,) * combined, *(header.integer(f"FIBER{i}") for i in visits)),
        "jd": (*(None,) * combined, *(header.number(f"JD{i}") for i in visits)),
    }
