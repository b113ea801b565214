"""Partitions of a product, one a file: their definition in Dagster, and their registration."""

import logging
import os
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import dagster as dg

from astra_dagster import settings
from astra_dagster.datamodel.keys import name_parts
from astra_dagster.datamodel.products import Product, product
from astra_dagster.datamodel.releases import release
from astra_dagster.errors import AstraError, ConfigurationError, InvalidKeyError, UnknownProductError
from astra_dagster.orchestration.internals import PartitionLoadingContext
from astra_dagster.planning.ledger import Selection
from astra_dagster.tasks.groups import Domain, Group

if TYPE_CHECKING:
    from astra_dagster.orchestration.storage.batches import BatchedEventLogStorage

logger = logging.getLogger(__name__)

REGISTER = 25_000
"""Partitions registered in one call: SQLite limits the number of variables of a statement."""

FEW_STEMS = 1000
"""Most stems of keys whose keys are asked for one stem after the other; of more, one query looks at all keys."""

T = TypeVar("T")


class ProductPartitions(dg.DynamicPartitionsDefinition):
    """Dynamic partitions named after a product, which say what to do about a key that is not registered."""

    def validate_partition_key(self, partition_key: str, context: PartitionLoadingContext) -> None:
        """Check that the key is registered and that there is somewhere to read from and write to.

        Raises
        ------
        AstraError
            If not, with what to do about it.
        """
        settings.sas_base_dir()
        settings.check_outputs_dir()
        try:
            super().validate_partition_key(partition_key, context)
        except dg.DagsterUnknownPartitionError:
            raise self._unregistered(partition_key) from None

    def _unregistered(self, partition_key: str) -> AstraError:
        if not os.environ.get("DAGSTER_HOME"):
            return ConfigurationError("DAGSTER_HOME is not set: no partition is registered without it")
        try:
            item = product(str(self.name))
            item.parse_key(partition_key)
        except UnknownProductError:
            hint = "run astra-dagster discover"
            return InvalidKeyError(f"partition {partition_key} of {self.name} is not registered", hint=hint)
        except AstraError as error:
            return error
        release = partition_key.partition("/")[0]
        return InvalidKeyError(
            f"partition {partition_key} of {item.asset_name} is not registered",
            hint=f"run astra-dagster discover --release {release} --product {item.name}",
        )


def partitions_def(item: Domain) -> ProductPartitions:
    """Partitions of a product, or of groups of its files."""
    return ProductPartitions(name=item.asset_name)


def register(
    instance: dg.DagsterInstance,
    item: Product,
    keys: Sequence[str],
    groups: Iterable[Domain] = (),
    *,
    regroup: bool = True,
) -> None:
    """Register partition keys, in their order, in as few calls as the storage allows, and the groups they are in.

    Parameters
    ----------
    regroup
        Whether to group all that is registered anew by values, which a catalogue or a function tells; this takes long
        for very many files.
    """
    for chunk in chunks(keys, REGISTER):
        instance.add_dynamic_partitions(item.asset_name, chunk)
    mine = [group for group in groups if group.product == item]
    every = registered(instance, item) if mine else ()
    for group in mine:
        known = set(registered(instance, group))
        files = keys if isinstance(group, Group) and group.value is not None and not regroup else every
        found = keys_of_files(group, files)
        for chunk in chunks([key for key in found if key not in known], REGISTER):
            instance.add_dynamic_partitions(group.asset_name, chunk)


def unregister(instance: dg.DagsterInstance, item: Product, keys: Iterable[str], groups: Iterable[Domain] = ()) -> None:
    """Unregister partition keys, and the groups of which nothing is left; records and outputs stay."""
    gone = list(keys)
    for key in gone:
        instance.delete_dynamic_partition(item.asset_name, key)
    mine = [group for group in groups if group.product == item] if gone else []
    left = registered(instance, item) if mine else ()
    for group in mine:
        unknown: set[str] = set()
        kept = set(keys_of_files(group, left, unknown))
        for key in registered(instance, group):
            if key not in kept and key.partition("/")[0] not in unknown:
                instance.delete_dynamic_partition(group.asset_name, key)


def keys_of_files(domain: Domain, keys: Sequence[str], unknown: set[str] | None = None) -> list[str]:
    """Return the keys of the partitions to which files belong, each once.

    Parameters
    ----------
    unknown
        Gets the releases for which nobody can tell, which are left out with a warning.
    """
    if isinstance(domain, Product):
        return list(keys)
    found: dict[str | None, None] = {}
    by_release: dict[str, list[str]] = {}
    for key in keys:
        by_release.setdefault(key.partition("/")[0], []).append(key)
    for name, some in by_release.items():
        try:
            found.update(dict.fromkeys(domain.keys_of(some)))
        except AstraError as error:
            logger.warning("the groups %s of %s are not known: %s", domain.name, name, error)
            if unknown is not None:
                unknown.add(name)
    return [key for key in found if key is not None]


def registered(instance: dg.DagsterInstance, item: Domain) -> Sequence[str]:
    """All registered partition keys, in the order of their text; Dagster's own storage has that of registration."""
    return instance.get_dynamic_partitions(item.asset_name)


def select_registered(instance: dg.DagsterInstance, item: Domain, selection: Selection) -> Sequence[str]:
    """Selected registered partition keys, in the order of their text; of an archive, few others are read.

    Raises
    ------
    InvalidKeyError, UnknownReleaseError
        If no key could ever match the selection.
    """
    if not selection.releases and not selection.where:
        return registered(instance, item)
    storage = _batched_storage(instance)
    if not isinstance(item, Product) or storage is None:
        return item.select(registered(instance, item), selection.releases, selection.where)
    first = storage.first_of_each_stem(item.asset_name)
    stems = None if first is None else _select_stems(item, first, selection)
    if first is None or stems is None or len(stems) > FEW_STEMS:
        first = storage.first_of_each_release(item.asset_name)
        there = [key.partition("/")[0] for key in first]
        asked = {release(name).name for name in selection.releases}
        names = [name for name in there if not asked or name in asked]
        patterns = item.like(names, selection.where) if names else []
        found = storage.match_dynamic_partitions(item.asset_name, patterns) if patterns else []
    else:
        found = storage.keys_of_stems(item.asset_name, stems)
    # That nothing could ever be found is an error, which depends on the releases alone of what is registered.
    return item.select(found or first, selection.releases, selection.where)


def select_stems(instance: dg.DagsterInstance, item: Domain, selection: Selection) -> Sequence[str] | None:
    """Return the first key of each selected stem, a key without its last part; None if all keys must be read.

    Raises
    ------
    InvalidKeyError, UnknownReleaseError
        If no key could ever match the selection.
    """
    storage = _batched_storage(instance)
    if not isinstance(item, Product) or storage is None:
        return None
    if not set(name_parts(selection.where, item.parts)).isdisjoint(item.parts[-1:]):
        return None
    first = storage.first_of_each_stem(item.asset_name)
    return None if first is None else _select_stems(item, first, selection)


def _select_stems(item: Product, first: Sequence[str], selection: Selection) -> list[str]:
    where = name_parts(selection.where, item.parts)
    return item.select(first, selection.releases, {n: of for n, of in where.items() if n not in item.parts[-1:]})


def _batched_storage(instance: dg.DagsterInstance) -> "BatchedEventLogStorage | None":
    """The storage that selects among keys in the database; None if the instance has another."""
    from astra_dagster.orchestration.storage.batches import BatchedEventLogStorage  # what it imports takes its time

    storage = instance.event_log_storage
    return storage if isinstance(storage, BatchedEventLogStorage) else None


def is_registered(instance: dg.DagsterInstance, item: Domain, key: str) -> bool:
    """Whether a text is a registered partition key; not all of them are read."""
    return instance.has_dynamic_partition(item.asset_name, key)


def chunks(items: Sequence[T], size: int) -> list[list[T]]:
    """Split into lists of at most `size`, in order."""
    rest = iter(items)
    return [list(islice(rest, size)) for _ in range(0, len(items), size)]
