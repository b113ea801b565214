"""Apply a function to chunks of items: in this process, in a pool of processes, or on a Dask cluster.

Nothing here knows what the function does. Its results are yielded as they come. A chunk whose worker died is done
again; one whose worker died twice is done by itself at the end, and then in halves, until the item is found that kills
the process.
"""

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Generic, Literal, ParamSpec, TypeVar, get_args

from astra_dagster.errors import ConfigurationError
from astra_dagster.execution.pool import Pool, open_pool, start_fork_server

logger = logging.getLogger(__name__)

POLL = 0.25
"""Seconds between two calls of `stopped`."""

AHEAD = 4
"""Number of chunks under way for each worker, so that it has enough to do while the parent records results."""

GRACE = 5.0
"""Seconds that chunks under way get to end when a run is stopped."""

PATIENCE = 30.0
"""Seconds to wait for the answer of a Dask scheduler."""

FORMS = "in-process, processes, processes:N, dask, dask:N, or dask:ADDRESS of a scheduler"

Kind = Literal["in-process", "processes", "dask"]

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
        "in-process", "processes" or "dask".
    number
        Number of workers to start; None for one on each core, or for a cluster that runs already.
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
        if kind in ("processes", "dask") and detail.isascii() and detail.isdigit() and int(detail) > 0:
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


class OnDask(Executor):
    """An executor on a Dask cluster, whose futures always end.

    A future of Dask's own executor never ends if the chunk's result is lost with its worker before it is fetched, and
    the chunk fails when it is done again.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    @property
    def workers(self) -> int:
        """Number of workers that the cluster has now."""
        try:
            return len(self._client.scheduler_info(n_workers=-1).get("workers", ()))
        except OSError as error:
            raise _make_cluster_error() from error

    def submit(self, function: Callable[P, R], /, *arguments: P.args, **named: P.kwargs) -> "Future[R]":
        """Have a function called on the cluster; the future has its result once that is fetched."""
        made = self._client.submit(function, *arguments, pure=False, **named)
        fetched = self._client.gather(made, asynchronous=True)
        return asyncio.run_coroutine_threadsafe(fetched, self._client.loop.asyncio_loop)


def spread(
    workers: Workers,
    function: Callable[[list[T]], R],
    take: Callable[[int], list[T]],
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[list[T], R | FatalItem[T]]]:
    """Apply a function to chunks of items on the workers, and yield results as they come.

    At most four chunks are under way for each worker at a time, however many there are.

    Parameters
    ----------
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
    crew = _Crew(workers)
    running: dict[Future[R], list[T]] = {}
    once: dict[int, list[T]] = {}  # by identity; the chunks are kept, so that it stays unique
    again: deque[list[T]] = deque()
    twice: list[list[T]] = []
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
        crew.stop()
        end = time.monotonic() + GRACE
        while running and (left := end - time.monotonic()) > 0:
            yield from _wait(running, min(left, POLL), [])
            running = {future: chunk for future, chunk in running.items() if not future.cancelled()}
    finally:
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
    crew: "_Crew", function: Callable[[list[T]], R], chunk: list[T], stopped: Callable[[], bool]
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
        raise _make_cluster_error() from error
    return type(error).__name__ == "KilledWorker"  # Dask's; it need not be installed


def _make_cluster_error() -> ConfigurationError:
    return ConfigurationError("the Dask cluster is gone", hint="start it again; what is done is recorded")


class _Crew:
    """An executor that is opened again when it breaks."""

    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        self._stack = contextlib.ExitStack()
        self._executor = self._stack.enter_context(_open_executor(workers))

    @property
    def number(self) -> int:
        """Number of workers now; 1 if a cluster has none yet."""
        return max(1, self._executor.workers) if isinstance(self._executor, OnDask) else self.workers.count

    def ahead(self, number: int) -> int:
        """Return the number of chunks that may be under way with so many workers."""
        return 1 if self.workers.kind == "in-process" else AHEAD * number

    def submit(self, function: Callable[[list[T]], R], chunk: list[T]) -> "Future[R]":
        """Have a function called with a chunk."""
        self.renew()
        try:
            return self._executor.submit(function, chunk)
        except BrokenProcessPool as error:
            future: Future[R] = Future()
            future.set_exception(error)
            return future

    def renew(self) -> None:
        """Open the executor again if it is broken, which ends all chunks that are under way there."""
        if isinstance(self._executor, Pool) and self._executor.broken:
            self._stack.close()
            self._executor = self._stack.enter_context(_open_executor(self.workers))

    def stop(self) -> None:
        """Cancel chunks that have not begun; on a Dask cluster it is not known which have."""
        if isinstance(self._executor, Pool):
            self._executor.stop()

    def close(self) -> None:
        """End the executor, even in the middle of chunks."""
        self._stack.close()


@contextlib.contextmanager
def _open_executor(workers: Workers) -> Iterator[Executor]:
    if workers.kind == "in-process":
        yield InProcess()
    elif workers.kind == "processes":
        with open_pool(workers.count) as pool:
            yield pool
    else:
        with _open_dask(workers) as executor:
            yield executor


@contextlib.contextmanager
def _open_dask(workers: Workers) -> Iterator[Executor]:
    try:
        import dask
        import distributed
    except ImportError as error:
        raise ConfigurationError(
            f"workers are {workers}, and Dask is not installed", hint="pip install 'astra-dagster[dask]'"
        ) from error
    settings = {
        # The item that kills its worker is found here, so that the scheduler need not try it on other workers.
        "distributed.scheduler.allowed-failures": 0,
        "distributed.worker.multiprocessing-method": "forkserver",
        # Memory is not returned to the system after each chunk, which would take a fifth of the time.
        "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
    }
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(settings))
        if not workers.address:
            distributed.utils.get_mp_context()  # type: ignore[no-untyped-call]  # else it sets the fork server later
            start_fork_server(["distributed"])
        address = workers.address or stack.enter_context(
            distributed.LocalCluster(  # type: ignore[no-untyped-call]
                n_workers=workers.count, threads_per_worker=1, dashboard_address=":0", silence_logs=50
            )
        )
        try:
            client = stack.enter_context(
                distributed.Client(address, timeout=PATIENCE, set_as_default=False)  # type: ignore[no-untyped-call]
            )
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"no Dask scheduler answers at {address}: {error}", hint="start one, or set other workers"
            ) from error
        # Dask itself no longer waits for some of what it has begun: asyncio would print what fails of it.
        client.loop.asyncio_loop.set_exception_handler(lambda _, about: logger.debug("Dask: %s", about))
        yield OnDask(client)
