"""Columns of results: what a task promises about them, and how another task receives them."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntFlag
from types import MappingProxyType
from typing import Any

import numpy as np

MAX_CELLS = 1_000_000
"""Most numbers that one value of a column may hold; longer arrays belong in spectra."""

FAILURE = "failure"
"""Column that holds why a spectrum failed, if a task over files of several spectra promises it."""


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


@dataclass(frozen=True)
class Failed:
    """A mark in place of a value: the spectrum has failed. Make one with `failed`."""

    reason: str


def failed(reason: str) -> Failed:
    """Mark a spectrum as failed, in place of its value in any column; the other spectra of the batch stand.

    ``{"teff": [5010.0, failed("no convergence"), 4870.0]}``. A function of one spectrum returns it in place of the
    columns.

    Parameters
    ----------
    reason
        Why, in a few words. The partition fails with this reason. Of a file of several spectra the others stand if the
        task promises a column ``failure``, which then holds the reason; otherwise the whole file fails.
    """
    return Failed(reason)


class Results(dict[str, np.ndarray[Any, Any]]):
    """Columns of another task by name, with one value for each spectrum; missing numbers are NaN.

    Attributes
    ----------
    provenance
        How the task made them, if `Task.read` gave them: task, parameters, code version and inputs.
    """

    provenance: Mapping[str, Any] = MappingProxyType({})
