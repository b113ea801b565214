"""A synthetic SAS mirror that follows the data model, so that everything runs on a machine with no data.

Each file depends on its partition key alone, even in its modification time. The spectra are toys that look like a cool
giant in the H band and a G star in the optical: strong lines and bands are where they are in stars, weak lines are at
random places outside the continuum windows, and there are noise and residuals of the night sky. The files are as real
ones: their HDUs, types, orders and bad pixels are those of the data model.
"""

import functools
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from astra_dagster.analysis.regions import named_regions
from astra_dagster.analysis.velocity import LIGHT
from astra_dagster.arrays import AnyArray
from astra_dagster.datamodel.products import DataID, product

CHIPS = ((16473.0, 16954.0), (15857.0, 16435.0), (15143.0, 15810.0))
"""Wavelength ranges in Angstrom of the red, green and blue chips, in the order of an apVisit file."""

APSTAR_WAVELENGTH = 10 ** (4.179 + 6e-6 * np.arange(8575))
"""Wavelengths of every apStar spectrum, Angstrom, vacuum."""

_LINES = {
    "apogee": """1.1 0.38 15577 15745 15753.3 15770.1 15892.7 15964.4 16011.1 16066.1 16723.5 16755.1 16767.9
        0.6 0.38 15163.3 15266.6 15282.7 15285.2 15298.7 15426.6 15548 15595.7 15607.1 15636.2 15719.9
        0.4 0.38 15221.9 15398.9 15985.1 16106.8 16141.2 16161.8 16168.1 16201.5 16220.1 16320.8 16393.3
        0.3 0.38 15172.5 15381 16045 16378.3 16491.2 16510.8 16566.3 16639.7 16685.3 16876.9 16895""",
    "optical": """3.5 3.8 3934.8 3969.6
        0.6 4 4102.9 4341.7 4862.7 6564.6
        0.5 8 4306
        0.6 2 4384.8 5168.8 5174.1 5185 5270.9
        0.5 1.7 4227.9 5891.6 5897.6
        0.7 2.8 8500.4 8544.4 8664.5""",
}
"""Strong lines of a cool giant and of a G star: optical depth, width, and centres in vacuum, Angstrom."""

_CO_HEADS = (15581.5, 15780.0, 15981.5, 16189.8, 16400.5, 16618.0, 16840.0)
_SKY = {
    "apogee": """15187.2 15240.9 15287.8 15332.4 15395.3 15432.2 15509.8 15540.9 15546.1 15570.2 15597.6 15631.4 15655.1
        15702.5 15870 15972.6 16030.8 16079.8 16128.6 16194.6 16235.4 16317.2 16351.6 16388.5 16475.8 16479.1 16502.4
        16553.8 16692.4 16708.9 16732.5 16840.5 16903.7""",
    "optical": "5578.9 6302.1 9378 9440 9478 9793 9917 10014",
}
_TIME = 1_577_836_800
_BAD_BIT, _WARNING_BIT, _BRIGHT_SKY = 1, 512, 1 << 23

_VISITS = (
    *(("DR17", "apo25m", "120+12", 5226, 56000, fibre) for fibre in range(1, 9)),
    *(("DR17", "lco25m", "000+02", 9911, 57900, fibre) for fibre in (31, 150, 299, 300)),
    *(("DR19", "apo25m", "084-03", 3148, 59162, fibre) for fibre in (5, 33, 271)),
    *(("DR19", "lco25m", "084-02", 10257, 59601, fibre) for fibre in (12, 98, 212)),
)
_UNDITHERED = {("DR17", 8), ("DR19", 98)}
_STAR = "2M05361004-0325129"
_STAR_VISITS = {("DR19", 271), ("DR19", 212)}
_STAR_IDS = {"SDSS_ID": 66251234, "CATALOGID": 27021598150202075}
_STAR_EPOCHS = ((103456, 59253), (103456, 59578))
_STAR_POSITION, _STAR_VELOCITY = (84.041850, -3.420278), 37.5
_STARS = (
    ("DR17", {"telescope": "apo25m", "field": "120+12", "obj": "2M00000032+5737103"}, 1),
    ("DR17", {"telescope": "apo25m", "field": "120+12", "obj": "2M00012723+6258059"}, 3),
    ("DR17", {"telescope": "lco25m", "field": "000+02", "obj": "2M17335483-2753043"}, 2),
    ("DR19", {"telescope": "apo25m", "healpix": 1013, "obj": "2M01183798+8403419"}, 4),
)
_SPECS = (("v5_13_2", 3586, 55181, 500), ("v5_13_2", 7027, 56448, 1), ("26", 266, 51602, 31))


def write_mirror(root: Path) -> list[Path]:
    """Write the mirror below `root`, and return the paths of its files. Existing files are written again, unchanged."""
    paths = []
    for release, telescope, field, plate, mjd, fibre in _VISITS:
        visit = product("apVisit").data_id(release, telescope=telescope, field=field, plate=plate, mjd=mjd, fibre=fibre)
        star = _STAR if (release, fibre) in _STAR_VISITS else ""
        paths.append(write_ap_visit(visit, root, dithered=(release, fibre) not in _UNDITHERED, star=star))
    for release, values, visits in _STARS:
        paths.append(write_ap_star(product("apStar").data_id(release, **values), root, visits))
    for run2d, plate, mjd, fibre in _SPECS:
        spec = product("spec").data_id("DR17", run2d=run2d, plate=plate, mjd=mjd, fibre=fibre)
        paths.append(write_spec(spec, root))
    for number, day in _STAR_EPOCHS:
        epoch = product("specLite").data_id("DR19", field=number, mjd=day, catalogid=_STAR_IDS["CATALOGID"])
        paths.append(write_spec(epoch, root))
    of_star = [product(name).data_id("DR19", sdss_id=_STAR_IDS["SDSS_ID"]) for name in ("mwmVisit", "mwmStar")]
    return [*paths, *(write_mwm(data_id, root) for data_id in of_star)]


def write_second_reduction(root: Path) -> list[Path]:
    """Write the visits of plate 5226 as an earlier release, DR16, reduced them, and return the paths of the files.

    Fluxes, pixels and masks are the same. Errors are 1 % larger, so S/N is 1 % lower; those of fibre 3 are twice as
    large. Fibre 8 was not reduced.
    """
    paths = []
    for fibre in range(1, 8):
        keys = [f"{release}/apo25m/120+12/5226/56000/{fibre:03}" for release in ("DR16", "DR17")]
        earlier, later = map(product("apVisit").parse_key, keys)
        paths.append(write_ap_visit(earlier, root, spectrum_of=later, noise=2.0 if fibre == 3 else 1.01))
    return paths


def write_ap_visit(
    data_id: DataID,
    root: Path,
    *,
    dithered: bool = True,
    star: str = "",
    spectrum_of: DataID | None = None,
    noise: float = 1.0,
) -> Path:
    """Write an apVisit file: 4096 pixels a chip if `dithered`, else 2048; of a star that is named, always the same.

    Parameters
    ----------
    spectrum_of
        Visit whose spectrum it has, if it is that of another data ID.
    noise
        Factor of its errors.
    """
    visit = spectrum_of or data_id
    rng, values = _make_rng(visit.key), data_id.values
    pixels = 4096 if dithered else 2048
    wavelength = np.array([np.linspace(high, low, pixels) for low, high in CHIPS])
    velocity, correction = float(rng.normal(0, 3)), float(rng.uniform(-29, 29))
    if star:
        velocity = _STAR_VELOCITY - correction
    model = _make_model(_make_rng(star) if star else rng, wavelength, "apogee", velocity)
    flux, error, sky = _observe(rng, wavelength, model, "apogee")
    mask = np.where(rng.random(flux.shape) < 0.2, _WARNING_BIT, 0)
    flagged, lost = rng.random(flux.shape) < 0.006, rng.random(flux.shape) < 0.002
    mask[flagged | sky] |= _BAD_BIT
    error[lost] = 1e10
    flux32, error32 = flux.astype(">f4"), (noise * error).astype(">f4")
    named = data_id.release not in ("DR12", "DR13", "DR14", "DR15", "DR16", "DR17")
    ra, dec = _STAR_POSITION if star else _place_on_plate(visit)
    primary = fits.PrimaryHDU()
    primary.header.update(
        TELESCOP=values["telescope"],
        PLATE=values["plate"],
        MJD5=int(values["mjd"]),
        FIBERID=int(values["fibre"]),
        OBJID=star or f"2M{rng.integers(10**8):08d}+{rng.integers(10**7):07d}",
        OBJTYPE="STAR",
        RA=ra,
        DEC=dec,
        NPAIRS="4",
        SNR=float(f"{np.median(flux32[1] / error32[1]):.6g}"),
        BC=correction,
        VRAD=velocity,
        VHELIO=velocity + correction,
    )
    background = (0.1 * np.abs(flux)).astype(">f4")
    images = (
        ("FLUX", flux32),
        ("ERROR", error32),
        ("MASK", mask.astype(">i2")),
        ("WAVELENGTH", wavelength.astype(">f8")),
        ("SKY", background),
        ("SKYERR", np.sqrt(background).astype(">f4")),
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


def _place_on_plate(data_id: DataID) -> tuple[float, float]:
    """Choose a position, in degrees, within a degree and a half of the middle of the field."""
    field, fibre = _make_rng(data_id.values["field"]), _make_rng(f"position {data_id.key}")
    middle, up = field.uniform(0, 360), field.uniform(-60, 60)
    distance, angle = 1.5 * np.sqrt(fibre.random()), fibre.uniform(0, 2 * np.pi)
    dec = up + distance * np.sin(angle)
    ra = (middle + distance * np.cos(angle) / np.cos(np.radians(dec))) % 360
    return round(float(ra), 6), round(float(dec), 6)


def write_ap_star(data_id: DataID, root: Path, visits: int) -> Path:
    """Write an apStar file in the DR17 layout: two combined rows, then the visits; NaN between the chips.

    A star with one visit has two rows, of which the second is zero.
    """
    rng = _make_rng(data_id.key)
    covered = _find_covered(APSTAR_WAVELENGTH)
    model = _make_model(rng, APSTAR_WAVELENGTH, "apogee")
    rows = [_observe(rng, APSTAR_WAVELENGTH, model, "apogee", float(rng.normal(0, 15))) for _ in range(visits)]
    seen, seen_error, sky = (np.array(part) for part in zip(*rows, strict=True))
    weight = 1 / seen_error**2
    combined = (seen * weight).sum(axis=0) / weight.sum(axis=0)
    combined_error = 1 / np.sqrt(weight.sum(axis=0))
    gap = np.where(covered, 1.0, np.nan)
    flux = np.array([combined * gap] * 2 + [*(seen * covered)])
    error = np.array([combined_error * gap] * 2 + [*(seen_error * covered)])
    bad = ~covered | np.array([sky.all(axis=0)] * 2 + [*sky])
    if visits == 1:
        flux, error, bad = flux[:2], error[:2], bad[:2]
        flux[1] = error[1] = 0.0
    mask = np.where(bad, _BAD_BIT, 0)
    primary = fits.PrimaryHDU()
    snr = float(np.nanmedian(flux[0] / error[0]))
    primary.header.update(CRVAL1=4.179, CDELT1=6e-6, CRPIX1=1, CTYPE1="LOG-LINEAR", NWAVE=len(APSTAR_WAVELENGTH))
    primary.header.update(OBJID=data_id.values["obj"], NVISITS=visits, SNR=snr)
    zero = np.zeros_like(flux)
    images = [flux, error, mask.astype(">i8"), zero, zero, zero, zero]
    table = fits.BinTableHDU.from_columns([fits.Column("snr", "D", array=np.zeros(visits))])
    other = fits.BinTableHDU.from_columns([fits.Column("snr", "D", array=np.zeros(1))])
    hdus = [primary, *(fits.ImageHDU(_to_big_endian(image)) for image in images), fits.ImageHDU(), table, other]
    return _write(hdus, data_id, root)


def write_spec(data_id: DataID, root: Path) -> Path:
    """Write a spec file: the coadded spectrum and the pipeline's row of it, for specLite that of the one star."""
    rng, values, of_star = _make_rng(data_id.key), data_id.values, data_id.product.name == "specLite"
    loglam = 3.55 + 1e-4 * np.arange(int(rng.integers(4400, 4648)))
    velocity = _STAR_VELOCITY if of_star else 0.0
    model = _make_model(_make_rng(_STAR) if of_star else rng, 10**loglam, "optical", velocity)
    flux, error, sky = _observe(rng, 10**loglam, model, "optical")
    ivar = np.where((rng.random(flux.shape) < 0.01) | sky, 0.0, 1 / error**2)
    run2d = values.get("run2d", "v6_1_3")
    ra, dec = _STAR_POSITION if of_star else (0.0, 0.0)
    primary = fits.PrimaryHDU()
    if of_star:
        primary.header.update(
            FIELDID=int(values["field"]), PLATEID="", MJD=int(values["mjd"]), PLUG_RA=ra, PLUG_DEC=dec
        )
    else:
        primary.header.update(PLATEID=int(values["plate"]), MJD=int(values["mjd"]), FIBERID=int(values["fibre"]))
    if run2d.startswith("v"):
        primary.header["RUN2D"] = run2d
    mask = np.where(rng.random(flux.shape) < 0.3, 1 << 24, 0)
    ones = np.ones_like(flux)
    data = {"flux": flux, "loglam": loglam, "ivar": ivar, "wdisp": ones, "sky": 0.1 * flux, "model": model}
    columns = [fits.Column(name, "E", array=array) for name, array in data.items()]
    columns[3:3] = [fits.Column("and_mask", "J", array=mask), fits.Column("or_mask", "J", array=mask)]
    good = ivar > 0
    about = {
        "RUN2D": ("8A", run2d),
        "PLUG_RA": ("D", ra or rng.uniform(0, 360)),
        "PLUG_DEC": ("D", dec or rng.uniform(-10, 60)),
        "CLASS": ("6A", "STAR"),
        "SUBCLASS": ("2A", "K5"),
        "Z": ("E", velocity / LIGHT),
        "ZWARNING": ("J", 0),
        "SN_MEDIAN_ALL": ("E", np.median(flux[good] * np.sqrt(ivar[good]))),
        **({name: ("K", value) for name, value in _STAR_IDS.items()} if of_star else {}),
    }
    row = [fits.Column(name, form, array=[value]) for name, (form, value) in about.items()]
    tables = [fits.BinTableHDU.from_columns(part, name=name) for name, part in (("COADD", columns), ("SPALL", row))]
    return _write([primary, *tables], data_id, root)


def write_mwm(data_id: DataID, root: Path) -> Path:
    """Write the mwmVisit or mwmStar file of the one star: BOSS spectra from APO, APOGEE spectra from APO and LCO.

    The spectra are in the rest frame of the star; a telescope's row in mwmStar is the combination of its visits.
    """
    of_visits = data_id.product.name == "mwmVisit"
    epochs = tuple(mjd for _, mjd in _STAR_EPOCHS)
    tables: list[Any] = []
    for (instrument, observatory), dates in {
        ("BOSS", "APO"): epochs,
        ("BOSS", "LCO"): (),
        ("APOGEE", "APO"): (59162,),
        ("APOGEE", "LCO"): (59601,),
    }.items():
        first, step, pixels, table = (3.5523, 1e-4, 4648, "optical")
        if instrument == "APOGEE":
            first, step, pixels, table = (4.179, 6e-6, 8575, "apogee")
        wavelength = 10 ** (first + step * np.arange(pixels))
        rows = [_observe_at_rest(f"{_STAR} {observatory} {mjd}", wavelength, table) for mjd in dates]
        if rows and not of_visits:
            weights = np.array([ivar for _, ivar, _ in rows])
            total = weights.sum(axis=0)
            mean = (weights * [flux for flux, _, _ in rows]).sum(axis=0) / np.where(total > 0, total, 1)
            rows = [(mean, total, np.bitwise_and.reduce([flags for _, _, flags in rows]))]
        flux, ivar, flags = (np.array(part) for part in zip(*rows, strict=True)) if rows else ((),) * 3
        count = len(rows)
        snr = [float(np.median((f * np.sqrt(i))[i > 0])) for f, i in zip(flux, ivar, strict=True)]
        about = {
            "sdss_id": ("K", [_STAR_IDS["SDSS_ID"]] * count),
            "telescope": ("6A", [f"{observatory.lower()}25m"] * count),
            **({"obj": ("18A", [_STAR] * count)} if instrument == "APOGEE" else {}),
            **(
                {"mjd": ("J", dates), "in_stack": ("L", [True] * count)}
                if of_visits
                else {"min_mjd": ("J", dates[:1]), "max_mjd": ("J", dates[-1:])}
            ),
            "snr": ("E", snr),
            "v_rad": ("E", [_STAR_VELOCITY] * count),
        }
        columns = [fits.Column(name, form, array=array) for name, (form, array) in about.items()]
        width = pixels if count else 0  # as Astra writes them: arrays of a table without rows have no width
        arrays = {"flux": ("E", flux), "ivar": ("E", ivar), "pixel_flags": ("K", flags)}
        columns += [
            fits.Column(name, f"{width}{form}", array=array if count else None)
            for name, (form, array) in arrays.items()
        ]
        hdu = fits.BinTableHDU.from_columns(columns, nrows=count, name=f"{instrument}/{observatory}")
        hdu.header.update(OBSRVTRY=observatory, INSTRMNT=instrument, CRVAL=first, CDELT=step, CRPIX=1, NPIXELS=pixels)
        tables.append(hdu)
    primary = fits.PrimaryHDU()
    primary.header.update(V_ASTRA="0.6.0", SDSS_ID=_STAR_IDS["SDSS_ID"], APOGEEID=_STAR)
    primary.header.update(dict(zip(("RA", "DEC"), _STAR_POSITION, strict=True)))
    return _write([primary, *tables], data_id, root)


def _observe_at_rest(seed: str, wavelength: AnyArray, table: str) -> tuple[AnyArray, AnyArray, AnyArray]:
    """Return flux, inverse variance and pixel flags of the star, with the residuals of the sky lines left out."""
    rng = _make_rng(seed)
    flux, error, sky = _observe(rng, wavelength, _make_model(_make_rng(_STAR), wavelength, table), table, 30.0)
    covered = _find_covered(wavelength) if table == "apogee" else np.ones(wavelength.shape, bool)
    ivar = np.where(covered & ~sky, 1 / error**2, 0.0)
    return (
        np.where(covered, flux, 0.0),
        ivar,
        np.where(sky | ~covered, _BAD_BIT if table == "apogee" else _BRIGHT_SKY, 0),
    )


def _find_covered(wavelength: AnyArray) -> AnyArray:
    """Return True for the wavelengths that a chip covers."""
    covered: AnyArray = np.any([(low < wavelength) & (high > wavelength) for low, high in CHIPS], axis=0)
    return covered


def _make_rng(text: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(text.encode()))


@functools.cache
def _compute_opacity(table: str) -> tuple[AnyArray, AnyArray]:
    """Return wavelengths and the optical depth of a star's lines, of which none reaches into the continuum windows."""
    rng = np.random.default_rng(1)
    rows = (map(float, row.split()) for row in _LINES[table].splitlines())
    lines = [(centre, depth, width) for depth, width, *centres in rows for centre in centres]
    if table == "apogee":
        grid = np.arange(15000.0, 17100.0, 0.05)
        lines += [(head + 0.3 * j + 0.055 * j**2, 0.36 * 0.95**j, 0.38) for head in _CO_HEADS for j in range(32)]
        weak = (rng.uniform(15100, 17000, 2200), rng.exponential(0.11, 2200), np.full(2200, 0.38))
    else:
        grid, blue = np.arange(3500.0, 10500.0, 0.25), rng.random(1800) ** 2.5
        weak = (3560 + 6700 * blue, rng.exponential(0.16, 1800) * np.exp(-4 * blue), np.full(1800, 1.3))
    centre, peak, width = np.hstack([np.transpose(lines), weak])
    windows = np.array(named_regions(table))
    nearest = np.maximum(windows[:, :1] - centre, centre - windows[:, 1:]).min(axis=0).clip(0)
    clear = peak * np.exp(-0.5 * (nearest / width) ** 2) < 0.002
    depth = np.zeros_like(grid)
    for x, tau, sigma in zip(centre[clear], peak[clear], width[clear], strict=True):
        near = slice(*np.searchsorted(grid, (x - 5 * sigma, x + 5 * sigma)))
        depth[near] += tau * np.exp(-0.5 * ((grid[near] - x) / sigma) ** 2)
    return grid, np.log1p(depth)  # strong lines saturate


def _make_model(rng: np.random.Generator, wavelength: AnyArray, table: str, velocity: float = 0.0) -> AnyArray:
    """Return the flux of a star without noise: a black body, lines, and residuals of the APOGEE chips' response."""
    level, strength = float(rng.uniform(20, 400)), float(rng.uniform(0.6, 1.2))
    middle, energy = (16000.0, 1.4388e8 / 4300) if table == "apogee" else (6500.0, 1.4388e8 / 5800)
    flux: AnyArray = level * (middle / wavelength) ** 5 * np.expm1(energy / middle) / np.expm1(energy / wavelength)
    if table == "optical":
        flux *= 1 - 0.12 / (1 + np.exp((wavelength - 3990) / 15))  # break at 4000 Angstrom
    else:
        for low, high in CHIPS:
            x = (2 * wavelength - low - high) / (high - low)
            a, b, c = rng.normal((0, -0.05, 0), (0.02, 0.02, 0.015))
            flux *= np.where(np.abs(x) <= 1, 1 + a * x + b * x**2 + c * x**3, 1)
    return flux * np.exp(-strength * np.interp(wavelength / (1 + velocity / LIGHT), *_compute_opacity(table)))


def _observe(
    rng: np.random.Generator, wavelength: AnyArray, model: AnyArray, table: str, velocity: float = 0.0
) -> tuple[AnyArray, AnyArray, AnyArray]:
    """Return flux with noise, its error, and where residuals of sky lines, shifted by `velocity` in km/s, are left."""
    level, snr = float(np.median(model)), float(rng.uniform(15, 150))
    width, sky = 0.4 if table == "apogee" else 1.5, np.zeros(model.shape, dtype=bool)
    error = np.sqrt(np.maximum(model, 0.02 * level) * level) / snr
    left = np.zeros_like(model)
    for line in map(float, _SKY[table].split()):
        x = (wavelength / (1 - velocity / LIGHT) - line) / width
        left += float(rng.uniform(-0.3, 1.0)) * level * np.exp(-0.5 * x**2)
        sky |= np.abs(x) < 3
    error = np.hypot(error, left)
    return model + left + rng.normal(0, 1, model.shape) * error, error, sky


def _to_big_endian(array: AnyArray) -> AnyArray:
    return array.astype(array.dtype.newbyteorder(">"))


def _write(hdus: list[Any], data_id: DataID, root: Path) -> Path:
    path = data_id.path(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.HDUList(hdus).writeto(path, overwrite=True, checksum=False)
    os.utime(path, (_TIME, _TIME))
    return path
