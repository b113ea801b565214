"""Settings of watched products, from the tables ``[watch.PRODUCT]`` of the configuration file.

`astra_dagster.configuration` has their keys and types; this module looks up the names in them.
"""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from astra_dagster import settings
from astra_dagster.configuration import Watch
from astra_dagster.datamodel.products import DataID, Product, Where, product
from astra_dagster.datamodel.releases import release
from astra_dagster.datamodel.releases import releases as all_releases
from astra_dagster.errors import (
    AstraError,
    ConfigurationError,
    InvalidKeyError,
    UnknownProductError,
    UnknownReleaseError,
    UnknownTaskError,
)
from astra_dagster.orchestration.internals import is_valid_cron_schedule
from astra_dagster.tasks import registry
from astra_dagster.tasks.task import Task


@dataclass(frozen=True)
class Watched(Watch):
    """A watched product and its settings."""

    product: Product

    def chosen(self) -> list[Task]:
        """Return the tasks to run on new files.

        Raises
        ------
        AstraError
            If there is no such task, or its partitions are neither files of the product nor groups of them.
        """
        mine = [task for task in registry.tasks().values() if task.belonging(self.product)]
        if not self.tasks:
            return mine
        for name in self.tasks:
            try:
                known = registry.find_task(name)
            except UnknownTaskError as error:
                raise _error(self.product, f"tasks: {error.message}", error.hint) from None
            if known not in mine:
                raise _error(
                    self.product,
                    f"tasks: {name} does not run on {self.product.asset_name}",
                    f"these do: {', '.join(task.name for task in mine) or 'none'}",
                )
        return [task for task in mine if task.name in self.tasks]

    def chain(self) -> list[Task]:
        """Return the chosen tasks and all that they require, which come first."""
        return list({other.name: other for task in self.chosen() for other in task.chain}.values())

    def selects(self, data_id: DataID) -> bool:
        """Whether a run is to be requested for a file."""
        if not self.where:
            return True
        allowed = self.product.allowed(data_id.release, self.where)
        return allowed is not None and data_id.matches(allowed)

    @property
    def by_range(self) -> bool:
        """Whether all these tasks run on all these files, so that one range of partitions serves all."""
        releases = set(self.releases or all_releases())
        return all(
            task.domain == self.product and (not task.releases or releases <= set(task.releases))
            for task in self.chain()
        )


def watched(item: Product) -> Watched:
    """Return a product with its settings from the configuration.

    Raises
    ------
    ConfigurationError
        If they are not valid.
    """
    table = _tables().get(item)
    if table is None:
        return Watched(item)
    found = Watched(item, **vars(settings.watch(table)))
    names = []
    for name in found.releases:
        try:
            names.append(release(name).name)
        except UnknownReleaseError as error:
            raise _error(item, f"releases: {error.message}", error.hint) from None
    try:
        _check_where(item, names or all_releases(), found.where)
    except InvalidKeyError as error:
        raise _error(item, f"where: {error.message}", error.hint) from None
    if not is_valid_cron_schedule(found.daily):
        expected = Watch.__dataclass_fields__["daily"].metadata["expected"]
        raise _error(item, f"daily cannot be {found.daily!r}", f"expected {expected}")
    return replace(found, releases=tuple(names))


def _check_where(item: Product, names: Iterable[str], where: Where) -> None:
    """Check that files of a product can be selected in a release that has it.

    Raises
    ------
    InvalidKeyError
        If they can in none.
    """
    refusal: InvalidKeyError | None = None
    for name in names if where else ():
        try:
            item.allowed(name, where)
            return
        except InvalidKeyError as error:
            refusal = error
        except AstraError:  # the release does not have it
            continue
    if refusal is not None:
        raise refusal


def tells_by_content(item: Product) -> bool:
    """Whether data versions of a product's files are hashes of their contents; other keys are not checked.

    Raises
    ------
    ConfigurationError
        If the value is not true or false.
    """
    table = _tables().get(item)
    return table is not None and settings.watch(table, "by_content").by_content


def broken_watches(products: Sequence[Product]) -> dict[str, AstraError]:
    """Return the errors of tables that cannot be used, by name; only these products have assets."""
    found: dict[str, AstraError] = {}
    first = _tables()
    for name in settings.config().watch:
        try:
            item = product(name)
            if item not in products:
                hint = f'list it in the same file: products = ["{item.name}"]'
                found[name] = settings.config_error(f"[watch.{name}]: {item.name} has no asset", hint=hint)
            elif first[item] != name:
                hint = "make them one table"
                found[name] = settings.config_error(f"[watch.{name}]: that is [watch.{first[item]}]", hint=hint)
            else:
                watched(item).chosen()
        except UnknownProductError as error:
            found[name] = settings.config_error(f"[watch.{name}]: {error.message}", hint=error.hint)
        except AstraError as error:
            found[name] = error
    return found


def table_of(item: Product) -> str:
    """Return the name of a product's table, or the name it would have, for example ``ap_visit``."""
    return _tables().get(item, item.asset_name)


def is_on(table: str) -> bool:
    """Whether a table turns its sensor on; other keys are not checked."""
    return settings.config().watch.get(table, {}).get("running") is True


def _tables() -> Mapping[Product, str]:
    """Return the name of the table of each product that has one; of two the first is used."""
    found: dict[Product, str] = {}
    for name in settings.config().watch:
        with contextlib.suppress(UnknownProductError):
            found.setdefault(product(name), name)
    return found


def _error(item: Product, message: str, hint: str | None) -> ConfigurationError:
    return settings.config_error(f"[watch.{table_of(item)}]: {message}", hint=hint)
