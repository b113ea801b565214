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
        picture = base64.b64encode(preview_png(shown.batch, title=shown.title, product=shown.product)).decode()
        page = store.root / page_path(task.name, store.digest, data_id.key)
        write_page(page, [shown])
    except Exception as error:  # the output is good, even if it cannot be shown
        reason = error.without_key() if isinstance(error, AstraError) else describe(error)
        return {"preview": f"cannot be shown: {reason}"}
    return {
        "preview": dg.MetadataValue.md(f"![{escape_markdown(shown.title)}](data:image/png;base64,{picture})"),
        "page": dg.MetadataValue.path(str(page)),
    }
