"""The ledger that planning reads: registered keys, records of partitions, and records of files."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from astra_dagster.datamodel.products import Product, Where
from astra_dagster.errors import InvalidKeyError
from astra_dagster.outputs.record import Record
from astra_dagster.tasks.groups import Domain
from astra_dagster.tasks.task import Task


@dataclass(frozen=True)
class Selection:
    """A selection of registered keys; all by default.

    Attributes
    ----------
    releases
        Wanted releases; all if empty.
    where
        Wanted values of parts of the keys, by the name of the part.
    """

    releases: Sequence[str] = ()
    where: Where = field(default_factory=dict)


EVERYTHING = Selection()


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """The record of a file, from when it was last seen.

    Attributes
    ----------
    version
        Data version of the file.
    file
        State of the file: its size and modification time.
    """

    version: str
    file: str


class Ledger(Protocol):
    """The records, as planning reads them; no method changes them."""

    def registered(self, domain: Domain, selection: Selection) -> Iterator[Sequence[str]]:
        """Yield the selected registered partition keys in batches, always in the same order; each key once.

        Invalid keys are among them only if everything is selected.

        Raises
        ------
        InvalidKeyError, UnknownReleaseError
            If no key could ever match the selection.
        """

    def recorded(self, task: Task, keys: Sequence[str]) -> Mapping[str, Record]:
        """Return the latest record of each of these partitions of a task, by key; those without one are missing."""

    def seen(self, product: Product, keys: Sequence[str]) -> Mapping[str, SourceRecord]:
        """Return the latest record of each of these files, by key; files that were never recorded are missing."""


def make_none_registered(domain: Domain, *, selected: bool) -> InvalidKeyError:
    """Make the error of a selection, or of everything, that holds no registered partition."""
    return InvalidKeyError(
        f"no {domain.name} partition is registered" + (" for this selection" if selected else ""),
        hint=f"run astra-dagster discover --product {domain.product.name}",
    )


def select_keys(ledger: Ledger, domain: Domain, selection: Selection = EVERYTHING) -> list[str]:
    """Return all selected registered keys; raises as `Ledger.registered` does."""
    return [key for window in ledger.registered(domain, selection) for key in window]
