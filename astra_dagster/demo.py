"""A synthetic SAS mirror that follows the data model, so that everything runs on a machine with no data.

Deterministic: each file depends on its partition key alone, modification time included. The spectra are toys (a
continuum, a few lines, noise); their files are not: HDUs, types, orders and bad pixels are as in the real ones.
"""

import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from astra_dagster.datamodel.products import DataID, product

Array = npt.NDArray[Any]

CHIPS = ((16473.0, 16954.0), (15857.0, 16435.0), (15143.0, 15810.0))
"""Wavelength ranges in Angstrom of the red, green and blue chips, in the order of an apVisit file."""

APSTAR_WAVELENGTH = 10 ** (4.179 + 6e-6 * np.arange(8575))
"""Wavelengths of every apStar spectrum, Angstrom, vacuum."""

_LINES = (15163.0, 15345.0, 15700.5, 15965.0, 16113.0, 16336.0, 16525.0, 16723.5, 16811.0)
_OPTICAL_LINES = (3934.8, 4102.9, 4341.7, 4862.7, 5176.6, 5895.6, 6564.6, 8544.4)
_TIME = 1_577_836_800
_BAD_BIT, _WARNING_BIT = 1, 512

_VISITS = (
    *(("DR17", "apo25m", "120+12", 5226, 56000, fibre) for fibre in range(1, 9)),
    *(("DR17", "lco25m", "000+02", 9911, 57900, fibre) for fibre in (31, 150, 299, 300)),
    *(("DR19", "apo25m", "200+45", 3148, 59162, fibre) for fibre in (5, 33, 271)),
    *(("DR19", "lco25m", "012-07", 10257, 59601, fibre) for fibre in (12, 98, 212)),
)
_UNDITHERED = {("DR17", 8), ("DR19", 98)}
_STARS = (
    ("DR17", {"telescope": "apo25m", "field": "120+12", "obj": "2M00000032+5737103"}, 1),
    ("DR17", {"telescope": "apo25m", "field": "120+12", "obj": "2M00012723+6258059"}, 3),
    ("DR17", {"telescope": "lco25m", "field": "000+02", "obj": "2M17335483-2753043"}, 2),
    ("DR19", {"telescope": "apo25m", "healpix": 1013, "obj": "2M01183798+8403419"}, 4),
)
_SPECS = (("v5_13_2", 3586, 55181, 500), ("v5_13_2", 7027, 56448, 1), ("26", 266, 51602, 31))


def write_mirror(root: Path) -> list[Path]:
    """Write the mirror below `root`, and return its files. Files that are there are written anew, alike."""
    paths = []
    for release, telescope, field, plate, mjd, fibre in _VISITS:
        visit = product("apVisit").data_id(release, telescope=telescope, field=field, plate=plate, mjd=mjd, fibre=fibre)
        paths.append(write_ap_visit(visit, root, dithered=(release, fibre) not in _UNDITHERED))
    for release, values, visits in _STARS:
        paths.append(write_ap_star(product("apStar").data_id(release, **values), root, visits))
    for run2d, plate, mjd, fibre in _SPECS:
        spec = product("spec").data_id("DR17", run2d=run2d, plate=plate, mjd=mjd, fibre=fibre)
        paths.append(write_spec(spec, root))
    return paths


def write_ap_visit(data_id: DataID, root: Path, *, dithered: bool = True) -> Path:
    """Write an apVisit file: 4096 pixels a chip if `dithered`, else 2048."""
    rng, values = _rng(data_id), data_id.values
    pixels = 4096 if dithered else 2048
    wavelength = np.array([np.linspace(high, low, pixels) for low, high in CHIPS])
    flux, error = _observed(rng, wavelength, _LINES, shift=float(rng.normal(0, 1)))
    mask = np.where(rng.random(flux.shape) < 0.2, _WARNING_BIT, 0)
    flagged, lost = rng.random(flux.shape) < 0.006, rng.random(flux.shape) < 0.002
    mask[flagged] |= _BAD_BIT
    error[lost] = 1e10
    flux32, error32 = flux.astype(">f4"), error.astype(">f4")
    named = data_id.release not in ("DR12", "DR13", "DR14", "DR15", "DR16", "DR17")
    primary = fits.PrimaryHDU()
    velocity, correction = float(rng.normal(0, 30)), float(rng.uniform(-29, 29))
    primary.header.update(
        TELESCOP=values["telescope"],
        PLATE=values["plate"],
        MJD5=int(values["mjd"]),
        FIBERID=int(values["fibre"]),
        OBJID=f"2M{rng.integers(10**8):08d}+{rng.integers(10**7):07d}",
        OBJTYPE="STAR",
        NPAIRS="4",
        SNR=float(f"{np.median(flux32[1] / error32[1]):.6g}"),
        BC=correction,
        VRAD=velocity,
        VHELIO=velocity + correction,
    )
    sky = (0.1 * np.abs(flux)).astype(">f4")
    images = (
        ("FLUX", flux32),
        ("ERROR", error32),
        ("MASK", mask.astype(">i2")),
        ("WAVELENGTH", wavelength.astype(">f8")),
        ("SKY", sky),
        ("SKYERR", np.sqrt(sky).astype(">f4")),
        ("TELLURIC", np.ones_like(flux32)),
        ("TELLURICERR", np.full_like(flux32, 0.01)),
        ("WAVECOEF", np.zeros((3, 14), ">f8")),
        ("LSFCOEF", np.zeros((3, 26), ">f8")),
    )
    hdus = [primary, *(fits.ImageHDU(image, name=name if named else "") for name, image in images)]
    columns = [
        fits.Column("FIBERID", "J", array=[int(values["fibre"])]),
        fits.Column("PLATE", "8A", array=[values["plate"]]),
        fits.Column("MJD", "J", array=[int(values["mjd"])]),
    ]
    return _write([*hdus, fits.BinTableHDU.from_columns(columns)], data_id, root)


def write_ap_star(data_id: DataID, root: Path, visits: int) -> Path:
    """Write an apStar file in the DR17 layout: two combined rows, then the visits; NaN between the chips.

    A star with one visit has two rows, of which the second is zero.
    """
    rng = _rng(data_id)
    covered = np.any([(low < APSTAR_WAVELENGTH) & (high > APSTAR_WAVELENGTH) for low, high in CHIPS], axis=0)
    rows = [_observed(rng, APSTAR_WAVELENGTH, _LINES, shift=0.0) for _ in range(visits)]
    weight = np.array([1 / error**2 for _, error in rows])
    combined = (np.array([flux for flux, _ in rows]) * weight).sum(axis=0) / weight.sum(axis=0)
    combined_error = 1 / np.sqrt(weight.sum(axis=0))
    gap = np.where(covered, 1.0, np.nan)
    flux = np.array([combined * gap] * 2 + [flux * covered for flux, _ in rows])
    error = np.array([combined_error * gap] * 2 + [error * covered for _, error in rows])
    if visits == 1:
        flux, error = flux[:2], error[:2]
        flux[1] = error[1] = 0.0
    mask = np.where(covered, 0, _BAD_BIT) * np.ones((len(flux), 1), int)
    primary = fits.PrimaryHDU()
    primary.header.update(
        CRVAL1=4.179,
        CDELT1=6e-6,
        CRPIX1=1,
        CTYPE1="LOG-LINEAR",
        NWAVE=len(APSTAR_WAVELENGTH),
        OBJID=data_id.values["obj"],
        NVISITS=visits,
        SNR=float(np.nanmedian(flux[0] / error[0])),
    )
    zero = np.zeros_like(flux)
    images = [flux, error, mask.astype(">i8"), zero, zero, zero, zero]
    table = fits.BinTableHDU.from_columns([fits.Column("snr", "D", array=np.zeros(visits))])
    other = fits.BinTableHDU.from_columns([fits.Column("snr", "D", array=np.zeros(1))])
    hdus = [primary, *(fits.ImageHDU(_big(image)) for image in images), fits.ImageHDU(), table, other]
    return _write(hdus, data_id, root)


def write_spec(data_id: DataID, root: Path) -> Path:
    """Write a full spec file: the coadded spectrum and the pipeline's row of it."""
    rng, values = _rng(data_id), data_id.values
    loglam = 3.55 + 1e-4 * np.arange(int(rng.integers(4400, 4648)))
    flux, error = _observed(rng, 10**loglam, _OPTICAL_LINES, shift=0.0)
    ivar = np.where(rng.random(flux.shape) < 0.01, 0.0, 1 / error**2)
    primary = fits.PrimaryHDU()
    primary.header.update(PLATEID=int(values["plate"]), MJD=int(values["mjd"]), FIBERID=int(values["fibre"]))
    if values["run2d"].startswith("v"):
        primary.header["RUN2D"] = values["run2d"]
    mask = np.where(rng.random(flux.shape) < 0.3, 1 << 24, 0)
    data = {"flux": flux, "loglam": loglam, "ivar": ivar, "wdisp": np.ones_like(flux), "sky": 0.1 * flux, "model": flux}
    columns = [fits.Column(name, "E", array=array) for name, array in data.items()]
    columns[3:3] = [fits.Column("and_mask", "J", array=mask), fits.Column("or_mask", "J", array=mask)]
    row = [fits.Column("RUN2D", "8A", array=[values["run2d"]]), fits.Column("Z", "E", array=[0.0])]
    hdus = [
        primary,
        fits.BinTableHDU.from_columns(columns, name="COADD"),
        fits.BinTableHDU.from_columns(row, name="SPALL"),
    ]
    return _write(hdus, data_id, root)


def _rng(data_id: DataID) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(data_id.key.encode()))


def _observed(
    rng: np.random.Generator, wavelength: Array, lines: tuple[float, ...], shift: float
) -> tuple[Array, Array]:
    """Flux with noise, and its error: a sloping continuum with Gaussian absorption lines."""
    level, snr = float(rng.uniform(20, 400)), float(rng.uniform(15, 250))
    x = (wavelength - wavelength.mean()) / np.ptp(wavelength)
    flux = level * (1 - 0.3 * x + 0.1 * np.sin(7 * x))
    for line in lines:
        flux *= 1 - rng.uniform(0.05, 0.5) * np.exp(-0.5 * ((wavelength - line - shift) / 1.2) ** 2)
    error = np.sqrt(np.maximum(flux, 0.02 * level) * level) / snr
    return flux + rng.normal(0, 1, flux.shape) * error, error


def _big(array: Array) -> Array:
    return array.astype(array.dtype.newbyteorder(">"))


def _write(hdus: list[Any], data_id: DataID, root: Path) -> Path:
    path = data_id.path(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.HDUList(hdus).writeto(path, overwrite=True, checksum=False)
    os.utime(path, (_TIME, _TIME))
    return path
