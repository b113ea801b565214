"""What planning asks of the records, whoever keeps them: what is registered, what was recorded, what was seen."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from astra_dagster.datamodel.products import Product, Where
from astra_dagster.outputs.record import Record
from astra_dagster.tasks.groups import Domain
from astra_dagster.tasks.task import Task


@dataclass(frozen=True)
class Selection:
    """Which registered keys are wanted; all by default.

    Attributes
    ----------
    releases
        Those of these releases.
    where
        Those whose parts have one of these values, by the part's name.
    """

    releases: Sequence[str] = ()
    where: Where = field(default_factory=dict)


EVERYTHING = Selection()


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """What was recorded of a file when it was last seen.

    Attributes
    ----------
    version
        Its data version.
    file
        State of the file: its size and modification time.
    """

    version: str
    file: str


class Ledger(Protocol):
    """What planning asks of the records. Nothing of it changes what is recorded."""

    def registered(self, domain: Domain, selection: Selection) -> Iterator[Sequence[str]]:
        """Registered partition keys that are selected, in windows, always in the same order; each key once.

        Keys that identify nothing are among them only if everything is selected.

        Raises
        ------
        InvalidKeyError, UnknownReleaseError
            If no key could ever be selected so.
        """

    def recorded(self, task: Task, keys: Sequence[str]) -> Mapping[str, Record]:
        """Latest record of each of these partitions of a task, by key; partitions without one are missing."""

    def seen(self, product: Product, keys: Sequence[str]) -> Mapping[str, SourceRecord]:
        """Latest record of each of these files, by key; files that were never recorded are missing."""


def select_keys(ledger: Ledger, domain: Domain, selection: Selection = EVERYTHING) -> list[str]:
    """All registered keys that are selected; raises as `Ledger.registered` does."""
    return [key for window in ledger.registered(domain, selection) for key in window]
