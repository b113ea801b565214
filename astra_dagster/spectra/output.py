"""The FITS files of spectra that tasks write: how they are written and read.

HDU 0 has the provenance, who the object is, and the results. HDU 1 is the table SPECTRUM with one row for each
spectrum; its columns ``wavelength`` (in vacuum), ``flux``, ``ivar`` and ``mask`` (true if the pixel is bad) hold all
pixels in one cell, so that each is an array of shape (spectra, pixels). If the task kept the survey's own mask, there
is a column ``bitmask`` as well, and cards say which mask it is and which bits of it make a pixel bad. HDU 2 is the
image CONTINUUM of the same shape, if a continuum was divided out. It is an image because specutils' loader of tables
would take a column in units of flux for the flux. Results that are long arrays are in a table after these, see
`astra_dagster.spectra.result_arrays`.

The frame of the wavelengths is told in the words of the FITS standard (version 4.0, section 8.4.1): SPECSYS, and for
the redshift of the object ZSOURCE, which is relative to the frame of SSYSSRC.
"""

import functools
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from astra_dagster.analysis.velocity import LIGHT
from astra_dagster.arrays import AnyArray, BitmaskArray
from astra_dagster.errors import AstraError, SpectrumFileError
from astra_dagster.files import parse_json
from astra_dagster.fits import writer as encode
from astra_dagster.fits.header import Header
from astra_dagster.fits.model import Model
from astra_dagster.fits.reader import LARGEST, FitsFile
from astra_dagster.fits.writer import Card
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.spectra.masks import check_increasing
from astra_dagster.spectra.result_arrays import read_arrays
from astra_dagster.spectra.velocities import find_velocities

ORIGIN = "astra_dagster"

BY_PIXEL = 2
"""Layout of outputs in which the table has a row for each pixel, and a cell for each of several spectra."""

WORDS = {"wavelength": "em.wl", "flux": "phot.flux.density;em.wl", "ivar": "stat.weight", "mask": "meta.code.qual"}
"""What the columns hold, in the words of the Virtual Observatory."""

_SHAPES = ((), (range(1, LARGEST),))  # of a cell
_COLUMNS = {name: Model("b" if name == "mask" else "f", _SHAPES) for name in ("wavelength", "flux", "ivar", "mask")}
_BITMASK = {"bitmask": Model("iu", _SHAPES)}


def describe_cards(batch: SpectrumBatch) -> list[Card]:
    """Make the cards that say who the object is, in which frame the wavelengths are, and how it moves.

    What differs among the spectra of a file is that of the first, the combination; what the file does not say is left
    out.
    """
    meta = batch.meta
    names = {"object": "OBJECT", "ra": "RA", "dec": "DEC", "frame": "SPECSYS"}
    alike = {card: meta[name][0] for name, card in names.items() if len(set(map(repr, meta.get(name, ())))) == 1}
    velocity, _ = find_velocities(batch)[0]
    redshift = meta["z"][0] if "z" in meta else None if velocity is None else velocity / LIGHT
    frame = None if redshift is None else "HELIOCEN" if alike.get("SPECSYS") == "HELIOCEN" else "BARYCENT"
    values: list[Card] = [
        ("OBJECT", alike.get("OBJECT"), "name of the object"),
        ("RA", alike.get("RA"), "[deg] right ascension, J2000"),
        ("DEC", alike.get("DEC"), "[deg] declination, J2000"),
        ("SNR", meta.get("snr", (None,))[0], "signal-to-noise ratio by the input's header"),
        ("SPECSYS", alike.get("SPECSYS"), "frame of the wavelengths"),
        ("SSYSSRC", frame, "frame of ZSOURCE"),
        ("ZSOURCE", redshift, "redshift of the object"),
        ("V_RAD", velocity, "[km/s] radial velocity in the frame of ZSOURCE"),
    ]
    return [card for card in values if _fits_card(card[1], text=card[0] in ("OBJECT", "SPECSYS", "SSYSSRC"))]


def _fits_card(value: object, *, text: bool) -> bool:
    """Whether a card can hold a value, and it is a text or else a number."""
    if text:
        return isinstance(value, str) and value.isascii() and value.isprintable() and value != ""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def encode_spectra(batch: SpectrumBatch, cards: Iterable[Card] = ()) -> bytes:
    """Return the bytes of all HDUs after the first, for the spectra of one file.

    Parameters
    ----------
    cards
        Further cards of the table of spectra: what the first header says too, for programs that read the table alone.
    """
    if batch.wavelength is None:
        raise ValueError("spectra without wavelengths cannot be written")
    own = batch.wavelength.ndim == 2
    wavelength = np.broadcast_to(batch.wavelength, batch.flux.shape)
    columns = {"wavelength": wavelength, "flux": batch.flux, "ivar": batch.ivar, "mask": batch.bad}
    if batch.bitmask is not None:
        columns["bitmask"] = _shorten(batch.bitmask)
    if (size := sum(array.nbytes for array in columns.values())) > LARGEST:
        raise ValueError(f"spectra of {size} bytes cannot be written: at most {LARGEST} are read back")
    units = {"wavelength": "Angstrom"}
    if batch.unit:
        units |= {"flux": _write_unit(batch.unit), "ivar": _write_unit(batch.unit, -2)}
    hdus = encode.make_table(
        "SPECTRUM",
        columns,
        units,
        [
            *cards,
            ("VACUUM", True, "wavelengths are those in vacuum"),
            ("OWNGRID", own, "each spectrum has wavelengths of its own"),
            ("CONTIN", batch.continuum is not None, "the next HDU has the continuum"),
            *(_mask_cards(batch) if batch.mask_name else ()),
            ("CHIPS", json.dumps(batch.chips), "detectors: name, first pixel, pixel after the last"),
            ("META", json.dumps(to_json_value(dict(batch.meta))), "what the input says of each spectrum"),
        ],
        WORDS,
    )
    if batch.continuum is not None:
        hdus += encode.make_image("CONTINUUM", batch.continuum, _write_unit(batch.continuum_unit))
    return hdus


def _mask_cards(batch: SpectrumBatch) -> list[Card]:
    return [
        ("PIXMASK", batch.mask_name, "name of the survey's own mask of pixels"),
        ("REJECT", json.dumps(batch.reject), "bits of that mask for which pixels are bad"),
    ]


def _shorten(bitmask: BitmaskArray) -> BitmaskArray:
    """Return a mask in four bytes a pixel, if they can hold it."""
    limit = np.iinfo(np.int32)
    fits = bitmask.size == 0 or (limit.min <= bitmask.min() and bitmask.max() <= limit.max)
    return bitmask.astype(np.int32 if fits else np.int64)


def to_json_value(value: Any) -> Any:
    """Convert a value to one that JSON can hold: NaN and infinity become None, in lists and mappings too."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: to_json_value(item) for name, item in value.items()}
    return [to_json_value(item) for item in value] if isinstance(value, (list, tuple)) else value


def make_pairs(prefix: str, values: Mapping[str, Any], comment: str) -> list[Card]:
    """Make the cards ``<prefix>K1`` with a name, ``<prefix>V1`` with its value, and so on.

    Numbers and logical values are written as such, everything else as JSON.
    """
    cards: list[Card] = []
    for number, (name, value) in enumerate(values.items(), start=1):
        plain = value is None or isinstance(value, (bool, int, float))
        cards.append((f"{prefix}K{number}", name, comment))
        cards.append((f"{prefix}V{number}", value if plain else json.dumps(value, allow_nan=False), ""))
    return cards


def read_pairs(header: Header, prefix: str) -> dict[str, Any]:
    """Read names and values from the cards that `make_pairs` makes.

    Raises
    ------
    ValueError
        If a value is not JSON.
    """
    values: dict[str, Any] = {}
    while (name := header.text(f"{prefix}K{len(values) + 1}")) is not None:
        value = header.get(f"{prefix}V{len(values) + 1}")
        values[name] = parse_json(value) if isinstance(value, str) else value
    return values


def result_cards(results: Mapping[str, Any], several: bool) -> list[Card]:
    """Cards with the results; `several` if they are lists, one value a spectrum."""
    return [*make_pairs("RES", results, "result"), ("SEVERAL", several, "results are lists, one value a spectrum")]


def read_results(file: FitsFile) -> dict[str, Any]:
    """Read the results of an output: those of the header, and arrays in a table.

    Raises
    ------
    ValueError
        If a value is not JSON.
    AstraError
        If the table is damaged.
    """
    return {**read_pairs(file.hdu(0).header, "RES"), **read_arrays(file)}


def is_output(path: str | Path) -> bool:
    """Whether a task wrote a file."""
    try:
        with FitsFile(Path(path)) as file:
            return file.hdu(0).header.get("ORIGIN") == ORIGIN
    except AstraError:
        return False


def read_output(path: str | Path) -> SpectrumBatch:
    """Read the spectra that a task wrote.

    Returns
    -------
    SpectrumBatch
        The normalised spectra with their continuum, and the survey's own mask if the task kept it; ``meta`` holds the
        input's metadata and the task's results.

    Raises
    ------
    InputMissingError
        If there is no such file.
    SpectrumFileError
        If no task wrote the file, or it is damaged.
    """
    with FitsFile(Path(path)) as file:
        header = file.hdu(0).header
        if header.get("ORIGIN") != ORIGIN:
            raise file.error(0, f"has no card ORIGIN = {ORIGIN!r}", "header of an output")
        # The spectra of a task may have any length with which they can be written.
        columns = file.table(1, _COLUMNS, "spectra", rows=range(1, LARGEST), width=LARGEST, optional=_BITMASK)
        try:
            return _make_batch(file, columns)
        except (ValueError, TypeError, AttributeError) as error:
            raise SpectrumFileError(f"a damaged output: {error}", path=path, hint="run its task again") from error


def _make_batch(file: FitsFile, columns: Mapping[str, AnyArray]) -> SpectrumBatch:
    about = file.hdu(1).header
    head, own = file.hdu(0).header, about.get("OWNGRID") is True
    if head.get("FORMAT") == BY_PIXEL:
        arrays = {name: _to_native(np.atleast_2d(values.T)) for name, values in columns.items()}
    else:
        arrays = {name: _to_native(values.reshape(len(values), -1)) for name, values in columns.items()}
    grid = arrays["wavelength"] if own else arrays["wavelength"][0]
    check_increasing(file, grid, 1)
    results = read_results(file)
    if head.get("SEVERAL") is not True:
        results = {name: [value] for name, value in results.items()}
    meta = {**parse_json(about.text("META") or "{}"), **results}
    has_continuum = about.get("CONTIN") is True
    return SpectrumBatch(
        flux=arrays["flux"],
        ivar=arrays["ivar"],
        wavelength=grid,
        bad=arrays["mask"],
        bitmask=arrays["bitmask"].astype(np.int64) if "bitmask" in arrays else None,
        mask_name=about.text("PIXMASK") or "",
        reject=tuple(map(str, parse_json(about.text("REJECT") or "[]"))),
        unit=_parse_unit(about.text("TUNIT2")),
        chips=tuple(
            (str(name), int(start), int(stop)) for name, start, stop in parse_json(about.text("CHIPS") or "[]")
        ),
        meta={name: tuple(values) for name, values in meta.items()},
        continuum=_to_native(file.image(2, "continuum", Model("f", (arrays["flux"].shape,))))
        if has_continuum
        else None,
        continuum_unit=_parse_unit(file.hdu(2).header.text("BUNIT")) if has_continuum else "",
    )


def _to_native(array: AnyArray) -> AnyArray:
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))


@functools.cache
def _write_unit(unit: str, power: int = 1) -> str:
    """Return a unit as the FITS standard spells it."""
    from astropy.units import Unit  # here, because it is slow to import

    return str((Unit(unit) ** power).to_string("fits"))


@functools.cache
def _parse_unit(text: str | None) -> str:
    from astropy.units import Unit

    return str(Unit(text, format="fits").to_string()) if text else ""
