"""Expected values of a normal distribution that is cut off at 0. NumPy only: arrays in, arrays out."""

import numpy as np

from astra_dagster.arrays import FloatArray

_EXPECTED = (
    0.2750106816812303,
    0.27368429726877097,
    0.2595890796802098,
    -0.03899440131868386,
    0.6601946930860166,
    -0.9964410541890374,
    0.36481095010923975,
)
"""Coefficients of the powers of 1 / (1 + 0.275 x), from the first: their sum is `expect_depth` to 4e-5 for x >= 0."""


def expect_depth(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the mean of a normal distribution of mean -x and width 1 above 0, and its density at 0."""
    far = np.abs(x)
    inverse = 1 / (1 + 0.275 * far)
    mean = inverse * _EXPECTED[-1]
    for coefficient in _EXPECTED[-2::-1]:
        mean += coefficient
        mean *= inverse
    hazard = mean + far  # both are those of -|x|, from which those of |x| follow
    density = np.exp(np.square(x) * -0.5)
    density *= 0.3989422804014327
    density /= 1 - density / hazard
    below = x < 0
    np.copyto(hazard, density, where=below)
    np.copyto(mean, density + far, where=below)
    return mean, hazard
