"""All processes of a run, found also when the run itself is gone: they are marked by their environment."""

import os
import secrets
import time
from pathlib import Path

import psutil

MARK = "ASTRA_TEST_RUN"


def mark() -> dict[str, str]:
    """What to add to the environment of a run so that its processes are found."""
    return {MARK: secrets.token_hex(8)}


def processes_of(environment: dict[str, str]) -> list[psutil.Process]:
    """Processes that live now of the run that was started with this environment, workers and fork server included."""
    found = []
    for process in psutil.process_iter():
        try:
            mine = process.environ().get(MARK) == environment[MARK] and process.pid != os.getpid()
            if mine and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def wait_until_gone(environment: dict[str, str], seconds: float) -> list[psutil.Process]:
    """Wait until there are none any more. Returns those that are left after so many seconds, and ends them."""
    until = time.monotonic() + seconds
    while (left := processes_of(environment)) and time.monotonic() < until:
        time.sleep(0.05)
    for process in left:
        process.kill()
    return left


def wait_for_files(folder: Path, number: int, seconds: float = 60.0) -> None:
    """Wait until there are so many files in a folder."""
    until = time.monotonic() + seconds
    while len(list(folder.iterdir())) < number:
        assert time.monotonic() < until, list(folder.iterdir())
        time.sleep(0.02)
