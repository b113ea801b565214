"""Median and scatter that single odd values do not move. NumPy only: arrays in, arrays out."""

import numpy as np

from astra_dagster.arrays import FloatArray

TO_SIGMA = 1.4826
"""The standard deviation of a normal distribution in units of its median absolute deviation."""


def find_middle(values: FloatArray) -> tuple[float, float]:
    """Return the median of values, and their robust scatter: 1.4826 times the median absolute deviation.

    Values that are not finite are left out; without any other, both are NaN.
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        return float("nan"), float("nan")
    middle = float(np.median(finite))
    return middle, TO_SIGMA * float(np.median(np.abs(finite - middle)))
