"""A pool of processes, forked from a server of their own: started, ended, and never left behind.

Whatever is lost of it, a worker or the server, is told as one thing: the pool is broken, and another one can be opened.
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
"""How often in a row a pool is opened before it is said that it cannot be."""

SOCKET = 103
"""Bytes that the path of a socket may have, on the least generous system."""

P = ParamSpec("P")
R = TypeVar("R")


class Pool(ProcessPoolExecutor):
    """Processes that do what they are given, and end with this one."""

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
        """Whether a process of it is gone, and with it all others."""
        return bool(self._broken or self._refused)

    def submit(self, function: Callable[P, R], /, *arguments: P.args, **named: P.kwargs) -> "Future[R]":
        """Have something done.

        Raises
        ------
        BrokenProcessPool
            If a process is gone, or cannot be started.
        """
        try:
            future = super().submit(partial(_work, function, *arguments, **named))
        except (OSError, EOFError) as error:  # the fork server is gone
            self._refused = describe(error)
            raise BrokenProcessPool(self._refused) from error
        finally:
            self._manager = self._manager or self._executor_manager_thread
            self._servers.add(_server())
        self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)
        return future

    def stop(self) -> None:
        """Begin nothing more: what is not begun yet is cancelled, within an instant."""
        self.shutdown(wait=False, cancel_futures=True)

    def close(self) -> str:
        """End it, with all that it still does. Returns how its processes ended, for an error message."""
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
        if self.broken:
            start_fork_server()
            for server in self._servers - {_server()}:
                _end_group(server)
        return ", ".join(sorted({f"exit code {process.exitcode}" for process in processes}))


@contextlib.contextmanager
def open_pool(number: int) -> Iterator[Pool]:
    """A pool of so many processes, of which one is there for sure.

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
        f"no process can be started to work in: {why}",
        hint="this is tried several times; look at the limits of processes, memory and open files, or set fewer "
        "workers, or workers to in-process",
    )


def start_fork_server(modules: Sequence[str] = ("astra_dagster.execution.runner",)) -> None:
    """Start the server that processes are forked from, unless it runs already.

    No thread of this process, and no lock that it holds, is copied into a process that is forked from another.

    Parameters
    ----------
    modules
        What it imports, so that the processes need not.
    """
    _make_room_for_sockets()
    forkserver.set_forkserver_preload(["astra_dagster.execution.fork_server", *modules])
    with _undisturbed():
        resource_tracker.ensure_running()
    with _undisturbed():  # once more: the former ends by letting signals through
        forkserver.ensure_running()


def _server() -> int:
    return int(forkserver._forkserver._forkserver_pid or 0)  # type: ignore[attr-defined]


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """What is started now does not get a terminal's signals, from its first instant."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _make_room_for_sockets() -> None:
    """See to it that the server's socket has a short path, however long TMPDIR is."""
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
    """End what a fork server that is gone has left behind, which nobody else can: its processes are nobody's."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        for number in (signal.SIGTERM, signal.SIGKILL):
            os.killpg(group, number)
            until = time.monotonic() + GRACE
            while time.monotonic() < until:
                time.sleep(0.02)
                os.killpg(group, 0)


class _Process(ForkServerProcess):
    """A process that does not run the program's main module again: what it needs comes with the work."""

    def start(self) -> None:
        start_fork_server()
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            super().start()
        finally:
            sys.modules["__main__"] = main

    def run(self) -> None:
        """Work; when another process was ended while it took its work, what is left of that is nothing to work on."""
        with contextlib.suppress(EOFError, pickle.UnpicklingError):
            super().run()


class _Context(ForkServerContext):
    Process = _Process


def _begin(environment: dict[str, str]) -> None:
    """In a new worker: interrupts are the run's business, it ends with the run, and its settings are those of now."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)
    threading.Thread(target=_end_with_run, daemon=True).start()
    os.environ.clear()
    os.environ.update(environment)


def _end(*_: object) -> None:
    """On the way out what is half written is removed, undisturbed by a second signal, as the pool sends it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(1)


def _end_with_run() -> None:
    """The same that the fork server does, in case it is gone as well."""
    run = multiprocessing.parent_process()
    assert run is not None  # noqa: S101 (this is in a worker)
    run.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)


def _work(function: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
    """Do something; told to end meanwhile, a process ends, where the pool's would hand on the exception and live on."""
    try:
        return function(*arguments, **named)
    except SystemExit:
        os._exit(1)
