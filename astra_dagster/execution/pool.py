"""A pool of processes, which are forked from a server of their own, and never outlive the run.

If a worker or the server dies, the whole pool is broken, and another one can be opened.
"""

import contextlib
import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import forkserver, resource_tracker, util
from multiprocessing.context import ForkServerContext, ForkServerProcess
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

from astra_dagster.errors import ConfigurationError, describe
from astra_dagster.execution.fork_server import GRACE

TRIES = 5
"""Number of attempts to open a pool before an error is raised."""

SOCKET = 103
"""Largest number of bytes in the path of a socket, on the system with the lowest limit."""

P = ParamSpec("P")
R = TypeVar("R")


class Pool(ProcessPoolExecutor):
    """Processes that call functions, and end when this process ends."""

    def __init__(self, number: int) -> None:
        start_fork_server()
        super().__init__(number, _Context(), _begin, (dict(os.environ),))
        self._started = self._processes
        self._manager: Any = None  # a thread
        self._servers: set[int] = set()
        self._refused = ""
        self._under_way: set[Future[Any]] = set()

    @property
    def broken(self) -> bool:
        """Whether a process of the pool has died, after which the others are ended too."""
        return bool(self._broken or self._refused)

    def submit(self, function: Callable[P, R], /, *arguments: P.args, **named: P.kwargs) -> "Future[R]":
        """Have a function called in a process of the pool.

        Raises
        ------
        BrokenProcessPool
            If a process has died, or cannot be started.
        """
        try:
            future = super().submit(partial(_work, function, *arguments, **named))
        except (OSError, EOFError) as error:  # the fork server has died
            self._refused = describe(error)
            raise BrokenProcessPool(self._refused) from error
        finally:
            self._manager = self._manager or self._executor_manager_thread
            self._servers.add(_find_server())
        self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)
        if self.broken:  # the standard pool may have ended its calls before it got this one, which would never end
            raise BrokenProcessPool(str(self._broken))
        return future

    def stop(self) -> None:
        """Cancel all calls that have not begun, without waiting for the others."""
        self.shutdown(wait=False, cancel_futures=True)

    def close(self) -> str:
        """End the pool, even in the middle of calls, and return how its processes ended, for an error message.

        Calls that have not ended then raise BrokenProcessPool.
        """
        processes = list(self._started.values())
        if self.broken or self._under_way:
            for process in processes:
                process.terminate()
            until = time.monotonic() + GRACE
            for process in processes:
                process.join(max(0.0, until - time.monotonic()))
                process.kill()
        self.shutdown()
        if self._manager is not None:
            self._manager.join()
        for future in [future for future in self._under_way if not future.done()]:
            future.set_exception(BrokenProcessPool("the pool was closed"))
        if self.broken:
            start_fork_server()
            for server in self._servers - {_find_server()}:
                _end_group(server)
        return ", ".join(sorted({f"exit code {process.exitcode}" for process in processes}))


@contextlib.contextmanager
def open_pool(number: int) -> Iterator[Pool]:
    """Open a pool of `number` processes, of which one is known to have started.

    Raises
    ------
    ConfigurationError
        If no process can be started.
    """
    why = ""
    for attempt in range(TRIES):
        time.sleep(0.2 * attempt)
        try:
            pool = Pool(number)
        except (OSError, EOFError) as error:
            why = describe(error)
            continue
        try:
            pool.submit(os.getpid).result()
        except BrokenProcessPool as error:
            ended = pool.close()
            why = f"a process ended at once, with {ended}" if ended else str(error)
            continue
        try:
            yield pool
        finally:
            pool.close()
        return
    raise ConfigurationError(
        f"no worker process can be started: {why}",
        hint="this is tried several times; look at the limits of processes, memory and open files, or set fewer "
        "workers, or workers to in-process",
    )


def start_fork_server(modules: Sequence[str] = ("astra_dagster.execution.runner",)) -> None:
    """Start the server from which processes are forked, unless it runs already.

    Processes that are forked from the server get no copy of the threads of this process, and of the locks they hold.

    Parameters
    ----------
    modules
        Names of modules that the server imports, so that the processes need not.
    """
    _make_room_for_sockets()
    forkserver.set_forkserver_preload(["astra_dagster.execution.fork_server", *modules])
    with _block_signals():
        resource_tracker.ensure_running()
    with _block_signals():  # once more, as the call before unblocks the signals
        forkserver.ensure_running()


def _find_server() -> int:
    return int(forkserver._forkserver._forkserver_pid or 0)  # type: ignore[attr-defined]


@contextlib.contextmanager
def _block_signals() -> Iterator[None]:
    """Block the signals of a terminal for processes that are started within the context."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _make_room_for_sockets() -> None:
    """Put the server's socket into a folder with a short path if that of TMPDIR is too long."""
    config = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    folder = config.get("tempdir") or f"{tempfile.gettempdir()}/pymp-12345678"
    if len(os.fsencode(f"{folder}/listener-12345678")) <= SOCKET:
        return
    for short in ("/tmp", "/var/tmp"):  # noqa: S108 (mkdtemp makes a folder of its own there)
        with contextlib.suppress(OSError):
            config["tempdir"] = tempfile.mkdtemp(prefix="pymp-", dir=short)
            util.Finalize(None, shutil.rmtree, (config["tempdir"], True), exitpriority=-100)
            return
    raise ConfigurationError("the path of the temporary folder is too long", path=folder, hint="set TMPDIR to another")


def _end_group(group: int) -> None:
    """End the processes that a dead fork server has left behind."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        for number in (signal.SIGTERM, signal.SIGKILL):
            os.killpg(group, number)
            until = time.monotonic() + GRACE
            while time.monotonic() < until:
                time.sleep(0.02)
                os.killpg(group, 0)


class _Process(ForkServerProcess):
    """A process that does not import the program's main module; all it needs comes with the function it calls."""

    def start(self) -> None:
        start_fork_server()
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            super().start()
        finally:
            sys.modules["__main__"] = main

    def run(self) -> None:
        """Call functions until the pool ends; half a message, left by a process that was killed, ends this one too."""
        with contextlib.suppress(EOFError, pickle.UnpicklingError):
            super().run()


class _Context(ForkServerContext):
    Process = _Process


def _begin(environment: dict[str, str]) -> None:
    """Prepare a new worker: ignore interrupts, which the run handles, end with the run, and set its environment."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)
    threading.Thread(target=_end_with_run, daemon=True).start()
    os.environ.clear()
    os.environ.update(environment)


_calling = False
"""Whether this worker is inside a function that it was asked to call."""


def _end(*_: object) -> None:
    """End at a signal, and ignore further ones, which the pool sends.

    A function that is being called ends by SystemExit, so that it removes what is half-written. Anywhere else, the
    standard pool would catch that and return it as the result of a call.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if _calling:
        sys.exit(1)
    os._exit(1)


def _end_with_run() -> None:
    """End this worker when the run's process ends, as the fork server does, in case that has died as well."""
    run = multiprocessing.parent_process()
    assert run is not None  # noqa: S101 (a worker has a parent)
    run.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)


def _work(function: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
    """Call a function; end the process at SystemExit, which a process of the standard pool would survive."""
    global _calling
    try:
        _calling = True
        try:
            return function(*arguments, **named)
        finally:
            _calling = False
    except SystemExit:
        os._exit(1)
