"""Read the spectra of a partition to show, from the survey's file or from an output, and write a page of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import IntFlag
from pathlib import Path

from astra_dagster.datamodel.products import DataID, Product
from astra_dagster.errors import AstraError, InputMissingError
from astra_dagster.outputs.atomic import replacing
from astra_dagster.outputs.store import OutputStore
from astra_dagster.presence import is_file
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.spectra.object_flags import OBJECT_FLAGS
from astra_dagster.spectra.output import read_output
from astra_dagster.spectra.readers import read_spectra, recognise
from astra_dagster.tasks.columns import name_flags
from astra_dagster.tasks.groups import PartitionID
from astra_dagster.viewer.browser import page
from astra_dagster.viewer.shown import ShownSpectra

LONGEST = 200
"""Most characters of a parameter that are shown."""


def shown_output(store: OutputStore, data_id: PartitionID) -> ShownSpectra:
    """Read the spectra that a task made from a partition.

    Raises
    ------
    InputMissingError
        If there is no such output.
    AstraError
        If the task makes no spectra, or the output cannot be read.
    """
    task = store.task
    if task.output != "fits":
        raise AstraError(f"{task.name} makes no spectra", hint="show what it was made from, without the task")
    path = store.path(data_id)
    if not is_file(path):
        raise InputMissingError(
            "there is no such output",
            key=data_id.key,
            path=path,
            hint=f"run astra-dagster run {task.name} with these parameters",
        )
    values = {name: json.dumps(value) for name, value in store.parameters.as_dict().items()}
    about = {name: text if len(text) <= LONGEST else f"{text[:LONGEST]} ..." for name, text in values.items()}
    product = data_id.product if isinstance(data_id, DataID) else data_id.group.product
    batch = read_output(path)
    flags = {name: column.flags for name, column in task.columns.items() if column.flags is not None}
    return ShownSpectra(
        _name_all_flags(batch, flags),
        f"{task.name} {data_id.key}",
        product.name,
        {**about, "code version": task.version, "digest": store.digest, "file": str(path)},
    )


def _name_all_flags(batch: SpectrumBatch, flags: Mapping[str, type[IntFlag]]) -> SpectrumBatch:
    """Replace numbers in the metadata of these names by the names of flags."""
    said = {
        name: tuple(None if value is None else name_flags(int(value), kind) or "none" for value in batch.meta[name])
        for name, kind in flags.items()
        if name in batch.meta
    }
    return replace(batch, meta={**batch.meta, **said})


def shown_input(data_id: DataID, root: Path, instrument: str | None = None) -> ShownSpectra:
    """Read the spectra of the survey's file of a data ID.

    Parameters
    ----------
    root
        The folder that SAS_BASE_DIR names.
    instrument
        "BOSS" or "APOGEE", for mwm files with spectra of both.

    Raises
    ------
    InputMissingError
        If there is no such file.
    AstraError
        If its product has no reader, or the file cannot be read.
    """
    path = data_id.existing_path(root)
    if path is None:
        raise InputMissingError(
            f"no such {data_id.product.name} file", key=data_id.key, path=data_id.path(root), hint="is it on this disk?"
        )
    return replace(show_file(path, data_id.product, instrument), title=f"{data_id.product.name} {data_id.key}")


def show_file(path: Path, product: Product | None = None, instrument: str | None = None) -> ShownSpectra:
    """Read the spectra of a file, whose product is told by its name and its headers if it is not given.

    Raises
    ------
    AstraError
        If the file is not there or cannot be read, or it is not known of which product it is.
    """
    name = product.name if product else recognise(path).choose()
    options = {"instrument": instrument} if instrument else {}
    batch = read_spectra(path, name, bitmask=True, **options)
    if name != "spSpec":  # whose warnings are others
        batch = _name_all_flags(batch, OBJECT_FLAGS)
    return ShownSpectra(batch, f"{name} {path.name}", name, {"file": str(path)})


def write_page(path: Path, shown: Sequence[ShownSpectra], row: int = 0) -> None:
    """Write a page with spectra, completely or not at all; see `astra_dagster.viewer.browser.page`.

    Raises
    ------
    OutputError
        If the page cannot be written.
    AstraError
        If a file has no such spectrum.
    """
    contents = page(shown, row).encode()
    with replacing(path) as stream:
        stream.write(contents)
