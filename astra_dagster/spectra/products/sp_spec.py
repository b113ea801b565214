"""Reader of spSpec files: the spectrum of one fibre, of SDSS-I and II (until DR7), or of SDSS-V before its analysis.

Those of SDSS-I and II are images, and lie on no path of the SDSS tree, which begins with DR8: they are read by path.
Those of SDSS-V are spec files without the results of the pipeline.

Data models: http://classic.sdss.org/dr7/dm/flatFiles/spSpec.html, and https://github.com/sdss/datamodel,
``datamodel/products/md/spSpec.md`` (of DR19 and DR20).
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from astra_dagster.fits.header import Scalar
from astra_dagster.fits.model import Model, Shape
from astra_dagster.fits.reader import FitsFile
from astra_dagster.spectra.batch import FLUX_UNIT, SpectrumBatch
from astra_dagster.spectra.masks import find_flagged, from_errors, to_native, wrap_values
from astra_dagster.spectra.pixel_flags import BOSS, BOSS_REJECTED, order_names
from astra_dagster.spectra.products.sp_plate import read_grid
from astra_dagster.spectra.products.spec import ROWS, has_plug_map, is_coadd, name_object, read_spec

SHAPES: tuple[Shape, ...] = ((range(4, 6), ROWS),)
"""Spectrum, spectrum less its continuum, noise, mask, and since DR5 a second mask."""

_CLASSES = {1: "STAR", 2: "GALAXY", 3: "QSO", 4: "QSO", 6: "STAR"}
"""Values of SPEC_CLN; others are unknown objects and the sky."""


def read_sp_spec(
    path: Path, *, wavelength: bool = True, bitmask: bool = False, reject: Iterable[str] = BOSS_REJECTED
) -> SpectrumBatch:
    """Read the spectrum of one spSpec file.

    Parameters
    ----------
    wavelength
        Whether to compute the wavelengths.
    bitmask
        Whether to keep the file's own mask of flags that all exposures have. That of SDSS-I and II is stored in real
        numbers, which keep 24 bits: the lowest ones of a pixel are lost where a high one is set.
    reject
        Names of the bits of SPPIXMASK in that mask for which pixels are bad, in upper or lower case; by default none,
        as many good pixels have flags.

    Returns
    -------
    SpectrumBatch
        One spectrum of shape (1, pixels) on a grid of heliocentric vacuum wavelengths. Pixels without noise are bad,
        and those that `reject` names.

    Raises
    ------
    UnknownFlagError
        If the mask has no bit of a name in `reject`.
    InputMissingError
        If there is no such file.
    SpectrumFileError
        If it is not an spSpec file.
    """
    rejected = order_names(BOSS, reject)
    with FitsFile(path) as file:
        if is_coadd(file):
            if not has_plug_map(file):
                raise file.error(2, "is no plug map, which an spSpec file of SDSS-V has", "plug map")
            return read_spec(path, wavelength=wavelength, bitmask=bitmask, reject=reject)
        rows = to_native(file.image(0, "spectrum, noise and mask", Model("f", SHAPES)))
        grid = read_grid(file, rows.shape[1])
        flags = np.nan_to_num(rows[3:4], posinf=0, neginf=0)
        mask = np.where((flags >= 0) & (flags < 2**32), flags, 0).astype(np.int64)
        return from_errors(
            rows[:1].copy(),
            rows[2:3].copy(),
            find_flagged(mask, BOSS, rejected),
            wavelength=grid if wavelength else None,
            unit=FLUX_UNIT,
            bitmask=mask if bitmask else None,
            mask_name=BOSS,
            reject=rejected,
            meta=wrap_values(_read_meta(file)),
        )


def is_sp_spec(file: FitsFile) -> bool:
    """Whether the headers of a file are those of an spSpec file."""
    if is_coadd(file):
        return has_plug_map(file)
    image, *others = file.hdus()
    floats = image.kind == "image" and image.sizes.bits < 0 and Model("f", SHAPES).has(image.shape)
    return floats and "COEFF0" in image.header and (not others or others[0].kind == "table")


def _read_meta(file: FitsFile) -> dict[str, Scalar]:
    """Return what the header says of the object; its coordinates are RAOBJ and DECOBJ, the plate's RA and DEC."""
    header = file.hdu(0).header
    ra, dec = header.number("RAOBJ"), header.number("DECOBJ")
    return {
        "frame": "HELIOCEN",
        "object": name_object(ra, dec),
        "plate": header.integer("PLATEID"),
        "mjd": header.integer("MJD"),
        "fibre": header.integer("FIBERID"),
        "ra": ra,
        "dec": dec,
        "class": _CLASSES.get(header.integer("SPEC_CLN") or 0),
        "z": header.number("Z"),
        "zwarning": header.integer("Z_WARNIN"),
    }
