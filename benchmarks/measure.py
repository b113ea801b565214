"""Commands measured in processes of their own, and tables of what was measured.

The clock runs from before a command is started until it has ended. Time of the processors and memory are those of all
processes that it starts: on Linux their orphans come to this process, so that none is forgotten.
"""

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLE = 0.5
"""Seconds between two looks at the memory of all processes together."""

PATIENCE = 20.0
"""Seconds that the processes which a command leaves behind get to end."""

PROC = Path("/proc")


@dataclass(frozen=True)
class Measured:
    """What a command took.

    Attributes
    ----------
    seconds
        By the clock.
    cpu
        Seconds of a processor, of all its processes.
    largest
        Most memory of any one of them, MB; no less than this process has, which they are begun as.
    together
        Most memory of all of them at a time, MB, pages that they share counted once; looked at twice a second, and 0
        where there is no ``/proc``.
    """

    seconds: float
    cpu: float
    largest: float
    together: float


def measured(command: Sequence[str], environment: Mapping[str, str]) -> Measured:
    """Run a command to its end.

    Raises
    ------
    SystemExit
        If it fails, with the last of what it said.
    """
    _adopt_orphans()
    with tempfile.TemporaryFile() as said:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, env=dict(environment), stdout=said, stderr=said, stdin=subprocess.DEVNULL, start_new_session=True
        )
        sampler = _Sampler(process.pid)
        sampler.start()
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        sampler.ended.set()
        process.returncode = os.waitstatus_to_exitcode(status)
        uses = [used, *_orphans(process.pid)]
        sampler.join()
        if process.returncode:
            said.seek(0)
            last = said.read().decode(errors="replace").splitlines()[-30:]
            raise SystemExit("\n".join([f"failed with {process.returncode}: {' '.join(command)}", *last]))
    return Measured(
        seconds,
        sum(use.ru_utime + use.ru_stime for use in uses),
        max(use.ru_maxrss for use in uses) / (1024**2 if sys.platform == "darwin" else 1024),
        sampler.most / 1024,
    )


def least(measurements: Sequence[Measured]) -> Measured:
    """Of repeated measurements the least of each figure, and of memory the most: others use the machine as well."""
    return Measured(
        min(one.seconds for one in measurements),
        min(one.cpu for one in measurements),
        max(one.largest for one in measurements),
        max(one.together for one in measurements),
    )


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text in columns, the first row their names; all but the first column go to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *values in rows:
        cells = (value.rjust(width) for value, width in zip(values, widths[1:], strict=True))
        lines.append("  ".join([name.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)


def load() -> str:
    """How busy the machine is, in words: figures taken on one that others use go up and down."""
    return f"load average {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores"


class _Sampler(threading.Thread):
    """Looks at the memory of all processes of a session now and then."""

    def __init__(self, session: int) -> None:
        super().__init__(daemon=True)
        self.session = session
        self.most = 0
        self.ended = threading.Event()

    def run(self) -> None:
        while PROC.is_dir() and not self.ended.wait(SAMPLE):
            self.most = max(self.most, sum(map(_memory, _members(self.session))))


def _members(session: int) -> list[Path]:
    """Processes of a session, whatever groups they have made; those that have ended too, until they are waited for."""
    found = []
    for folder in PROC.glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                found.append(folder)
        except OSError:  # it has ended
            continue
    return found


def _memory(process: Path) -> int:
    """Kilobytes of a process, of shared pages its share."""
    try:
        lines = (process / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def _adopt_orphans() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def _orphans(session: int) -> list[resource.struct_rusage]:
    """Wait for the processes that a command left behind, and say what they used."""
    uses = []
    end = time.monotonic() + PATIENCE
    while left := [int(folder.name) for folder in _members(session)]:
        for process in left:
            with contextlib.suppress(ChildProcessError):  # it is somebody else's to wait for
                number, _, used = os.wait4(process, os.WNOHANG)
                if number:
                    uses.append(used)
        if time.monotonic() > end:
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        time.sleep(0.01)
    return uses
