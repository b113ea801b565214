"""Where chunks of work are done: in this process, on a pool of processes, or on a Dask cluster.

Nothing here knows what the work is. What a chunk makes is handed on as it comes. A chunk that is lost with its worker's
process is done again; one that is lost twice is done by itself at the end, and then in halves, until the one item is
found that takes the process down.
"""

import asyncio
import concurrent.futures
import contextlib
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

POLL = 0.25
"""Seconds between two looks at whether to stop."""

AHEAD = 4
"""Chunks a worker that are under way: enough to do while the parent records what came."""

GRACE = 5.0
"""Seconds that chunks under way get to end when a run is to stop."""

PATIENCE = 30.0
"""Seconds that a Dask scheduler gets to answer."""

FORMS = "in-process, processes, processes:N, dask, dask:N, or dask:ADDRESS of a scheduler"

Kind = Literal["in-process", "processes", "dask"]

_KINDS: dict[str, Kind] = {kind: kind for kind in get_args(Kind)}

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Lost(Generic[T]):
    """An item that took down the process of every worker that it was given to."""

    item: T


@dataclass(frozen=True)
class Workers:
    """Who does the work.

    Attributes
    ----------
    kind
        "in-process", "processes" or "dask".
    number
        Workers to start; None for all cores, or where a cluster is there already.
    address
        Of a Dask scheduler that is there already.
    """

    kind: Kind = "processes"
    number: int | None = None
    address: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Workers":
        """Workers from their text in the configuration: ``processes:4``.

        Raises
        ------
        ConfigurationError
            If it says nothing that is known.
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
        """Workers that are started."""
        return self.number or len(os.sched_getaffinity(0))

    def __str__(self) -> str:
        detail = self.address or self.number
        return self.kind if self.kind == "in-process" or not detail else f"{self.kind}:{detail}"


class InProcess(Executor):
    """An executor that does what it is given at once, in this process."""

    def submit(self, function: Callable[P, R], /, *arguments: P.args, **named: P.kwargs) -> "Future[R]":
        """Do it, and return what came of it."""
        future: Future[R] = Future()
        try:
            future.set_result(function(*arguments, **named))
        except Exception as error:
            future.set_exception(error)
        return future


class OnDask(Executor):
    """An executor on a Dask cluster, which tells of everything that becomes of a chunk.

    With Dask's own the future of a chunk never ends whose result is lost with its worker before it is fetched, and that
    fails when it is done again.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    @property
    def workers(self) -> int:
        """Workers that the cluster has now."""
        try:
            return len(self._client.scheduler_info(n_workers=-1).get("workers", ()))
        except OSError as error:
            raise _cluster_gone() from error

    def submit(self, function: Callable[P, R], /, *arguments: P.args, **named: P.kwargs) -> "Future[R]":
        """Have it done, and fetch what came of it."""
        made = self._client.submit(function, *arguments, pure=False, **named)
        fetched = self._client.gather(made, asynchronous=True)
        return asyncio.run_coroutine_threadsafe(fetched, self._client.loop.asyncio_loop)


def spread(
    workers: Workers,
    function: Callable[[list[T]], R],
    take: Callable[[int], list[T]],
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[list[T], R | Lost[T]]]:
    """Apply a function to chunks of items, wherever the workers are, and hand on what it makes as it comes.

    At most four chunks a worker are under way at a time, whatever their number.

    Parameters
    ----------
    function
        Takes a chunk; it, the chunks and what it makes are pickled.
    take
        Takes the number of workers that there are now, and returns the next chunk; an empty one when nothing is left.
    stopped
        Asked again and again: once it says so no other chunk is begun, and those under way are waited for for some
        seconds.

    Yields
    ------
    tuple
        A chunk and what was made of it; or a chunk of the one item that is lost.

    Raises
    ------
    ConfigurationError
        If there are no workers.
    """
    crew = _Crew(workers)
    running: dict[Future[R], list[T]] = {}
    once: dict[int, list[T]] = {}  # by identity, which is theirs as long as they are kept
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
            yield from _done(running, POLL, lost)
            for chunk in lost:
                (twice if id(chunk) in once else again).append(chunk)
                once[id(chunk)] = chunk
        for chunk in twice:  # last, for then nothing else is under way that may be to blame
            yield from _alone(crew, function, chunk, stopped)
        crew.stop()
        end = time.monotonic() + GRACE
        while running and (left := end - time.monotonic()) > 0:
            yield from _done(running, min(left, POLL), [])
            running = {future: chunk for future, chunk in running.items() if not future.cancelled()}
    finally:
        crew.close()


def _done(running: "dict[Future[R], list[T]]", seconds: float, lost: list[list[T]]) -> Iterator[tuple[list[T], R]]:
    """What is done within so many seconds; chunks whose worker is gone are added to `lost`."""
    done = concurrent.futures.wait(running, seconds, concurrent.futures.FIRST_COMPLETED).done
    for future in [future for future in running if future in done]:
        chunk = running.pop(future)
        try:
            made = future.result()
        except (Exception, CancelledError) as error:
            if not _worker_gone(error):
                raise
            lost.append(chunk)
        else:
            yield chunk, made


def _alone(
    crew: "_Crew", function: Callable[[list[T]], R], chunk: list[T], stopped: Callable[[], bool]
) -> Iterator[tuple[list[T], R | Lost[T]]]:
    """Do a chunk again that was lost with its worker, with nothing else under way; if it is lost again, in halves."""
    parts = [chunk]
    while parts and not stopped():
        part = parts.pop()
        running = {crew.submit(function, part): part}
        lost: list[list[T]] = []
        while running and not stopped():
            yield from _done(running, POLL, lost)
        if lost and len(part) == 1:
            yield part, Lost(part[0])
        elif lost:
            parts += [part[len(part) // 2 :], part[: len(part) // 2]]


def _worker_gone(error: BaseException) -> bool:
    if isinstance(error, BrokenProcessPool):
        return True
    if isinstance(error, CancelledError) or type(error).__name__.endswith("CommClosedError"):  # the latter is Dask's
        raise _cluster_gone() from error
    return type(error).__name__ == "KilledWorker"  # Dask's; it need not be installed


def _cluster_gone() -> ConfigurationError:
    return ConfigurationError("the Dask cluster is gone", hint="start it again; what is done is recorded")


class _Crew:
    """An executor that is opened anew when it breaks."""

    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        self._stack = contextlib.ExitStack()
        self._executor = self._stack.enter_context(_opened(workers))

    @property
    def number(self) -> int:
        """Workers that there are now, or one where a cluster is still waiting for its first."""
        return max(1, self._executor.workers) if isinstance(self._executor, OnDask) else self.workers.count

    def ahead(self, number: int) -> int:
        """Chunks that may be under way with so many workers."""
        return 1 if self.workers.kind == "in-process" else AHEAD * number

    def submit(self, function: Callable[[list[T]], R], chunk: list[T]) -> "Future[R]":
        """Have a chunk done."""
        if isinstance(self._executor, Pool) and self._executor.broken:
            self._stack.close()
            self._executor = self._stack.enter_context(_opened(self.workers))
        try:
            return self._executor.submit(function, chunk)
        except BrokenProcessPool as error:
            future: Future[R] = Future()
            future.set_exception(error)
            return future

    def stop(self) -> None:
        """Begin nothing more, as far as it is known what is begun: of Dask's it is not."""
        if isinstance(self._executor, Pool):
            self._executor.stop()

    def close(self) -> None:
        """End it, with all that it still does."""
        self._stack.close()


@contextlib.contextmanager
def _opened(workers: Workers) -> Iterator[Executor]:
    if workers.kind == "in-process":
        yield InProcess()
    elif workers.kind == "processes":
        with open_pool(workers.count) as pool:
            yield pool
    else:
        with _dask(workers) as executor:
            yield executor


@contextlib.contextmanager
def _dask(workers: Workers) -> Iterator[Executor]:
    try:
        import dask
        import distributed
    except ImportError as error:
        raise ConfigurationError(
            f"workers are {workers}, and Dask is not installed", hint="pip install 'astra-dagster[dask]'"
        ) from error
    settings = {
        # Which item takes its worker down is found out here: the scheduler need not try it elsewhere.
        "distributed.scheduler.allowed-failures": 0,
        "distributed.worker.multiprocessing-method": "forkserver",
        # Memory that each chunk needs again is not given back after each: that costs a fifth of the time.
        "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
    }
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(settings))
        if not workers.address:
            distributed.utils.get_mp_context()  # type: ignore[no-untyped-call]  # or it tells the fork server later
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
        yield OnDask(client)
