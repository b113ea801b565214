"""Sketch a spectrum in few characters: the web UI shows a picture without a click if its text is short.

The sketch is the band that holds the middle of the pixels in each of some hundred stretches of wavelength: how the
spectrum runs, how noisy it is, and where it has gaps. What has lines and bad pixels is `astra_dagster.viewer.preview`.
"""

from itertools import pairwise
from urllib.parse import quote

import numpy as np

from astra_dagster.arrays import FloatArray
from astra_dagster.viewer.shown import ShownSpectra, make_curve

HEIGHT = 60
"""Steps from the bottom of a sketch to its top."""

STRETCHES = range(90, 10, -4)
"""Numbers of stretches of a sketch: the first with which it is short enough."""

BAND = (10, 90)
"""Percentiles between which the band is."""

_SVG = (
    "<svg xmlns='http://www.w3.org/2000/svg' width='600' height='140' viewBox='0 0 {width} {height}' "
    "preserveAspectRatio='none'><path d='{path}' fill='#369' stroke='#369' stroke-width='.3'/></svg>"
)


def sketch(shown: ShownSpectra, longest: int, row: int = 0) -> tuple[str, str]:
    """Return the URL of a sketch of one spectrum, and the ranges that it spans in words.

    Parameters
    ----------
    longest
        Most characters of the URL.
    row
        Number of the spectrum.

    Raises
    ------
    AstraError
        If there is no such spectrum, or it has no good pixel.
    """
    shown.check_row(row)
    one = make_curve(shown.batch, row)
    values = one.flux if one.normalised is None else one.normalised
    good = ~one.bad & np.isfinite(values)
    wavelength, values = one.wavelength[good], values[good]
    url, low, high = "", 0.0, 0.0
    for number in STRETCHES:
        edges = np.linspace(wavelength[0], wavelength[-1], number + 1)[1:-1]
        stretches = np.split(values, np.searchsorted(wavelength, edges))
        bands = np.array([np.percentile(part, BAND) if part.size else (np.nan, np.nan) for part in stretches])
        low, high = float(np.nanmin(bands)), float(np.nanmax(bands))
        heights = (high - bands) / (high - low or 1.0) * HEIGHT
        drawn = _SVG.format(width=number, height=HEIGHT, path=_draw(heights))
        url = "data:image/svg+xml," + quote(drawn, safe="'=:/,.-")
        if len(url) <= longest:
            break
    what = "flux" if one.normalised is None else "normalised flux"
    return url, f"{wavelength[0]:.0f} to {wavelength[-1]:.0f} Angstrom, {what} {low:.3g} to {high:.3g}"


def _draw(bands: FloatArray) -> str:
    """Return a path of SVG around bands of shape (n, 2) that follow one another; NaN is a gap."""
    path = []
    there = np.flatnonzero(np.isfinite(bands[:, 0]))
    for part in np.split(there, np.flatnonzero(np.diff(there) > 1) + 1):
        around = [(int(x), round(float(bands[x, 0]))) for x in part]
        around += [(int(x), round(float(bands[x, 1]))) for x in reversed(part)]
        steps = ",".join(f"{x2 - x1},{y2 - y1}" for (x1, y1), (x2, y2) in pairwise(around))
        path.append(f"M{around[0][0]},{around[0][1]}l{steps}z".replace(",-", "-"))
    return "".join(path)
