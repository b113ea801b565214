"""A task that does what no task should, for certain fibres: it takes down its process, or takes its time."""

import os
import signal
import time
from pathlib import Path

import numpy as np

from astra_dagster import Parameters, product, spectrum_task


class DeadlyParameters(Parameters):
    """Which fibres are deadly.

    Attributes
    ----------
    fibres
        Those that kill the process that works on them, each time.
    once
        File that makes the next chunk kill its process; it is removed by that.
    seconds
        That each spectrum takes.
    """

    fibres: tuple[int, ...] = ()
    once: str = ""
    seconds: float = 0.0


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Times:
    """How often something was done, counted in a folder, and by whichever process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def once_more(self) -> int:
        """One more than before."""
        number = len(list(self.folder.iterdir())) + 1
        (self.folder / str(number)).touch()
        return number


class Fetched:
    """What cannot be sent from the process that made it: that dies of it, the first time."""

    def __init__(self, times: Times, chunk: list[int]) -> None:
        self.times, self.chunk = times, chunk

    def __reduce__(self) -> tuple[type, tuple[list[int]]]:
        if self.times.once_more() == 2:
            _die()
        return list, (self.chunk,)


def lost_when_done(times: Times, chunk: list[int]) -> Fetched:
    """Make something that is lost before it is fetched, and the second time take down the process at once."""
    if times.once_more() == 3:
        _die()
    return Fetched(times, chunk)


def first_or_last(times: Times, chunk: list[int]) -> list[int]:
    """Item 1 takes down its process the first time, item 3 each time, after a while."""
    if 1 in chunk and times.once_more() == 1:
        _die()
    if 3 in chunk:
        time.sleep(1)
        _die()
    return chunk


@spectrum_task(requires=product("apVisit"), version="1", parameters=DeadlyParameters)
def deadly(spectra, parameters):  # type: ignore[no-untyped-def]
    """Mean flux, if it survives."""
    if parameters.once:
        try:
            Path(parameters.once).unlink()
        except FileNotFoundError:
            pass
        else:
            _die()
    if set(parameters.fibres) & set(spectra.meta["fibre"]):
        _die()
    time.sleep(parameters.seconds * len(spectra))
    return {"mean": np.nanmean(spectra.flux, axis=1)}
