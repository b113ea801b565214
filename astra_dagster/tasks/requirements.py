"""Partitions other than single files: groups of files, and many files for one."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from astra_dagster.datamodel.products import DataID, Product
from astra_dagster.errors import InvalidKeyError, SpectrumFileError
from astra_dagster.fits.reader import FitsFile

Parts = Mapping[str, str]
Find = Callable[[DataID, Path], Iterable[Parts]]
"""From a data ID and its file to the parts of the data IDs that belong to it."""


@dataclass(frozen=True)
class Group:
    """Files of a product that share some parts of their keys: all spectra of a plate, say.

    Attributes
    ----------
    product
        Whose files they are.
    by
        Names of the parts that they share, in the order of the product's key.
    """

    product: Product
    by: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the group's partitions."""
        return f"{self.product.asset_name}_by_{'_'.join(self.by)}"

    asset_name = name

    @property
    def key_order(self) -> str:
        """The parts of a partition key, as text."""
        return "/".join(("release", *self.by))

    def key_of(self, key: str) -> str:
        """Partition key of the group that the file of a partition key belongs to."""
        release, *parts = key.split("/")
        return "/".join((release, *(parts[self.product.parts.index(name)] for name in self.by)))

    def parse_key(self, key: str) -> "GroupID":
        """Group from its partition key.

        Raises
        ------
        InvalidKeyError
            If it is none.
        """
        release, *parts = str(key).split("/")
        if len(parts) != len(self.by) or not all(parts):
            raise InvalidKeyError(f"{key!r} is no key of {self.name}", hint=f"its parts are {self.key_order}")
        return GroupID(self, release, tuple(parts))


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
        return {"release": self.release, **dict(zip(self.group.by, self.parts, strict=True))}


@dataclass(frozen=True, eq=False)
class Many:
    """A requirement of many partitions for one. Make one with `grouped` or `matching`.

    Attributes
    ----------
    of
        The product or task whose partitions are required.
    domain
        What the partitions of the task are that requires them.
    find
        For a domain of files: which belong to one. A group knows by itself.
    """

    of: Any
    domain: Product | Group
    find: Find | None = field(default=None)

    @property
    def product(self) -> Product:
        """Product whose keys the required partitions have."""
        found = self.of if isinstance(self.of, Product) else self.of.domain
        if not isinstance(found, Product):
            raise ValueError("only partitions that are files can be required by the many")
        return found

    def index(self, keys: Iterable[str]) -> "PartIndex":
        """The partition keys of its product, for `members`."""
        return PartIndex(self.product, tuple(keys))

    def members(self, one: DataID | GroupID, path: Path | None, index: "PartIndex") -> list[str]:
        """Keys of the partitions that belong to one partition of the domain, in the order of the index."""
        if isinstance(one, GroupID):
            wanted: Iterable[Parts] = [dict(zip(one.group.by, one.parts, strict=True))]
        elif self.find is None or path is None:
            wanted = []
        else:
            wanted = self.find(one, path)
        found = {key: None for parts in wanted for key in index.lookup(one.release, parts)}
        return list(found)


class PartIndex:
    """Partition keys of a product by the values of some of their parts."""

    def __init__(self, product: Product, keys: Sequence[str]) -> None:
        self._product, self._keys = product, keys
        self._by_names: dict[tuple[str, ...], dict[tuple[str, ...], list[str]]] = {}

    def lookup(self, release: str, parts: Parts) -> list[str]:
        """Keys of a release whose parts have these values.

        Raises
        ------
        InvalidKeyError
            If the product has no such part.
        """
        names = tuple(sorted(parts))
        if names not in self._by_names:
            self._by_names[names] = self._indexed(names)
        return self._by_names[names].get((release, *(str(parts[name]) for name in names)), [])

    def _indexed(self, names: tuple[str, ...]) -> dict[tuple[str, ...], list[str]]:
        order = self._product.parts
        unknown = set(names) - set(order)
        if unknown:
            raise InvalidKeyError(
                f"{self._product.name} has no part {', '.join(sorted(unknown))}",
                hint=f"its parts are {self._product.key_order}",
            )
        places = [order.index(name) + 1 for name in names]
        found: dict[tuple[str, ...], list[str]] = {}
        for key in self._keys:
            texts = key.split("/")
            if len(texts) == len(order) + 1:
                found.setdefault((texts[0], *(texts[i] for i in places)), []).append(key)
        return found


def grouped(of: Any, by: Sequence[str] | str) -> Many:
    """Require all partitions of a product or task that share parts of their keys; a partition is then such a group.

    ``grouped(spec, by=("run2d", "plate"))`` is all spectra of a plate.

    Raises
    ------
    ValueError
        If the product has no such part.
    """
    names = (by,) if isinstance(by, str) else tuple(by)
    product = Many(of, _product(of)).product
    unknown = set(names) - set(product.parts)
    if unknown or not names:
        raise ValueError(f"{product.name} has no part {', '.join(sorted(unknown))}; its parts are {product.key_order}")
    return Many(of, Group(product, tuple(name for name in product.parts if name in names)))


def matching(of: Any, one: Product, find: Find) -> Many:
    """Require those partitions of a product or task that belong to one file of another product.

    Parameters
    ----------
    of
        The product or task whose partitions are required.
    one
        The product whose files the partitions of the task are.
    find
        From a data ID of `one` and its path to the parts of the data IDs that belong to it, as many parts as are
        known. Partitions of the same release that have these values are required.
    """
    return Many(of, one, find)


def visits_of_star(star: DataID, path: Path) -> list[Parts]:
    """Which visits an apStar file combines, from the names in its header; for `matching`.

    ``matching(ap_visit_snr, ap_star, visits_of_star)`` is the S/N of all visits of a star.

    Raises
    ------
    AstraError
        If the file cannot be read.
    """
    with FitsFile(path) as file:
        header = file.hdu(0).header
    found: list[Parts] = []
    while (name := header.text(f"SFILE{len(found) + 1}")) is not None:
        match = re.fullmatch(r"a[ps]Visit-.+-([0-9A-Za-z]+)-([0-9]{5})-([0-9]{3})\.fits", name)
        if match is None:
            raise SpectrumFileError(f"SFILE{len(found) + 1} is {name!r}, which is no visit", path=path, key=star.key)
        parts = {"plate": match[1], "mjd": match[2], "fibre": match[3]}
        telescope = star.values.get("telescope")
        found.append({**parts, "telescope": telescope} if telescope else parts)
    return found


def _product(of: Any) -> Product:
    found = of if isinstance(of, Product) else of.domain
    if not isinstance(found, Product):
        raise ValueError("only partitions that are files can be grouped")
    return found
