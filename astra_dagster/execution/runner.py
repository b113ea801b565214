"""Running tasks over many partitions: read, compute in batches, write. A bad file costs itself and nothing else.

Tasks that read the same files are run together, and each file is read once.
"""

import functools
import logging
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import accumulate, groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
from threadpoolctl import threadpool_limits

from astra_dagster.datamodel.products import Product
from astra_dagster.errors import (
    AstraError,
    ConfigurationError,
    DiskFullError,
    OutOfMemoryError,
    SpectrumFileError,
    TaskError,
    WorkerLostError,
    describe,
)
from astra_dagster.execution.workers import Lost, Workers, spread
from astra_dagster.outputs.store import Given, OutputStore, Work, Written, read_task_output
from astra_dagster.spectra.batch import SpectrumBatch, stack
from astra_dagster.spectra.readers import reader
from astra_dagster.tasks import importing
from astra_dagster.tasks.calling import call_task, size_of
from astra_dagster.tasks.columns import Results
from astra_dagster.tasks.task import Requirement

logger = logging.getLogger(__name__)

CHUNK = 64
"""Files that are read and computed together, at most."""

WRITERS = 16
"""Outputs that are written at a time, in each process."""

Inputs = tuple[Any, ...]
Read = Callable[[Product, Path], Any]

Item = tuple[int, Work]
"""One partition of one of the tasks."""

Result = Written | AstraError
"""What became of a partition."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one partition: an output, or the error that stood in the way."""

    store: OutputStore
    work: Work
    written: Written | None = None
    error: AstraError | None = None


IN_PROCESS = Workers("in-process", 1)


def run(
    jobs: Sequence[tuple[OutputStore, Sequence[Work]]],
    workers: Workers = IN_PROCESS,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[list[Outcome]]:
    """Do the work in chunks, each yielded when its outputs are on disk.

    A disk that takes no more ends it: what is under way is finished as far as it can be and yielded, nothing else is
    begun, and no file is blamed.

    Parameters
    ----------
    jobs
        Tasks with the partitions to do of each; none requires another of them.
    workers
        Who does it. The bytes of the outputs are the same whoever does.
    stopped
        Whether to begin nothing more, asked several times a second.

    Raises
    ------
    DiskFullError
        At the end, if outputs could not be written for want of room.
    OutputError
        Before anything is read, if an output folder cannot be written to.
    ConfigurationError
        If there are no workers.
    """
    for store, _ in jobs:
        store.prepare()
    stores = [store for store, _ in jobs]
    by_file: dict[tuple[Path | None, str], list[Item]] = {}
    for i, (_, work) in enumerate(jobs):
        for item in work:
            by_file.setdefault((item.path, item.data_id.key), []).append((i, item))
    importing.look_beside(task.module for store in stores for task in store.task.chain)
    function = functools.partial(_pickled_chunk, importing.finder.folders, cloudpickle.dumps(stores))
    if workers.kind == "in-process":
        function = functools.partial(_run_chunk, stores)
    full: list[DiskFullError] = []

    def ended() -> bool:
        return bool(full) or stopped()

    for chunk, made in spread(workers, function, _chunks(list(by_file.values())), ended):
        if isinstance(made, Lost):
            i, item = made.item
            error = WorkerLostError(
                "the process that worked on it died, each time",
                key=item.data_id.key,
                path=item.path,
                hint="it ran out of memory, or the task's code or a library of it crashed: try this file by itself",
            )
            stores[i].note_failure(item, error)
            yield [Outcome(stores[i], item, error=error)]
        else:
            full.extend(result for result in made if isinstance(result, DiskFullError))
            results = zip(chunk, made, strict=True)
            yield [
                Outcome(stores[i], item, error=result)
                if isinstance(result, AstraError)
                else Outcome(stores[i], item, written=result)
                for (i, item), result in results
                if not isinstance(result, DiskFullError)
            ]
    if full:
        full[0].key = None  # it is not about one partition
        raise full[0]


def _chunks(files: list[list[Item]]) -> Callable[[int], list[Item]]:
    """Split work, file by file, so that each worker has some of it, and that it is soon told how far it is."""
    rest = iter(files)

    def take(workers: int) -> list[Item]:
        size = min(CHUNK, max(1, -(-len(files) // (8 * workers))))
        return [item for items in islice(rest, size) for item in items]

    return take


def _pickled_chunk(folders: Sequence[str], stores: bytes, chunk: Sequence[Item]) -> list[Result]:
    try:
        return _run_chunk(_unpickled(tuple(folders), stores), chunk)
    except SystemExit:  # the worker is told to end
        _writers().shutdown(cancel_futures=True)
        raise


@functools.lru_cache(maxsize=4)
def _unpickled(folders: tuple[str, ...], stores: bytes) -> list[OutputStore]:
    """In a worker: tasks and where their outputs go. Their modules are looked for where the run has found them, too."""
    importing.look_in(folders)
    try:
        return list(cloudpickle.loads(stores))
    except AstraError:
        raise
    except Exception as error:  # a user's module may raise anything
        raise ConfigurationError(
            f"a worker on {socket.gethostname()} cannot import the tasks: {describe(error)}",
            hint="every worker needs the packages of the run, installed, or where the run has them: "
            + (", ".join(folders) or "nowhere else"),
        ) from error


def _run_chunk(stores: Sequence[OutputStore], chunk: Sequence[Item]) -> list[Result]:
    """Do partitions of several tasks; whatever goes wrong with one of them is its own failure, and goes no further.

    What there was not enough memory for together with others is done again by itself.
    """
    results: list[Result] = []
    for (i, item), together in zip(chunk, _run_together(stores, chunk), strict=True):
        result = together or _run_together(stores, [(i, item)])[0]
        if result is None:
            hint = "give the process more memory, or start fewer workers"
            result = _told(OutOfMemoryError("there is not enough memory for it", hint=hint), item)
        if isinstance(result, AstraError):
            if not isinstance(result, DiskFullError):  # that says nothing about the file
                stores[i].note_failure(item, result)
        else:
            stores[i].forget_failure(item.data_id)
        results.append(result)
    return results


def _run_together(stores: Sequence[OutputStore], chunk: Sequence[Item]) -> list[Result | None]:
    """Do partitions of several tasks, each file read once; None is what there was not enough memory for.

    With one thread, since the parallelism is that of the workers, and with more the sums come out otherwise.
    """
    made: dict[int, Result | None] = {}
    wavelength = any(stores[i].task.wavelength for i, _ in chunk)
    read = functools.cache(lambda item, path: reader(item.name).function(path, wavelength=wavelength))
    with threadpool_limits(1):
        for i in sorted({i for i, _ in chunk}):
            places = [place for place, (j, _) in enumerate(chunk) if i == j]
            start = time.perf_counter()
            done = _run_task(stores[i], [chunk[place][1] for place in places], read)
            each = (time.perf_counter() - start) / len(places)
            for place, result in zip(places, done, strict=True):
                made[place] = replace(result, seconds=each) if isinstance(result, Written) else result
    return [made[place] for place in range(len(chunk))]


def _run_task(store: OutputStore, chunk: Sequence[Work], read: Read) -> list[Result | None]:
    readers = [_reader(requirement, read) for requirement in store.task.requires]
    made: dict[str, Result | None] = {}
    inputs: list[tuple[str, Work, Inputs]] = []
    for item in chunk:
        try:
            given = tuple(r(given) for r, given in zip(readers, item.given, strict=True))
            _check_sizes(given)
            inputs.append((_alike(item, given), item, given))
        except Exception as error:
            made[item.data_id.key] = _failure(error, item, SpectrumFileError, "cannot be read")
    inputs.sort(key=itemgetter(0))
    for _, group in groupby(inputs, key=itemgetter(0)):
        for item, result in _compute(store, [(item, given) for _, item, given in group]):
            made[item.data_id.key] = result
    return [made[item.data_id.key] for item in chunk]


def _failure(error: Exception, item: Work, kind: type[AstraError], what: str) -> AstraError | None:
    """Make of whatever went wrong with a partition an error that says so; None if it is memory that was lacking.

    Parameters
    ----------
    kind, what
        Type and beginning of the error where it is not one of ours.
    """
    if isinstance(error, MemoryError):
        return None
    if isinstance(error, AstraError):
        return _told(error, item)
    logger.debug("%s: %s", item.data_id.key, what, exc_info=True)
    return _told(kind(f"{what}: {describe(error)}"), item)


def _told(error: AstraError, item: Work) -> AstraError:
    """Say what partition and file an error is about, and let go of the arrays that were around where it was raised."""
    error.key = error.key or item.data_id.key
    error.path = error.path or (str(item.path) if item.path else None)
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error


def _reader(requirement: Requirement, read: Read) -> Callable[[Given], Any]:
    """How the files of one requirement are read."""
    product, task = requirement.product, requirement.task

    def one(path: Path) -> Any:
        return read(product, path) if task is None else read_task_output(task, path)

    if requirement.one_to_one:
        return lambda given: one(given.files[0])
    return lambda given: [one(path) for path in given.files]


def _check_sizes(inputs: Inputs) -> None:
    sizes = {size_of([item]) for item in inputs if not isinstance(item, list)}
    if len(sizes) > 1:
        raise TaskError(f"the inputs hold {' and '.join(map(str, sorted(sizes)))} spectra")


def _alike(work: Work, inputs: Inputs) -> str:
    """What the inputs of partitions that are computed together have in common."""
    kinds: list[Any] = []
    for item in inputs:
        if isinstance(item, SpectrumBatch):
            kinds.append((item.flux.shape[1], item.chips, item.unit))
        elif isinstance(item, Results):
            kinds.append(sorted((name, values.ndim, values.dtype.kind) for name, values in item.items()))
        else:
            kinds.append(work.data_id.key)  # many partitions for one: by itself
    return repr(kinds)


def _joined(items: Sequence[Any]) -> Any:
    if len(items) == 1:
        return items[0]
    if isinstance(items[0], SpectrumBatch):
        return stack(items)
    return Results({name: np.concatenate([item[name] for item in items]) for name in items[0]})


def _compute(store: OutputStore, pairs: list[tuple[Work, Inputs]]) -> Iterator[tuple[Work, Result | None]]:
    """Results of partitions that are alike: together, and where that fails one by one, to find the guilty."""
    try:
        counts = [size_of(inputs) for _, inputs in pairs]
        joined = [_joined(items) for items in zip(*(inputs for _, inputs in pairs), strict=True)]
        columns, spectra = call_task(store.task, joined, store.parameters)
    except Exception as error:
        failure = _failure(error, pairs[0][0], TaskError, f"{store.task.name} failed")
    else:
        yield from _write(store, [item for item, _ in pairs], counts, columns, spectra)
        return
    if len(pairs) == 1:
        yield pairs[0][0], failure
        return
    for pair in pairs:
        yield from _compute(store, [pair])


def _write(
    store: OutputStore,
    works: Sequence[Work],
    counts: Sequence[int],
    columns: Mapping[str, list[Any]],
    spectra: SpectrumBatch | None,
) -> list[tuple[Work, Result | None]]:
    """Write the outputs of partitions that were computed together, each of so many spectra."""
    ends = list(accumulate(counts))

    def write(place: int) -> tuple[Work, Result | None]:
        item, start, stop = works[place], ends[place] - counts[place], ends[place]
        try:
            results = {name: values[start:stop] if store.several else values[start] for name, values in columns.items()}
            return item, store.write(item, results, None if spectra is None else spectra[start:stop])
        except Exception as error:
            return item, _failure(error, item, TaskError, f"what {store.task.name} made cannot be written")

    try:
        return list(_writers().map(write, range(len(works))))
    except RuntimeError:  # the system has no more threads
        return list(map(write, range(len(works))))


@functools.cache
def _writers() -> ThreadPoolExecutor:
    """Threads that wait for the disk, many files at a time: one after another that takes longer than all the rest."""
    return ThreadPoolExecutor(WRITERS, thread_name_prefix="astra-write")
