"""Running a task over many files: read, compute in batches, write. A bad file costs itself and nothing else."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from astra_dagster.datamodel.products import DataID
from astra_dagster.errors import AstraError, TaskError
from astra_dagster.spectra.batch import SpectrumBatch, stack
from astra_dagster.spectra.output import plain
from astra_dagster.spectra.readers import reader
from astra_dagster.tasks.store import OutputStore, Written
from astra_dagster.tasks.task import Task

logger = logging.getLogger(__name__)

CHUNK = 64
"""Files that are read, computed and recorded together."""


@dataclass(frozen=True, slots=True)
class Work:
    """One file to do: its data ID, where it lies, and its data version."""

    data_id: DataID
    path: Path
    input_version: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file: an output, or the error that stood in the way."""

    work: Work
    written: Written | None = None
    error: AstraError | None = None


def run(store: OutputStore, work: Sequence[Work]) -> Iterator[list[Outcome]]:
    """Do the work in chunks, each yielded when its outputs are on disk.

    Raises
    ------
    OutputError
        Before anything is read, if the output folder cannot be written to.
    """
    store.prepare()
    for start in range(0, len(work), CHUNK):
        yield _run_chunk(store, work[start : start + CHUNK])


def _run_chunk(store: OutputStore, chunk: Sequence[Work]) -> list[Outcome]:
    read = reader(store.task.requires.name).function
    outcomes: dict[str, Outcome] = {}
    spectra: list[tuple[Work, SpectrumBatch]] = []
    for item in chunk:
        try:
            spectra.append((item, read(item.path, wavelength=store.task.wavelength)))
        except AstraError as error:
            outcomes[item.data_id.key] = Outcome(item, error=_with_key(error, item))
    spectra.sort(key=_alike)
    for _, group in groupby(spectra, key=_alike):
        for outcome in _compute(store, list(group)):
            outcomes[outcome.work.data_id.key] = outcome
    return [outcomes[item.data_id.key] for item in chunk]


def _alike(pair: tuple[Work, SpectrumBatch]) -> tuple[int, tuple[tuple[str, int, int], ...]]:
    """What spectra of one batch have in common."""
    return pair[1].flux.shape[1], pair[1].chips


def _compute(store: OutputStore, pairs: list[tuple[Work, SpectrumBatch]]) -> Iterator[Outcome]:
    """Results of spectra of one shape: together, and where that fails one by one, to find the guilty."""
    counts = [len(batch) for _, batch in pairs]
    try:
        columns, spectra = call(store.task, stack([batch for _, batch in pairs]), store.parameters)
    except TaskError as error:
        if len(pairs) == 1:
            yield Outcome(pairs[0][0], error=_with_key(error, pairs[0][0]))
        else:
            for pair in pairs:
                yield from _compute(store, [pair])
        return
    several = reader(store.task.requires.name).several
    stop = 0
    for (item, _), count in zip(pairs, counts, strict=True):
        start, stop = stop, stop + count
        results = {name: values[start:stop] if several else values[start] for name, values in columns.items()}
        part = None if spectra is None else spectra[start:stop]
        try:
            yield Outcome(item, written=store.write(item.data_id, item.input_version, results, part))
        except AstraError as error:
            yield Outcome(item, error=_with_key(error, item))


def call(task: Task, spectra: SpectrumBatch, parameters: Any) -> tuple[dict[str, list[Any]], SpectrumBatch | None]:
    """Call a task's function: its columns as lists of plain Python values, and its spectra if it makes some.

    NaN and infinity become None, so that every value can be written as JSON.

    Raises
    ------
    TaskError
        If the function raises, or does not return what the task promises.
    """
    try:
        returned = task.function(spectra, parameters)
    except Exception as error:  # the function is a user's and may raise anything
        logger.debug("%s failed", task.name, exc_info=True)
        raise TaskError(f"{task.name} failed: {type(error).__name__}: {error}") from error
    made = returned if isinstance(returned, SpectrumBatch) else None
    if (made is not None) != (task.output == "fits"):
        raise TaskError(f"{task.name} writes {task.output} and returned {type(returned).__name__}")
    if made is not None and (len(made) != len(spectra) or made.wavelength is None):
        raise TaskError(f"{task.name} returned {len(made)} spectra for {len(spectra)}, or none with wavelengths")
    columns: Any = returned if made is None else {name: made.meta.get(name) for name in task.columns}
    if set(columns) != set(task.columns):
        odd = ", ".join(sorted(set(columns) ^ set(task.columns)))
        raise TaskError(f"{task.name} and the columns that it promises differ in {odd}")
    values: dict[str, list[Any]] = {}
    for name in task.columns:
        try:
            array = np.asarray(columns[name])
        except ValueError:  # rows of different lengths
            array = np.asarray(columns[name], dtype=object)
        if array.ndim not in (1, 2) or len(array) != len(spectra) or array.dtype.kind not in "biufU":
            raise TaskError(
                f"{task.name}: column {name} has shape {array.shape} and type {array.dtype}",
                hint=f"expected {len(spectra)} numbers, strings or short rows of them, one a spectrum",
            )
        values[name] = plain(array.tolist())
    return values, made


def _with_key(error: AstraError, item: Work) -> AstraError:
    error.key = error.key or item.data_id.key
    error.path = error.path or str(item.path)
    return error
