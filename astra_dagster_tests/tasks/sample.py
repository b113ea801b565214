"""Parameters of every type, and two spectra."""

import numpy as np

from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.tasks.parameters import Parameters


class Sample(Parameters):
    order: int = 3
    width: float = 1.0
    name: str = "a"
    flag: bool = False
    limit: float | None = None
    regions: tuple[float, ...] = (1.0, 2.0)


def two_spectra() -> SpectrumBatch:
    return SpectrumBatch(np.ones((2, 3)), np.ones((2, 3)), np.arange(1.0, 4.0))
