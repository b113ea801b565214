"""Readers of astraStar and astraVisit files of SDSS-V: the spectra that a pipeline of Astra fitted to those of a star.

They hold models, and not what was observed: that is in the mwmStar and mwmVisit files of the same star and release. A
file has four tables, as mwm files have; a pipeline takes the spectra of one instrument, and fills its tables alone.

Verified against the data models of DR19 and DR20, https://github.com/sdss/datamodel,
``datamodel/products/md/astraStarASPCAP.md`` and its neighbours; and against what writes and reads the files:
``src/astra/products/pipeline.py`` and ``src/astra/models`` of https://github.com/sdss/astra, where The Payne and Slam
multiply the model by the continuum, and the loader "SDSS-V astra" of specutils, which does so for ASPCAP. Unverified on
a real file.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from astra_dagster.errors import SpectrumFileError
from astra_dagster.fits.hdu import HDU
from astra_dagster.fits.header import Scalar
from astra_dagster.fits.model import Model
from astra_dagster.fits.reader import FitsFile
from astra_dagster.spectra.batch import FLUX_UNIT, SpectrumBatch, stack
from astra_dagster.spectra.masks import to_native
from astra_dagster.spectra.pixel_flags import order_names
from astra_dagster.spectra.products import ap_star, mwm
from astra_dagster.spectra.products.spec import PLAIN, to_plain


@dataclass(frozen=True)
class Pipeline:
    """A pipeline of Astra.

    Attributes
    ----------
    instrument
        Instrument whose spectra it takes.
    column
        A column that no other pipeline has, by which its files are known.
    normalised
        Whether its column `model_flux` is divided by the continuum.
    """

    instrument: str
    column: str
    normalised: bool = False


PIPELINES: Mapping[str, Pipeline] = {
    "ASPCAP": Pipeline("APOGEE", "model_flux_nd_h", normalised=True),
    "ThePayne": Pipeline("APOGEE", "rho_fe_h_c12_c13"),
    "SnowWhite": Pipeline("BOSS", "p_dc_ms"),
    "Slam": Pipeline("BOSS", "optimality"),
}
"""Pipelines whose files have model spectra, by name."""

ASTRA: Mapping[str, tuple[str, bool]] = {
    "astraStarASPCAP": ("ASPCAP", True),
    "astraStarThePayne": ("ThePayne", True),
    "astraStarSnowWhite": ("SnowWhite", True),
    "astraStarSlam": ("Slam", True),
    "astraVisitThePayne": ("ThePayne", False),
    "astraVisitSnowWhite": ("SnowWhite", False),
    "astraVisitSlam": ("Slam", False),
}
"""Products that these readers read: the pipeline, and whether a spectrum is that of a star, or else of a visit."""

_WIDTH = 2_000_000  # bytes a row; 26 columns of 8,575 numbers of double precision are 1,784,000
_LABELS = ("teff", "logg", "fe_h")
_PIXELS = {"APOGEE": ap_star.PIXELS, "BOSS": 4648}


def read_astra(
    path: Path,
    *,
    pipeline: str,
    star: bool,
    wavelength: bool = True,
    bitmask: bool = False,
    reject: Iterable[str] = (),
) -> SpectrumBatch:
    """Read the model spectra of one astraStar or astraVisit file.

    Parameters
    ----------
    pipeline
        Name of the pipeline.
    star
        Whether it must be an astraStar file, or else an astraVisit file.
    wavelength
        Whether to return the wavelengths.
    bitmask
        Without effect, as the file has no mask.
    reject
        Nothing, as the file has no mask.

    Returns
    -------
    SpectrumBatch
        The spectra of the northern telescope, then those of the southern one, in the rest frame of the star. The flux
        is the best-fitting model, continuum included, and can be compared with that of mwm files. As models have no
        errors, `ivar` is 0 and `error` NaN everywhere; pixels are bad where the model is not a number. `models` has all
        model spectra and continua as they are in the file: ``models["model_flux"]`` of ASPCAP is normalised.

    Raises
    ------
    UnknownFlagError
        If a name is given in `reject`.
    InputMissingError
        If there is no such file.
    SpectrumFileError
        If it is not a file of this pipeline, or it has no spectra.
    """
    order_names("", reject)
    found = PIPELINES[pipeline]
    with FitsFile(path) as file:
        mwm.check_primary(file, f"header of an astra{'Star' if star else 'Visit'}{pipeline} file")
        there = mwm.find_tables(file)[found.instrument]
        if not there:
            raise SpectrumFileError(f"has no {found.instrument} spectra, which {pipeline} takes", path=path)
        tables = [_read(file, file.hdu(index), found, star, wavelength) for index in there]
        try:
            return stack(tables)
        except ValueError as error:
            raise SpectrumFileError(f"has tables that do not fit together: {error}", path=path) from error


def is_astra(file: FitsFile, *, pipeline: str, star: bool) -> bool:
    """Whether the headers of a file are those of an astraStar file of a pipeline, or else of an astraVisit file."""
    if "V_ASTRA" not in file.hdu(0).header:
        return False
    found = PIPELINES[pipeline]
    indices = mwm.TABLES[found.instrument]
    if {hdu.kind for hdu in file.hdus()[1 : indices[-1] + 1]} != {"table"}:
        return False
    tables = [file.columns(index) for index in indices]
    return all({"model_flux", found.column} <= set(names) and ("wavelength" in names) is star for names in tables)


def _read(file: FitsFile, hdu: HDU, pipeline: Pipeline, star: bool, wavelength: bool) -> SpectrumBatch:
    expected = f"{hdu.name or pipeline.instrument} model spectra"
    known = file.columns(hdu.index, expected)
    if "wavelength" in known and not star:
        raise file.error(hdu.index, "has a column wavelength, which those of visits have not", expected)
    names = ["model_flux", *(name for name in known if name.startswith("model_flux_") or name.endswith("_model_flux"))]
    if "continuum" in known or pipeline.normalised:
        names.append("continuum")
    pixels = _PIXELS[pipeline.instrument]
    columns = dict.fromkeys([*names, *(["wavelength"] if star else [])], Model("f", ((pixels,),)))
    details = dict.fromkeys((*mwm.DETAILS, *_LABELS), PLAIN)
    needed = {pipeline.column: PLAIN} if pipeline.column not in columns else {}
    table = file.table(hdu.index, {**columns, **needed}, expected, rows=mwm.ROWS, width=_WIDTH, optional=details)
    if "CRVAL" in hdu.header or not star:
        mwm.check_cards(file, hdu, pipeline.instrument, expected)
    grid = mwm.check_grid(file, hdu, pipeline.instrument, pixels, table.get("wavelength"), expected)
    models = {name: to_native(table[name]) for name in names}
    with np.errstate(over="ignore", invalid="ignore"):
        flux = models["model_flux"] * models["continuum"] if pipeline.normalised else models["model_flux"]
    meta: dict[str, tuple[Scalar, ...]] = {
        name: tuple(map(to_plain, values)) for name, values in table.items() if name in details
    }
    count = len(flux)
    return SpectrumBatch(
        flux,
        np.zeros(flux.shape),
        grid if wavelength else None,
        ~np.isfinite(flux),
        np.full(flux.shape, np.nan),
        unit=FLUX_UNIT,
        chips=ap_star.CHIPS if pixels == ap_star.PIXELS else (),
        models=models,
        meta={
            "frame": ("SOURCE",) * count,
            "object": meta.pop("obj", (None,) * count),
            "instrument": (pipeline.instrument,) * count,
            "sdss_id": (file.hdu(0).header.integer("SDSS_ID"),) * count,
        }
        | meta,
    )
