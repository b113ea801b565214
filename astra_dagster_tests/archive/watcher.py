"""A watch over a mirror, and files that come into one of its folders."""

import os
import time
from pathlib import Path

from astra_dagster import product
from astra_dagster.archive.watch_state import State, Watch
from astra_dagster.archive.watching import COARSE, Look, look_at

VISITS = product("apVisit")

RELEASES = ("DR17", "DR19")

FOLDER = "dr17/apogee/spectro/redux/dr17/visit/apo25m/120+12/5226/56000"

NAME = "apVisit-dr17-5226-56000-{:03}.fits"

SETTLE = 60.0


class Watcher:
    """A watch over a mirror, and a clock that runs ahead of the machine's as told."""

    def __init__(self, root: Path, path: Path) -> None:
        self.root, self.path, self.ahead = root, path, 0.0

    def clock(self) -> float:
        return time.time() + self.ahead

    def open(self) -> Watch:
        return Watch(self.path, self.root, self.clock)

    def look(self, wait: float = 0.0, settle: float = SETTLE, deadline: float = float("inf")) -> Look:
        self.ahead += wait
        with self.open() as watch:
            return look_at(watch, VISITS, RELEASES, self.root, settle=settle, deadline=deadline)

    def take(self) -> set[str]:
        """Names of what is ready, with which something is done now."""
        with self.open() as watch:
            ready = watch.sightings(State.READY)
            with watch.transaction():
                watch.mark(ready, None)
            return {Path(sighting.path).name for sighting in ready}

    def gone(self) -> set[str]:
        with self.open() as watch:
            gone = watch.gone_files()
            with watch.transaction():
                watch.forget(gone)
            return {Path(path).name for _, path in gone}

    def quiet(self) -> None:
        """Look until there is nothing to list any more."""
        for _ in range(3):
            self.look(COARSE + 1)
        self.take()


def put(path: Path, text: str = "x", age: float = 3600.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    then = time.time() - age
    os.utime(path, (then, then))
    return path
