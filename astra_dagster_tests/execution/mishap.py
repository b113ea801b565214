"""A task during which something happens to the machine."""

import subprocess

import numpy as np

from astra_dagster import Parameters, product, spectrum_task


class MishapParameters(Parameters):
    """What happens.

    Attributes
    ----------
    script
        For the shell, run each time that the task is.
    """

    script: str = "true"


@spectrum_task(requires=product("apVisit"), version="1", parameters=MishapParameters)
def mishap(spectra, parameters):  # type: ignore[no-untyped-def]
    """Mean flux, whatever happens."""
    subprocess.run(["/bin/sh", "-c", parameters.script], check=False)
    return {"mean": np.nanmean(spectra.flux, axis=1)}
