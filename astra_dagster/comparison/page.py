"""Make the page of a comparison: one HTML file that loads nothing else, drawn by Bokeh.

A click on a point shows both spectra above each other: of the worst rows they are in the page, of the others it says
the commands that show them.
"""

from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from astra_dagster.arrays import FloatArray
from astra_dagster.comparison.comparison import Comparison, tabulate
from astra_dagster.comparison.panels import ColumnPanels, choose_panels
from astra_dagster.comparison.sides import Side
from astra_dagster.errors import AstraError
from astra_dagster.viewer.shown import make_curve

if TYPE_CHECKING:  # slow to import, and only for pages
    from bokeh.models import ColumnDataSource
    from bokeh.plotting import figure as Figure  # noqa: N812 (a class)

WORST = 50
"""Number of rows whose spectra are in the page."""

PIXELS = 2_000
"""Most pixels of a spectrum in the page; of a longer one several are averaged."""

GAP = 3.0
"""Number of typical steps in wavelength beyond which two pixels are not joined."""

WIDTH, HEIGHT = 400, 270
"""Size of a panel in pixels of the screen."""

TOOLS = "pan,box_zoom,wheel_zoom,reset"
POINT = "#d62728"
SIDES = ("#0072b2", "#009e73")

_SWITCH = """
const i = select.options.indexOf(select.value);
points.selected.indices = [];
points.data = all_points[i].data;
histogram.data = all_histograms[i].data;
panels.forEach((panel, k) => {
  densities[k].data = all_densities[i][k].data;
  const [x, y] = ranges[i][k];
  panel.x_range.setv({start: x[0], end: x[1]});
  panel.y_range.setv({start: y[0], end: y[1]});
});
across.setv({start: spreads[i][0], end: spreads[i][1]});
"""

_CLICK = """
const at = points.selected.indices[0];
if (at === undefined) return;
const row = points.data.row[at], i = rows.data.row.indexOf(row), k = worst.indexOf(row);
const escape = text => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
const [key_a, key_b] = [rows.data.a[i], (rows.data.b ?? rows.data.a)[i]];
const value = name => points.data[name][at].toPrecision(6);
let text = `<b>${escape(key_a)}</b>${key_a === key_b ? "" : " = " + escape(key_b)}<br>`;
text += `${escape(select.value)}: ${value("a")} (a), ${value("b")} (b)`;
if (k < 0) {
  text += "<br>" + [[key_a, shows[0]], [key_b, shows[1]]]
    .map(([key, more]) => `<code>astra-dagster show ${escape(key)} ${escape(more)}</code>`).join("<br>");
}
said.text = text;
drawn.forEach((source, side) => { source.data = k < 0 ? {x: [], y: []} : spectra[2 * k + side].data; });
"""


def page(made: Comparison) -> str:
    """Make the page of a comparison.

    Returns
    -------
    str
        HTML that loads nothing, neither from the network nor from disk.
    """
    from bokeh.document import Document
    from bokeh.embed import file_html
    from bokeh.resources import INLINE

    document = Document()
    chosen = choose_panels(made)
    document.add_root(_draw(made, chosen))
    undrawn = sum(max(len(one.column.outliers) - len(one.rows), 0) for one in chosen.values())
    heads, *rows = tabulate(made)
    matches = made.matches
    only = ", ".join(f"{len(keys)} only in {label}" for label, keys in (("a", matches.only_a), ("b", matches.only_b)))
    return str(
        file_html(
            document,
            INLINE,
            f"{made.a.name} against {made.b.name}",
            template=(files("astra_dagster.comparison") / "page.html").read_text(encoding="utf-8"),
            template_variables={
                "title": f"a: {made.a.name}, b: {made.b.name}",
                "lines": [
                    *(f"{label}: {len(side.table)} rows, {side.source}" for label, side in made.sides),
                    f"{len(matches.a)} rows matched by {matches.by}, {only}",
                    *([f"{undrawn} more outliers are in the table alone"] if undrawn else []),
                ],
                "heads": heads,
                "rows": rows,
            },
        )
    )


def _draw(made: Comparison, chosen: dict[str, ColumnPanels]) -> Any:
    """Draw the panels of the first column, with what is needed to switch to another, and the spectra below."""
    from bokeh.layouts import column, gridplot
    from bokeh.models import ColumnDataSource, CustomJS, Div, Select

    if not chosen:
        return Div(text="There is no column of numbers.")
    first = next(iter(chosen.values()))
    points = ColumnDataSource(first.points())
    densities = [ColumnDataSource(first.density(name)) for name in first.panels]
    panels = [_draw_panel(first, i, points, densities[i]) for i in range(len(densities))]
    histogram = ColumnDataSource(first.histogram())
    counted = _draw_histogram(first, histogram)
    select = Select(title="column", value=next(iter(chosen)), options=list(chosen), width=200)
    all_points, all_histograms = (
        [ColumnDataSource(getattr(one, of)()) for one in chosen.values()] for of in ("points", "histogram")
    )
    switch = {
        "select": select,
        "points": points,
        "all_points": all_points,
        "histogram": histogram,
        "all_histograms": all_histograms,
        "panels": panels,
        "densities": densities,
        "all_densities": [[ColumnDataSource(one.density(name)) for name in one.panels] for one in chosen.values()],
        "ranges": [[tuple(map(_widen, limits)) for limits in one.ranges.values()] for one in chosen.values()],
        "across": counted.x_range,
        "spreads": [_widen(one.spread) for one in chosen.values()],
    }
    select.js_on_change("value", CustomJS(args=switch, code=_SWITCH))
    said = Div(text="", width=2 * WIDTH)
    numbers = np.unique(np.concatenate([one.rows for one in chosen.values()]))
    worst, spectra = _read_spectra(made, numbers[np.argsort(-made.score[numbers], kind="stable")].tolist())
    shown = [_draw_spectrum(side, colour) for side, colour in zip((made.a, made.b), SIDES, strict=True)]
    shown[1][0].x_range = shown[0][0].x_range
    named: dict[str, Any] = {"row": numbers.astype(np.int32), "a": [made.keys[i] for i in numbers]}
    if made.matches.by != "key":
        named["b"] = [made.keys_b[i] for i in numbers]
    rows = ColumnDataSource(named)
    click = {
        "points": points,
        "rows": rows,
        "worst": worst,
        "spectra": spectra,
        "said": said,
        "select": select,
        "shows": [made.a.show, made.b.show],
        "drawn": [source for _, source in shown],
    }
    points.selected.js_on_change("indices", CustomJS(args=click, code=_CLICK))
    grid = [*panels, counted]
    return column(
        select,
        gridplot([grid[i : i + 3] for i in range(0, len(grid), 3)], toolbar_options={"logo": None}),
        said,
        *(panel for panel, _ in shown),
    )


def _draw_panel(of: ColumnPanels, number: int, points: "ColumnDataSource", density: "ColumnDataSource") -> "Figure":
    from bokeh.models import HoverTool, LinearColorMapper
    from bokeh.palettes import Greys256
    from bokeh.plotting import figure

    name = list(of.panels)[number]
    x_range, y_range = map(_widen, of.ranges[name])
    made = figure(
        width=WIDTH,
        height=HEIGHT,
        x_range=x_range,
        y_range=y_range,
        title=name,
        tools=f"tap,{TOOLS}",
    )
    mapper = LinearColorMapper(Greys256[::-1], low=0, high=400)  # the darkest is left to the points
    made.image("image", x="x", y="y", dw="dw", dh="dh", source=density, color_mapper=mapper)
    dots = made.scatter(*of.names[name], source=points, size=5, color=POINT, alpha=0.6, line_color=None)
    made.add_tools(HoverTool(renderers=[dots], tooltips=[("a", "@a{0.00000}"), ("b", "@b{0.00000}")]))
    return made


def _widen(limits: tuple[float, float]) -> tuple[float, float]:
    """Return a range with some room, so that points at its ends are whole."""
    room = 0.04 * (limits[1] - limits[0])
    return limits[0] - room, limits[1] + room


def _draw_histogram(of: ColumnPanels, source: "ColumnDataSource") -> "Figure":
    from bokeh.plotting import figure

    made = figure(
        width=WIDTH,
        height=HEIGHT,
        x_range=_widen(of.spread),
        y_axis_type="log",
        title="rows by b - a",
        tools=TOOLS,
    )
    made.quad(top="top", bottom=0.5, left="left", right="right", source=source, color=SIDES[0], line_color="white")
    return made


def _draw_spectrum(side: Side, colour: str) -> "tuple[Figure, ColumnDataSource]":
    from bokeh.models import ColumnDataSource
    from bokeh.plotting import figure

    source = ColumnDataSource({"x": [], "y": []})
    made = figure(width=3 * WIDTH, height=200, title=side.name, tools="pan,box_zoom,xwheel_zoom,reset")
    made.line("x", "y", source=source, line_color=colour)
    return made, source


def _read_spectra(made: Comparison, wanted: list[int]) -> "tuple[list[int], list[ColumnDataSource]]":
    """Return the numbers of the first wanted rows whose spectra can be read, and both spectra of each."""
    from bokeh.models import ColumnDataSource

    numbers: list[int] = []
    spectra: list[ColumnDataSource] = []
    for row in wanted[:WORST]:
        spectrum = made.spectrum_of(row)
        try:
            both = [
                _bin(*_read(side, key, spectrum))
                for side, key in ((made.a, made.keys[row]), (made.b, made.keys_b[row]))
            ]
        except AstraError:  # gone, or never on this disk: its commands say so
            continue
        numbers.append(row)
        spectra += [ColumnDataSource({"x": x, "y": y}) for x, y in both]
    return numbers, spectra


def _read(side: Side, key: str, spectrum: int) -> tuple[FloatArray, FloatArray]:
    if side.read is None:
        raise AstraError("this side has no spectra")
    shown = side.read(key)
    shown.check_row(spectrum)
    curve = make_curve(shown.batch, spectrum)
    return curve.wavelength, curve.mask_bad(curve.flux if curve.normalised is None else curve.normalised)


def _bin(wavelength: FloatArray, flux: FloatArray) -> tuple[Any, Any]:
    """Return a spectrum with fewer pixels, each the mean of several, in single precision."""
    several = -(-len(flux) // PIXELS)
    count = len(flux) // several * several
    blocks = flux[:count].reshape(-1, several)
    there = np.isfinite(blocks)
    total = np.where(there, blocks, 0).sum(axis=1)
    mean = np.where(there.any(axis=1), total / np.maximum(there.sum(axis=1), 1), np.nan)
    centre = wavelength[:count].reshape(-1, several).mean(axis=1)
    steps = np.diff(centre)
    mean[:-1][steps > GAP * np.median(steps)] = np.nan  # no line crosses the gap between two detectors
    return centre.astype(np.float32), mean.astype(np.float32)
