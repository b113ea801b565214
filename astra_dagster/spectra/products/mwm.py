"""Reader of mwmStar and mwmVisit files of SDSS-V's Milky Way Mapper: a star's spectra from every telescope.

A file has four tables, BOSS and APOGEE at Apache Point and at Las Campanas, most of them empty.

Data models: https://data.sdss.org/datamodel/files/MWM_ASTRA/V_ASTRA/spectra/star/mwmStar.html and
https://data.sdss.org/datamodel/files/MWM_ASTRA/V_ASTRA/spectra/visit/mwmVisit.html

The pixel flags of APOGEE spectra are those of the apVisit files, the flags of BOSS spectra those that any exposure of
the spec file has (``or_mask``): https://github.com/sdss/astra, ``src/astra/models/apogee.py`` and ``boss.py``.
"""

from collections.abc import Container, Iterable, Sequence
from pathlib import Path

import numpy as np

from astra_dagster.arrays import FloatArray
from astra_dagster.errors import SpectrumFileError
from astra_dagster.fits.hdu import HDU
from astra_dagster.fits.header import Scalar
from astra_dagster.fits.model import Model
from astra_dagster.fits.reader import FitsFile
from astra_dagster.spectra.batch import FLUX_UNIT, SpectrumBatch, stack
from astra_dagster.spectra.masks import find_flagged, make_ivar_batch, to_native
from astra_dagster.spectra.pixel_flags import APOGEE, BOSS, order_names
from astra_dagster.spectra.products import ap_star
from astra_dagster.spectra.products.spec import PLAIN, to_plain

MWM = ("mwmStar", "mwmVisit")
"""Products whose files hold the spectra of several instruments."""

TABLES = {"BOSS": (1, 2), "APOGEE": (3, 4)}
"""Numbers of the HDUs of each spectrograph, north and south."""

MASK_NAMES = {"BOSS": BOSS, "APOGEE": APOGEE}
"""Name of the mask whose bits the pixel flags of each spectrograph are."""

GRIDS = {"BOSS": (3.5523, 1e-4), "APOGEE": ap_star.GRID}
"""Decimal logarithm of the first wavelength in Angstrom of each instrument, and the step."""

ROWS = range(1, 1001)
"""Numbers of spectra that a table may have; the largest is far more than any star has visits."""

PIXELS = range(2, 20_001)
"""Numbers of pixels that a spectrum may have; real ones have 4,648 (BOSS) or 8,575 (APOGEE)."""

_EPOCHS = {True: "min_mjd", False: "mjd"}
"""Column that says when the spectra were observed, of mwmStar files and of mwmVisit files."""

_WIDTH = 1_000_000  # bytes a row; ten columns of 8,575 numbers of double precision are 686,000
_SPECTRA = Model("fiu", ((PIXELS,),))
DETAILS = ("sdss_id", "telescope", "mjd", "min_mjd", "max_mjd", "obj", "snr", "v_rad", "in_stack")
"""Columns that become metadata."""


def read_mwm(
    path: Path,
    *,
    wavelength: bool = True,
    bitmask: bool = False,
    reject: Iterable[str] = (),
    instrument: str | Sequence[str] | None = None,
    star: bool | None = None,
) -> SpectrumBatch:
    """Read the spectra of one spectrograph from an mwmStar or mwmVisit file.

    Parameters
    ----------
    wavelength
        Whether to return the wavelengths.
    bitmask
        Whether to keep the file's pixel flags.
    reject
        Names of the bits of the instrument's mask (APOGEE_PIXMASK or SPPIXMASK) for which pixels are bad, in upper or
        lower case; by default none.
    instrument
        "BOSS" or "APOGEE", or several names, the first of which the file has spectra; by default the only one of which
        it has some.
    star
        Whether it must be an mwmStar file, or else an mwmVisit file; by default it may be either.

    Returns
    -------
    SpectrumBatch
        The rows of both telescopes, north first, on one shared grid of vacuum wavelengths in the rest frame. Pixels
        with inverse variance 0 are bad, and those that `reject` names.

    Raises
    ------
    UnknownFlagError
        If the instrument's mask has no bit of a name in `reject`.
    InputMissingError
        If there is no such file.
    SpectrumFileError
        If the file is not an mwm file, has no spectra of the instrument, or has spectra of both instruments
        and none was chosen.
    """
    with FitsFile(path) as file:
        check_primary(file, "header of an mwmStar or mwmVisit file")
        there = find_tables(file)
        name = _choose(path, [name for name, indices in there.items() if indices], instrument)
        rejected = order_names(MASK_NAMES[name], reject)
        tables = [_read(file, file.hdu(index), name, star, wavelength, bitmask, rejected) for index in there[name]]
        try:
            return stack(tables)
        except ValueError as error:
            raise SpectrumFileError(f"has tables that do not fit together: {error}", path=path) from error


def is_mwm(file: FitsFile, *, star: bool) -> bool:
    """Whether the headers of a file are those of an mwmStar file, or else of an mwmVisit file."""
    last = TABLES["APOGEE"][-1]
    if "V_ASTRA" not in file.hdu(0).header or {hdu.kind for hdu in file.hdus()[1 : last + 1]} != {"table"}:
        return False
    tables = [file.columns(index) for index in range(1, last + 1)]
    spectra = all("flux" in columns and "model_flux" not in columns for columns in tables)
    return spectra and all(_find_epochs(columns) in (None, _EPOCHS[star]) for columns in tables)


def find_instruments(path: Path) -> tuple[str, ...]:
    """Return the spectrographs of which an mwmStar or mwmVisit file has spectra, by the names that `read_mwm` takes."""
    with FitsFile(path) as file:
        return tuple(name for name, indices in find_tables(file).items() if indices)


def check_primary(file: FitsFile, expected: str) -> None:
    """Check that Astra wrote a file.

    Raises
    ------
    SpectrumFileError
        If its first header does not say so.
    """
    if "V_ASTRA" not in file.hdu(0).header:
        raise file.error(0, "has no V_ASTRA card", expected)


def find_tables(file: FitsFile) -> dict[str, list[int]]:
    """Return the numbers of the tables that have spectra, by spectrograph."""
    return {
        name: [index for index in indices if file.hdu(index, f"{name} spectra").shape[:1] > (0,)]
        for name, indices in TABLES.items()
    }


def _find_epochs(columns: Container[str]) -> str | None:
    """Return the column that says when a table's spectra were observed; None if there is none."""
    return next((name for name in _EPOCHS.values() if name in columns), None)


def _choose(path: Path, there: Sequence[str], instrument: str | Sequence[str] | None) -> str:
    """Return the instrument whose spectra are wanted, of those of which a file has some."""
    if not there:
        raise SpectrumFileError("has no spectra", path=path)
    if not instrument:
        if len(there) > 1:
            hint = 'choose one with instrument="BOSS" or "APOGEE"; of a task it is a parameter, options=["instrument"]'
            raise SpectrumFileError(f"has spectra of both {' and '.join(there)}", path=path, hint=hint)
        return there[0]
    wanted = [name.upper() for name in ((instrument,) if isinstance(instrument, str) else instrument)]
    for name in wanted:
        if name in there:
            return name
    hint = f"instruments are BOSS and APOGEE, and it has those of {' and '.join(there)}"
    raise SpectrumFileError(f"has no {' or '.join(wanted)} spectra", path=path, hint=hint)


def _read(
    file: FitsFile,
    hdu: HDU,
    instrument: str,
    star: bool | None,
    wavelength: bool,
    bitmask: bool,
    reject: tuple[str, ...],
) -> SpectrumBatch:
    expected = f"{hdu.name or instrument} spectra"
    epochs = _find_epochs(file.columns(hdu.index, expected))
    if star is not None and epochs not in (None, _EPOCHS[star]):
        raise file.error(hdu.index, f"has a column {epochs}, where {_EPOCHS[star]} is expected", expected)
    columns = dict.fromkeys(("flux", "ivar", *(("pixel_flags",) if bitmask or reject else ())), _SPECTRA)
    if "wavelength" in file.columns(hdu.index, expected):
        columns["wavelength"] = _SPECTRA
    details = dict.fromkeys(DETAILS, PLAIN)
    table = file.table(hdu.index, columns, expected, rows=ROWS, width=_WIDTH, optional=details)
    shape = table["flux"].shape
    for name in columns:
        if table[name].shape != shape:
            problem = f"has a column {name} of shape {table[name].shape[1:]}, the flux has {shape[1:]}"
            raise file.error(hdu.index, problem, expected)
    check_cards(file, hdu, instrument, expected)
    grid = check_grid(file, hdu, instrument, shape[1], table.get("wavelength"), expected)
    meta: dict[str, tuple[Scalar, ...]] = {
        name: tuple(map(to_plain, values)) for name, values in table.items() if name in DETAILS
    }
    flags = _to_integers(table["pixel_flags"]) if bitmask or reject else None
    return make_ivar_batch(
        to_native(table["flux"]),
        to_native(table["ivar"]),
        None if flags is None else find_flagged(flags, MASK_NAMES[instrument], reject),
        wavelength=grid if wavelength else None,
        unit=FLUX_UNIT,
        chips=ap_star.CHIPS if shape[1] == ap_star.PIXELS else (),
        bitmask=flags if bitmask else None,
        mask_name=MASK_NAMES[instrument],
        reject=reject,
        meta={
            "frame": ("SOURCE",) * shape[0],
            "object": meta.pop("obj", (None,) * shape[0]),
            "instrument": (instrument,) * shape[0],
        }
        | meta,
    )


def check_cards(file: FitsFile, hdu: HDU, instrument: str, expected: str) -> None:
    """Check that the cards of a table tell the grid of an instrument.

    Raises
    ------
    SpectrumFileError
        If they tell another one, or none.
    """
    first, step = GRIDS[instrument]
    said = hdu.header.number("CRVAL"), hdu.header.number("CDELT")
    if None in said or not np.allclose(np.array(said, float), (first, step), rtol=1e-9, atol=0):
        problem = f"has the grid 10**({said[0]} + {said[1]} i), where that of {instrument} is 10**({first} + {step} i)"
        raise file.error(hdu.index, problem, expected, damaged=True)


def check_grid(
    file: FitsFile, hdu: HDU, instrument: str, pixels: int, column: FloatArray | None, expected: str
) -> FloatArray:
    """Return the grid of an instrument, which a column of wavelengths must agree with, if there is one.

    The wavelength column of mwmStar files is the same in single precision.

    Raises
    ------
    SpectrumFileError
        If the column has other wavelengths.
    """
    grid = ap_star.log_grid(*GRIDS[instrument], pixels)
    if column is not None and (column.shape[1:] != grid.shape or not np.allclose(column, grid, rtol=1e-6, atol=0)):
        raise file.error(hdu.index, "has wavelengths that are not those of its header", expected)
    return grid


def _to_integers(values: FloatArray) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(values, nan=0, posinf=0, neginf=0).astype(np.int64)
