"""Dagster's daemon as a service starts it, and waiting for what it does."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from astra_dagster_tests.documented import end


@contextmanager
def running_daemon(
    environment: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    """`dagster-daemon run`, as `dagster dev` starts it: its process, which leads a group.

    Parameters
    ----------
    environment
        If it is not that of the tests.
    cwd
        Working directory, if it is another.
    """
    given = os.environ if environment is None else environment
    command = [str(Path(sys.executable).with_name("dagster-daemon")), "run", "-m", "astra_dagster.definitions"]
    with (
        log_of(given).open("w") as log,
        subprocess.Popen(command, cwd=cwd, env=given, stdout=log, stderr=log, text=True, process_group=0) as process,
    ):
        try:
            yield process
        finally:
            end(process)  # with its code server, which takes its time


def wait_for(what: Callable[[], bool], seconds: float = 240.0) -> None:
    """Wait until something has come about."""
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, log_of(os.environ).read_text()[-5000:]
        time.sleep(0.2)


def log_of(environment: Mapping[str, str]) -> Path:
    """What the daemon says."""
    return Path(environment["DAGSTER_HOME"], "daemon.log")
