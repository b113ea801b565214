"""Run tasks over many partitions: read inputs, compute in batches, write outputs.

A bad file makes its own partition fail, and no other. Tasks that read the same files are run together, and each file is
read once.
"""

import functools
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, replace
from itertools import accumulate, groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import cloudpickle
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
    describe_user_error,
)
from astra_dagster.execution.batches import Inputs, check_sizes, find_group, join, pick_results, pick_sized, split_group
from astra_dagster.execution.fork_server import GRACE
from astra_dagster.execution.preparation import add_prepared, take_seconds
from astra_dagster.execution.workers import Crew, FatalItem, Workers, spread
from astra_dagster.outputs.store import InputFiles, OutputStore, PartitionWork, StoredOutput, read_task_output
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.spectra.identity import check_identity
from astra_dagster.spectra.readers import add_readers, added_readers, read_spectra
from astra_dagster.tasks import importing
from astra_dagster.tasks.calling import call_task, size_of
from astra_dagster.tasks.inputs.forms import Form, open_as
from astra_dagster.tasks.inputs.requirement import Requirement

logger = logging.getLogger(__name__)

CHUNK = 64
"""Largest number of files that are read and computed together."""

WRITERS = 16
"""Number of outputs that are written at a time in each process."""

_WRITER = "astra-write"
"""First part of the names of the threads that write outputs."""

Read = Callable[[Product, Path, tuple[tuple[str, Any], ...]], Any]

Item = tuple[int, PartitionWork]
"""The number of a task, and one of its partitions."""

Result = StoredOutput | AstraError
"""The output of a partition, or the error with which it failed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one partition: its output, or the error with which it failed."""

    store: OutputStore
    work: PartitionWork
    written: StoredOutput | None = None
    error: AstraError | None = None


IN_PROCESS = Workers("in-process", 1)


def run(
    jobs: Sequence[tuple[OutputStore, Sequence[PartitionWork]]],
    workers: Workers | Crew = IN_PROCESS,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[list[Outcome]]:
    """Run tasks over partitions in chunks, and yield the outcomes of each chunk when its outputs are on disk.

    A full disk ends the run: chunks under way are finished as far as possible and yielded, no other chunk is begun, and
    the error is not recorded as the fault of a file.

    Parameters
    ----------
    jobs
        Output store of each task, with its partitions to run; none of the tasks may require another of them.
    workers
        Where chunks are run; it does not change the bytes of the outputs. A crew is used, and not ended.
    stopped
        Returns whether to begin no other chunk; it is called several times a second.

    Raises
    ------
    DiskFullError
        At the end, if outputs could not be written because the disk was full.
    OutputError
        Before anything is read, if an output folder cannot be written to.
    ConfigurationError
        If no worker can be started or reached.
    """
    for store, _ in jobs:
        store.prepare()
    stores = [store for store, _ in jobs]
    by_file: dict[tuple[str | None, str], list[Item]] = {}
    for i, (_, work) in enumerate(jobs):
        for item in work:
            by_file.setdefault((item.location, item.data_id.key), []).append((i, item))
    importing.look_beside(task.module for store in stores for task in store.task.chain)
    function = functools.partial(
        _run_pickled_chunk, importing.finder.folders, cloudpickle.dumps((stores, added_readers()))
    )
    if workers.kind == "in-process":
        function = functools.partial(_run_chunk, stores)
    full: list[DiskFullError] = []

    def should_stop() -> bool:
        return bool(full) or stopped()

    batch = max((store.task.batch_size or 1 for store in stores), default=1)
    for chunk, made in spread(workers, function, _split_work(list(by_file.values()), batch), should_stop):
        if isinstance(made, FatalItem):
            i, item = made.item
            error = WorkerLostError(
                "every process that worked on this file died",
                key=item.data_id.key,
                path=item.path,
                hint="the process ran out of memory, or the task's code or a library crashed: try this file by itself",
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
        full[0].key = None  # the error is not that of one partition
        raise full[0]


def _split_work(files: list[list[Item]], batch: int = 1) -> Callable[[int], list[Item]]:
    """Make a function that takes the next chunk of files, small enough for all workers and for frequent reports.

    Parameters
    ----------
    batch
        Largest number of spectra that a task takes at a time: a chunk has as many files, if there are enough of them.
    """
    rest = iter(files)

    def take(workers: int) -> list[Item]:
        size = max(min(CHUNK, max(1, -(-len(files) // (8 * workers)))), min(batch, -(-len(files) // workers)))
        return [item for items in islice(rest, size) for item in items]

    return take


def _run_pickled_chunk(folders: Sequence[str], stores: bytes, chunk: Sequence[Item]) -> list[Result]:
    try:
        return _run_chunk(_unpickle(tuple(folders), stores), chunk)
    except SystemExit:  # the worker was asked to end
        _end_writers()
        raise


@functools.lru_cache(maxsize=4)
def _unpickle(folders: tuple[str, ...], stores: bytes) -> list[OutputStore]:
    """Unpickle the stores in a worker, where modules of tasks are searched in the same folders as in the run."""
    importing.look_in(folders)
    try:
        found, readers = cloudpickle.loads(stores)
        add_readers(readers)
        return list(found)
    except AstraError:
        raise
    except Exception as error:  # a user's module may raise anything
        raise ConfigurationError(
            f"a worker on {socket.gethostname()} cannot import the tasks: {describe_user_error(error)}",
            hint="every worker needs the packages of the run, installed, or where the run has them: "
            + (", ".join(folders) or "nowhere else"),
        ) from error


def _run_chunk(stores: Sequence[OutputStore], chunk: Sequence[Item]) -> list[Result]:
    """Run partitions of several tasks, and return an output or an error for each of them.

    Partitions for which there was not enough memory are run again one by one.
    """
    results: list[Result] = []
    for (i, item), together in zip(chunk, _run_together(stores, chunk), strict=True):
        result = together or _run_together(stores, [(i, item)])[0]
        if result is None:
            hint = "give the process more memory, or start fewer workers"
            result = _complete_error(OutOfMemoryError("there is not enough memory for it", hint=hint), item)
        if isinstance(result, AstraError):
            if not isinstance(result, DiskFullError):  # a full disk is not the fault of the file
                stores[i].note_failure(item, result)
        else:
            stores[i].forget_failure(item.data_id)
        results.append(result)
    return results


def _run_together(stores: Sequence[OutputStore], chunk: Sequence[Item]) -> list[Result | None]:
    """Run partitions of several tasks, and read each file once; None stands for a partition that lacked memory.

    NumPy uses one thread: the workers run in parallel already, and with several threads sums could have other bits.
    """
    made: dict[int, Result | None] = {}
    wavelength = any(stores[i].task.wavelength for i, _ in chunk)
    bitmask = any(stores[i].task.bitmask for i, _ in chunk)
    read = functools.cache(
        lambda item, path, options: read_spectra(path, item, wavelength=wavelength, bitmask=bitmask, **dict(options))
    )
    with threadpool_limits(1):
        for i in sorted({i for i, _ in chunk}):
            places = [place for place, (j, _) in enumerate(chunk) if i == j]
            start = time.perf_counter()
            done = _run_task(stores[i], [chunk[place][1] for place in places], read)
            setup = sum(take_seconds())
            each = (time.perf_counter() - start - setup) / len(places)
            for place, result in zip(places, done, strict=True):
                made[place] = result
                if isinstance(result, StoredOutput):
                    made[place], setup = replace(result, seconds=each, setup=setup), 0.0
    return [made[place] for place in range(len(chunk))]


def _run_task(store: OutputStore, chunk: Sequence[PartitionWork], read: Read) -> list[Result | None]:
    readers = [_make_reader(requirement, read, store) for requirement in store.task.requires]
    made: dict[str, Result | None] = {}
    inputs: list[tuple[str, PartitionWork, Inputs]] = []
    for item in chunk:
        try:
            given = tuple(r(item, given) for r, given in zip(readers, item.given, strict=True))
            check_sizes(given)
            inputs.append((find_group(item, given), item, given))
        except Exception as error:
            made[item.data_id.key] = _make_error(error, item, SpectrumFileError, "cannot be read")
    inputs.sort(key=itemgetter(0))
    for _, group in groupby(inputs, key=itemgetter(0)):
        for pairs in split_group(store, [(item, given) for _, item, given in group]):
            try:
                add_prepared(store, (), pairs[0][0])
            except Exception as error:  # it is that of all of them, which are not tried one by one
                what = f"{store.task.name} cannot begin"
                made.update((item.data_id.key, _make_error(copy(error), item, TaskError, what)) for item, _ in pairs)
                continue
            made.update((item.data_id.key, result) for item, result in _compute(store, pairs))
    return [made[item.data_id.key] for item in chunk]


def _make_error(error: Exception, item: PartitionWork, kind: type[AstraError], what: str) -> AstraError | None:
    """Turn an exception into the error of a partition; None if there was not enough memory.

    Parameters
    ----------
    kind, what
        Type and beginning of the message, for an exception that is not one of ours.
    """
    if isinstance(error, MemoryError):
        return None
    if isinstance(error, AstraError):
        return _complete_error(error, item)
    logger.debug("%s: %s", item.data_id.key, what, exc_info=True)
    return _complete_error(kind(f"{what}: {describe_user_error(error)}"), item)


def _complete_error(error: AstraError, item: PartitionWork) -> AstraError:
    """Add partition key and path to an error, and drop its traceback, which keeps arrays in memory."""
    error.key = error.key or item.data_id.key
    error.path = error.path or (str(item.path) if item.path else None)
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error


def _make_reader(
    requirement: Requirement, read: Read, store: OutputStore
) -> Callable[[PartitionWork, InputFiles], Any]:
    """Make the function that reads the files of one requirement; each must be the one that its key stands for.

    A task without `bitmask` gets none, even where another task of the run reads it: its outputs would differ.
    """
    product, task, bitmask = requirement.product, requirement.task, store.task.bitmask
    options = _get_options(requirement, store)

    def one(path: Path, key: str) -> object:
        if task is not None:
            found: object = read_task_output(task, path)
        elif requirement.reader is None:
            return open_as(requirement.form or Form.PATH, path)
        else:
            spectra = read(product, path, options)
            check_identity(spectra, product, key, path)
            found = spectra
        if bitmask or not isinstance(found, SpectrumBatch) or found.bitmask is None:
            return found
        return replace(found, bitmask=None)

    if requirement.one_to_one:
        return lambda item, given: one(given.files[0], item.data_id.key)
    return lambda item, given: [one(*pair) for pair in zip(given.files, given.keys, strict=True)]


def _get_options(requirement: Requirement, store: OutputStore) -> tuple[tuple[str, Any], ...]:
    """Return the values of the parameters that are options of the reader; one that is None is left to the reader."""
    if requirement.reader is None or not store.task.options:
        return ()
    names = [name for name in store.task.options if name in requirement.reader.options]
    values = ((name, getattr(store.parameters, name)) for name in names)
    return tuple((name, value) for name, value in values if value is not None)


def _compute(
    store: OutputStore, pairs: list[tuple[PartitionWork, Inputs]]
) -> Iterator[tuple[PartitionWork, Result | None]]:
    """Compute and write partitions together; if that fails, in halves, so that only those at fault fail."""
    try:
        counts = [size_of(pick_sized(inputs)) for _, inputs in pairs]
        joined = [join(items) for items in zip(*(inputs for _, inputs in pairs), strict=True)]
        data_ids = [item.data_id for (item, _), count in zip(pairs, counts, strict=True) for _ in range(count)]
        arguments = add_prepared(store, joined, pairs[0][0])
        columns, spectra = call_task(store.task, arguments, store.parameters, data_ids)
    except Exception as error:
        if len(pairs) == 1:
            yield pairs[0][0], _make_error(error, pairs[0][0], TaskError, f"{store.task.name} failed")
            return
    else:
        yield from _write(store, [item for item, _ in pairs], counts, columns, spectra)
        return
    half = len(pairs) // 2  # the error, which keeps arrays in memory, is gone by now
    yield from _compute(store, pairs[:half])
    yield from _compute(store, pairs[half:])


def _write(
    store: OutputStore,
    works: Sequence[PartitionWork],
    counts: Sequence[int],
    columns: Mapping[str, list[Any]],
    spectra: SpectrumBatch | None,
) -> list[tuple[PartitionWork, Result | None]]:
    """Write the outputs of partitions that were computed together; `counts` are their numbers of spectra."""
    ends = list(accumulate(counts))

    def write(place: int) -> tuple[PartitionWork, Result | None]:
        item, start, stop = works[place], ends[place] - counts[place], ends[place]
        try:
            results = pick_results(store, columns, slice(start, stop))
            return item, store.write(item, results, None if spectra is None else spectra[start:stop])
        except Exception as error:
            return item, _make_error(error, item, TaskError, f"what {store.task.name} made cannot be written")

    try:
        return list(_start_writers().map(write, range(len(works))))
    except RuntimeError:  # the system cannot start a thread
        return list(map(write, range(len(works))))


@functools.cache
def _start_writers() -> ThreadPoolExecutor:
    """Start threads that write outputs: waiting for the disk once for each file would take longer than all the rest."""
    return ThreadPoolExecutor(WRITERS, thread_name_prefix=_WRITER)


def _end_writers() -> None:
    """Wait until the outputs that are being written are complete; begin no others.

    The pool of threads does not know a thread in whose start this process was interrupted, so they are found by name.
    """
    _start_writers().shutdown(wait=False, cancel_futures=True)
    until = time.monotonic() + GRACE
    while time.monotonic() < until and any(thread.name.startswith(_WRITER) for thread in threading.enumerate()):
        time.sleep(0.01)
