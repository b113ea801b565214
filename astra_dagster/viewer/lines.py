"""The main spectral lines, and where they are in the spectra of a product: at rest, or shifted by a velocity."""

import functools
import math
from dataclasses import dataclass
from importlib.resources import files

from astra_dagster.spectra.batch import SpectrumBatch

LIGHT = 299_792.458
"""Speed of light in km/s."""

FASTEST = 3000.0
"""Velocities beyond this, in km/s, stand for none in APOGEE files."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line.

    Attributes
    ----------
    wavelength
        At rest, in vacuum, in Angstrom.
    name
        For people: "Mg I".
    kind
        "star", "nebula" (quasars too), or "any" for both.
    rank
        1 to 3, the strongest first.
    """

    wavelength: float
    name: str
    kind: str
    rank: int


@dataclass(frozen=True, slots=True)
class Frame:
    """In which rest frame the wavelengths of a product are.

    Attributes
    ----------
    description
        For people.
    shift
        Name of the metadata that say how far lines are shifted, "" where they are not.
    velocity
        Whether that is a velocity in km/s, and not a redshift.
    """

    description: str
    shift: str = ""
    velocity: bool = False


_REST = Frame("rest frame of the star")
_SPEC = Frame("heliocentric, redshift not removed", "z")
FRAMES = {
    "apVisit": Frame("as observed", "v_rad", velocity=True),
    **dict.fromkeys(("apStar", "aspcapStar", "mwmStar", "mwmVisit"), _REST),
    **dict.fromkeys(("spec", "spec-lite", "specLite", "specFull"), _SPEC),
}
"""Frames by SDSS name of the product; what is not here has no known frame."""


@functools.cache
def main_lines() -> tuple[Line, ...]:
    """All lines that the package knows, by wavelength; ``lines.txt`` says where they are from."""
    found = []
    for text in (files("astra_dagster.viewer") / "lines.txt").read_text(encoding="utf-8").splitlines():
        if not text.startswith("#"):
            wavelength, kind, rank, name = text.split(maxsplit=3)
            found.append(Line(float(wavelength), name, kind, int(rank)))
    return tuple(found)


def lines_of(batch: SpectrumBatch, row: int) -> tuple[Line, ...]:
    """Lines to look for in a spectrum: those of nebulae not in what the survey calls a star."""
    star = _value(batch, "class", row) == "STAR"
    return tuple(line for line in main_lines() if not (star and line.kind == "nebula"))


def redshift(batch: SpectrumBatch, row: int, product: str) -> float:
    """How far lines are shifted in a spectrum, as a redshift; 0 where the file does not say.

    Parameters
    ----------
    batch
        Spectra of a product, or what a task made of them.
    row
        Which spectrum.
    product
        SDSS name of the product.
    """
    frame = FRAMES.get(product)
    value = _value(batch, frame.shift, row) if frame else None
    if frame is None or isinstance(value, (bool, str)) or value is None or not math.isfinite(value):
        return 0.0
    if frame.velocity:
        return float(value) / LIGHT if abs(value) < FASTEST else 0.0
    return float(value) if value > -1 else 0.0


def _value(batch: SpectrumBatch, name: str, row: int) -> bool | float | str | None:
    values = batch.meta.get(name)
    value = None if values is None else values[row]
    return value if isinstance(value, (bool, int, float, str)) else None
