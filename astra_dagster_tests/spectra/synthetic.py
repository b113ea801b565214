"""Files that follow the data model, of the kinds that the demo does not write; toys in all but their structure."""

import bz2
import gzip
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from astra_dagster import demo
from astra_dagster.arrays import AnyArray
from astra_dagster.datamodel.products import product

PIXELS = 8575
SPECTROGRAPHS = {"BOSS": (3.5523, 1e-4, 4648), "APOGEE": (4.179, 6e-6, PIXELS)}
"""Start and step of the logarithmic grid of mwm files, and its pixels."""

MARKERS = {
    "ASPCAP": ("APOGEE", "model_flux_nd_h", True),
    "ThePayne": ("APOGEE", "rho_fe_h_c12_c13", False),
    "SnowWhite": ("BOSS", "p_dc_ms", False),
    "Slam": ("BOSS", "optimality", False),
}
"""Of each pipeline of Astra the instrument, a column that no other has, and whether its model is normalised."""

GAPS = (slice(0, 200), slice(3300, 3600), slice(6100, 6320), slice(8400, None))


def write_ap_visit(root: Path, *, release: str = "DR17", dithered: bool = True) -> Path:
    """Write an apVisit file as the demo does."""
    values = {"telescope": "apo25m", "field": "120+12", "plate": 5226, "mjd": 56000, "fibre": 77}
    return demo.write_ap_visit(product("apVisit").data_id(release, **values), root, dithered=dithered)


def write_one_metre(root: Path, name: str, release: str = "DR17") -> Path:
    """Write an apVisit-1m or apStar-1m file at its place: as those of the other telescope, in all but the header."""
    values = {"telescope": "apo1m", "field": "calibration", "reduction": "VESTA"}
    data_id = product(name).data_id(release, **values, **({"mjd": 56000} if name == "apVisit-1m" else {}))
    written = write_ap_visit(root / "other") if name == "apVisit-1m" else write_ap_star_dr17(root / "other", 2)
    with fits.open(written, mode="update", memmap=False) as hdus:
        hdus[0].header.update(TELESCOP="apo1m", LOCID=1)
        for card in ("PLATE", "FIELD"):
            hdus[0].header.remove(card, ignore_missing=True)
    path = data_id.path(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    return written.rename(path)


def write_ap_star(path: Path, visits: int) -> Path:
    """Write an apStar file of DR12-16: f4 and i2, 10 HDUs, one-dimensional where there is one visit."""
    rng = np.random.default_rng(visits)
    rows = 1 if visits == 1 else visits + 2
    flux, error = _noisy(rng, (rows, PIXELS))
    mask = np.where(rng.random(flux.shape) < 0.3, 1 << rng.integers(8, 14, flux.shape), 0)  # warnings
    mask[rng.random(flux.shape) < 0.05] |= 1 << 14
    for bit in range(8):
        mask[:, 1000 + bit] |= 1 << bit
    for gap in GAPS:
        flux[:, gap], error[:, gap], mask[:, gap] = 0, 1e10, 1
    flux[0, 2000], error[0, 2001], error[0, 2002], error[0, 2003], error[0, 2004] = np.nan, np.nan, np.inf, 0, -1
    mask[0, 2000:2005] = 0
    primary = fits.PrimaryHDU()
    with np.errstate(invalid="ignore", divide="ignore"):
        primary.header.update(
            OBJID="2M00000002+0000001", TELESCOP="apo25m", LOCID=4424, FIELD="N2243", RA=97.5, DEC=-31
        )
        primary.header.update(NVISITS=visits, SNR=float(np.nanmedian(flux[0] / error[0])), VHELIO=59.5)
    for i in range(1, visits + 1):
        primary.header.update({f"SNRVIS{i}": 20.5 + i, f"VHELIO{i}": 59.5 + i, f"FIBER{i}": 100 + i})
        primary.header.update({f"JD{i}": 2456000.5 + i, f"DATE{i}": "2013-04-26T07:20:55.591"})
    flux, error, mask = (array[0] if visits == 1 else array for array in (flux, error, mask))
    images = [flux.astype("f4"), error.astype("f4"), mask.astype("i2"), *[flux.astype("f4")] * 4]
    hdus = [*(fits.ImageHDU(image) for image in images), fits.ImageHDU(np.zeros(26))]
    for hdu in hdus[:-1]:
        hdu.header.update(CRVAL1=4.179, CDELT1=6e-6, CRPIX1=1, CTYPE1="LOG-LINEAR")
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column("FILE", f"{30 * visits}A", array=["apVisit-r6-5226-56000-077.fits" * visits]),
            fits.Column("MJD", f"{visits}J", array=[np.arange(visits)]),
        ]
    )
    return _write(path, [primary, *hdus, table])


def write_ap_star_dr17(root: Path, visits: int) -> Path:
    """Write an apStar file of DR17 as the demo does: with one visit two rows, the second zero."""
    data_id = product("apStar").data_id("DR17", telescope="apo25m", field="120+12", obj=f"2M0000000{visits}+0000000")
    return demo.write_ap_star(data_id, root, visits)


def write_aspcap_star(path: Path, gap_error: float = 0) -> Path:
    """Write an aspcapStar file: 5 HDUs, the name in OBJ, a card that is not legal FITS, flux 0 in the gaps."""
    rng = np.random.default_rng(int(gap_error))
    flux, error = 1 + rng.normal(0, 0.01, PIXELS), rng.uniform(0.005, 0.02, PIXELS)
    for gap in GAPS:
        flux[gap], error[gap] = 0, gap_error
    error[5000:5010] = 10
    primary = fits.PrimaryHDU()
    primary.header.update(OBJ="2M00000032+5737103", FIELD="120+12", AKWISE=987)
    images = [fits.ImageHDU(image.astype("f4")) for image in (flux, error, np.where(flux == 0, 0, 1))]
    for hdu in images:
        hdu.header.update(CRVAL1=4.179, CDELT1=6e-6, CRPIX1=1, CTYPE1="LOG-LINEAR")
    table = fits.BinTableHDU.from_columns([fits.Column("PARAM", "9E", array=np.zeros((1, 9)))])
    _write(path, [primary, *images, table])
    path.write_bytes(path.read_bytes().replace(b"=                  987", b"=                  NAN", 1))
    return path


def write_spec(path: Path, run2d: str = "v6_1_3", *, full: bool = False, nights: bool = False) -> Path:
    """Write a lite or full spec file: SDSS-V for run2d v6, SDSS-III/IV for v5, else legacy without RUN2D card.

    One of all `nights` has a header that tells neither field nor date nor reduction.
    """
    rng = np.random.default_rng(len(run2d))
    modern, legacy = run2d.startswith("v6"), not run2d.startswith("v")
    pixels = 4648 if modern else 3842 if legacy else 4625
    flux, error = _noisy(rng, (pixels,))
    ivar = np.where(rng.random(pixels) < 0.02, 0, error**-2)
    mask = np.where(rng.random(pixels) < 0.4, 1 << rng.integers(0, 31, pixels), 0)
    grid = (3.5523 if modern else 3.5805) + 1e-4 * np.arange(pixels)
    columns = {"flux": flux, "loglam": grid, "ivar": ivar, "and_mask": mask, "or_mask": mask, "wdisp": np.ones(pixels)}
    columns |= {"sky": 0.1 * flux, "model": flux}
    primary = fits.PrimaryHDU()
    primary.header.update(MJD=60000, RA=150.013468, DEC=2.183181)  # of the boresight
    row: dict[str, Any] = {"RUN2D": run2d, "PLUG_RA": 148.965814255, "PLUG_DEC": 2.5, "CLASS": "STAR", "SUBCLASS": "F9"}
    row |= {"Z": np.float32(2.5e-4), "SN_MEDIAN_ALL": np.float32(np.median((flux * np.sqrt(ivar))[ivar > 0]))}
    if modern:
        primary.header.update(PLATEID="", FIELDID=112360, PLUG_RA=148.965814255, PLUG_DEC=2.5)
        columns["wresl"] = np.ones(pixels)
        row |= {"CATALOGID": 27021598150202075, "SDSS_ID": 114999999, "SDSS5_TARGET_FLAGS": [True] * 69}
    else:
        primary.header.update(PLATEID=266, FIBERID=31)
        row |= {"PLATE": 266, "ZWARNING": 0, "SN_MEDIAN": [1.0] * 5}
    if not legacy:
        primary.header["RUN2D"] = run2d
    if nights:
        for card in ("PLATEID", "FIELDID", "MJD", "RUN2D", "RA", "DEC", "PLUG_RA", "PLUG_DEC"):
            del primary.header[card]
        row["MJD"] = 60000
    spectrum = [
        fits.Column(name.upper() if modern else name, "J" if name.endswith("mask") else "E", array=values)
        for name, values in columns.items()
    ]
    hdus = [
        primary,
        fits.BinTableHDU.from_columns(spectrum, name="COADD"),
        fits.BinTableHDU.from_columns([_column(name, [value]) for name, value in row.items()], name="SPALL"),
        fits.BinTableHDU.from_columns([fits.Column("LINENAME", "13A", array=["H_alpha"])], name="ZLINE"),
    ]
    if full:
        hdus.append(fits.BinTableHDU.from_columns(spectrum[:3], name="B1-00104927-00104934-00104935"))
    return _write(path, hdus)


def write_sp_spec(path: Path, *, sdss5: bool = False) -> Path:
    """Write an spSpec file of SDSS-I and II, an image of five rows, or one of SDSS-V."""
    if sdss5:
        write_spec(path, full=True)
        with fits.open(path, memmap=False) as hdus:
            values = {"OBJTYPE": "QSO", "CATALOGID": "27021598150202075", "SDSS_ID": 114999999, "RA": 148.5, "DEC": 2.5}
            plug_map = fits.BinTableHDU.from_columns(
                [_column(name, [value]) for name, value in values.items()], name="PLUGMAP"
            )
            kept = [hdu.copy() for hdu in (*hdus[:2], *hdus[4:])]
        kept.insert(2, plug_map)
        return _write(path, kept)
    rng = np.random.default_rng(7)
    flux, error = _noisy(rng, (3850,))
    error[rng.random(3850) < 0.02] = 0
    mask = np.where(rng.random(3850) < 0.4, 1 << rng.integers(0, 24, 3850), 0)
    primary = fits.PrimaryHDU(np.array([flux, flux - 50, error, mask, mask], "f4"))
    primary.header.update(TELESCOP="SDSS 2.5-M", PLATEID=292, MJD=51609, FIBERID=84, COEFF0=3.5805, COEFF1=1e-4)
    primary.header.update(CRVAL1=3.5805, CD1_1=1e-4, CRPIX1=1, CTYPE1="WAVE-LOG", BUNIT="1.0E-17 erg/cm/s/Ang")
    primary.header.update(RA=147.0, DEC=-1.0, RAOBJ=146.714, DECOBJ=-1.0413, Z=0.0213, SPEC_CLN=2, Z_WARNIN=0)
    primary.header["DC-Flag"] = 1
    table = fits.BinTableHDU.from_columns([_column("wave", [np.float32(4863), np.float32(6564)])])
    return _write(path, [primary, *[table] * 6])


def write_sp_plate(path: Path, run2d: str = "v5_13_2", fibres: int = 3) -> Path:
    """Write an spPlate file of BOSS, or of the SDSS spectrographs for other run2d, which the header does not tell."""
    rng = np.random.default_rng(fibres)
    boss = run2d.startswith("v")
    shape = (fibres, 4600 if boss else 3850)
    flux, error = _noisy(rng, shape)
    ivar = np.where(rng.random(shape) < 0.02, 0, error**-2)
    mask = np.where(rng.random(shape) < 0.4, 1 << rng.integers(0, 31, shape), 0)
    first = 3.5525 if boss else 3.5805
    cards = {"CRVAL1": first, "CD1_1": 1e-4, "CRPIX1": 1, "CTYPE1": "LINEAR", "DC-FLAG": 1}
    primary = fits.PrimaryHDU(flux.astype("f4"))
    primary.header.update(TELESCOP="SDSS 2.5-M", PLATEID=266, MJD=51602, RA=145.9, DEC=0.06, COEFF0=first, COEFF1=1e-4)
    primary.header.update(cards, BUNIT="1E-17 erg/cm^2/s/Ang", **({"RUN2D": run2d} if boss else {}))
    arrays = {"IVAR": ivar.astype("f4"), "ANDMASK": mask.astype("i4"), "ORMASK": mask.astype("i4")}
    images = [fits.ImageHDU(array, name=name) for name, array in arrays.items()]
    rows = range(fibres)
    columns = [
        _column("OBJTYPE", [("GALAXY", "SKY", "QSO")[i % 3] for i in rows]),
        _column("RA", [145.5 + i / 10 for i in rows]),
        _column("DEC", [-0.5 + i / 10 for i in rows]),
        fits.Column("FIBERID", "J", array=[i + 1 for i in rows]),
    ]
    last = [fits.ImageHDU(error.astype("f4"), name=name) for name in ("WAVEDISP", "SKY")]
    plug_map = fits.BinTableHDU.from_columns(columns, name="PLUGMAP")
    for hdu in images:
        hdu.header.update(cards)
    return _write(path, [primary, *images, last[0], plug_map, last[1]])


def write_mwm(path: Path, rows: Sequence[int], *, star: bool = True, flags: str = "E") -> Path:
    """Write an mwmStar (or else mwmVisit) file.

    Parameters
    ----------
    rows
        Number of spectra in the tables BOSS/APO, BOSS/LCO, APOGEE/APO, APOGEE/LCO.
    flags
        Format of the pixel flags.
    """
    rng = np.random.default_rng([*rows, star])
    primary = fits.PrimaryHDU()
    primary.header.update(
        V_ASTRA="0.6.0", SDSS_ID=103020000, APOGEEID="2M12283021-6635525", RA=187.12584, DEC=-66.59794
    )
    primary.header["MAG4_5"] = None
    tables = []
    names = [(name, observatory) for name in SPECTROGRAPHS for observatory in ("APO", "LCO")]
    for (name, observatory), count in zip(names, rows, strict=True):
        first, step, pixels = SPECTROGRAPHS[name]
        flux, error = _noisy(rng, (count, pixels))
        ivar = np.where(rng.random(flux.shape) < 0.02, 0, error**-2)
        arrays = {"flux": flux, "ivar": ivar, "pixel_flags": np.where(rng.random(flux.shape) < 0.1, 512, 0)}
        if star:
            grid = 10 ** (first + step * np.arange(pixels))
            arrays = {"wavelength": np.broadcast_to(grid, flux.shape), **arrays, "continuum": flux}
        row: dict[str, Any] = {
            "spectrum_pk_id": range(count),
            "release": ["dr17"] * count,
            "sdss_id": [103020000] * count,
            "telescope": [f"{observatory.lower()}25m"] * count,
            "snr": [np.float32(20.5 + i) for i in range(count)],
            "v_rad": [np.float32(np.nan if i == 1 else -12.25 + i) for i in range(count)],
        }
        row |= (
            {"min_mjd": [58150] * count, "max_mjd": [58178] * count} if star else {"mjd": range(58150, 58150 + count)}
        )
        if not star:
            row["in_stack"] = [i != 2 for i in range(count)]
        if name == "APOGEE":
            row["obj"] = ["2M12283021-6635525"] * count
        # As Astra writes them: the arrays of a table without rows have no width.
        columns = [_column(key, list(values)) for key, values in row.items()]
        columns += [
            fits.Column(key, f"{pixels if count else 0}{flags if key == 'pixel_flags' else 'E'}", array=values)
            for key, values in (arrays if count else dict.fromkeys(arrays)).items()
        ]
        table = fits.BinTableHDU.from_columns(columns, nrows=count, name=f"{name}/{observatory}")
        table.header.update(OBSRVTRY=observatory, INSTRMNT=name, CRVAL=first, CDELT=step, CRPIX=1, NPIXELS=pixels)
        tables.append(table)
    return _write(path, [primary, *tables])


def write_astra(
    path: Path, pipeline: str, rows: Sequence[int] = (1, 1), *, star: bool = True, upper: bool = False
) -> Path:
    """Write an astraStar (or else astraVisit) file of a pipeline.

    Parameters
    ----------
    rows
        Number of spectra of the two telescopes; the tables of the other instrument are empty.
    upper
        Whether names of columns are in upper case, as in early versions.
    """
    rng = np.random.default_rng([*rows, star])
    primary = fits.PrimaryHDU()
    primary.header.update(V_ASTRA="0.6.0", SDSS_ID=103020000, APOGEEID="2M12283021-6635525", RA=187.12584)
    own, column, _ = MARKERS[pipeline]
    tables = []
    for name, (first, step, pixels) in SPECTROGRAPHS.items():
        for observatory, planned in zip(("APO", "LCO"), rows, strict=True):
            count = planned if name == own else 0
            model = rng.uniform(0.3, 1, (count, pixels))
            continuum = np.full(model.shape, 40.0)
            arrays = {"model_flux": model if pipeline == "ASPCAP" else 40 * model}
            if (pipeline, star) != ("SnowWhite", False):
                arrays["continuum"] = continuum
            if column.startswith("model_flux"):
                arrays[column] = 0.5 * model
            if star:
                grid = 10 ** (first + step * np.arange(pixels))
                arrays["wavelength"] = np.broadcast_to(grid, model.shape)
            row: dict[str, Any] = {
                "release": ["sdss5"] * count,
                "telescope": [f"{observatory.lower()}25m"] * count,
                "snr": [np.float32(20.5 + i) for i in range(count)],
                "teff": [np.float32(4500 + i) for i in range(count)],
                "logg": [np.float32(np.nan if i == 1 else 2.5) for i in range(count)],
                "mjd": range(58150, 58150 + count),
            }
            if name == "APOGEE":
                row |= {"obj": ["2M12283021-6635525"] * count, "v_rad": [np.float32(-12.25)] * count}
            if column not in arrays:
                row[column] = [np.float32(0.25)] * count
            columns = [_column(key, list(values)) for key, values in row.items()]
            columns += [
                fits.Column(key, f"{pixels if count else 0}E", array=values if count else None)
                for key, values in arrays.items()
            ]
            for each in columns:
                each.name = each.name.upper() if upper else each.name
            table = fits.BinTableHDU.from_columns(columns, nrows=count, name=f"{name}/{observatory}")
            table.header.update(OBSRVTRY=observatory, INSTRMNT=name)
            if not star:
                table.header.update(CRVAL=first, CDELT=step, CRPIX=1, NPIXELS=pixels)
            tables.append(table)
    return _write(path, [primary, *tables])


WRITERS: Mapping[str, tuple[str, Callable[[Path], Path]]] = {
    "apVisit": ("apVisit", write_ap_visit),
    "apVisit, undithered": ("apVisit", lambda root: write_ap_visit(root, dithered=False)),
    "apVisit, DR19": ("apVisit", lambda root: write_ap_visit(root, release="DR19", dithered=False)),
    "apStar, DR13": ("apStar", lambda root: write_ap_star(root / "apStar-r6.fits", 3)),
    "apStar, DR13, one visit": ("apStar", lambda root: write_ap_star(root / "apStar-r6-1.fits", 1)),
    "apStar, DR17": ("apStar", lambda root: write_ap_star_dr17(root, 2)),
    "apStar, DR17, one visit": ("apStar", lambda root: write_ap_star_dr17(root, 1)),
    "aspcapStar": ("aspcapStar", lambda root: write_aspcap_star(root / "aspcapStar.fits")),
    "spec, legacy": ("spec", lambda root: write_spec(root / "spec-26.fits", "26")),
    "spec, SDSS-IV": ("spec-lite", lambda root: write_spec(root / "spec-v5.fits", "v5_13_2")),
    "spec, SDSS-V": ("specLite", lambda root: write_spec(root / "spec-v6.fits")),
    "spSpec": ("spSpec", lambda root: write_sp_spec(root / "spSpec-51609-0292-084.fit")),
    "spPlate": ("spPlate", lambda root: write_sp_plate(root / "spPlate.fits")),
    "mwmStar": ("mwmStar", lambda root: write_mwm(root / "mwmStar.fits", (0, 0, 1, 1))),
    "mwmVisit": ("mwmVisit", lambda root: write_mwm(root / "mwmVisit.fits", (3, 1, 0, 0), star=False)),
    "astraStar": ("astraStarASPCAP", lambda root: write_astra(root / "astraStar.fits", "ASPCAP")),
    "astraVisit": (
        "astraVisitSnowWhite",
        lambda root: write_astra(root / "astraVisit.fits", "SnowWhite", (0, 2), star=False),
    ),
}
"""Product and writer of one file of each kind."""


def compressed(path: Path, suffix: str) -> Path:
    """Write the file again, compressed as the suffix says, beside it."""
    other = path.with_name(path.name + suffix)
    if suffix == ".zip":
        with zipfile.ZipFile(other, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.write(path, path.name)
    else:
        other.write_bytes({".gz": gzip, ".bz2": bz2}[suffix].compress(path.read_bytes(), 1))
    return other


def _noisy(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[AnyArray, AnyArray]:
    error = rng.uniform(0.5, 2, shape)
    return 50 + rng.normal(0, 1, shape) * error, error


def _column(name: str, values: Sequence[Any]) -> fits.Column:
    """Column of the type of its values."""
    if not values:
        return fits.Column(name, "K")
    array = np.array(values)
    code = {"b": "L", "i": "K", "f": "E" if isinstance(values[0], np.float32) else "D"}.get(array.dtype.kind)
    count = array.shape[1] if array.ndim == 2 else 1
    return fits.Column(name, f"{count}{code}" if code else f"{array.dtype.itemsize // 4}A", array=array)


def _write(path: Path, hdus: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.HDUList(hdus).writeto(path, overwrite=True)
    return path
