"""Reader of spPlate files: the spectra of all fibres of a plate, by the SDSS spectrographs (640 fibres) or BOSS (1000).

Data models: https://classic.sdss.org/dr7/dm/flatFiles/spPlate.html and
http://data.sdss3.org/datamodel/files/BOSS_SPECTRO_REDUX/RUN2D/PLATE4/spPlate.html. No real spPlate file was at hand;
spec files have the header of theirs, and the wavelengths of real ones agree with the grid that it tells.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from astra_dagster.arrays import FloatArray
from astra_dagster.fits.header import Scalar
from astra_dagster.fits.model import Model, Shape
from astra_dagster.fits.reader import FitsFile
from astra_dagster.spectra.batch import FLUX_UNIT, SpectrumBatch
from astra_dagster.spectra.masks import check_increasing, find_flagged, make_ivar_batch, to_native
from astra_dagster.spectra.pixel_flags import BOSS, BOSS_REJECTED, order_names
from astra_dagster.spectra.products.spec import PLAIN, RANGE, ROWS, STEP, name_object, to_plain

FIBRES = range(1, 1001)
"""Numbers of fibres that a plate may have."""

SHAPES: tuple[Shape, ...] = ((FIBRES, ROWS),)

_HDUS = ("flux", "inverse variance", "mask", "mask of any exposure", "wavelength dispersion", "plug map")
_PLUG_MAP = _HDUS.index("plug map")
_WIDTH = 10_000  # bytes a row; 283 in the data model of DR17


def read_sp_plate(
    path: Path, *, wavelength: bool = True, bitmask: bool = False, reject: Iterable[str] = BOSS_REJECTED
) -> SpectrumBatch:
    """Read the spectra of all fibres of one spPlate file, one row a fibre.

    Parameters
    ----------
    wavelength
        Whether to compute the wavelengths.
    bitmask
        Whether to keep the file's own mask of flags that all exposures have (HDU 2).
    reject
        Names of the bits of SPPIXMASK in that mask for which pixels are bad, in upper or lower case; by default none,
        as many good pixels have flags.

    Returns
    -------
    SpectrumBatch
        Spectra of shape (fibres, pixels), on one grid of heliocentric vacuum wavelengths. Pixels with inverse variance
        0 are bad, and those that `reject` names. ``meta["fibre"]`` and ``meta["objtype"]`` say whose a row is; fibres
        that point at the sky and standard stars are rows as well.

    Raises
    ------
    UnknownFlagError
        If the mask has no bit of a name in `reject`.
    InputMissingError
        If there is no such file.
    SpectrumFileError
        If it is not an spPlate file.
    """
    rejected = order_names(BOSS, reject)
    with FitsFile(path) as file:
        for index, what in enumerate(_HDUS):
            file.hdu(index, what)
        flux = file.image(0, "flux", Model("f", SHAPES))
        shapes: tuple[Shape, ...] = (flux.shape,)
        ivar = file.image(1, "inverse variance", Model("f", shapes))
        mask = file.image(2, "mask", Model("iu", shapes)) if bitmask or rejected else None
        grid = read_grid(file, flux.shape[1])
        return make_ivar_batch(
            to_native(flux),
            to_native(ivar),
            find_flagged(mask, BOSS, rejected) if mask is not None and rejected else None,
            wavelength=grid if wavelength else None,
            unit=FLUX_UNIT,
            bitmask=mask.astype(np.int64) if bitmask and mask is not None else None,
            mask_name=BOSS,
            reject=rejected,
            meta=_read_meta(file, len(flux)),
        )


def is_sp_plate(file: FitsFile) -> bool:
    """Whether the headers of a file are those of an spPlate file: four images, the third and fourth of them masks."""
    hdus = file.hdus()
    if len(hdus) <= _PLUG_MAP or hdus[_PLUG_MAP].kind != "table" or "COEFF0" not in hdus[0].header:
        return False
    images = [hdu for hdu in hdus[:4] if hdu.kind == "image" and len(hdu.shape) == 2]
    kinds = "".join("f" if hdu.sizes.bits < 0 else "i" for hdu in images)
    return kinds == "ffii" and len({hdu.shape for hdu in images}) == 1 and "fiberid" in file.columns(_PLUG_MAP)


def read_grid(file: FitsFile, pixels: int) -> FloatArray:
    """Return the wavelengths in Angstrom that the header tells, ``10**(COEFF0 + COEFF1 * i)``, of shape (pixels,).

    Raises
    ------
    SpectrumFileError
        If the header lacks them, or they are none of the instruments.
    """
    header = file.hdu(0).header
    first, step = header.number("COEFF0"), header.number("COEFF1")
    if first is None or step is None:
        raise file.error(0, "has no numbers COEFF0 and COEFF1", "wavelength")
    if abs(step - STEP) > STEP / 1000:
        raise file.error(0, f"has wavelengths at steps of {step} in log10, not {STEP}", "wavelength", damaged=True)
    with np.errstate(over="ignore"):
        grid: FloatArray = np.power(10.0, first + step * np.arange(pixels))
    check_increasing(file, grid, 0, RANGE)
    return grid


def _read_meta(file: FitsFile, fibres: int) -> dict[str, tuple[Scalar, ...]]:
    """Return what the header says of the plate, and the plug map of each fibre."""
    header = file.hdu(0).header
    plate = {
        "frame": "HELIOCEN",
        "run2d": header.text("RUN2D"),
        "plate": header.integer("PLATEID"),
        "field": header.integer("FIELDID"),
        "mjd": header.integer("MJD"),
    }
    rows = range(fibres, fibres + 1)
    details = dict.fromkeys(("ra", "dec", "objtype"), PLAIN)
    wanted = {"fiberid": Model("iu", ((),))}
    table = file.table(_PLUG_MAP, wanted, "plug map", rows=rows, width=_WIDTH, optional=details)
    said = {name: tuple(map(to_plain, values)) for name, values in table.items()}
    missing: tuple[Scalar, ...] = (None,) * fibres
    ra, dec = said.get("ra", missing), said.get("dec", missing)
    return {
        **{name: (value,) * fibres for name, value in plate.items()},
        "object": tuple(map(name_object, ra, dec)),
        "fibre": said["fiberid"],
        "ra": ra,
        "dec": dec,
        "objtype": said.get("objtype", missing),
    }
