"""Reader of spec files: one optical spectrum of SDSS, BOSS, eBOSS or SDSS-V, full or lite.

Those of SDSS-V combine the exposures of a night, of an epoch (`specLite_epoch`, `specFull_epoch`), or of all nights and
epochs (`specLite_coadd`, `specFull_coadd`). Their headers do not tell which, the folders do.

Data models: https://data.sdss.org/datamodel/files/BOSS_SPECTRO_REDUX/RUN2D/spectra/full/PLATE4/spec.html and
https://data.sdss.org/datamodel/files/BOSS_SPECTRO_REDUX/RUN2D/spectra/lite/specLite.html, and for epochs and all nights
https://github.com/sdss/datamodel, ``datamodel/products/md/specFull_epoch.md`` and ``specFull_coadd.md`` (of v6_1_3).
"""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from astra_dagster.fits.header import Scalar
from astra_dagster.fits.model import Model
from astra_dagster.fits.reader import FitsFile
from astra_dagster.spectra.batch import FLUX_UNIT, SpectrumBatch
from astra_dagster.spectra.masks import check_increasing, find_flagged, make_ivar_batch, to_native, wrap_values
from astra_dagster.spectra.pixel_flags import BOSS, BOSS_REJECTED, order_names

COMBINED = ("specLite_epoch", "specFull_epoch", "specLite_coadd", "specFull_coadd")
"""Products whose files combine the exposures of several nights."""

SPEC = ("spec", "spec-lite", "specLite", "specFull", *COMBINED)
"""Products whose files are spec files."""

ROWS = range(2, 20_001)
"""Numbers of pixels that a spectrum may have; real ones have 3,810 to 4,648."""

STEP = 1e-4
"""Step of the grid in the decimal logarithm of the wavelength; in single precision it is kept to 0.4 %."""

RANGE = (2500.0, 12_000.0)
"""Between these wavelengths in Angstrom lie all those of the instruments."""

_WIDTH, _WIDTH_OF_DETAILS = 1000, 100_000  # bytes a row; in real files 36 and 4,016 at most
_FLOATS, _INTEGERS, PLAIN = Model("f", ((),)), Model("iu", ((),)), Model("biufU", ((),))
_IS_ROW = {"class", "subclass", "z"}  # columns of the pipeline's row, and of no other table
_IS_SPECTRUM = {"flux", "loglam", "ivar", "and_mask", "or_mask"}
_MOST_LINES = 1000  # rows; real files have 32 at most, and exposures 2,500 pixels and more
_FOLDERS = re.compile(r"(?:^|/)spectra/(?:[^/]+/)?(full|lite)/")
_IDENTIFIERS = ("sdss_id", "catalogid")
_DETAILS = ("run2d", "mjd", "plug_ra", "plug_dec", "class", "subclass", "zwarning", "sn_median_all", *_IDENTIFIERS)


def read_spec(
    path: Path, *, wavelength: bool = True, bitmask: bool = False, reject: Iterable[str] = BOSS_REJECTED
) -> SpectrumBatch:
    """Read the coadded spectrum of one spec file; its single exposures are not decoded.

    Parameters
    ----------
    wavelength
        Whether to compute the wavelengths.
    bitmask
        Whether to keep the file's own mask of flags that all exposures have (``and_mask``).
    reject
        Names of the bits of SPPIXMASK in that mask for which pixels are bad, in upper or lower case; by default none,
        as many good pixels have flags.

    Returns
    -------
    SpectrumBatch
        One spectrum of shape (1, pixels), on a grid of its own, of heliocentric vacuum wavelengths. Pixels with inverse
        variance 0 are bad, and those that `reject` names.

    Raises
    ------
    UnknownFlagError
        If the mask has no bit of a name in `reject`.
    InputMissingError
        If there is no such file.
    SpectrumFileError
        If it is not a spec file, or it is a lite one in a folder of full ones, or a full one in a folder of lite ones.
    """
    rejected = order_names(BOSS, reject)
    with FitsFile(path) as file:
        _check_folder(file)
        columns = dict.fromkeys(("flux", "loglam", "ivar"), _FLOATS)
        if bitmask or rejected:
            columns["and_mask"] = _INTEGERS
        table = file.table(1, columns, "coadded spectrum", rows=ROWS, width=_WIDTH)
        loglam = to_native(table["loglam"])[None]
        with np.errstate(invalid="ignore"):
            equal = abs(loglam - loglam[0, 0] - STEP * np.arange(loglam.size)) < STEP / 10
        if not equal.all():
            raise file.error(1, f"has wavelengths that are not at equal steps of {STEP} in log10", "coadded spectrum")
        grid = None
        if wavelength:
            with np.errstate(over="ignore"):
                grid = np.power(10.0, loglam)
            check_increasing(file, grid, 1, RANGE)
        return make_ivar_batch(
            to_native(table["flux"])[None],
            to_native(table["ivar"])[None],
            find_flagged(table["and_mask"][None], BOSS, rejected) if rejected else None,
            wavelength=grid,
            unit=FLUX_UNIT,
            bitmask=table["and_mask"].astype(np.int64)[None] if bitmask else None,
            mask_name=BOSS,
            reject=rejected,
            meta=wrap_values(_read_meta(file)),
        )


def is_spec(file: FitsFile, *, sdss5: bool, lite: bool) -> bool:
    """Whether the headers of a file are those of a spec file.

    Parameters
    ----------
    sdss5
        Whether it must be one of SDSS-V, or else an earlier one.
    lite
        Whether it must be lite, or else full; where it cannot be told, it may be either.
    """
    if not is_coadd(file) or has_plug_map(file):
        return False
    return _is_of_sdss5(file) == sdss5 and _find_lite(file) in (None, lite)


def is_coadd(file: FitsFile) -> bool:
    """Whether the first table of a file is a coadded spectrum."""
    return len(file.hdus()) > 1 and file.hdus()[1].kind == "table" and set(file.columns(1)) >= _IS_SPECTRUM


def has_plug_map(file: FitsFile) -> bool:
    """Whether a plug map follows the coadded spectrum, as in spSpec files, and not the pipeline's row."""
    if len(file.hdus()) < 3 or file.hdus()[2].kind != "table":
        return False
    columns = file.columns(2)
    return "objtype" in columns and _IS_ROW.isdisjoint(columns)


def _is_of_sdss5(file: FitsFile) -> bool:
    """Whether a spec file is one of SDSS-V. The header of a combination of all nights tells neither field nor run2d."""
    header = file.hdu(0).header
    if "FIELDID" in header or (header.text("RUN2D") or "").startswith("v6"):
        return True
    return len(file.hdus()) > 2 and file.hdus()[2].kind == "table" and "catalogid" in file.columns(2)


def _find_lite(file: FitsFile) -> bool | None:
    """Whether a file is lite: its last table is that of the lines, and not an exposure; None if it is neither."""
    last = file.hdus()[-1]
    if last.index < 2 or last.kind != "table":
        return None
    if last.shape[0] > _MOST_LINES:
        return False
    return True if b"'LINENAME" in last.raw.upper() else None  # quicker than to parse it


def _check_folder(file: FitsFile) -> None:
    """Check that a lite file is not where full ones are, nor a full one where lite ones are."""
    folder = _FOLDERS.search(file.path.as_posix())
    if folder and _find_lite(file) is (folder[1] == "full"):
        found, last = ("lite", "lines") if folder[1] == "full" else ("full", "a single exposure")
        problem = f"is a table of {last}, which a {found} spec file ends with"
        raise file.error(len(file.hdus()) - 1, problem, f"last of a {folder[1]} spec file, by its folder")


def _read_meta(file: FitsFile) -> dict[str, Scalar]:
    """Return what the header and, if the file has it, the pipeline's row say of the object.

    Coordinates are those of the object, not of the telescope's axis, which RA and DEC of the header are.
    """
    header = file.hdu(0).header
    row: dict[str, Scalar] = {}
    hdus = file.hdus()
    if len(hdus) > 2 and hdus[2].kind == "table" and not _IS_ROW.isdisjoint(file.columns(2, "row of the pipeline")):
        row = _read_row(file, "row of the pipeline", ("z",), _DETAILS)
    elif has_plug_map(file):
        row = _read_row(file, "plug map", (), ("ra", "dec", *_IDENTIFIERS))
    ra: Scalar = row.get("plug_ra", row.get("ra", header.number("PLUG_RA")))
    dec: Scalar = row.get("plug_dec", row.get("dec", header.number("PLUG_DEC")))
    return {
        "frame": "HELIOCEN",
        "object": name_object(ra, dec),
        "run2d": header.text("RUN2D") or row.get("run2d"),
        "plate": header.integer("PLATEID"),
        "field": header.integer("FIELDID"),
        "mjd": header.integer("MJD") or row.get("mjd"),
        "fibre": header.integer("FIBERID"),
        "catalogid": row.get("catalogid"),
        "sdss_id": row.get("sdss_id"),
        "ra": ra,
        "dec": dec,
        "class": row.get("class"),
        "subclass": row.get("subclass"),
        "z": row.get("z"),
        "zwarning": row.get("zwarning"),
        "snr": row.get("sn_median_all"),
    }


def _read_row(file: FitsFile, what: str, required: Iterable[str], optional: Iterable[str]) -> dict[str, Scalar]:
    wanted, details = dict.fromkeys(required, PLAIN), dict.fromkeys(optional, PLAIN)
    table = file.table(2, wanted, what, rows=range(1, 2), width=_WIDTH_OF_DETAILS, optional=details)
    return {name: to_plain(values[0]) for name, values in table.items()}


def name_position(ra: float, dec: float) -> str:
    """Return the name that the SDSS gives to an object at these coordinates in degrees: SDSS J123456.78+012345.6.

    As the IAU has it, digits are cut off, and not rounded.
    """
    hundredths = int(ra % 360 * 24_000 + 1e-5)  # of a second of time
    tenths = int(abs(dec) * 36_000 + 1e-5)  # of a second of arc
    minutes, seconds = divmod(hundredths, 6000)
    arc_minutes, arc_seconds = divmod(tenths, 600)
    return (
        f"SDSS J{minutes // 60:02}{minutes % 60:02}{seconds // 100:02}.{seconds % 100:02}"
        f"{'-' if dec < 0 else '+'}{arc_minutes // 60:02}{arc_minutes % 60:02}{arc_seconds // 10:02}.{arc_seconds % 10}"
    )


def name_object(ra: Scalar, dec: Scalar) -> str | None:
    """Return the name of an object by its coordinates, `name_position`; None if the file does not tell them."""
    return name_position(ra, dec) if isinstance(ra, float) and isinstance(dec, float) else None


def to_plain(value: np.generic) -> Scalar:
    """Convert a value of a column to a plain number or text; None if it is null, or a number that is not finite."""
    if np.ma.getmask(value):
        return None
    made: Scalar = value.item()
    return None if isinstance(made, float) and not np.isfinite(made) else made
