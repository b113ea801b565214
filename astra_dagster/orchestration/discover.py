"""The job `discover`: find files below SAS_BASE_DIR, register their keys, record each on its source asset."""

from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg
from pydantic import Field

from astra_dagster import settings
from astra_dagster.datamodel.discovery import Skipped, find_files
from astra_dagster.datamodel.products import Product, Where, product, releases
from astra_dagster.errors import (
    AstraError,
    ConfigurationError,
    InvalidKeyError,
    UnknownProductError,
    UnresolvableTemplateError,
)
from astra_dagster.orchestration import records, sources
from astra_dagster.orchestration.partitions import register, registered
from astra_dagster.orchestration.sources import Input
from astra_dagster.tasks import registry

LISTED = 100
"""Skipped files that the log spells out."""


class DiscoverConfig(dg.Config):
    """Where to look, and how."""

    products: list[str] = Field(default=[], description="Products to look for; all source assets if empty.")
    releases: list[str] = Field(default=[], description="Releases to look in; all if empty.")
    where: dict[str, list[str]] = Field(default={}, description="Only files with these values of a key's parts.")
    by_content: bool = Field(
        default=False, description="Data version from a hash of the contents, not from size and date: reads every file."
    )


@dataclass(frozen=True)
class Discovery:
    """What was found of one product in one release."""

    product: Product
    release: str
    inputs: tuple[Input, ...]
    new: tuple[str, ...]
    skipped: tuple[Skipped, ...]

    @property
    def to_record(self) -> tuple[Input, ...]:
        """Files whose latest record does not say what is on disk."""
        return tuple(found for found in self.inputs if not found.recorded)

    def __str__(self) -> str:
        changed = len(self.to_record) - len({found.data_id.key for found in self.to_record} & set(self.new))
        return (
            f"{self.product.name} in {self.release}: {len(self.inputs)} files, {len(self.new)} new, "
            f"{changed} changed, {len(self.skipped)} skipped"
        )


def search(instance: dg.DagsterInstance, config: DiscoverConfig) -> Iterator[Discovery]:
    """Find files and compare them with what is registered and recorded; change nothing.

    Yields only what was found, and an empty result where product and release were both named.

    Raises
    ------
    AstraError
        If the configuration names what does not exist, or SAS_BASE_DIR is not set.
    """
    root = settings.sas_base_dir()
    wanted = [product(name) for name in config.products] or sources.source_products()
    where: Where = config.where
    refusal: InvalidKeyError | None = None
    accepted = False
    for item in wanted:
        known: set[str] | None = None
        for name in config.releases or releases():
            try:
                files, skipped = find_files(item, name, root, where)
            except (UnknownProductError, UnresolvableTemplateError):
                if config.releases and config.products:
                    raise
                continue
            except InvalidKeyError as error:
                refusal = error
                continue
            except ConfigurationError:
                if config.releases:
                    raise
                continue
            accepted = True
            if not files and not skipped and not (config.releases and config.products):
                continue
            if known is None:
                known = set(registered(instance, item))
            inputs = sources.compare(instance, item, files, by_content=config.by_content)
            new = tuple(found.data_id.key for found in inputs if found.data_id.key not in known)
            yield Discovery(item, name, tuple(inputs), new, tuple(skipped))
    if refusal is not None and not accepted:
        raise refusal


def take(context: dg.OpExecutionContext, found: Discovery) -> None:
    """Register and record what was found, and say so."""
    register(context.instance, found.product, found.new, registry.groups())
    sources.record(context, found.product, found.to_record)
    context.log.info(str(found))
    for skipped in found.skipped[:LISTED]:
        context.log.warning(f"skipped {skipped.path}: {skipped.reason}")


@dg.op(description="Find files below SAS_BASE_DIR, register their partition keys and record each file.")
def discover_files(context: dg.OpExecutionContext, config: DiscoverConfig) -> None:
    """Register and record what is new or changed; what is known and unchanged costs a look-up."""
    records.warn_if_slow(context)
    total = 0
    try:
        for found in search(context.instance, config):
            take(context, found)
            total += len(found.inputs)
    except AstraError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    if not total:
        context.log.warning(f"no files found below {settings.sas_base_dir()}; is SAS_BASE_DIR right?")


@dg.job(name="discover", description="Find new and changed SDSS files, register and record them.")
def discover_job() -> None:
    """One op; a job, so that it can be launched from the web UI and the command line."""
    discover_files()
