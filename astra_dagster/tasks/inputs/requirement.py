"""A requirement of a task: files of a product, or results of another task, of the same partition or of many."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from astra_dagster.datamodel.products import DataID, Product
from astra_dagster.spectra.readers import Reader, find_reader
from astra_dagster.tasks.calling import call_find
from astra_dagster.tasks.groups import Domain, Group, Members, Minimum, PartIndex, PartitionID, Parts
from astra_dagster.tasks.inputs.forms import Form

Find = Callable[[DataID, Path], Iterable[Parts]]
"""Function from a data ID and its file to the parts of the data IDs that belong to it."""

Count = Callable[[Path], int]
"""Function from a file to the number of partitions that should belong to it."""


@dataclass(frozen=True)
class Requirement:
    """A requirement of a task for each of its partitions: files of a product, or results of another task.

    Attributes
    ----------
    partitions
        Domain of the required partitions.
    task
        The required `Task`, whose module imports this one; None if files of the product are required.
    domain
        Domain of the task that has this requirement.
    find
        Finds the many partitions that belong to one file; None for groups and for partitions of the same key.
    form
        How the function receives the files of the product; None for what its reader makes, or paths if it has none.
    group
        How the many are grouped, if they are; the domain may be the same groups of another product.
    minimum
        How many of the many must be there before anything is made from them.
    count
        Counts the many that should belong to one file; if None, they are those that `find` names, or for a group those
        that are registered.
    shared
        Names of parameters that the required task has from the one that requires it; None for all that both have.
    """

    partitions: Domain
    task: Any
    domain: Domain
    find: Find | None = None
    form: Form | None = None
    group: Group | None = None
    minimum: Minimum = 1
    count: Count | None = None
    shared: tuple[str, ...] | None = ()

    @property
    def product(self) -> Product:
        """Product of the required files, or of the files that the required results are made from."""
        return self.partitions.product

    @property
    def asset_name(self) -> str:
        """Name of the asset whose partitions are required."""
        return self.partitions.asset_name if self.task is None else self.task.name

    @property
    def reader(self) -> Reader | None:
        """The reader that makes spectra of the files; None for results, and files that the function itself receives."""
        return find_reader(self.product.name) if self.task is None and self.form is None else None

    @property
    def one_to_one(self) -> bool:
        """Whether a partition requires the one with the same key; otherwise it requires many, as a list."""
        return self.find is None and self.partitions == self.domain

    def index(self, keys: Iterable[str]) -> PartIndex:
        """Make an index of keys of the required partitions, for `members`."""
        return PartIndex(self.partitions, keys)

    def members(self, one: PartitionID, path: Path | None, index: PartIndex) -> list[str]:
        """Return the keys that one partition of the domain requires; see `find_members`."""
        return list(self.find_members(one, path, index).keys)

    def find_members(self, one: PartitionID, path: Path | None, index: PartIndex) -> Members:
        """Find the keys that one partition of the domain requires, in the order of the index, and how many it expects.

        Parameters
        ----------
        one, path
            The partition, and the path of its file; None if it is a group or the file does not exist yet.
        index
            Known keys of the required partitions.
        """
        if self.one_to_one:
            return Members((one.key,), 1)
        if self.group is not None and self.group.value is not None:
            keys = index.in_group(self.group, one.key)
            return Members(tuple(keys), len(keys))
        wanted: Iterable[Parts] = [dict(zip(self.domain.parts, one.parts, strict=True))]
        if self.find is not None:  # then the domain is a product
            wanted = call_find(self.find, cast(DataID, one), path) if path else []
        found: dict[str, None] = {}
        unregistered: set[tuple[tuple[str, str], ...]] = set()
        for parts in wanted:
            keys = index.lookup(one.release, parts)
            found.update(dict.fromkeys(keys))
            if not keys and self.find is not None:
                unregistered.add(tuple(sorted(parts.items())))
        counted = self.count(path) if self.count is not None and path else len(found) + len(unregistered)
        return Members(tuple(found), counted)


def join_domains(requires: tuple[Requirement, ...]) -> tuple[Requirement, ...]:
    """Have groups of several products by the same parts share their partitions: those of the first, or of a task."""
    groups = sorted((item for item in requires if isinstance(item.domain, Group)), key=lambda item: not item.one_to_one)
    return tuple(
        replace(item, domain=groups[0].domain)
        if isinstance(item.domain, Group) and item.domain.parts == groups[0].domain.parts and not item.one_to_one
        else item
        for item in requires
    )
