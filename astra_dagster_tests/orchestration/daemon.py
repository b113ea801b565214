"""Dagster's daemon as a service starts it, and waiting for what it does."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon.sensor import execute_sensor_iteration

from astra_dagster_tests.documented import end

SENSOR = "ap_visit_arrivals"


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


@contextmanager
def workspace(instance: dg.DagsterInstance) -> Iterator[Callable[[], None]]:
    """A daemon's view of the definitions; gives a function that has it look after sensors once."""
    target = ModuleTarget("astra_dagster.definitions", attribute=None, working_directory=None, location_name="astra")
    with create_test_daemon_workspace_context(target, instance) as context:

        def iterate(flags: dict[str, signal.Signals] | None = None) -> None:
            crash = {SENSOR: flags} if flags else None
            list(execute_sensor_iteration(context, logging.getLogger("daemon"), None, None, debug_crash_flags=crash))

        yield iterate


def wait_for(what: Callable[[], bool], seconds: float = 240.0) -> None:
    """Wait until something has come about."""
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, log_of(os.environ).read_text()[-5000:]
        time.sleep(0.2)


def log_of(environment: Mapping[str, str]) -> Path:
    """What the daemon says."""
    return Path(environment["DAGSTER_HOME"], "daemon.log")
