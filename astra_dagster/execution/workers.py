"""Apply a function to chunks of items: in this process, in a pool of processes, on a Dask cluster or in jobs of Slurm.

Nothing here knows what the function does. Its results are yielded as they come. A chunk whose worker died is done
again; one whose worker died twice is done by itself at the end, and then in halves, until the item is found that kills
the process.
"""

import concurrent.futures
import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Generic, Literal, ParamSpec, Self, TypeVar, get_args

from astra_dagster.errors import ConfigurationError
from astra_dagster.execution.dask import OnDask, make_cluster_error, open_dask, open_slurm
from astra_dagster.execution.pool import Pool, open_pool
from astra_dagster.resources import NONE, Resources, gpus_here, memory_here

POLL = 0.25
"""Seconds between two calls of `stopped`."""

AHEAD = 4
"""Number of chunks under way for each worker, so that it has enough to do while the parent records results."""

GRACE = 5.0
"""Seconds that chunks under way get to end when a run is stopped."""

FORMS = "in-process, processes, processes:N, dask, dask:N, dask:ADDRESS of a scheduler, or slurm:N"

Kind = Literal["in-process", "processes", "dask", "slurm"]

_KINDS: dict[str, Kind] = {kind: kind for kind in get_args(Kind)}

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class FatalItem(Generic[T]):
    """An item that killed every process that worked on it."""

    item: T


@dataclass(frozen=True)
class Workers:
    """Where chunks are done, and by how many workers.

    Attributes
    ----------
    kind
        "in-process", "processes", "dask" or "slurm".
    number
        Number of workers to start; None for one on each core, or for a cluster that runs already. Of "slurm" the number
        of jobs, at most.
    address
        Address of a Dask scheduler that runs already.
    """

    kind: Kind = "processes"
    number: int | None = None
    address: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Workers":
        """Read workers from their text in the configuration: ``processes:4``.

        Raises
        ------
        ConfigurationError
            If the text has none of the known forms.
        """
        name, _, detail = text.strip().partition(":")
        kind = _KINDS.get(name)
        if kind == "in-process" and not detail:
            return cls(kind, 1)
        if kind in ("processes", "dask") and not detail:
            return cls(kind)
        if kind in ("processes", "dask", "slurm") and detail.isascii() and detail.isdigit() and int(detail) > 0:
            return cls(kind, int(detail))
        if kind == "dask" and "//" in detail:
            return cls(kind, None, detail)
        raise ConfigurationError(f"workers cannot be {text!r}", hint=f"expected {FORMS}")

    @property
    def count(self) -> int:
        """Number of workers that are started."""
        return self.number or len(os.sched_getaffinity(0))

    def __str__(self) -> str:
        detail = self.address or self.number
        return self.kind if self.kind == "in-process" or not detail else f"{self.kind}:{detail}"


class InProcess(Executor):
    """An executor that calls functions at once, in this process."""

    def submit(self, function: Callable[P, R], /, *arguments: P.args, **named: P.kwargs) -> "Future[R]":
        """Call a function, and return a future that is done."""
        future: Future[R] = Future()
        try:
            future.set_result(function(*arguments, **named))
        except Exception as error:
            future.set_exception(error)
        return future


def spread(
    workers: "Workers | Crew",
    function: Callable[[list[T]], R],
    take: Callable[[int], list[T]],
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[list[T], R | FatalItem[T]]]:
    """Apply a function to chunks of items on the workers, and yield results as they come.

    At most four chunks are under way for each worker at a time, however many there are.

    Parameters
    ----------
    workers
        Which workers to start, and end at the end. A crew is ended only if this is left before all chunks are done.
    function
        Takes a chunk and returns a result; function, chunks and results are pickled.
    take
        Takes the number of workers that there are now, and returns the next chunk; an empty one when nothing is left.
    stopped
        Returns whether to stop. Then no other chunk is begun, and those under way get some seconds to end.

    Yields
    ------
    tuple
        A chunk and its result; or a chunk of one item, and the item as `FatalItem`.

    Raises
    ------
    ConfigurationError
        If no worker can be started or reached.
    """
    running: dict[Future[R], list[T]] = {}
    once: dict[int, list[T]] = {}  # by identity; the chunks are kept, so that it stays unique
    again: deque[list[T]] = deque()
    twice: list[list[T]] = []
    crew = workers if isinstance(workers, Crew) else Crew(workers)
    idle = False
    try:
        while not stopped():
            number = crew.number
            while len(running) < crew.ahead(number) and (chunk := again.popleft() if again else take(number)):
                running[crew.submit(function, chunk)] = chunk
            if not running:
                break
            lost: list[list[T]] = []
            yield from _wait(running, POLL, lost)
            crew.renew()
            for chunk in lost:
                (twice if id(chunk) in once else again).append(chunk)
                once[id(chunk)] = chunk
        for chunk in twice:  # last, so that nothing else is under way that could be the cause
            yield from _do_alone(crew, function, chunk, stopped)
        idle = not running
        if not idle:
            crew.stop()
        end = time.monotonic() + GRACE
        while running and (left := end - time.monotonic()) > 0:
            yield from _wait(running, min(left, POLL), [])
            running = {future: chunk for future, chunk in running.items() if not future.cancelled()}
    finally:
        if not idle or crew is not workers:
            crew.close()


def _wait(running: "dict[Future[R], list[T]]", seconds: float, lost: list[list[T]]) -> Iterator[tuple[list[T], R]]:
    """Yield chunks that end within so many seconds, with their results; add chunks whose worker died to `lost`."""
    done = concurrent.futures.wait(running, seconds, concurrent.futures.FIRST_COMPLETED).done
    for future in [future for future in running if future in done]:
        chunk = running.pop(future)
        try:
            made = future.result()
        except (Exception, CancelledError) as error:
            if not _is_worker_lost(error):
                raise
            lost.append(chunk)
        else:
            yield chunk, made


def _do_alone(
    crew: "Crew", function: Callable[[list[T]], R], chunk: list[T], stopped: Callable[[], bool]
) -> Iterator[tuple[list[T], R | FatalItem[T]]]:
    """Do a chunk again whose worker died, with nothing else under way; if the worker dies again, do it in halves."""
    parts = [chunk]
    while parts and not stopped():
        part = parts.pop()
        running = {crew.submit(function, part): part}
        lost: list[list[T]] = []
        while running and not stopped():
            yield from _wait(running, POLL, lost)
            crew.renew()
        if lost and len(part) == 1:
            yield part, FatalItem(part[0])
        elif lost:
            parts += [part[len(part) // 2 :], part[: len(part) // 2]]


def _is_worker_lost(error: BaseException) -> bool:
    if isinstance(error, BrokenProcessPool):
        return True
    if isinstance(error, CancelledError) or type(error).__name__.endswith("CommClosedError"):  # the latter is Dask's
        raise make_cluster_error() from error
    return type(error).__name__ == "KilledWorker"  # Dask's; it need not be installed


class Crew:
    """Workers that are started when they are first needed, and again when one dies; a context that ends them."""

    def __init__(self, workers: Workers, needed: Resources = NONE) -> None:
        self.workers = workers
        self._needed = needed
        self._stack = contextlib.ExitStack()
        self._executor: Executor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def kind(self) -> Kind:
        """Kind of the workers."""
        return self.workers.kind

    @property
    def number(self) -> int:
        """Number of workers: those that a cluster has now, at least 1, and of Slurm's those that are asked for."""
        executor = self._open()
        return max(1, executor.workers) if isinstance(executor, OnDask) else self._count

    @property
    def _count(self) -> int:
        """Number of workers to start: as many as are asked for, or as there is room for."""
        if self.workers.number is not None:
            return self.workers.number
        return self._needed.fitting(self.workers.count, memory=memory_here(), gpus=gpus_here())

    def ahead(self, number: int) -> int:
        """Return the number of chunks that may be under way with so many workers."""
        return 1 if self.workers.kind == "in-process" else AHEAD * number

    def submit(self, function: Callable[[list[T]], R], chunk: list[T]) -> "Future[R]":
        """Have a function called with a chunk."""
        self.renew()
        try:
            return self._open().submit(function, chunk)
        except BrokenProcessPool as error:
            future: Future[R] = Future()
            future.set_exception(error)
            return future

    def renew(self) -> None:
        """End all workers if one is broken, and so all chunks under way; others are started when needed."""
        if isinstance(self._executor, Pool) and self._executor.broken:
            self.close()

    def stop(self) -> None:
        """Cancel chunks that have not begun; on a Dask cluster it is not known which have."""
        if isinstance(self._executor, Pool):
            self._executor.stop()

    def close(self) -> None:
        """End the workers, even in the middle of chunks."""
        self._executor = None
        self._stack.close()

    def _open(self) -> Executor:
        if self._executor is None:
            self._executor = self._stack.enter_context(self._start())
        return self._executor

    def _start(self) -> contextlib.AbstractContextManager[Executor]:
        if self.workers.kind == "in-process":
            return contextlib.nullcontext(InProcess())
        if self.workers.kind == "processes":
            return open_pool(self._count)
        if self.workers.kind == "slurm":
            return open_slurm(self._count, self._needed)
        return open_dask(self.workers.address, self._count, self._needed)
