"""A program whose workers do what is hard to interrupt: ``python -m ...busy WORKERS FOLDER WHAT...``."""

import collections
import itertools
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from astra_dagster.execution.workers import Workers, spread


def work(chunk: list[tuple[Path, str]]) -> int:
    """Say that it has begun, and do it. Returns the process."""
    ((folder, what),) = chunk
    (folder / f"{what}-{time.monotonic_ns()}").touch()
    if what == "waiting":
        time.sleep(600)
    if what == "slow":
        time.sleep(0.5)
    if what == "held":  # until the test says so
        until = time.monotonic() + 60
        while not (folder / "go").exists() and time.monotonic() < until:
            time.sleep(0.02)
    if what == "deep":  # in C, without a look at signals, and no thread gets a turn
        collections.deque(itertools.repeat(0), maxlen=0)
    if what == "tidy":
        try:
            time.sleep(600)
        finally:
            time.sleep(1.5)
            (folder / "tidied").touch()
    while what == "stubborn":
        try:
            time.sleep(600)
        except BaseException:  # noqa: S112
            continue
    time.sleep(0.05)
    return os.getpid()


def results(workers: str, folder: Path, items: list[str]) -> Iterator[int]:
    """Processes that did each."""
    rest = iter([[(folder, what)] for what in items])
    for _, made in spread(Workers.parse(workers), work, lambda _: next(rest, [])):
        assert isinstance(made, int), made
        yield made


if __name__ == "__main__":
    from astra_dagster_tests.execution import busy  # not this module, which other processes do not have

    signal.signal(signal.SIGHUP, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)
    processes = set(busy.results(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]))
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # Python takes back its own handlers, and not this, before it ends
    print(len(processes))
