"""Make a page that shows spectra: one HTML file that loads nothing else.

The texts of the page are put together here. Its panels are drawn in `panels`, and ``browser.html`` lays them out and
switches them.
"""

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from astra_dagster.analysis.velocity import LIGHT
from astra_dagster.viewer.lines import FRAMES
from astra_dagster.viewer.panels import LAYERS, File, Panels, Spectrum
from astra_dagster.viewer.shown import ShownSpectra, make_curve

COLOURS = ("#1b1b1b", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#8c564b", "#332288", "#999933", "#888888")
"""Colours of spectra, which the colour-blind can tell apart; orange is that of continua, red that of bad pixels."""

SLOW = 0.003
"""Largest redshift that is shown as a velocity."""


def page(shown: Sequence[ShownSpectra], row: int = 0) -> str:
    """Make a page with the spectra of one or several files: a panel for each file, and one for normalised flux below.

    Parameters
    ----------
    shown
        The spectra of at least one file.
    row
        Number of the spectrum of each file that is shown at first; the others can be switched on.

    Returns
    -------
    str
        HTML that loads nothing, neither from the network nor from disk.

    Raises
    ------
    AstraError
        If a file has no such spectrum.
    """
    from bokeh.document import Document  # slow to import, and only for pages
    from bokeh.embed import file_html
    from bokeh.layouts import gridplot
    from bokeh.models import WheelZoomTool
    from bokeh.resources import INLINE

    listed = _make_files(shown, row)
    panels = Panels()
    for group in _group_overlapping(listed):
        panels.add(group)
    grid = gridplot(
        [[figure] for figure in panels.figures],
        sizing_mode="stretch_width",
        toolbar_location="right",
        toolbar_options={"logo": None},
    )
    # Bokeh does not activate a tool that several panels share; the script of the page does.
    wheel = next(tool for tool in grid.toolbar.tools if isinstance(getattr(tool, "tools", [tool])[0], WheelZoomTool))
    document = Document()
    document.add_root(grid)
    title = name_page(shown)
    switched = {layer for _, _, layer in panels.renderers}
    return str(
        file_html(
            document,
            INLINE,
            title,
            template=(files("astra_dagster.viewer") / "browser.html").read_text(encoding="utf-8"),
            template_variables={
                "title": title,
                "files": [_describe(file, row) for file in listed],
                "layers": {name: text for name, text in LAYERS.items() if name in switched},
                # Nothing is escaped in a script, so that its text must not contain what looks like its end.
                "switches": json.dumps(panels.switches | {"wheel": wheel.id}).replace("<", "\\u003c"),
            },
        )
    )


def name_page(shown: Sequence[ShownSpectra]) -> str:
    """Return the title of a page with the spectra of these files."""
    return shown[0].title + (f" and {len(shown) - 1} more" if len(shown) > 1 else "")


def _make_files(shown: Sequence[ShownSpectra], row: int) -> list[File]:
    """Make the files of the page, with their spectra that have good pixels, each with a number and a colour."""
    listed: list[File] = []
    number = 0
    for item in shown:
        item.check_row(row)
        spectra = []
        for one in range(len(item.batch)):
            if not item.batch.bad[one].all():
                colour = COLOURS[number % len(COLOURS)]
                spectra.append(Spectrum(number, item.name(one), colour, one == row, make_curve(item.batch, one)))
                number += 1
        listed.append(File(len(listed), item, row, tuple(spectra)))
    return listed


def _group_overlapping(listed: Sequence[File]) -> list[list[File]]:
    """Group files whose wavelengths overlap; those of a group are moved and zoomed together."""
    groups: list[list[File]] = []
    for file in listed:
        low, high = file.span
        for group in groups:
            if any(low < end and start < high for start, end in (other.span for other in group)):
                group.append(file)
                break
        else:
            groups.append([file])
    return groups


def _describe(file: File, row: int) -> dict[str, Any]:
    """Make the texts that the page shows for a file."""
    item, meta = file.shown, file.shown.batch.meta
    frame = FRAMES.get(item.product)
    as_velocity = abs(file.redshift) <= SLOW
    return {
        "number": file.number,
        "heading": item.title,
        "frame": f"Vacuum wavelengths, {frame.description}." if frame else "Vacuum wavelengths.",
        "shift": f"{file.redshift * LIGHT:.1f}" if as_velocity else f"{file.redshift:.5f}",
        "unit": "km/s" if as_velocity else "z",
        "about": item.about,
        "meta": {
            name: _write_value(values[row])
            for name, values in meta.items()
            if isinstance(values[row], (int, float, str))
        },
        "spectra": file.spectra,
    }


def _write_value(value: float | str) -> str:
    return f"{value:.7g}" if isinstance(value, float) else str(value)
