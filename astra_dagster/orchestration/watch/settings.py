"""How a product is watched: what a table ``[watch.ap_visit]`` of the configuration file may say.

::

    [watch.ap_visit]
    running = true                        # sensor and daily schedule are on unless switched off in the web UI
    releases = ["DR17"]                   # all
    tasks = ["ap_visit_snr"]              # all whose partitions are the product's files, or groups of them
    interval = 60                         # seconds from look to look
    daily = "0 12 * * *"                  # when everything is gone through, UTC
    settle = 60                           # seconds for which a file must not have changed
    by_content = false                    # tell versions of files by their contents, not by size and date
    partitions = 10000                    # at most so many in a run

What is not said is as above, but for `running`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from astra_dagster import settings
from astra_dagster.datamodel.products import Product, product
from astra_dagster.datamodel.releases import release
from astra_dagster.datamodel.releases import releases as all_releases
from astra_dagster.errors import ConfigurationError, UnknownProductError, nearest
from astra_dagster.orchestration.internals import is_valid_cron_schedule
from astra_dagster.tasks import registry
from astra_dagster.tasks.task import Task

LONGEST = 86_400
"""Seconds for which a file may be made to wait at most."""


@dataclass(frozen=True)
class Watched:
    """How a product is watched; the fields are those of the configuration's table."""

    product: Product
    running: bool = False
    releases: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    interval: int = 60
    daily: str = "0 12 * * *"
    settle: float = 60.0
    by_content: bool = False
    partitions: int = 10_000

    def chosen(self) -> list[Task]:
        """Tasks to run on what has come.

        Raises
        ------
        AstraError
            If there is no such task, or its partitions have nothing to do with the product.
        """
        mine = [task for task in registry.tasks().values() if task.domain.product == self.product]
        if not self.tasks:
            return mine
        for name in self.tasks:
            if registry.find_task(name) not in mine:
                raise ConfigurationError(
                    f"[watch.{self.product.asset_name}]: {name} does not run on {self.product.asset_name}",
                    hint=f"these do: {', '.join(task.name for task in mine) or 'none'}",
                )
        return [task for task in mine if task.name in self.tasks]

    def chain(self) -> list[Task]:
        """The chosen tasks, after all that they require."""
        return list({other.name: other for task in self.chosen() for other in task.chain}.values())

    @property
    def by_range(self) -> bool:
        """Whether all these tasks run on all these files, so that one range of partitions does for all."""
        releases = set(self.releases or all_releases())
        return all(
            task.domain == self.product and (not task.releases or releases <= set(task.releases))
            for task in self.chain()
        )


def watched(item: Product) -> Watched:
    """How the configuration says that a product is watched.

    Raises
    ------
    ConfigurationError
        If it says so in a way that makes no sense.
    """
    table = _tables().get(item, {})
    return Watched(item, **{key: _checked(f"[watch.{item.asset_name}]", key, value) for key, value in table.items()})


def check_watched(products: Sequence[Product]) -> None:
    """Check that the configuration says how to watch these products, and no others.

    Raises
    ------
    ConfigurationError
        If it does say so of another.
    """
    for item in _tables():
        if item not in products:
            raise ConfigurationError(
                f"[watch.{item.asset_name}]: {item.name} has no asset",
                hint=f'list it in the same file: products = ["{item.name}"]',
            )


def _tables() -> Mapping[Product, Mapping[str, Any]]:
    tables = settings.config().get("watch", {})
    if not isinstance(tables, Mapping):
        raise ConfigurationError("watch is made of tables, one a product: [watch.ap_visit]")
    found = {}
    for name, table in tables.items():
        try:
            item = product(name)
        except UnknownProductError as error:
            raise ConfigurationError(f"[watch.{name}]: {error.message}", hint=error.hint) from None
        if not isinstance(table, Mapping):
            raise ConfigurationError(f"watch.{name} must be a table", hint=f"begin it with [watch.{name}]")
        found[item] = table
    return found


_TYPES: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "running": (bool, "true or false"),
    "releases": (list, "a list of releases"),
    "tasks": (list, "a list of tasks"),
    "interval": (int, "a whole number of seconds"),
    "daily": (str, 'five fields as in a crontab, for example "0 12 * * *"'),
    "settle": ((int, float), "a number of seconds"),
    "by_content": (bool, "true or false"),
    "partitions": (int, "a whole number"),
}


def _checked(where: str, key: str, value: Any) -> Any:
    if key not in _TYPES:
        raise ConfigurationError(f"{where}: no option {key!r}", hint=nearest(key, _TYPES))
    kind, expected = _TYPES[key]
    right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if key in ("interval", "partitions"):
        right = right and value >= 1
    elif key == "settle":
        right = right and 0 <= value <= LONGEST
    elif key == "daily":
        right = right and is_valid_cron_schedule(value)
    elif kind is list and right:
        right = all(isinstance(name, str) for name in value)
    if not right:
        raise ConfigurationError(f"{where}: {key} cannot be {value!r}", hint=f"expected {expected}")
    if key == "releases":
        for name in value:
            release(name)
    return tuple(value) if kind is list else value
