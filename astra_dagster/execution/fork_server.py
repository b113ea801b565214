"""End the workers of a run when the run ends. The fork server imports this module before it starts any worker.

The server and its workers become a process group of their own. So the signals of a terminal, from Ctrl-C or from
closing it, reach only the run, which ends its workers in order. When the run's process dies, the server ends the whole
group, even a worker in the middle of code that no thread or signal handler of Python can interrupt.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import time

GRACE = 5.0
"""Seconds that workers get to remove files that are half written."""

LOOK = 1.0
"""Seconds between two looks at whether the run's process is alive."""

_SERVER, _RUN = os.getpid(), os.getppid()


def _end_with_run(*_: object) -> None:
    if os.getppid() == _RUN:
        return
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)
    until = time.monotonic() + GRACE
    with contextlib.suppress(ChildProcessError):  # raised when all workers have ended
        while time.monotonic() < until:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.05)
    os.killpg(0, signal.SIGKILL)


def _start_looking() -> None:
    if os.getpid() == _SERVER:  # a worker may fork too
        signal.signal(signal.SIGALRM, _end_with_run)
        signal.setitimer(signal.ITIMER_REAL, LOOK, LOOK)  # the child does not inherit it


def _stop_looking() -> None:
    if os.getppid() == _SERVER:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


if "multiprocessing.forkserver" in sys.orig_argv[-1] and multiprocessing.current_process().name == "MainProcess":
    os.setpgid(0, 0)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGHUP})
    os.register_at_fork(before=_start_looking, after_in_child=_stop_looking)  # a server without workers ends by itself
