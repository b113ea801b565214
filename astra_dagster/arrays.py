"""Types of arrays: what is in them, whatever their shape. Docstrings say the shapes."""

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IndexArray = npt.NDArray[np.intp]
BitmaskArray = npt.NDArray[np.integer[Any]]
"""Integers of any width, each bit of which says one thing of a pixel."""

AnyArray = npt.NDArray[Any]
"""Of a type that is known only when a file has been read."""
