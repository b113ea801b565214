"""The main spectral lines, and where they are in the spectra of a product: at rest, or shifted by a velocity."""

import functools
import math
from dataclasses import dataclass
from importlib.resources import files

from astra_dagster.analysis.velocity import LIGHT
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.spectra.products.ap_star import AP_STAR
from astra_dagster.spectra.products.ap_visit import AP_VISIT
from astra_dagster.spectra.products.astra import ASTRA
from astra_dagster.spectra.products.mwm import MWM
from astra_dagster.spectra.products.spec import SPEC
from astra_dagster.spectra.velocities import FASTEST


@dataclass(frozen=True, slots=True)
class Line:
    """A spectral line.

    Attributes
    ----------
    wavelength
        Vacuum wavelength at rest, in Angstrom.
    name
        Name for people: "Mg I".
    kind
        Where it is found: "star", "nebula" (which includes quasars), or "any" for both.
    rank
        From 1 for the strongest lines to 3.
    """

    wavelength: float
    name: str
    kind: str
    rank: int


@dataclass(frozen=True, slots=True)
class Frame:
    """The rest frame in which the wavelengths of a product are.

    Attributes
    ----------
    description
        Name of the frame for people.
    shift
        Name of the metadata that hold the shift of lines; "" if lines are not shifted.
    velocity
        Whether the shift is a velocity in km/s, and not a redshift.
    """

    description: str
    shift: str = ""
    velocity: bool = False


_REST = Frame("rest frame of the star")
_SPEC = Frame("heliocentric, redshift not removed", "z")
FRAMES = {
    **dict.fromkeys(AP_VISIT, Frame("as observed", "v_observed", velocity=True)),
    **dict.fromkeys((*AP_STAR, "aspcapStar", *MWM, *ASTRA), _REST),
    **dict.fromkeys((*SPEC, "spSpec", "spPlate"), _SPEC),
}
"""Frames by SDSS name of the product; the frame of other products is not known."""


@functools.cache
def read_main_lines() -> tuple[Line, ...]:
    """Return all lines that the package knows, by wavelength; ``lines.txt`` names their source."""
    found = []
    for text in (files("astra_dagster.viewer") / "lines.txt").read_text(encoding="utf-8").splitlines():
        if not text.startswith("#"):
            wavelength, kind, rank, name = text.split(maxsplit=3)
            found.append(Line(float(wavelength), name, kind, int(rank)))
    return tuple(found)


def find_lines(batch: SpectrumBatch, row: int) -> tuple[Line, ...]:
    """Return the lines to mark in a spectrum, without those of nebulae if the survey classifies it as a star."""
    star = _read_value(batch, "class", row) == "STAR"
    return tuple(line for line in read_main_lines() if not (star and line.kind == "nebula"))


def find_redshift(batch: SpectrumBatch, row: int, product: str) -> float:
    """Return the redshift by which lines of a spectrum are shifted; 0 where the file does not say.

    Parameters
    ----------
    batch
        Spectra of a product, or those that a task made from them.
    row
        Number of the spectrum.
    product
        SDSS name of the product.
    """
    frame = FRAMES.get(product)
    value = _read_value(batch, frame.shift, row) if frame else None
    if frame is None or isinstance(value, (bool, str)) or value is None or not math.isfinite(value):
        return 0.0
    if frame.velocity:
        return float(value) / LIGHT if abs(value) < FASTEST else 0.0
    return float(value) if value > -1 else 0.0


def _read_value(batch: SpectrumBatch, name: str, row: int) -> bool | float | str | None:
    values = batch.meta.get(name)
    value = None if values is None else values[row]
    return value if isinstance(value, (bool, int, float, str)) else None
