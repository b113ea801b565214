"""Draw pictures of spectra: flux with its continuum, normalised flux, bad pixels and main lines."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from astra_dagster.arrays import FloatArray
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.viewer.lines import FRAMES, find_lines, find_redshift
from astra_dagster.viewer.shown import Curve, ShownSpectra, find_limits, make_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = 16
"""Number of colours of a small picture, which makes it three times smaller."""

ROOM = 0.012
"""Width of the name of a line, as a fraction of the range of wavelengths."""


def preview(batch: SpectrumBatch, row: int = 0, title: str = "", product: str = "") -> "Figure":
    """Draw one spectrum of a batch: flux with continuum above, normalised flux below; bad pixels are marked.

    Parameters
    ----------
    batch
        Spectra with wavelengths; if they have no continuum, there is one panel.
    row
        Number of the spectrum.
    title
        Text above the panels.
    product
        SDSS name of the product, from which the shift of lines follows; without it no lines are marked.

    Raises
    ------
    AstraError
        If there is no such spectrum, or it has no wavelengths.
    """
    return picture([ShownSpectra(batch, title, product)], row)


def picture(shown: Sequence[ShownSpectra], row: int = 0) -> "Figure":
    """Draw one spectrum of each of several files as `preview` does, one below the other.

    Raises
    ------
    AstraError
        If a file has no such spectrum.
    """
    from matplotlib.figure import Figure  # slow to import, and only for pictures

    for item in shown:
        item.check_row(row)
    curves = [make_curve(item.batch, row) for item in shown]
    panels = [1 if one.normalised is None else 2 for one in curves]
    figure = Figure(figsize=(11, 3.2 * sum(panels)), layout="constrained")
    grid = figure.add_gridspec(sum(panels), 1)
    place = 0
    for item, one in zip(shown, curves, strict=True):
        above = below = figure.add_subplot(grid[place])
        _panel(above, one, one.flux, f"flux{item.unit}".replace(" [", "\n["))
        if one.continuum is not None and one.normalised is not None:
            shape = np.where(one.gaps, np.nan, one.continuum)
            above.plot(one.wavelength, shape, color="C1", linewidth=1.2, label="continuum")
            above.legend(loc="upper right", frameon=False, ncols=3)
            above.tick_params(labelbottom=False)
            below = figure.add_subplot(grid[place + 1], sharex=above)
            _panel(below, one, one.normalised, "normalised flux")
            below.axhline(1.0, color="C1", linewidth=0.8)
        frame = f", {FRAMES[item.product].description}" if item.product in FRAMES else ""
        below.set_xlabel(f"vacuum wavelength{frame} [Angstrom]")
        above.margins(x=0.01)
        marked = bool(frame) and _mark(above, item, row, one)
        above.set_title(item.title, fontsize="medium", loc="left", pad=40 if marked else 6)
        place += 1 if below is above else 2
    return figure


def preview_png(batch: SpectrumBatch, row: int = 0, title: str = "", product: str = "") -> bytes:
    """Return what `preview` draws as a small PNG, of at most some 40 kB, for a record.

    Raises
    ------
    AstraError
        If there is no such spectrum, or it has no wavelengths.
    """
    from PIL import Image  # comes with Matplotlib

    figure = preview(batch, row, title, product)
    _, height = figure.get_size_inches()
    figure.set_size_inches(9, 0.8 * height)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=85)
    small = io.BytesIO()
    with Image.open(drawn) as image:
        # The usual method would leave nothing but greys, as few pixels have the colour of a continuum or a bad pixel.
        few = image.convert("RGB").quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE)
        few.save(small, "png", optimize=True)
    return small.getvalue()


def encode_figure(figure: "Figure", suffix: str) -> bytes:
    """Return the contents of a file with a figure, in the format of its suffix: .png, .pdf, .svg."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format=suffix[1:], dpi=110, metadata={"Software": None} if suffix == ".png" else None)
    return drawn.getvalue()


def _panel(axes: "Axes", one: Curve, values: FloatArray, label: str) -> None:
    shown = one.mask_bad(values)
    axes.plot(one.wavelength, shown, color="0.15", linewidth=0.5, label="flux")
    axes.set_ylim(*find_limits(values[one.steady]))
    axes.plot(
        one.wavelength[one.bad & one.has_data],
        np.full(int((one.bad & one.has_data).sum()), 0.01),
        "|",
        color="C3",
        markersize=4,
        transform=axes.get_xaxis_transform(),
        label="bad pixels",
    )
    axes.set_ylabel(label)


def _mark(axes: "Axes", item: ShownSpectra, row: int, one: Curve) -> bool:
    """Mark main lines above a panel, without those too close to a stronger one; return whether there are any."""
    factor = 1 + find_redshift(item.batch, row, item.product)
    low, high = one.wavelength[0], one.wavelength[-1]
    places: list[float] = []
    for line in sorted(find_lines(item.batch, row), key=lambda line: line.rank):
        x = line.wavelength * factor
        if low <= x <= high and all(abs(x - other) > ROOM * (high - low) for other in places):
            places.append(x)
            text = axes.text(
                x,
                1.05,
                line.name,
                transform=axes.get_xaxis_transform(),
                rotation="vertical",
                ha="center",
                va="bottom",
                fontsize=7,
                color="C0",
            )
            text.set_in_layout(False)  # the title leaves room for it, and the layout takes half as long
    axes.vlines(places, 1, 1.04, transform=axes.get_xaxis_transform(), color="C0", linewidth=0.6, clip_on=False)
    return bool(places)
