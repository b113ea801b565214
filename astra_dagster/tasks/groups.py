"""What the partitions of a task are: the files of a product, or groups of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from astra_dagster.datamodel.products import DataID, Product, Where
from astra_dagster.errors import InvalidKeyError

Parts = Mapping[str, str]
"""Texts by the names of some parts of a partition key."""


@dataclass(frozen=True)
class Group:
    """Files of a product that share some parts of their keys: all spectra of a plate, say.

    Attributes
    ----------
    product
        Whose files they are.
    parts
        Names of the parts that they share, in the order of the product's key.
    """

    product: Product
    parts: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the group's partitions."""
        return f"{self.product.asset_name}_by_{'_'.join(self.parts)}"

    asset_name = name

    @property
    def key_order(self) -> str:
        """The parts of a partition key, as text."""
        return "/".join(("release", *self.parts))

    def key_of(self, key: str) -> str:
        """Partition key of the group that the file of a partition key belongs to."""
        release, *parts = key.split("/")
        return "/".join((release, *(parts[self.product.parts.index(name)] for name in self.parts)))

    def parse_key(self, key: str) -> "GroupID":
        """Group from its partition key.

        Raises
        ------
        InvalidKeyError
            If it is none.
        """
        release, *parts = str(key).split("/")
        if len(parts) != len(self.parts) or not all(parts):
            raise InvalidKeyError(f"{key!r} is no key of {self.name}", hint=f"its parts are {self.key_order}")
        return GroupID(self, release, tuple(parts))

    def select(self, keys: Sequence[str], releases: Sequence[str], where: Where) -> list[str]:
        """Those of these partition keys that are of some releases, all if empty, and have the wanted values.

        Raises
        ------
        InvalidKeyError
            If there is no part of a name.
        """
        unknown = set(where) - set(self.parts)
        if unknown:
            raise InvalidKeyError(
                f"{self.name} has no {', '.join(sorted(unknown))}", hint=f"its parts are {self.key_order}"
            )
        selected = []
        for key in keys:
            values = self.parse_key(key).values
            texts = all(values[name].lstrip("0") in {str(t).lstrip("0") for t in where[name]} for name in where)
            if texts and (not releases or values["release"] in releases):
                selected.append(key)
        return selected


@dataclass(frozen=True, slots=True)
class GroupID:
    """One group of files; has of a `DataID` what outputs need."""

    group: Group
    release: str
    parts: tuple[str, ...]

    @property
    def key(self) -> str:
        """Partition key."""
        return "/".join((self.release, *self.parts))

    @property
    def values(self) -> dict[str, str]:
        """Values by part name, the release first."""
        return {"release": self.release, **dict(zip(self.group.parts, self.parts, strict=True))}


Domain = Product | Group
"""What the partitions of a task are. Both have a name, a product, parts, and from a key the ID of a partition."""

PartitionID = DataID | GroupID
"""What a partition key of a domain stands for."""


class PartIndex:
    """Partition keys of a domain by the values of some of their parts."""

    def __init__(self, domain: Domain, keys: Iterable[str]) -> None:
        self._domain, self._keys = domain, tuple(keys)
        self._by_names: dict[tuple[str, ...], dict[tuple[str, ...], list[str]]] = {}

    def lookup(self, release: str, parts: Parts) -> list[str]:
        """Keys of a release whose parts have these values.

        Raises
        ------
        InvalidKeyError
            If the keys have no such part.
        """
        names = tuple(sorted(parts))
        if names not in self._by_names:
            self._by_names[names] = self._indexed(names)
        return self._by_names[names].get((release, *(str(parts[name]) for name in names)), [])

    def _indexed(self, names: tuple[str, ...]) -> dict[tuple[str, ...], list[str]]:
        order = self._domain.parts
        unknown = set(names) - set(order)
        if unknown:
            raise InvalidKeyError(
                f"{self._domain.name} has no part {', '.join(sorted(unknown))}",
                hint=f"its parts are {self._domain.key_order}",
            )
        places = [order.index(name) + 1 for name in names]
        found: dict[tuple[str, ...], list[str]] = {}
        for key in self._keys:
            texts = key.split("/")
            if len(texts) == len(order) + 1:
                found.setdefault((texts[0], *(texts[i] for i in places)), []).append(key)
        return found
