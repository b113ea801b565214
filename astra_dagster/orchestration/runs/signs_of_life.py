"""Signs of life of runs, by which other processes can tell whether the process of a run is still alive.

Dagster does not watch a run that was started outside its launcher, nor one whose code server died with it. Such a run
stays *started* for ever, and takes a place in the queue. So a process that begins a run locks a file in DAGSTER_HOME;
the system releases the lock when the process ends in whatever way, which processes on the same host see at once. For
other hosts the process also writes the time into Dagster's database every minute.

The storages give the sign when a run starts. The launcher that `astra-dagster init` names, `astra-dagster run` and the
ticks of the sensors check it.
"""

import contextlib
import fcntl
import json
import logging
import os
import signal
import socket
import threading
import time
import weakref
from enum import Enum
from pathlib import Path

import dagster as dg

logger = logging.getLogger(__name__)

BEAT = 60.0
"""Seconds after which the time is written again."""

SILENCE = 900.0
"""Seconds without a sign after which a process on another host counts as dead; clocks differ, and a database may
be away for a while."""

_KEPT = 86_400.0  # seconds after which a lock file that is not locked is removed

_shown: dict[str, threading.Thread] = {}


class Life(Enum):
    """What is known of the process of a run."""

    ALIVE = "alive"
    """The process is alive."""
    DEAD = "dead"
    """The process has ended without reporting that its run has ended."""
    UNKNOWN = "unknown"
    """There is no sign of life, as the run began under a storage or a version that gives none."""


def show_life(instance: dg.DagsterInstance, run_id: str) -> None:
    """Show from now on that this process, in which a run is, is alive; a second call does nothing.

    From now on, closing the terminal (SIGHUP) interrupts the run, unless that signal is ignored or handled already.
    """
    if run_id in _shown:
        return
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        # Dagster handles SIGTERM while it works, in ways that are right for SIGHUP too.
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    lock = _folder(instance) / f"{run_id}.lock"
    descriptor = _lock(lock)
    sign = {"host": socket.gethostname(), "pid": os.getpid(), "lock": str(lock) if descriptor is not None else None}
    _write(instance, run_id, sign)
    arguments = (weakref.ref(instance), run_id, sign, descriptor)
    _shown[run_id] = threading.Thread(target=_beat, args=arguments, name=f"astra-alive-{run_id[:8]}", daemon=True)
    _shown[run_id].start()


def check_life(instance: dg.DagsterInstance, run_id: str) -> tuple[Life, str]:
    """Return whether the process of a run that has not ended is alive, and where it is or was."""
    text = instance.run_storage.get_cursor_values({_key(run_id)}).get(_key(run_id))
    if text is None:
        return Life.UNKNOWN, ""
    sign = json.loads(text)
    where = f"process {sign['pid']} on {sign['host']}"
    lock = sign["lock"]
    if lock is not None and sign["host"] == socket.gethostname() and (free := _is_free(Path(lock))) is not None:
        return (Life.DEAD if free else Life.ALIVE), where
    return (Life.DEAD if time.time() - sign["time"] > SILENCE else Life.ALIVE), where


def declare_dead(instance: dg.DagsterInstance) -> list[str]:
    """Report runs whose process has died as failed or, if they were being canceled, as canceled; returns their ids."""
    running = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
    ended = []
    for run in instance.get_runs(dg.RunsFilter(statuses=running)):
        life, where = check_life(instance, run.run_id)
        now = instance.get_run_by_id(run.run_id) if life is Life.DEAD else None
        if now is None or now.status not in running:  # it has ended just now
            continue
        message = f"{describe_death(where)}; what it finished is recorded, and the next run does the rest"
        if now.status == dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(now, message)
        else:
            instance.report_run_failed(now, message)
        if instance.event_log_storage.supports_global_concurrency_limits:
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        ended.append(run.run_id)
    _tidy(_folder(instance), ended)
    return ended


def describe_death(where: str) -> str:
    """Say that the process of a run has died."""
    return f"{where}, which this run was in, is gone: it was killed, or its machine went down"


def _key(run_id: str) -> str:
    return f"astra/alive/{run_id}"


def _folder(instance: dg.DagsterInstance) -> Path:
    return Path(instance.root_directory) / "astra_runs"


def _lock(path: Path) -> int | None:
    """Open and lock a file, and return its descriptor; None if it cannot be opened or locked."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        logger.warning("no sign of life at %s: %s", path, error.strerror)
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:  # a file system without locks
        os.close(descriptor)
        logger.warning("%s cannot be locked: %s", path, error.strerror)
        return None
    return descriptor


def _is_free(path: Path) -> bool | None:
    """Whether no process has locked a file; None if the file cannot be opened."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared, so that others can look at the same time
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _write(instance: dg.DagsterInstance, run_id: str, sign: dict[str, object]) -> None:
    instance.run_storage.set_cursor_values({_key(run_id): json.dumps({**sign, "time": time.time()})})


def _beat(
    instance: "weakref.ref[dg.DagsterInstance]", run_id: str, sign: dict[str, object], descriptor: int | None
) -> None:
    """Write the time every minute until the run has ended, which may be before the process ends."""
    try:
        while True:
            time.sleep(BEAT)
            there = instance()
            if there is None:
                return
            with contextlib.suppress(Exception):  # the database may be away now, and back the next time
                run = there.get_run_by_id(run_id)
                if run is None or run.is_finished:
                    return
                _write(there, run_id, sign)
            del there
    finally:
        _shown.pop(run_id, None)
        if descriptor is not None:
            with contextlib.suppress(OSError):
                Path(str(sign["lock"])).unlink()
            os.close(descriptor)


def _tidy(folder: Path, ended: list[str]) -> None:
    """Remove lock files of runs that were declared dead, and of those that ended long ago."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            with contextlib.suppress(OSError):
                old = time.time() - path.stat().st_mtime > _KEPT and _is_free(path)
                if path.suffix == ".lock" and (path.stem in ended or old):
                    path.unlink()
