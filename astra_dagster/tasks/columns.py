"""Columns of results: what a task promises of them, and how another task gets them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_CELLS = 64
"""Numbers that one value of a column may hold; more is a spectrum, and belongs in one."""


@dataclass(frozen=True)
class Column:
    """What is known of a column of results.

    Attributes
    ----------
    description
        For people.
    unit
        As astropy spells it; a quantity is converted to it.
    finite
        Whether NaN and infinity are errors; else they are stored as missing.
    """

    description: str = ""
    unit: str = ""
    finite: bool = False


class Results(dict[str, np.ndarray[Any, Any]]):
    """Columns that another task made, by name, one value a spectrum; missing numbers are NaN."""
