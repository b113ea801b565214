"""What a notebook shows: spectra as the interactive page of `viewer`, and rows as a table of HTML."""

import html
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from astra_dagster import settings
from astra_dagster.datamodel.products import DataID
from astra_dagster.errors import TooManyRowsError
from astra_dagster.outputs.atomic import replacing
from astra_dagster.outputs.pictures import shown_input
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.viewer.browser import name_page, page
from astra_dagster.viewer.shown import ShownSpectra

MOST = 30
"""Most spectra, or files, of a page: with more of them it is no longer fast, and nobody can tell them apart."""

HEIGHT = 640
"""Height of a page in a notebook, in pixels."""

SHOWN = 10
"""Rows of a table of spectra."""


@dataclass(frozen=True, repr=False)
class Page:
    """A page of spectra, which a notebook shows where it is the last value of a cell.

    Attributes
    ----------
    html
        The page, which loads nothing else.
    title
        What it shows.
    """

    html: str
    title: str

    def __repr__(self) -> str:
        return f'Page of {self.title}; .save("spectra.html") writes it'

    def _repr_html_(self) -> str:
        contents = html.escape(self.html)
        style = f"width: 100%; height: {HEIGHT}px; border: 0"
        return f'<iframe srcdoc="{contents}" sandbox="allow-scripts" style="{style}"></iframe>'

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page, completely or not at all, and return its path.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        with replacing(Path(path), what="page") as stream:
            stream.write(self.html.encode())
        return Path(path)


def plot_batch(batch: SpectrumBatch, row: int, title: str) -> Page:
    """Make the page of a batch as `SpectrumBatch.plot` describes it."""
    _check_number(len(batch), "spectra", "batch[:10].plot()")
    about = batch.provenance
    name = title or " ".join(filter(None, (about.get("task"), about.get("key")))) or repr(batch)
    inputs = about.get("inputs") or [{"name": ""}]
    return Page(page([ShownSpectra(batch, name, inputs[0]["name"])], row), name)


def plot_files(data_ids: Sequence[DataID], row: int, instrument: str | None) -> Page:
    """Make the page of files, a panel each."""
    _check_number(len(data_ids), "files", "found[:10].plot()")
    root = settings.sas_base_dir()
    shown = [shown_input(data_id, root, instrument) for data_id in data_ids]
    return Page(page(shown, row), name_page(shown))


def tabulate_batch(batch: SpectrumBatch) -> str:
    """Make the table of what the files say of the spectra of a batch."""
    names = [name for name, values in batch.meta.items() if isinstance(values[0], (int, float, str))] if batch else []
    rows = [[str(batch.meta[name][row]) for name in names] for row in range(min(SHOWN, len(batch)))]
    return make_table(repr(batch), names, rows, len(batch))


def make_table(heading: str, names: Sequence[str], rows: Sequence[Sequence[str]], count: int) -> str:
    """Make a table of HTML, under a heading, with how many of all rows are left out."""
    cells = [f"<tr>{''.join(f'<td>{html.escape(text)}</td>' for text in row)}</tr>" for row in rows]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    more = f"<p>and {count - len(rows)} more</p>" if count > len(rows) else ""
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(cells)}</tbody></table>" if names else ""
    return f"<p>{html.escape(heading)}</p>{table}{more}"


def _check_number(count: int, what: str, hint: str) -> None:
    if count > MOST:
        raise TooManyRowsError(
            f"{count} {what} are more than the {MOST} that one page shows", hint=f"plot some: {hint}"
        )
