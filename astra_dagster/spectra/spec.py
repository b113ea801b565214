"""Reader of spec files: one optical spectrum of SDSS, BOSS, eBOSS or SDSS-V, full or lite.

Data models: https://data.sdss.org/datamodel/files/BOSS_SPECTRO_REDUX/RUN2D/spectra/full/PLATE4/spec.html and
https://data.sdss.org/datamodel/files/BOSS_SPECTRO_REDUX/RUN2D/spectra/lite/specLite.html
"""

from pathlib import Path

import numpy as np

from astra_dagster.errors import SpectrumFileError
from astra_dagster.spectra.batch import FLUX_UNIT, SpectrumBatch
from astra_dagster.spectra.fits import Array, FitsFile
from astra_dagster.spectra.header import Scalar
from astra_dagster.spectra.masks import check_increasing, from_ivar, native, single

_DETAILS = ("run2d", "plug_ra", "plug_dec", "class", "subclass", "z", "sn_median_all", "sdss_id", "catalogid")


def read_spec(path: Path, *, wavelength: bool = True, bitmask: bool = False) -> SpectrumBatch:
    """Read the coadded spectrum of one spec file; its single exposures are not decoded.

    Parameters
    ----------
    wavelength
        Whether to work the wavelengths out.
    bitmask
        Whether to keep the file's own mask: that which holds in all exposures (``and_mask``).

    Returns
    -------
    SpectrumBatch
        One spectrum on a grid of its own, shape (1, pixels), vacuum, heliocentric. Bad is where the inverse variance
        is 0; the mask does not count, for it is set on many pixels that are good.

    Raises
    ------
    InputMissingError
        If there is no such file.
    SpectrumFileError
        If it is not a spec file, or no pixel of it is good.
    """
    with FitsFile(path) as file:
        expected = "coadded spectrum"
        table = file.table(1, ["flux", "loglam", "ivar", *(["and_mask"] if bitmask else [])], expected)
        for name, values in table.items():
            if values.ndim != 1 or values.dtype.kind not in ("iu" if name == "and_mask" else "f"):
                raise file.error(1, f"has a column {name} of shape {values.shape} and type {values.dtype}", expected)
        if len(table["flux"]) < 2:
            raise file.error(1, f"has {len(table['flux'])} rows", expected)
        grid = None
        if wavelength:
            loglam = native(table["loglam"])[None]
            with np.errstate(over="ignore", invalid="ignore"):
                grid = np.power(10.0, loglam)
            check_increasing(file, grid, 1)
        return from_ivar(
            file,
            native(table["flux"])[None],
            native(table["ivar"])[None],
            wavelength=grid,
            unit=FLUX_UNIT,
            bitmask=table["and_mask"].astype(np.int64)[None] if bitmask else None,
            meta=single(_meta(file)),
        )


def _meta(file: FitsFile) -> dict[str, Scalar]:
    """What header and, where it is there, the pipeline's row say of the object; not of the telescope's axis."""
    header = file.hdu(0).header
    try:
        row = {name: plain(values) for name, values in file.table(2, (), "", _DETAILS).items() if len(values) == 1}
    except SpectrumFileError:  # a spectrum without its row is a spectrum
        row = {}
    return {
        "run2d": header.text("RUN2D") or row.get("run2d"),
        "plate": header.integer("PLATEID"),
        "field": header.integer("FIELDID"),
        "mjd": header.integer("MJD"),
        "fibre": header.integer("FIBERID"),
        "catalogid": row.get("catalogid"),
        "sdss_id": row.get("sdss_id"),
        "ra": row.get("plug_ra", header.number("PLUG_RA")),
        "dec": row.get("plug_dec", header.number("PLUG_DEC")),
        "class": row.get("class"),
        "subclass": row.get("subclass"),
        "z": row.get("z"),
        "snr": row.get("sn_median_all"),
    }


def plain(values: Array) -> Scalar:
    """First value of a column as a plain number or text; None if it is no such thing, or not finite."""
    value = values[0].item() if values.ndim == 1 else None
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value if isinstance(value, (bool, int, float, str)) else None
