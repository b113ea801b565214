"""The panels of a page of spectra, drawn by Bokeh: flux, normalised flux, and a strip with the names of lines."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from astra_dagster.arrays import BoolArray, FloatArray
from astra_dagster.viewer.lines import FRAMES, find_lines, find_redshift
from astra_dagster.viewer.shown import Curve, ShownSpectra, find_limits

if TYPE_CHECKING:  # slow to import, and only for pages
    from bokeh.models import ColumnDataSource, Range1d, Renderer, Span
    from bokeh.plotting import figure as Figure  # noqa: N812 (a class)

CONTINUUM, BAD = "#e08214", "#d62728"
LINES = {"star": "#4f6d8f", "nebula": "#2a7f62", "any": "#7b4f8f"}
"""Colour by kind of line."""

LAYERS = {"error": "error band", "bad": "bad pixels", "continuum": "continuum", "lines": "lines"}
"""Name for people of each layer, which can be switched off."""

_ERROR = {"flux": "error", "normalised": "normalised_error"}


@dataclass(frozen=True, eq=False)
class Spectrum:
    """One spectrum on the page; `number` counts all spectra of the page, `on` says whether it is shown at first."""

    number: int
    name: str
    colour: str
    on: bool
    curve: Curve


@dataclass(frozen=True, eq=False)
class File:
    """A file on the page, with its spectra that have good pixels; lines are shifted as those of its spectrum `row`."""

    number: int
    shown: ShownSpectra
    row: int
    spectra: tuple[Spectrum, ...]

    @cached_property
    def span(self) -> tuple[float, float]:
        """First and last wavelength in Angstrom."""
        grids = [spectrum.curve.wavelength for spectrum in self.spectra]
        return float(min(grid[0] for grid in grids)), float(max(grid[-1] for grid in grids))

    @property
    def redshift(self) -> float:
        """Redshift by which its lines are shifted."""
        return find_redshift(self.shown.batch, self.row, self.shown.product)


class Panels:
    """The panels of a page, and what its switches need.

    Attributes
    ----------
    figures
        The panels from top to bottom.
    renderers
        Identity of everything that can be switched off, its spectrum (None if it belongs to the file) and its layer.
    """

    def __init__(self) -> None:
        self.figures: list[Figure] = []
        self.renderers: list[tuple[str, int | None, str]] = []
        self._spectra: list[dict[str, Any]] = []
        self._dots: dict[int, str] = {}
        self._lines: list[dict[str, Any]] = []

    @property
    def switches(self) -> dict[str, Any]:
        """What the script of the page needs; models are given by their identity."""
        return {"renderers": self.renderers, "spectra": self._spectra, "lines": self._lines}

    def add(self, group: Sequence[File]) -> None:
        """Add the panels of files that are moved and zoomed together."""
        from bokeh.models import Range1d, Span

        low, high = min(file.span[0] for file in group), max(file.span[1] for file in group)
        room = 0.01 * (high - low)
        x_range = Range1d(low - room, high + room)
        cross = Span(dimension="height", line_color="#999999")
        lines = [_make_line_source(file) for file in group]
        sources = [[_make_source(spectrum) for spectrum in file.spectra] for file in group]
        strip = self._strip(x_range, lines[0])
        self._lines += [
            {"file": file.number, "panel": strip.id, "source": source.id}
            for file, source in zip(group, lines, strict=True)
        ]
        pairs = [pair for file, own in zip(group, sources, strict=True) for pair in zip(file.spectra, own, strict=True)]
        divided = [(spectrum, source) for spectrum, source in pairs if spectrum.curve.normalised is not None]
        height = 260 if len(group) > 1 else 420 if divided else 560
        for i, file in enumerate(group):
            figure = self._figure(x_range, cross, height, f"flux{file.shown.unit}")
            figure.title.text = file.shown.title if len(group) > 1 else ""
            self._draw(figure, "flux", file.spectra, sources[i], lines[i])
        if divided:
            figure = self._figure(x_range, cross, 280, "normalised flux")
            self._draw(figure, "normalised", [one for one, _ in divided], [own for _, own in divided], lines[0])
        frames = {FRAMES[file.shown.product].description for file in group if file.shown.product in FRAMES}
        frame = f", {frames.pop()}" if len(frames) == 1 else ""
        self.figures[-1].xaxis.axis_label = f"vacuum wavelength{frame} [Å]"

    def _figure(self, x_range: "Range1d", cross: "Span", height: int, label: str) -> "Figure":
        from bokeh.models import CrosshairTool
        from bokeh.plotting import figure

        made = figure(
            height=height,
            x_range=x_range,
            y_axis_label=label,
            min_border_left=80,
            tools="pan,box_zoom,xwheel_zoom,undo,redo,reset,save",
        )
        made.add_tools(CrosshairTool(overlay=cross))
        made.xaxis.ticker.desired_num_ticks = 12
        made.grid.grid_line_alpha = 0.4
        self.figures.append(made)
        return made

    def _draw(
        self,
        figure: "Figure",
        column: str,
        spectra: Sequence[Spectrum],
        sources: "Sequence[ColumnDataSource]",
        lines: "ColumnDataSource",
    ) -> None:
        """Draw a column of some spectra, with error bands, bad pixels and lines."""
        from bokeh.events import MouseMove
        from bokeh.models import ColumnDataSource, CustomJS, Range1d

        figure.js_on_event(MouseMove, CustomJS(code="window.readOut(cb_obj.x)"))
        for spectrum in spectra:
            self._bad(figure, spectrum, dots=column == "flux")
        marks = figure.vspan("x", source=lines, line_color="colour", line_dash="dotted", line_alpha="alpha")
        self._switch(marks, None, "lines")
        error = _ERROR[column]
        for spectrum, source in zip(spectra, sources, strict=True):
            corners = ColumnDataSource({"x": [], "y": []})
            band = figure.patch("x", "y", source=corners, color=spectrum.colour, alpha=0.25, line_color=None)
            self._switch(band, spectrum, "error")
            line = figure.line("wavelength", column, source=source, line_color=spectrum.colour)
            self._switch(line, spectrum, "flux")
            if column == "flux" and spectrum.curve.continuum is not None:
                over = figure.line("wavelength", "continuum", source=source, line_color=CONTINUUM, line_width=2)
                self._switch(over, spectrum, "continuum")
            ids = {"panel": figure.id, "source": source.id, "band": corners.id}
            ids["dots"] = self._dots.get(spectrum.number, "")
            breaks = (np.flatnonzero(spectrum.curve.gaps) + 1).tolist()
            drawn = {"spectrum": spectrum.number, "column": column, "error": error, "breaks": breaks}
            self._spectra.append(drawn | ids)
        if column == "normalised":
            self._switch(figure.hspan(1.0, line_color=CONTINUUM), None, "continuum")
        curves = [spectrum.curve for spectrum in spectra if spectrum.on]
        figure.y_range = Range1d(*find_limits(np.concatenate([getattr(one, column)[one.steady] for one in curves])))

    def _bad(self, figure: "Figure", spectrum: Spectrum, dots: bool) -> None:
        """Shade the bad pixels of a spectrum, and mark their flux."""
        from bokeh.models import ColumnDataSource, HoverTool

        curve = spectrum.curve
        starts, ends = _find_stretches(curve.wavelength, curve.bad & curve.has_data, curve.gaps)
        if not len(starts):
            return
        alpha = 0.12 if spectrum.on else 0.05  # shades of several spectra add up
        self._switch(figure.vstrip(starts, ends, color=BAD, alpha=alpha, line_color=None), spectrum, "bad")
        known = curve.bad & curve.has_data
        if dots and known.any():
            data = {
                "wavelength": curve.wavelength[known],
                "flux": curve.flux[known],
                "why": curve.describe_flags(known),
                # Their places among all pixels; none before a gap, which a line through all pixels must not cross.
                "index": np.where(curve.gaps, -1, np.arange(known.size))[known],
            }
            if curve.normalised is not None:
                data["normalised"] = curve.normalised[known]
            source = ColumnDataSource(data)
            self._dots[spectrum.number] = source.id
            marks = figure.scatter("wavelength", "flux", source=source, size=3, color=BAD, alpha=0.7)
            self._switch(marks, spectrum, "bad")
            tips = [("bad", "@why"), ("wavelength", "@wavelength{0.00} Å"), ("flux", "@flux{%.5g}")]
            figure.add_tools(HoverTool(renderers=[marks], tooltips=tips, formatters={"@flux": "printf"}))

    def _strip(self, x_range: "Range1d", lines: "ColumnDataSource") -> "Figure":
        """Add a strip with the names of lines; the page's script leaves out those that would overlap."""
        from bokeh.models import HoverTool
        from bokeh.plotting import figure

        made = figure(height=66, x_range=x_range, y_range=(0, 1), tools="", min_border_left=80, outline_line_color=None)
        made.axis.visible = made.grid.visible = False
        ticks = made.segment("x", 0, "x", 0.12, source=lines, line_color="colour")
        names = made.text("x", 0.18, "label", source=lines, text_color="colour", text_font_size="10px", angle=np.pi / 2)
        names.glyph.text_baseline = "middle"
        self._switch(ticks, None, "lines")
        self._switch(names, None, "lines")
        tips = [("", "@name"), ("at rest", "@rest{0.00} Å"), ("here", "@x{0.00} Å")]
        made.add_tools(HoverTool(renderers=[ticks], tooltips=tips, mode="vline"))
        self.figures.append(made)
        return made

    def _switch(self, renderer: "Renderer", spectrum: Spectrum | None, layer: str) -> None:
        renderer.visible = spectrum is None or spectrum.on
        self.renderers.append((renderer.id, None if spectrum is None else spectrum.number, layer))


def _make_line_source(file: File) -> "ColumnDataSource":
    """Return the lines of a file as data: their wavelengths at rest, and shifted as in its spectrum."""
    from bokeh.models import ColumnDataSource

    lines = find_lines(file.shown.batch, file.row)
    rest = np.array([line.wavelength for line in lines])
    names = [line.name for line in lines]
    return ColumnDataSource(
        {
            "x": rest * (1 + file.redshift),
            "rest": rest,
            "name": names,
            "label": names,
            "rank": [line.rank for line in lines],
            "alpha": [0.8] * len(lines),
            "colour": [LINES[line.kind] for line in lines],
        }
    )


def _make_source(spectrum: Spectrum) -> "ColumnDataSource":
    """Return the columns of a spectrum in single precision, which halves the page, and which no screen can resolve."""
    from bokeh.models import ColumnDataSource

    curve = spectrum.curve
    columns = {"wavelength": curve.wavelength, "flux": curve.mask_bad(curve.flux), "error": curve.error}
    if curve.continuum is not None and curve.normalised is not None and curve.normalised_error is not None:
        columns |= {
            "continuum": np.where(curve.gaps, np.nan, curve.continuum),
            "normalised": curve.mask_bad(curve.normalised),
            "normalised_error": curve.normalised_error,
        }
    data: dict[str, Any] = {name: np.asarray(values, dtype=np.float32) for name, values in columns.items()}
    return ColumnDataSource(data | {"steady": curve.steady.astype(np.uint8)})


def _find_stretches(wavelength: FloatArray, bad: BoolArray, gaps: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Return start and end of each stretch of bad pixels, half a pixel outside of it; none crosses a gap."""
    first, last = bad.copy(), bad.copy()
    first[1:] &= ~bad[:-1] | gaps[:-1]
    last[:-1] &= ~bad[1:] | gaps[:-1]
    steps = np.diff(wavelength)
    half = np.minimum(np.append(steps[:1], steps), np.append(steps, steps[-1:])) / 2
    return wavelength[first] - half[first], wavelength[last] + half[last]
