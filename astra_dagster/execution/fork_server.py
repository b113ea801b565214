"""Imported by the fork server of a run's workers, before it makes any: the workers' lives depend on the run's.

The server and its workers become a process group of their own. A terminal's signals, of Ctrl-C or of closing it, so
reach the run alone, which ends its workers in order; and when the run is gone without a word, the server ends the whole
group, also a worker that is deep in code that no thread and no signal handler of Python's gets to interrupt.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import time

GRACE = 5.0
"""Seconds that workers get to remove what is half written."""

LOOK = 1.0
"""Seconds between two looks at whether the run's process is there."""

_SERVER, _RUN = os.getpid(), os.getppid()


def _end_with_run(*_: object) -> None:
    if os.getppid() == _RUN:
        return
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)
    until = time.monotonic() + GRACE
    with contextlib.suppress(ChildProcessError):  # all have ended
        while time.monotonic() < until:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.05)
    os.killpg(0, signal.SIGKILL)


def _look_now_and_then() -> None:
    if os.getpid() == _SERVER:  # else a worker forks
        signal.signal(signal.SIGALRM, _end_with_run)
        signal.setitimer(signal.ITIMER_REAL, LOOK, LOOK)  # the child does not inherit it


def _forget() -> None:
    if os.getppid() == _SERVER:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


if "multiprocessing.forkserver" in sys.orig_argv[-1] and multiprocessing.current_process().name == "MainProcess":
    os.setpgid(0, 0)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGHUP})
    os.register_at_fork(before=_look_now_and_then, after_in_child=_forget)  # without workers, it ends by itself
