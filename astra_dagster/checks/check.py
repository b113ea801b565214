"""The types of a check and of what it finds. The checks themselves are in `output_checks` and `table_checks`.

Which checks apply to a task follows from its requirements, the columns that it promises, and its output. So a task of
a user gets its checks without asking for them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from astra_dagster.tasks.task import Task

LISTED = 100
"""Largest number of findings of a check that are listed one by one."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A result that is not as expected.

    Attributes
    ----------
    key
        Partition key of the result, or whatever else the finding is about, as a night.
    value, expected
        What was found and what was expected, in words.
    unusable
        Whether the result cannot be used at all.
    """

    key: str
    value: str
    expected: str
    unusable: bool = False


@dataclass(frozen=True)
class Verdict:
    """The result of a check.

    Attributes
    ----------
    looked_at, what
        Number of things that were checked, and what they are: "results", "spectra", "nights".
    findings
        Everything that is not as expected.
    note
        What was not checked, and why.
    """

    looked_at: int
    what: str
    findings: tuple[Finding, ...] = ()
    note: str = ""


Subject = TypeVar("Subject")


@dataclass(frozen=True)
class Check(Generic[Subject]):
    """A check of results, as a function and its description.

    Attributes
    ----------
    look
        Function that makes the check, for example on the newest outputs of a task.
    description
        What is checked, for people.
    applies
        Returns whether the check applies to a task.
    """

    look: Callable[[Subject], Verdict]
    description: str
    applies: Callable[[Task], bool] = lambda task: True

    @property
    def name(self) -> str:
        """Name of the check: that of its function."""
        return self.look.__name__
