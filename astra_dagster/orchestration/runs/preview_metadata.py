"""Make the picture and the page of a spectrum in the record of a partition, for runs over a few partitions."""

import base64
import re
from pathlib import Path
from typing import Any

import dagster as dg

from astra_dagster.datamodel.products import DataID
from astra_dagster.errors import AstraError, describe
from astra_dagster.outputs.layout import page_path
from astra_dagster.outputs.pictures import shown_input, shown_output, write_page
from astra_dagster.outputs.store import OutputStore, PartitionWork
from astra_dagster.spectra.readers import find_reader
from astra_dagster.viewer.preview import preview_png
from astra_dagster.viewer.sketch import sketch

PAGE = "page"
"""Name of the page of a spectrum in a record, which only records with pictures have."""

INLINE, LONGEST_RANGES = 999, 60
"""Most characters of Markdown that the web UI shows without a click, and of the words below a sketch."""

FEW = 4
"""Largest number of partitions of a run with pictures and pages, which take half a second for each."""


def escape_markdown(text: str) -> str:
    """Return a text that Markdown shows as it is: results and names may hold links, pictures and HTML."""
    return re.sub(r"([\\`*_\[\]|<>&~])", r"\\\1", text)


def make_preview_metadata(store: OutputStore, work: PartitionWork, root: Path) -> dict[str, Any]:
    """Make metadata that show the spectrum that a task wrote, or else the one that it read; empty if there is none.

    Parameters
    ----------
    root
        The folder that SAS_BASE_DIR names.
    """
    task, data_id = store.task, work.data_id
    try:
        if task.output == "fits":
            shown = shown_output(store, data_id)
        elif isinstance(data_id, DataID) and find_reader(data_id.product.name) is not None:
            shown = shown_input(data_id, root)
        else:
            return {}
        title = escape_markdown(shown.title)
        url, ranges = sketch(shown, INLINE - len(title) - LONGEST_RANGES)
        picture = base64.b64encode(preview_png(shown.batch, title=shown.title, product=shown.product)).decode()
        page = store.root / page_path(task.name, store.digest, data_id.key)
        write_page(page, [shown])
    except Exception as error:  # the output is good, even if it cannot be shown
        reason = error.without_key() if isinstance(error, AstraError) else describe(error)
        return {"preview": f"cannot be shown: {reason}"}
    return {
        "quicklook": dg.MetadataValue.md(f"![{title}]({url})\n\n{ranges}"),
        "preview": dg.MetadataValue.md(f"![{title}](data:image/png;base64,{picture})"),
        PAGE: dg.MetadataValue.path(str(page)),
    }
