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
