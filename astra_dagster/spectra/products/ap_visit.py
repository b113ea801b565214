"""Reader of apVisit files: one visit of a star, extracted from the three APOGEE chips.

Data model: https://data.sdss.org/datamodel/files/APOGEE_REDUX/APRED_VERS/visit/TELESCOPE/FIELD/PLATE_ID/MJD5/apVisit.html

Visits by the 1-m telescope, `apVisit-1m`, have no plate, and their paths have the name of the star in the reduction.
The same program writes them, ``pro/apogeereduce/apvisit_output.pro`` of https://github.com/sdss/apogee; they have no
data model of their own, and are unverified on a real file.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from astra_dagster.arrays import AnyArray
from astra_dagster.fits.model import Model, Shape
from astra_dagster.fits.reader import FitsFile
from astra_dagster.spectra.batch import FLUX_UNIT, SpectrumBatch
from astra_dagster.spectra.masks import check_increasing, find_flagged, from_errors, to_native, wrap_values
from astra_dagster.spectra.pixel_flags import APOGEE, APOGEE_REJECTED, order_names
from astra_dagster.spectra.recognition import find_shape

AP_VISIT = ("apVisit", "apVisit-1m")
"""Products whose files are apVisit files."""

SHAPES: tuple[Shape, ...] = ((3, 2048), (3, 4096))
"""Number of chips and of pixels in each, for undithered and for dithered visits."""

RANGE = (15_000.0, 17_100.0)
"""Between these wavelengths in Angstrom lie all those of the instrument."""

CHIPS = ("blue", "green", "red")


def read_ap_visit(
    path: Path, *, wavelength: bool = True, bitmask: bool = False, reject: Iterable[str] = APOGEE_REJECTED
) -> SpectrumBatch:
    """Read flux, error, mask and wavelength of one apVisit file; nothing else of it is decoded.

    Parameters
    ----------
    wavelength
        Whether to read the wavelengths, which are half of the bytes to read.
    bitmask
        Whether to keep the file's own mask.
    reject
        Names of the bits of APOGEE_PIXMASK for which pixels are bad, in upper or lower case; by default those that the
        survey rejects. With none of them, only pixels without usable flux and error are bad.

    Returns
    -------
    SpectrumBatch
        One spectrum of shape (1, pixels). Wavelengths increase, from the blue to the red chip (in the file they
        decrease). They are those in vacuum, in the rest frame of the observatory.

    Raises
    ------
    UnknownFlagError
        If the mask has no bit of a name in `reject`.
    InputMissingError
        If there is no such file.
    SpectrumFileError
        If it is not an apVisit file.
    """
    rejected = order_names(APOGEE, reject)
    with FitsFile(path) as file:
        flux = to_native(_read_chips(file, 1, "flux", "f", SHAPES))
        shapes = (file.hdu(1).shape,)
        error = to_native(_read_chips(file, 2, "error", "f", shapes))
        mask = _read_chips(file, 3, "mask", "iu", shapes)
        grid = None
        if wavelength:
            grid = to_native(_read_chips(file, 4, "wavelength", "f", shapes))
            check_increasing(file, grid, 4, RANGE)
        pixels = flux.shape[1] // 3
        header = file.hdu(0).header
        return from_errors(
            flux,
            error,
            find_flagged(mask, APOGEE, rejected),
            wavelength=grid,
            unit=FLUX_UNIT,
            chips=tuple((name, i * pixels, (i + 1) * pixels) for i, name in enumerate(CHIPS)),
            bitmask=mask.astype(np.int64) if bitmask else None,
            mask_name=APOGEE,
            reject=rejected,
            meta=wrap_values(
                {
                    "frame": "TOPOCENT",
                    "object": header.text("OBJID"),
                    "telescope": header.text("TELESCOP"),
                    "field": header.text("FIELD"),
                    "location": header.integer("LOCID"),
                    "plate": header.text("PLATE"),
                    "mjd": header.integer("MJD5"),
                    "fibre": header.integer("FIBERID"),
                    "ra": header.number("RA"),
                    "dec": header.number("DEC"),
                    "snr": header.number("SNR"),
                    "starflag": header.integer("STARFLAG"),
                    "v_observed": header.number("VRAD"),
                    "v_barycentric": header.number("BC"),
                    "v_helio": header.number("VHELIO"),
                }
            ),
        )


def is_ap_visit(file: FitsFile, *, one_metre: bool = False) -> bool:
    """Whether the headers of a file are those of an apVisit file, and if asked, not those of a larger telescope."""
    larger = file.hdu(0).header.text("TELESCOP") in ("apo25m", "lco25m")
    return find_shape(file, "ffif") in SHAPES and not (one_metre and larger)


def _read_chips(file: FitsFile, index: int, name: str, kinds: str, shapes: tuple[Shape, ...]) -> AnyArray:
    """Read an image of shape (3, pixels) as (1, 3 * pixels), with increasing wavelength."""
    return file.image(index, name, Model(kinds, shapes)).reshape(1, -1)[:, ::-1]
