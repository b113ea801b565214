"""Records in memory, for plans without Dagster."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from astra_dagster.datamodel.products import Product
from astra_dagster.outputs.record import Record
from astra_dagster.planning.ledger import Selection, SourceRecord
from astra_dagster.tasks.groups import Domain
from astra_dagster.tasks.task import Task

WINDOW = 3
"""Keys in a window."""


@dataclass
class MemoryLedger:
    """A `Ledger`.

    Attributes
    ----------
    keys, records, files
        What is registered, was recorded and was seen, by the name of the asset, the latter two by key as well.
    """

    keys: dict[str, list[str]] = field(default_factory=dict)
    records: dict[str, dict[str, Record]] = field(default_factory=dict)
    files: dict[str, dict[str, SourceRecord]] = field(default_factory=dict)

    def register(self, domain: Domain, keys: Sequence[str]) -> None:
        """Register keys; those that are registered already stay where they are."""
        known = self.keys.get(domain.asset_name, [])
        self.keys[domain.asset_name] = list(dict.fromkeys([*known, *keys]))

    def registered(self, domain: Domain, selection: Selection) -> Iterator[Sequence[str]]:
        """Registered keys that are selected, in the order of their registration."""
        keys = self.keys.get(domain.asset_name, [])
        if selection.releases or selection.where:
            keys = domain.select(keys, selection.releases, selection.where)
        yield from (keys[i : i + WINDOW] for i in range(0, len(keys), WINDOW))

    def recorded(self, task: Task, keys: Sequence[str]) -> dict[str, Record]:
        """Latest records of these partitions."""
        known = self.records.get(task.name, {})
        return {key: known[key] for key in keys if key in known}

    def seen(self, product: Product, keys: Sequence[str]) -> dict[str, SourceRecord]:
        """Latest records of these files."""
        known = self.files.get(product.asset_name, {})
        return {key: known[key] for key in keys if key in known}
