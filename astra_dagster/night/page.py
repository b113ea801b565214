"""Make the page of a night: one HTML file that loads nothing else, with a picture of each plate."""

import functools
import json
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from astra_dagster.arrays import FloatArray
from astra_dagster.night.report import FAILED, WORDS, Night, PlateReport, say
from astra_dagster.outputs.atomic import replacing
from astra_dagster.planning.status import Status

if TYPE_CHECKING:
    from jinja2 import Template

KINDS = (WORDS[Status.COMPLETE], FAILED, *(word for status, word in WORDS.items() if status is not Status.COMPLETE))
"""Words of statuses in the order in which a bar shows them."""


def write_page(path: Path, night: Night, link: Callable[[str, str], str], spectrum: Callable[[str, str], str]) -> None:
    """Write the page of a night, completely or not at all.

    Parameters
    ----------
    link, spectrum
        Functions from the name of a task and a partition key to the address of the partition's page in the web UI, and
        to that of the page with its spectrum; "" if there is none.

    Raises
    ------
    OutputError
        If the page cannot be written.
    """
    plates = list(dict.fromkeys(plate.name for task in night.tasks for plate in task.plates))
    text = _load_template().render(
        night=night,
        kinds=KINDS,
        plates=plates,
        cells={(task.task, plate.name): plate for task in night.tasks for plate in task.plates},
        link=link,
        spectrum=spectrum,
        say=say,
        # Nothing is escaped in a script, so that its text must not contain what looks like its end.
        pictures=json.dumps(_pictures(night, link)).replace("<", "\\u003c"),
    )
    with replacing(path) as stream:
        stream.write(text.encode())


@functools.cache
def _load_template() -> "Template":
    from jinja2 import Environment  # slow to import, and only for pages

    text = (files("astra_dagster.night") / "night.html").read_text(encoding="utf-8")
    return Environment(autoescape=True).from_string(text)


def project(ra: FloatArray, dec: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Project positions onto the plane that touches the sky in their middle (gnomonic projection).

    Parameters
    ----------
    ra, dec
        Right ascension and declination in degrees, shape (n,).

    Returns
    -------
    tuple of ndarray
        Distances to the east and to the north of the middle, in degrees, each of shape (n,).
    """
    a, d = np.radians(ra), np.radians(dec)
    x, y, z = (part.mean() for part in (np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)))
    a0, d0 = np.arctan2(y, x), np.arctan2(z, np.hypot(x, y))
    depth = np.sin(d0) * np.sin(d) + np.cos(d0) * np.cos(d) * np.cos(a - a0)
    east = np.cos(d) * np.sin(a - a0) / depth
    north = (np.cos(d0) * np.sin(d) - np.sin(d0) * np.cos(d) * np.cos(a - a0)) / depth
    return np.degrees(east), np.degrees(north)


def _pictures(night: Night, link: Callable[[str, str], str]) -> list[dict[str, object]]:
    """Return what the script of the page draws: for each task the plates with a position."""
    drawn: list[dict[str, object]] = []
    for task in night.tasks:
        plates = [_picture(task.task, plate, link) for plate in task.plates if plate.positions]
        if plates:
            far = {column: [one.key for one in task.outliers if one.column == column] for column in task.column_names}
            drawn.append({"task": task.task, "columns": task.column_names, "far": far, "plates": plates})
    return drawn


def _picture(task: str, plate: PlateReport, link: Callable[[str, str], str]) -> dict[str, object]:
    ra, dec = (np.array([getattr(one, name) for one in plate.positions]) for name in ("ra", "dec"))
    east, north = project(ra, dec)
    names = list(plate.positions[0].values)
    return {
        "name": plate.name,
        "link": link(task, plate.name + "/KEY"),
        "last": [one.key.rpartition("/")[2] for one in plate.positions],
        "x": _rounded(east, 4),
        "y": _rounded(north, 4),
        "values": {name: [_short(one.values[name]) for one in plate.positions] for name in names},
    }


def _rounded(values: FloatArray, digits: int) -> Sequence[float]:
    return [round(float(value), digits) for value in values]


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")


def write_list(folder: Path) -> None:
    """Write ``index.html`` into a folder with the pages of nights: links to all of them, the last first.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    names = sorted((path.stem for path in folder.glob("*.html") if path.stem != "index"), reverse=True)
    links = "\n".join(f'<li><a href="{name}.html">{name}</a></li>' for name in names)
    title = "Nights"
    text = f'<!DOCTYPE html>\n<meta charset="utf-8"><title>{title}</title>\n<h1>{title}</h1>\n<ul>\n{links}\n</ul>\n'
    with replacing(folder / "index.html") as stream:
        stream.write(text.encode())
