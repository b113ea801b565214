"""Columns of results: what a task promises about them, and how another task receives them."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntFlag
from types import MappingProxyType
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
    flags
        An `IntFlag` for a column of flags: sums of its members, whose names appear in tables, checks and pages.
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
    flags: type[IntFlag] | None = None
    ucd: str = ""
    identity: bool = False

    @property
    def text(self) -> str:
        """The description, and what the bits of flags mean."""
        if self.flags is None:
            return self.description
        bits = ", ".join(f"{item.value} {name_flags(item.value, self.flags)}" for item in self.flags)
        return f"{self.description} Bits: {bits}."


MEMBERSHIP: Mapping[str, Column] = MappingProxyType(
    {
        "members": Column("How many partitions it was made from.", ucd="meta.number", identity=True),
        "expected": Column("How many partitions were expected.", ucd="meta.number", identity=True),
    }
)
"""Columns that every result has that is made from many partitions."""


def name_flags(value: int, flags: type[IntFlag]) -> str:
    """Name the members of which a value is the sum, in lower case: "low snr, hydrogen"; "" for 0."""
    known = [item for item in flags if value & item]
    rest = value & ~sum(known)
    names = [str(item.name).lower().replace("_", " ") for item in known]
    return ", ".join([*names, *([f"unknown bits {rest:#x}"] if rest else [])])


class Results(dict[str, np.ndarray[Any, Any]]):
    """Columns of another task by name, with one value for each spectrum; missing numbers are NaN."""
