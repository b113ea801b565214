"""Something to look at in the record of a partition, when a run is about a few: a picture, and a page to zoom in."""

import base64
from pathlib import Path
from typing import Any

import dagster as dg

from astra_dagster.datamodel.products import DataID
from astra_dagster.errors import AstraError, describe
from astra_dagster.outputs.layout import page_path
from astra_dagster.outputs.pictures import shown_input, shown_output, write_page
from astra_dagster.outputs.store import OutputStore, Work
from astra_dagster.viewer.preview import preview_png

FEW = 4
"""Partitions of a run that get a picture and a page, half a second each; a run over more gets none."""


def something_to_look_at(store: OutputStore, work: Work, root: Path) -> dict[str, Any]:
    """Metadata with the spectrum that a task made, or else the one that it looked at; empty where there is none.

    Parameters
    ----------
    root
        The folder that SAS_BASE_DIR names.
    """
    task, data_id = store.task, work.data_id
    try:
        if task.output == "fits":
            shown = shown_output(store, data_id)
        elif isinstance(data_id, DataID):
            shown = shown_input(data_id, root)
        else:
            return {}
        picture = base64.b64encode(preview_png(shown.batch, title=shown.title, product=shown.product)).decode()
        page = store.root / page_path(task.name, store.digest, data_id.key)
        write_page(page, [shown])
    except Exception as error:  # what was computed stands, whether or not it can be shown
        reason = error.without_key() if isinstance(error, AstraError) else describe(error)
        return {"preview": f"cannot be shown: {reason}"}
    return {
        "preview": dg.MetadataValue.md(f"![{shown.title}](data:image/png;base64,{picture})"),
        "page": dg.MetadataValue.path(str(page)),
    }
