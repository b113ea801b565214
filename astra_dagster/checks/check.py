"""What a check of results says, and how checks are listed; the checks are in `output_checks` and `table_checks`.

Which checks a task gets follows from what it is: what it requires, the columns that it promises, what it writes. So a
task of a user's own has those that apply to it without a word.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from astra_dagster.tasks.task import Task

LISTED = 100
"""Findings of a check that are listed one by one."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as expected.

    Attributes
    ----------
    key
        Partition key concerned, or what else is: a night.
    value, expected
        What was found and what was expected, in words.
    unusable
        Whether what was found cannot be used at all.
    """

    key: str
    value: str
    expected: str
    unusable: bool = False


@dataclass(frozen=True)
class Verdict:
    """What a check has found.

    Attributes
    ----------
    looked_at, what
        How many were looked at, and what: "results", "spectra", "nights".
    findings
        What is not as expected; none if all is well.
    note
        What was not looked at, and why.
    """

    looked_at: int
    what: str
    findings: tuple[Finding, ...] = ()
    note: str = ""


Subject = TypeVar("Subject")


@dataclass(frozen=True)
class Check(Generic[Subject]):
    """A check.

    Attributes
    ----------
    look
        The function that looks at something, for example at the newest outputs of a task.
    description
        What it checks, for people.
    applies
        Whether a task has the check.
    """

    look: Callable[[Subject], Verdict]
    description: str
    applies: Callable[[Task], bool] = lambda task: True

    @property
    def name(self) -> str:
        """Name of the check: that of its function."""
        return self.look.__name__
