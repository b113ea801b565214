"""Running a task over many files: read, compute in batches, write. A bad file costs itself and nothing else."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from astra_dagster.datamodel.products import DataID
from astra_dagster.errors import AstraError, TaskError
from astra_dagster.spectra.ap_visit import read_ap_visit
from astra_dagster.spectra.batch import SpectrumBatch, stack
from astra_dagster.tasks.store import OutputStore, Written
from astra_dagster.tasks.task import Task

logger = logging.getLogger(__name__)

CHUNK = 64
"""Files that are read, computed and recorded together."""

READERS: Mapping[str, Callable[[Path], SpectrumBatch]] = {"apVisit": read_ap_visit}


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
    reader = READERS[store.task.requires.name]
    outcomes: dict[str, Outcome] = {}
    spectra: list[tuple[Work, SpectrumBatch]] = []
    for item in chunk:
        try:
            spectra.append((item, reader(item.path)))
        except AstraError as error:
            outcomes[item.data_id.key] = Outcome(item, error=_with_key(error, item))
    spectra.sort(key=lambda pair: pair[1].flux.shape[1])
    for _, group in groupby(spectra, key=lambda pair: pair[1].flux.shape[1]):
        for outcome in _compute(store, list(group)):
            outcomes[outcome.work.data_id.key] = outcome
    return [outcomes[item.data_id.key] for item in chunk]


def _compute(store: OutputStore, pairs: list[tuple[Work, SpectrumBatch]]) -> Iterator[Outcome]:
    """Results of spectra of one shape: together, and where that fails one by one, to find the guilty."""
    try:
        rows = call(store.task, stack([batch for _, batch in pairs]), store.parameters)
    except TaskError as error:
        if len(pairs) == 1:
            yield Outcome(pairs[0][0], error=_with_key(error, pairs[0][0]))
        else:
            for pair in pairs:
                yield from _compute(store, [pair])
        return
    for (item, _), row in zip(pairs, rows, strict=True):
        try:
            yield Outcome(item, written=store.write(item.data_id, item.input_version, row))
        except AstraError as error:
            yield Outcome(item, error=_with_key(error, item))


def call(task: Task, spectra: SpectrumBatch, parameters: Any) -> list[dict[str, Any]]:
    """Call a task's function and turn its columns into one row a spectrum, of plain Python values.

    NaN and infinity become None, so that every row can be written as JSON.

    Raises
    ------
    TaskError
        If the function raises, or does not return the columns that the task promises.
    """
    try:
        columns = task.function(spectra, parameters)
    except Exception as error:  # the function is a user's and may raise anything
        logger.debug("%s failed", task.name, exc_info=True)
        raise TaskError(f"{task.name} failed: {type(error).__name__}: {error}") from error
    if set(columns) != set(task.columns):
        odd = ", ".join(sorted(set(columns) ^ set(task.columns)))
        raise TaskError(f"{task.name} and the columns that it promises differ in {odd}")
    values: dict[str, list[Any]] = {}
    for name in task.columns:
        array = np.asarray(columns[name])
        if array.shape != (len(spectra),) or array.dtype.kind not in "biufU":
            raise TaskError(
                f"{task.name}: column {name} has shape {array.shape} and type {array.dtype}",
                hint=f"expected {len(spectra)} numbers or strings, one a spectrum",
            )
        values[name] = [_plain(value) for value in array.tolist()]
    return [{name: column[i] for name, column in values.items()} for i in range(len(spectra))]


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _with_key(error: AstraError, item: Work) -> AstraError:
    error.key = error.key or item.data_id.key
    error.path = error.path or str(item.path)
    return error
