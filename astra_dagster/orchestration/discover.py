"""The job `discover`, which finds files below SAS_BASE_DIR, registers their keys, and records them."""

import contextlib
import time
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
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
    """What was found on disk of one product in one release, or of some folders of it.

    Attributes
    ----------
    files, new
        Number of files, and of those that are not registered.
    outdated, changed
        Number of files whose latest record does not agree with what is on disk, and of those of them that are not new.
    inputs
        Those of a part whose latest record does not agree with what is on disk, and those that cannot be examined.
    new_keys
        Keys of a part's new files. A sum of parts has neither these keys, nor inputs that can be examined.
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
    files: int = 0
    new: int = 0
    outdated: int = 0
    changed: int = 0
    inputs: tuple[Input, ...] = ()
    new_keys: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    missing: tuple[Input, ...] = ()
    to_forget: tuple[str, ...] = ()
    incomplete: tuple[Path, ...] = ()
    elsewhere: tuple[str, str] = ("", "")

    def __add__(self, other: "Discovery") -> "Discovery":
        """Sum of two parts, which holds nothing of files that can be examined."""
        return Discovery(
            self.product,
            self.release,
            self.files + other.files,
            self.new + other.new,
            self.outdated + other.outdated,
            self.changed + other.changed,
            inputs=tuple(found for found in (*self.inputs, *other.inputs) if found.error is not None),
            skipped=(*self.skipped, *other.skipped),
            missing=(*self.missing, *other.missing),
            to_forget=(*self.to_forget, *other.to_forget),
            incomplete=(*self.incomplete, *other.incomplete),
            elsewhere=other.elsewhere,
        )

    def without(self, keys: Container[str]) -> "Discovery":
        """Return this part as if these of its files had not been found."""
        return _make_part(
            self.product,
            self.release,
            self.files - sum(found.data_id.key in keys for found in self.inputs),
            [found for found in self.inputs if found.data_id.key not in keys],
            [key for key in self.new_keys if key not in keys],
            self.skipped,
            self.incomplete,
        )

    @property
    def to_record(self) -> tuple[Input, ...]:
        """Files whose latest record does not agree with what is on disk."""
        return tuple(found for found in self.inputs if found.file is not None)

    @property
    def is_to_do(self) -> bool:
        """Whether anything is to be registered, recorded or forgotten."""
        return bool(self.to_record or self.new_keys or self.to_forget)

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
        skipped = sum(skipped.error is None for skipped in self.skipped)
        gone = f", {len(self.gone)} gone" if self.gone else ""
        gone += f", {len(self.to_forget)} to forget" if self.to_forget else ""
        gone += f", {len(self.incomplete)} incomplete" if self.incomplete else ""
        return (
            f"{self.product.name} in {self.release}: {self.files} files, {self.new} new, "
            f"{self.changed} changed, {skipped} skipped{gone}{self.elsewhere[0] and f'; {self.elsewhere[0]}'}"
        )


def search(instance: dg.DagsterInstance, config: DiscoverConfig) -> Iterator[Discovery]:
    """Find files and compare them with what is registered and recorded; change nothing.

    What is found of a product in a release comes in parts, some thousands of files each, which may be registered and
    recorded while the search goes on; `add_up` gives their sums. A product in a release without any file is left out,
    unless the configuration names both, or there are files of other reductions.

    Raises
    ------
    AstraError
        If the configuration names what does not exist, or SAS_BASE_DIR is not set.
    """
    if config.forget and (len(config.products), len(config.releases)) != (1, 1):
        raise AstraError("to forget files takes one product and one release", hint="name them: --product, --release")
    root = settings.sas_base_dir()
    for item, names in _choose(config).items():
        known = _group_by_release(registered(instance, item))
        for name in names:
            yield from _look(instance, item, name, root, known.pop(name, set()), config)


def add_up(parts: Iterable[Discovery]) -> list[Discovery]:
    """Return the sums of parts that were found of each product in each release, in the order of the first of each."""
    sums: dict[tuple[Product, str], Discovery] = {}
    for part in parts:
        name = part.product, part.release
        sums[name] = sums.get(name, Discovery(*name)) + part
    return list(sums.values())


def _choose(config: DiscoverConfig) -> dict[Product, list[str]]:
    """Return which releases to look in, by product."""
    releases_named = [release(name).name for name in config.releases]
    wanted = [product(name) for name in config.products] or sources.source_products()
    chosen: dict[Product, list[str]] = {item: [] for item in wanted}
    refusal: InvalidKeyError | None = None
    for item in wanted:
        for name in releases_named or releases():
            try:
                item.allowed(name, config.where)
            except (UnknownProductError, UnresolvableTemplateError):
                if config.releases and config.products:
                    raise
            except InvalidKeyError as error:
                refusal = error
            except ConfigurationError:
                if config.releases:
                    raise
            else:
                chosen[item].append(name)
    if refusal is not None and not any(chosen.values()):
        raise refusal
    return {item: names for item, names in chosen.items() if names}


def _look(
    instance: dg.DagsterInstance, item: Product, name: str, root: Path, known: set[str], config: DiscoverConfig
) -> Iterator[Discovery]:
    """Find the files of a product and release, and compare them with their records; only keys are held of all.

    Parameters
    ----------
    known
        Registered keys of the product and release.
    """
    where: Where = config.where
    new: set[str] = set()
    not_found = set(known)
    anything = False
    for files, skipped in walk_files(item, name, root, where):
        keys = {file.data_id.key: file for file in files}
        once = {key: file for key, file in keys.items() if key in not_found or (key not in known and key not in new)}
        not_found.difference_update(once)
        some = [key for key in once if key not in known]
        new.update(some)
        seen = sources.compare(instance, item, list(once.values()), by_content=config.by_content)
        to_do = [one for one in seen if not one.recorded]
        anything = anything or bool(once or skipped)
        if once or skipped:
            yield _make_part(item, name, len(once), to_do, some, skipped, _find_incomplete(to_do))
    missing = _find_missing(instance, item, not_found, root, where)
    forgotten = {one.data_id.key for one in missing if config.forget and (one.gone or isinstance(one.error, AwayError))}
    rest = Discovery(
        item,
        name,
        missing=tuple(one for one in missing if one.data_id.key not in forgotten),
        to_forget=tuple(one.data_id.key for one in missing if one.data_id.key in forgotten),
        elsewhere=("", "") if anything or missing else describe_reductions(item, [name], root, where),
    )
    if missing or rest.elsewhere[0] or (not anything and config.releases and config.products):
        yield rest


def _make_part(
    item: Product,
    name: str,
    files: int,
    inputs: Iterable[Input],
    new: Iterable[str],
    skipped: Iterable[Skipped],
    incomplete: Iterable[Path],
) -> Discovery:
    inputs = sorted(inputs, key=lambda one: one.data_id.relative_path)
    new = sorted(new)
    outdated = {one.data_id.key for one in inputs if one.file is not None}
    return Discovery(
        item,
        name,
        files,
        len(new),
        len(outdated),
        len(outdated.difference(new)),
        tuple(inputs),
        tuple(new),
        tuple(sorted(skipped, key=lambda one: one.path)),
        incomplete=tuple(incomplete),
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


def count_unreachable(found: Iterable[Discovery]) -> Counter[str]:
    """Return the sums of `Discovery.unreachable`."""
    counts: Counter[str] = Counter()
    for one in found:
        counts.update(one.unreachable)
    return counts


def make_refusal(unreachable: Counter[str]) -> str:
    """Say which files and folders could not be examined, and why."""
    reasons = [f"{f'{count} known files: ' if count else ''}{why}" for why, count in unreachable.most_common(LISTED)]
    return "\n".join(["not everything could be looked at; all else is done", *reasons])


def register_found(context: dg.OpExecutionContext, parts: Iterable[Discovery]) -> list[Discovery]:
    """Register and record what is found, part by part, unregister keys that are to be forgotten, and log what was done.

    Returns
    -------
    found
        The sums of the parts.
    """
    found = add_up(_register_each(context, parts))
    register_groups(context.instance, found)
    for one in found:
        context.log.info(str(one))
        if one.elsewhere[1]:
            context.log.info(one.elsewhere[1])
        for skipped in one.skipped[:LISTED]:
            context.log.warning(printable(f"skipped {skipped.path}: {skipped.reason}"))
        for path in one.incomplete[:LISTED]:
            context.log.warning(printable(f"incomplete, shorter than its headers say: {path}"))
    return found


def register_groups(instance: dg.DagsterInstance, found: Iterable[Discovery]) -> None:
    """Register the groups of all registered files of these products, which tasks may have come to require."""
    for item in dict.fromkeys(one.product for one in found):
        register(instance, item, (), registry.groups())


def _register_each(context: dg.OpExecutionContext, parts: Iterable[Discovery]) -> Iterator[Discovery]:
    for part in parts:
        register(context.instance, part.product, part.new_keys)
        unregister(context.instance, part.product, part.to_forget, registry.groups())
        sources.record(context, part.product, part.to_record)
        yield part


def make_discover_job(before: Iterable[Discovery] | None = None) -> dg.JobDefinition:
    """Make the job that finds files, and registers and records those that are new or have changed.

    Parameters
    ----------
    before
        The parts that a search with the same configuration finds, if there is one.
    """

    @dg.op(description="Find files below SAS_BASE_DIR, register their partition keys and record each file.")
    def discover_files(context: dg.OpExecutionContext, config: DiscoverConfig) -> None:
        records.warn_if_slow(context)
        with plain_failures():
            found = register_found(context, search(context.instance, config) if before is None else before)
        unreachable = count_unreachable(found)
        if unreachable:
            raise PlainFailure(make_refusal(unreachable))
        if not any(one.files for one in found):
            context.log.warning(f"no files found below {settings.sas_base_dir()}; is SAS_BASE_DIR right?")

    @dg.job(name="discover", description="Find new and changed SDSS files, register and record them.")
    def job() -> None:
        discover_files()

    return job


discover_job = make_discover_job()
"""The job as the web UI and schedules launch it, which searches by itself."""
