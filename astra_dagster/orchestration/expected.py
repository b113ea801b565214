"""The job `register`, which registers the partitions of files that a table lists, whether the files exist or not.

A run of a task passes over partitions whose file does not exist yet, and succeeds; once the file exists, it is
analysed.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
from pydantic import Field

from astra_dagster import settings
from astra_dagster.archive.discovery import FoundFile
from astra_dagster.datamodel.catalogue import Rejected, keys_from_table
from astra_dagster.datamodel.products import Product, product
from astra_dagster.errors import CatalogueError, UnreachableError
from astra_dagster.orchestration import records
from astra_dagster.orchestration.causes import plain_failures
from astra_dagster.orchestration.partitions import register, registered
from astra_dagster.planning.inputs import locate
from astra_dagster.tasks import registry

SHOWN = 20
"""Largest number of rejected rows that the log and the command line list."""


class RegisterConfig(dg.Config):
    """The table to read, and the files that it lists."""

    table: str = Field(
        description="Path of the table, below SAS_BASE_DIR or a folder of `readable` in the configuration file: FITS, "
        "VOTable, Parquet, CSV or ECSV; one row a file."
    )
    product: str = Field(description="Product of the files: apVisit.")
    release: str = Field(default="", description="Release of the files; if empty, the table has a column release.")


@dataclass(frozen=True)
class Expected:
    """The files that a table lists, compared with what is registered and what is on disk.

    Attributes
    ----------
    keys
        Partition keys of all files.
    new
        Partition keys that are not registered.
    on_disk
        Number of files that are on disk.
    unreachable
        Reasons why it cannot be told whether files exist, each with their number.
    rejected
        Rows that identify no file.
    """

    product: Product
    keys: tuple[str, ...]
    new: tuple[str, ...]
    on_disk: int
    rejected: tuple[Rejected, ...]
    unreachable: Counter[str] = field(default_factory=Counter)

    @property
    def rejections(self) -> list[str]:
        """Reasons for at most `SHOWN` of the rejected rows, and for files that cannot be examined."""
        more = len(self.rejected) - SHOWN
        reasons = [f"{count} files: {reason}" for reason, count in self.unreachable.most_common(SHOWN)]
        return [*map(str, self.rejected[:SHOWN]), *([f"and {more} more"] if more > 0 else []), *reasons]

    def __str__(self) -> str:
        keys, new, unreachable = len(self.keys), len(self.new), self.unreachable.total()
        return (
            f"{self.product.name}: {keys} files, {new} new, {keys - new} known; "
            f"{self.on_disk} on disk, {keys - self.on_disk - unreachable} not yet"
            + (f", {unreachable} cannot be looked at" if unreachable else "")
            + f"; {len(self.rejected)} rows rejected"
        )


def expect(instance: dg.DagsterInstance, config: RegisterConfig) -> Expected:
    """Read a table and compare it with what is registered and what is on disk; change nothing.

    Raises
    ------
    CatalogueError
        If the table cannot be read, lacks a column, or none of its rows identifies a file.
    AstraError
        If there is no such product or release, or SAS_BASE_DIR is not set.
    """
    root = settings.sas_base_dir()
    item = product(config.product)
    path = Path(config.table).expanduser()
    data_ids, rejected = keys_from_table(path, item, config.release or None)
    if not data_ids:
        first = f"; {rejected[0]}" if rejected else ""
        raise CatalogueError(f"no row of the table is a file of {item.name}{first}", path=path)
    keys = tuple(data_id.key for data_id in data_ids)
    known = set(registered(instance, item))
    new = tuple(key for key in keys if key not in known)
    on_disk, unreachable = 0, Counter[str]()
    for _, found in locate(data_ids, root, records.source_records(instance, item, keys)):
        on_disk += isinstance(found, FoundFile)
        if isinstance(found, UnreachableError):
            unreachable[found.without_key()] += 1
    return Expected(item, keys, new, on_disk, tuple(rejected), unreachable)


def register_expected(instance: dg.DagsterInstance, expected: Expected) -> None:
    """Register keys that are new, and the groups to which they belong."""
    register(instance, expected.product, expected.new, registry.groups())


@dg.op(description="Register the partitions of the files that a table lists, whether they are there or not.")
def register_table(context: dg.OpExecutionContext, config: RegisterConfig) -> None:
    """Register keys that are new, and log a warning for each rejected row."""
    with plain_failures():
        settings.check_readable(Path(config.table))
        expected = expect(context.instance, config)
        register_expected(context.instance, expected)
    context.log.info(str(expected))
    for line in expected.rejections:
        context.log.warning(line)


@dg.job(name="register", description="Register the files that a table lists, before they are there.")
def register_job() -> None:
    """Run `register_table`; as a job it can be launched from the web UI and the command line."""
    register_table()
