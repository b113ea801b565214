"""The partitions of a task: the files of a product, or groups of them."""

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Literal

from astra_dagster.datamodel.catalogue_columns import CatalogueColumn
from astra_dagster.datamodel.keys import ABSENT, Key, name_parts
from astra_dagster.datamodel.products import DataID, Product, Where
from astra_dagster.datamodel.releases import release as find_release
from astra_dagster.datamodel.selection import make_choice
from astra_dagster.errors import AstraError, InvalidKeyError, TaskError, describe_user_error

logger = logging.getLogger(__name__)

ValueOfFile = CatalogueColumn | Callable[[DataID], str | int | None]
"""What tells a value of a file: a column of a catalogue, or a function of the data ID. None is no value."""

Parts = Mapping[str, str]
"""Values of some parts of a partition key, by name."""


@dataclass(frozen=True)
class Group:
    """A way to group the files of a product: by parts of their keys, as all spectra of a plate, or by a value of each.

    Attributes
    ----------
    product
        Product of the files.
    parts
        Names of the shared parts, in the order of the product's key; none if a group is a whole release.
    value
        What tells the value that files share, if it is no part of their keys; `parts` is then the name of that value.
    """

    product: Product
    parts: tuple[str, ...]
    value: ValueOfFile | None = None

    @property
    def name(self) -> str:
        """Name of the group's partitions."""
        return f"{self.product.asset_name}_by_{'_'.join(self.parts) or 'release'}"

    asset_name = name

    @property
    def key_order(self) -> str:
        """The parts of a partition key, as text."""
        return "/".join(("release", *self.parts))

    def key_of(self, key: str) -> str | None:
        """Return the partition key of the group that contains a file; see `keys_of`."""
        return self.keys_of([key])[0]

    def keys_of(self, keys: Iterable[str]) -> list[str | None]:
        """Return the partition keys of the groups that contain files, from the files' own; None for one in no group.

        Raises
        ------
        AstraError
            If the value of a file cannot be told.
        """
        if self.value is None:
            places = [self.product.parts.index(name) + 1 for name in self.parts]
            split = (key.split("/") for key in keys)
            return ["/".join((texts[0], *(texts[place] for place in places))) for texts in split]
        value = self.value
        find = value.reader(self.product) if isinstance(value, CatalogueColumn) else partial(self._ask, value)
        write = cache(partial(self._write, Key(self.parts[0])))
        values = ((key.partition("/")[0], write(find(key))) for key in keys)
        return [None if text is None else f"{release}/{text}" for release, text in values]

    def _ask(self, function: Callable[[DataID], str | int | None], key: str) -> str | int | None:
        """Ask a user's function for the value of a file; a key that is not valid has none."""
        try:
            data_id = self.product.parse_key(key)
        except AstraError:
            return None
        try:
            return function(data_id)
        except AstraError:
            raise
        except Exception as error:  # it may raise anything
            told = describe_user_error(error, function.__module__)
            raise TaskError(f"{self.parts[0]} failed: {told}", key=key) from error

    def _write(self, part: Key, value: str | int | None) -> str | None:
        """Return a value as it stands in a key, with _ for blanks; None without one, or if no key can hold it."""
        try:
            text = "_".join(str(value).split())
            return None if value is None or not text else part.canonical(text)
        except InvalidKeyError as error:
            logger.warning("%s: some files are in no group: %s", self.name, error)
            return None

    def parse_key(self, key: str) -> "GroupID":
        """Parse the partition key of a group, which must be in its canonical form.

        Raises
        ------
        InvalidKeyError
            If the key is not valid.
        UnknownReleaseError, UnknownProductError
            If the release is not known, or does not have the product.
        """
        release, *parts = str(key).split("/")
        if len(parts) != len(self.parts):
            raise InvalidKeyError(f"{key!r} is no key of {self.name}", hint=f"its parts are {self.key_order}")
        template = self.product.template(release)
        known = {name: Key(name) for name in self.parts if self.value is not None}
        known = known or {part.name: part for part in template.keys.values()}
        for name, text in zip(self.parts, parts, strict=True):
            part = known.get(name)
            absent = ABSENT if part is None or part.optional else None
            if text != absent and (part is None or part.canonical(text) != text):
                right = part.canonical(text) if part else ABSENT
                raise InvalidKeyError(f"{key!r} is no key of {self.name}: {name} is written {right}")
        return GroupID(self, release, tuple(parts))

    def select(self, keys: Sequence[str], releases: Sequence[str], where: Where) -> list[str]:
        """Return the partition keys with the wanted values in the given releases, or in all if `releases` is empty.

        Raises
        ------
        InvalidKeyError
            If a name in `where` is not a part of the keys.
        UnknownReleaseError
            If there is no such release.
        """
        where = name_parts(where, self.parts)
        releases = [find_release(name).name for name in releases]
        unknown = set(where) - set(self.parts)
        if unknown:
            raise InvalidKeyError(
                f"{self.name} has no {', '.join(sorted(unknown))}", hint=f"its parts are {self.key_order}"
            )
        choices = {name: make_choice(given, name, _strip_zeros) for name, given in where.items()}
        selected = []
        for key in keys:
            values = self.parse_key(key).values
            mine = all(values[name] in one or _strip_zeros(values[name]) in one for name, one in choices.items())
            if mine and (not releases or values["release"] in releases):
                selected.append(key)
        return selected


def _strip_zeros(text: str) -> str:
    return text.lstrip("0") or text[-1:]


@dataclass(frozen=True, slots=True)
class GroupID:
    """One group of files, with the attributes of a `DataID` that outputs need."""

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

    def __reduce__(self) -> tuple[type["GroupID"], tuple[Group, str, tuple[str, ...]]]:
        """Pickle it without what tells the value of a file: workers have no use for it, and may not find it yet."""
        return GroupID, (replace(self.group, value=None), self.release, self.parts)


Minimum = int | float | Literal["all"]
"""How many members must be there: a number, a fraction of those that are expected, or all of them."""


def check_minimum(minimum: Minimum) -> None:
    """Check that a minimum can be one.

    Raises
    ------
    ValueError
        If it cannot.
    """
    number = isinstance(minimum, int) and not isinstance(minimum, bool) and minimum >= 1
    if not number and not (isinstance(minimum, float) and 0 < minimum <= 1) and minimum != "all":
        raise ValueError(f'minimum is a number from 1, a fraction up to 1.0, or "all", not {minimum!r}')


def count_needed(minimum: Minimum, expected: int) -> int:
    """Return how many members must be there, of so many that are expected."""
    if minimum == "all":
        return max(1, expected)
    if isinstance(minimum, float):
        return max(1, math.ceil(round(minimum * expected, 9)))
    return minimum


@dataclass(frozen=True, slots=True)
class Members:
    """The partitions that belong to one partition.

    Attributes
    ----------
    keys
        Keys of those that are registered.
    expected
        How many there should be, registered or not.
    """

    keys: tuple[str, ...]
    expected: int


Domain = Product | Group
"""The partitions of a task. Both types have a name, a product and parts, and parse keys to partition IDs."""

PartitionID = DataID | GroupID
"""A parsed partition key of a domain."""


class PartIndex:
    """An index of the partition keys of a domain, by the values of some of their parts."""

    def __init__(self, domain: Domain, keys: Iterable[str]) -> None:
        self._domain, self._keys = domain, tuple(keys)
        self._by_names: dict[tuple[str, ...], dict[tuple[str, ...], list[str]]] = {}
        self._by_group: dict[tuple[Group, str], dict[str | None, list[str]] | AstraError] = {}

    def in_group(self, group: Group, key: str) -> list[str]:
        """Return the keys of the files in a group, by the key of the group.

        Raises
        ------
        AstraError
            If it cannot be told which files are in it.
        """
        release = key.partition("/")[0]  # a release whose catalogue is missing is no hindrance for others
        if (group, release) not in self._by_group:
            keys = [one for one in self._keys if one.startswith(f"{release}/")]
            try:
                found: dict[str | None, list[str]] = {}
                for own, mine in zip(keys, group.keys_of(keys), strict=True):
                    found.setdefault(mine, []).append(own)
                self._by_group[group, release] = found
            except AstraError as error:
                self._by_group[group, release] = error
        known = self._by_group[group, release]
        if isinstance(known, AstraError):
            raise known
        return known.get(key, [])

    def lookup(self, release: str, parts: Parts) -> list[str]:
        """Return the keys of a release whose parts have these values.

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
