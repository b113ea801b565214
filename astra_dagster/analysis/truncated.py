"""Expected values of a normal distribution that is cut off at 0. NumPy only: arrays in, arrays out."""

import functools
import math

import numpy as np

from astra_dagster.arrays import FloatArray

LEAST, MOST, STEP = -8.0, 24.0, 1 / 64
"""The table reaches from the first to the second in such steps; a straight line between two is right to 1e-5."""


def expect_depth(x: FloatArray) -> FloatArray:
    """Return the mean of the part above 0 of a normal distribution of mean -x and width 1.

    The density of this part at 0 is the sum of the mean and x.
    """
    values, slopes = _tabulate()
    place = (x - LEAST) * (1 / STEP)
    beyond = bool(place.max(initial=0.0) > len(slopes))
    number = np.minimum(np.maximum(place, 0), len(slopes) - 1).astype(np.intp)
    place -= number
    place *= slopes.take(number)
    place += values.take(number)
    if beyond:
        np.copyto(place, 1 / (x + 2 / (x + 3 / np.maximum(x, MOST))), where=x > MOST)
    return place


@functools.cache
def _tabulate() -> tuple[FloatArray, FloatArray]:
    """Return the means at all steps but the last, and the differences to the next; below the first the mean is -x."""
    steps = LEAST + STEP * np.arange(round((MOST - LEAST) / STEP) + 1)
    means = np.array(
        [math.sqrt(2 / math.pi) * math.exp(-0.5 * x * x) / math.erfc(x / math.sqrt(2)) - x for x in steps.tolist()]
    )
    return means[:-1], np.diff(means)
