"""Columns of results: what a task promises about them, and how another task receives them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_CELLS = 64
"""Most numbers that one value of a column may hold; longer arrays belong in spectra."""


@dataclass(frozen=True)
class Column:
    """The promises of a task about a column of results.

    Attributes
    ----------
    description
        What the column holds, for people.
    unit
        Unit as astropy spells it; quantities are converted to it.
    finite
        Whether NaN and infinity are errors; otherwise they are stored as missing values.
    """

    description: str = ""
    unit: str = ""
    finite: bool = False


class Results(dict[str, np.ndarray[Any, Any]]):
    """Columns of another task by name, with one value for each spectrum; missing numbers are NaN."""
