"""The job `discover`, which finds files below SAS_BASE_DIR, registers their keys, and records them."""

import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from astra_dagster import settings
from astra_dagster.archive.discovery import Skipped, walk_files
from astra_dagster.archive.reductions import describe_reductions
from astra_dagster.archive.watching import RECENT
from astra_dagster.datamodel.products import Product, Where, product, release, releases
from astra_dagster.errors import (
    AstraError,
    AwayError,
    ConfigurationError,
    InvalidKeyError,
    UnknownProductError,
    UnresolvableTemplateError,
    printable,
)
from astra_dagster.fits.truncation import is_cut_short
from astra_dagster.orchestration import records, sources
from astra_dagster.orchestration.causes import PlainFailure, plain_failures
from astra_dagster.orchestration.partitions import register, registered, unregister
from astra_dagster.planning.inputs import Input
from astra_dagster.tasks import registry

LISTED = 100
"""Largest number of skipped files that the log lists."""


class DiscoverConfig(dg.Config):
    """Which files to look for, and how to compare them."""

    products: list[str] = Field(default=[], description="Products to look for; all source assets if empty.")
    releases: list[str] = Field(default=[], description="Releases to look in; all if empty.")
    where: dict[str, Any] = Field(
        default={}, description='Only files with these values of a key\'s parts: {"mjd": "56000..56100"}.'
    )
    by_content: bool = Field(
        default=False, description="Data version from a hash of the contents, not from size and date: reads every file."
    )
    forget: bool = Field(
        default=False,
        description="Unregister files that were here before and are missing, as they were removed and no disk is away. "
        "Takes one product and one release.",
    )


@dataclass(frozen=True)
class Discovery:
    """What was found on disk of one product in one release.

    Attributes
    ----------
    files
        Number of files.
    inputs
        Those whose latest record does not agree with what is on disk, and those that cannot be examined.
    missing
        Files that were here before and were not found: they were removed, or it cannot be told whether they were.
    to_forget
        Keys of missing files that are to be unregistered.
    incomplete
        New and changed files of the last day that are shorter than their headers say, and may still be written.
    elsewhere
        Which other reductions there are, where nothing was found of the release's own, and what to do about it.
    """

    product: Product
    release: str
    files: int
    inputs: tuple[Input, ...]
    new: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    missing: tuple[Input, ...] = ()
    to_forget: tuple[str, ...] = ()
    incomplete: tuple[Path, ...] = ()
    elsewhere: tuple[str, str] = ("", "")

    @property
    def to_record(self) -> tuple[Input, ...]:
        """Files whose latest record does not agree with what is on disk."""
        return tuple(found for found in self.inputs if found.file is not None)

    @property
    def gone(self) -> list[str]:
        """Keys of files that were removed."""
        return [found.data_id.key for found in self.missing if found.gone]

    @property
    def unreachable(self) -> Counter[str]:
        """Reasons why files or folders could not be examined, each with the number of known files that it concerns."""
        folders = {skipped.reason: 0 for skipped in self.skipped if skipped.error is not None}
        files = Counter(found.error.without_key() for found in (*self.inputs, *self.missing) if found.error is not None)
        return Counter({**folders, **files})

    def __str__(self) -> str:
        changed = len(self.to_record) - len({found.data_id.key for found in self.to_record} & set(self.new))
        skipped = sum(skipped.error is None for skipped in self.skipped)
        gone = f", {len(self.gone)} gone" if self.gone else ""
        gone += f", {len(self.to_forget)} to forget" if self.to_forget else ""
        gone += f", {len(self.incomplete)} incomplete" if self.incomplete else ""
        return (
            f"{self.product.name} in {self.release}: {self.files} files, {len(self.new)} new, "
            f"{changed} changed, {skipped} skipped{gone}{self.elsewhere[0] and f'; {self.elsewhere[0]}'}"
        )


def search(instance: dg.DagsterInstance, config: DiscoverConfig) -> Iterator[Discovery]:
    """Find files and compare them with what is registered and recorded; change nothing.

    A product in a release without any file is left out, unless the configuration names both, or there are files of
    other reductions.

    Raises
    ------
    AstraError
        If the configuration names what does not exist, or SAS_BASE_DIR is not set.
    """
    if config.forget and (len(config.products), len(config.releases)) != (1, 1):
        raise AstraError("to forget files takes one product and one release", hint="name them: --product, --release")
    root = settings.sas_base_dir()
    names = [release(name).name for name in config.releases]
    wanted = [product(name) for name in config.products] or sources.source_products()
    where: Where = config.where
    refusal: InvalidKeyError | None = None
    accepted = False
    for item in wanted:
        known = _group_by_release(registered(instance, item))
        for name in names or releases():
            try:
                item.allowed(name, where)
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
            found = _look(instance, item, name, root, where, known.pop(name, set()), by_content=config.by_content)
            if not found.files and not found.skipped and not found.missing:
                elsewhere = describe_reductions(item, [name], root, where)
                if not elsewhere[0] and not (config.releases and config.products):
                    continue
                found = replace(found, elsewhere=elsewhere)
            forgotten = [one for one in found.missing if one.gone or isinstance(one.error, AwayError)]
            if config.forget and forgotten:
                left = tuple(one for one in found.missing if one not in forgotten)
                found = replace(found, missing=left, to_forget=tuple(one.data_id.key for one in forgotten))
            yield found
    if refusal is not None and not accepted:
        raise refusal


def _look(
    instance: dg.DagsterInstance,
    item: Product,
    name: str,
    root: Path,
    where: Where,
    known: set[str],
    *,
    by_content: bool,
) -> Discovery:
    """Find the files of a product and release, and compare them with their records; of those that agree, none is held.

    Parameters
    ----------
    known
        Registered keys of the product and release.
    """
    count = 0
    to_do: list[Input] = []
    left_out: list[Skipped] = []
    new: set[str] = set()
    not_found = set(known)
    for files, skipped in walk_files(item, name, root, where):
        left_out += skipped
        keys = {file.data_id.key: file for file in files}
        once = {key: file for key, file in keys.items() if key in not_found or (key not in known and key not in new)}
        count += len(once)
        new.update(key for key in once if key not in known)
        not_found.difference_update(once)
        seen = sources.compare(instance, item, list(once.values()), by_content=by_content)
        to_do += [one for one in seen if not one.recorded]
    to_do.sort(key=lambda one: one.data_id.relative_path)
    left_out.sort(key=lambda one: one.path)
    return Discovery(
        item,
        name,
        count,
        tuple(to_do),
        tuple(sorted(new)),
        tuple(left_out),
        missing=tuple(_find_missing(instance, item, not_found, root, where)),
        incomplete=_find_incomplete(to_do),
    )


def _group_by_release(keys: Sequence[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for key in keys:
        found.setdefault(key.partition("/")[0], set()).add(key)
    return found


def _find_missing(instance: dg.DagsterInstance, item: Product, keys: set[str], root: Path, where: Where) -> list[Input]:
    """Return the files that were here before, from registered keys whose files were not found."""
    data_ids = []
    for key in records.source_records(instance, item, sorted(keys)) if keys else ():
        with contextlib.suppress(AstraError):  # the key is not valid now
            data_id = item.parse_key(key)
            if data_id.matches(item.allowed(data_id.release, where) or {}):
                data_ids.append(data_id)
    seen = sources.examine(instance, item, data_ids, root) if data_ids else []
    return [found for found in seen if found.file is None]


def _find_incomplete(inputs: Sequence[Input]) -> tuple[Path, ...]:
    since = (time.time() - RECENT) * 1e9
    recent = (found.file for found in inputs if found.file and found.file.mtime_ns > since)
    incomplete = []
    for file in recent:
        with contextlib.suppress(AstraError):  # it was removed just now, or nobody can tell
            if is_cut_short(file.path):
                incomplete.append(file.path)
    return tuple(incomplete)


def make_refusal(unreachable: Counter[str]) -> str:
    """Say which files and folders could not be examined, and why."""
    reasons = [f"{f'{count} known files: ' if count else ''}{why}" for why, count in unreachable.most_common(LISTED)]
    return "\n".join(["not everything could be looked at; all else is done", *reasons])


def register_found(context: dg.OpExecutionContext, found: Discovery) -> None:
    """Register and record what was found, unregister keys that are to be forgotten, and log what was done."""
    register(context.instance, found.product, found.new, registry.groups())
    unregister(context.instance, found.product, found.to_forget, registry.groups())
    sources.record(context, found.product, found.to_record)
    context.log.info(str(found))
    if found.elsewhere[1]:
        context.log.info(found.elsewhere[1])
    for skipped in found.skipped[:LISTED]:
        context.log.warning(printable(f"skipped {skipped.path}: {skipped.reason}"))
    for path in found.incomplete[:LISTED]:
        context.log.warning(printable(f"incomplete, shorter than its headers say: {path}"))


def make_discover_job(before: Sequence[Discovery] | None = None) -> dg.JobDefinition:
    """Make the job that finds files, and registers and records those that are new or have changed.

    Parameters
    ----------
    before
        What a search with the same configuration has just found, if there was one.
    """

    @dg.op(description="Find files below SAS_BASE_DIR, register their partition keys and record each file.")
    def discover_files(context: dg.OpExecutionContext, config: DiscoverConfig) -> None:
        records.warn_if_slow(context)
        total = 0
        unreachable: Counter[str] = Counter()
        with plain_failures():
            for found in search(context.instance, config) if before is None else before:
                register_found(context, found)
                total += found.files
                unreachable.update(found.unreachable)
        if unreachable:
            raise PlainFailure(make_refusal(unreachable))
        if not total:
            context.log.warning(f"no files found below {settings.sas_base_dir()}; is SAS_BASE_DIR right?")

    @dg.job(name="discover", description="Find new and changed SDSS files, register and record them.")
    def job() -> None:
        discover_files()

    return job


discover_job = make_discover_job()
"""The job as the web UI and schedules launch it, which searches by itself."""
