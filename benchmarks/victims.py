"""Processes of a trial: how they are found, told apart, waited for, and killed; for ``kills.py``."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from measure import PROC

MARK = "ASTRA_KILLS"
"""Environment variable by which the processes of a trial are known, whoever started them."""


@dataclass(frozen=True)
class Process:
    """A process of a trial: its number, that of its parent, and its command line."""

    pid: int
    parent: int
    command: str


def processes(mark: str) -> list[Process]:
    """Processes of a trial that are there now."""
    wanted = f"\0{MARK}={mark}\0".encode()
    found = []
    for folder in PROC.glob("[0-9]*"):
        try:
            if wanted in b"\0" + (folder / "environ").read_bytes():
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    found.append(Process(int(folder.name), int(parent), command))
        except (OSError, ValueError):  # it has ended
            continue
    return found


def victims_of(name: str, there: Sequence[Process], leader: int, run: int | None) -> list[int]:
    """Processes that a victim's name stands for: none if they are not there."""
    by_pid = {process.pid: process for process in there}
    servers = {p.pid for p in there if "multiprocessing.forkserver" in p.command}
    forked = {pid for pid in servers if by_pid[pid].parent in servers}
    kinds: dict[str, Callable[[Process], bool]] = {
        "run": lambda p: p.pid == run,
        "worker": lambda p: p.pid in forked,
        "fork server": lambda p: p.pid in servers - forked,
        "daemon": lambda p: p.pid == leader,
        "code server": lambda p: "api grpc" in p.command or "code-server" in p.command,
        "all of it": lambda p: True,
    }
    parts = name.partition(",")[0].split(" and ")
    found = [p.pid for p in there if any(kinds[part](p) for part in parts)]
    return found[:1] if parts == ["worker"] else found


def wait(what: Callable[[], bool], seconds: float) -> bool:
    """Wait for something to be so; whether it was in time."""
    until = time.monotonic() + seconds
    while not what():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def send(pid: int, number: int) -> bool:
    """Send a signal; whether there was somebody to get it."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
