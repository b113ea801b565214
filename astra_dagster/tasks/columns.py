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
    ucd
        What the column holds in the words of the Virtual Observatory, ``pos.eq.ra;meta.main``; tables tell it to TOPCAT
        and the like.
    identity
        Whether it says what the object is, and not what the task found: checks take no offence if it is missing, or
        differs from night to night.
    """

    description: str = ""
    unit: str = ""
    finite: bool = False
    ucd: str = ""
    identity: bool = False


class Results(dict[str, np.ndarray[Any, Any]]):
    """Columns of another task by name, with one value for each spectrum; missing numbers are NaN."""
