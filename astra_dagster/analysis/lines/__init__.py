"""Lists of lines that come with the package, and the templates for velocities that are made of them.

A list has the vacuum wavelength in Angstrom and the depth of each line; its first lines name its source.
"""

import functools
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType

import numpy as np

from astra_dagster.analysis.brackett import LINES, WIDTH
from astra_dagster.analysis.cross_correlation import Flattened, make_template
from astra_dagster.analysis.velocity import LIGHT
from astra_dagster.arrays import FloatArray

WIDTHS = (18.0, 50.0, 110.0)
"""Full widths of lines at half depth in km/s: of the instrument, and of stars that rotate."""

BRACKETT_WIDTH = WIDTH / LINES.mean() * LIGHT
"""That of the Brackett lines of hot stars, in km/s."""


@functools.cache
def read_lines(name: str) -> tuple[FloatArray, FloatArray]:
    """Return wavelengths and depths of a list of the package, ``atoms`` or ``m_dwarf``."""
    text = files(__package__).joinpath(f"{name}.txt").read_text(encoding="utf-8")
    rows = [line.partition("#")[0].split() for line in text.splitlines()]
    table = np.array([row[:2] for row in rows if row], dtype=float)
    return table[:, 0], table[:, 1]


@functools.cache
def make_templates() -> Mapping[str, Flattened]:
    """Make the templates of the package by name, hot to cool, those of a list by the width of their lines.

    ``hot`` has the Brackett lines of hydrogen, ``atoms`` lines of neutral atoms and OH of A to K stars, and ``m_dwarf``
    the blends of M and L dwarfs.
    """
    depths = 0.3 * (10 / np.arange(10.0, 10.0 + len(LINES)))
    found = {"hot": make_template(LINES, depths, BRACKETT_WIDTH)}
    for name in ("atoms", "m_dwarf"):
        centres, strength = read_lines(name)
        for width in WIDTHS:
            found[f"{name}_{width:.0f}"] = make_template(centres, strength * WIDTHS[0] / width, width)
    return MappingProxyType(found)
