"""Running a task over many partitions: read, compute in batches, write. A bad file costs itself and nothing else."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from astra_dagster.datamodel.products import Product
from astra_dagster.errors import AstraError, TaskError
from astra_dagster.spectra.batch import SpectrumBatch, stack
from astra_dagster.spectra.readers import reader
from astra_dagster.tasks.partitions import Many
from astra_dagster.tasks.results import Results, called, size_of
from astra_dagster.tasks.store import Given, OutputStore, Work, Written, read_task_output

logger = logging.getLogger(__name__)

CHUNK = 64
"""Partitions that are read, computed and recorded together."""

Inputs = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one partition: an output, or the error that stood in the way."""

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
        outcomes = _run_chunk(store, work[start : start + CHUNK])
        for outcome in outcomes:
            if outcome.error is not None:
                store.note_failure(outcome.work, outcome.error)
            else:
                store.forget_failure(outcome.work.data_id)
        yield outcomes


def _run_chunk(store: OutputStore, chunk: Sequence[Work]) -> list[Outcome]:
    readers = [_reader(requirement, store.task.wavelength) for requirement in store.task.requires]
    outcomes: dict[str, Outcome] = {}
    read: list[tuple[Work, Inputs]] = []
    for item in chunk:
        try:
            inputs = tuple(r(given) for r, given in zip(readers, item.given, strict=True))
            _check_sizes(inputs)
            read.append((item, inputs))
        except AstraError as error:
            outcomes[item.data_id.key] = Outcome(item, error=_with_key(error, item))
    read.sort(key=_alike)
    for _, group in groupby(read, key=_alike):
        for outcome in _compute(store, list(group)):
            outcomes[outcome.work.data_id.key] = outcome
    return [outcomes[item.data_id.key] for item in chunk]


def _reader(requirement: Any, wavelength: bool) -> Callable[[Given], Any]:
    """How the files of one requirement are read."""
    of = requirement.of if isinstance(requirement, Many) else requirement
    if isinstance(of, Product):
        function = reader(of.name).function

        def one(path: Any) -> Any:
            return function(path, wavelength=wavelength)
    else:

        def one(path: Any) -> Any:
            return read_task_output(of, path)

    if isinstance(requirement, Many):
        return lambda given: [one(path) for path in given.files]
    return lambda given: one(given.files[0])


def _check_sizes(inputs: Inputs) -> None:
    sizes = {size_of([item]) for item in inputs if not isinstance(item, list)}
    if len(sizes) > 1:
        raise TaskError(f"the inputs hold {' and '.join(map(str, sorted(sizes)))} spectra")


def _alike(pair: tuple[Work, Inputs]) -> str:
    """What the inputs of partitions that are computed together have in common."""
    kinds: list[Any] = []
    for item in pair[1]:
        if isinstance(item, SpectrumBatch):
            kinds.append((item.flux.shape[1], item.chips, item.unit))
        elif isinstance(item, Results):
            kinds.append(sorted((name, values.ndim, values.dtype.kind) for name, values in item.items()))
        else:
            kinds.append(pair[0].data_id.key)  # many partitions for one: by itself
    return repr(kinds)


def _joined(items: Sequence[Any]) -> Any:
    if len(items) == 1:
        return items[0]
    if isinstance(items[0], SpectrumBatch):
        return stack(items)
    return Results({name: np.concatenate([item[name] for item in items]) for name in items[0]})


def _compute(store: OutputStore, pairs: list[tuple[Work, Inputs]]) -> Iterator[Outcome]:
    """Results of partitions that are alike: together, and where that fails one by one, to find the guilty."""
    counts = [size_of(inputs) for _, inputs in pairs]
    try:
        joined = [_joined(items) for items in zip(*(inputs for _, inputs in pairs), strict=True)]
        columns, spectra = called(store.task, joined, store.parameters)
    except TaskError as error:
        if len(pairs) == 1:
            yield Outcome(pairs[0][0], error=_with_key(error, pairs[0][0]))
        else:
            for pair in pairs:
                yield from _compute(store, [pair])
        return
    stop = 0
    for (item, _), count in zip(pairs, counts, strict=True):
        start, stop = stop, stop + count
        results = {name: values[start:stop] if store.several else values[start] for name, values in columns.items()}
        part = None if spectra is None else spectra[start:stop]
        try:
            yield Outcome(item, written=store.write(item, results, part))
        except AstraError as error:
            yield Outcome(item, error=_with_key(error, item))


def _with_key(error: AstraError, item: Work) -> AstraError:
    error.key = error.key or item.data_id.key
    error.path = error.path or (str(item.path) if item.path else None)
    return error
