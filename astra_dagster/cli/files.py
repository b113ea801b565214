"""The command that finds and registers files."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import click

from astra_dagster.cli.common import (
    TaskCommand,
    json_option,
    open_instance,
    put_json,
    raise_failures,
    selection,
    where_of,
)
from astra_dagster.errors import AstraError, printable

if TYPE_CHECKING:
    from astra_dagster.datamodel.products import Where
    from astra_dagster.orchestration.discover import Discovery


@click.command(cls=TaskCommand, short_help="Find files below SAS_BASE_DIR, register and record them.")
@click.option("--product", "products", multiple=True, metavar="NAME", help="Only this product; repeatable.")
@selection
@click.option("--by-content", is_flag=True, help="Tell files apart by a hash of their contents; reads all of them.")
@click.option("--verify", is_flag=True, help="Compare all files with the checksums in them, and with those of the SAS.")
@click.option("--forget", is_flag=True, help="Unregister files that were here and are not: no disk is away.")
@click.option("--dry-run", is_flag=True, help="Say what would be registered and recorded.")
@json_option
def discover(
    products: Sequence[str],
    releases: Sequence[str],
    where: Sequence[str],
    by_content: bool,
    verify: bool,
    forget: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Find files below SAS_BASE_DIR, register and record them.

    Where a file was here before, and nothing is left in its folder, its disk may be away: that is an error. If you
    removed such files, say so with --forget, for one product and one release. Their outputs stay, until you clean up.

    Example: astra-dagster discover --release DR13 --product apVisit
    """
    from astra_dagster.orchestration import discover as finding
    from astra_dagster.orchestration.runs.start import run_job

    config = finding.DiscoverConfig(
        products=list(products),
        releases=list(releases),
        where=where_of(where),
        by_content=by_content,
        forget=forget,
    )
    with open_instance() as instance:
        seen: list[Discovery] = []

        def note_parts() -> "Iterator[Discovery]":
            for part in finding.search(instance, config):
                seen.extend(finding.add_up([part]))
                yield part

        parts = note_parts()
        first = next((part for part in parts if part.is_to_do and not dry_run), None)
        result = None
        if first is not None:  # the run goes on with the search
            job = finding.make_discover_job(chain([first], parts))
            result = run_job(job, instance, {"ops": {"discover_files": {"config": config.model_dump()}}})
        found = finding.add_up(seen)
        for item in found if not as_json else ():
            click.echo(str(item))
            for skipped in item.skipped:
                if skipped.error is None:
                    click.echo(printable(f"  skipped {skipped.path}: {skipped.reason}"), err=True)
            for path in item.incomplete:
                click.echo(printable(f"  incomplete, shorter than its headers say: {path}"), err=True)
        unreachable = finding.count_unreachable(found)
        if not unreachable and not any(item.files or item.missing or item.to_forget for item in found):
            from astra_dagster import settings

            raise AstraError(
                "no files found" + (" for this selection" if products or releases or where else ""),
                path=settings.sas_base_dir(),
                hint=next(
                    (item.elsewhere[1] for item in found if item.elsewhere[1]),
                    "is SAS_BASE_DIR the folder that holds dr17, sdsswork, ...?",
                ),
            )
        if result is not None and not unreachable:  # otherwise it fails because of these, which are reported below
            raise_failures(result)
        elif result is None and not dry_run:  # nothing is new, but a task may require groups of known files
            finding.register_groups(instance, found)
    if as_json:
        put_json(
            [
                {
                    "product": item.product.name,
                    "release": item.release,
                    "files": item.files,
                    "new": item.new,
                    "to_record": item.outdated,
                    "gone": len(item.gone),
                    "forgotten": len(item.to_forget),
                    "incomplete": [str(path) for path in item.incomplete],
                    "unreachable": [{"reason": why, "files": count} for why, count in item.unreachable.items()],
                    "skipped": [{"path": skipped.path, "reason": skipped.reason} for skipped in item.skipped],
                    "elsewhere": item.elsewhere[0],
                    "hint": item.elsewhere[1],
                }
                for item in found
            ]
        )
    damaged = _verify(found, config.where) if verify else 0
    if unreachable:
        raise click.ClickException(finding.make_refusal(unreachable))
    if damaged:
        raise click.ClickException(f"{damaged} files are damaged")


def _verify(found: "Sequence[Discovery]", where: "Where") -> int:
    """Tell which files do not agree with their checksums, and return their number."""
    from tqdm import tqdm

    from astra_dagster import settings
    from astra_dagster.archive.discovery import walk_files
    from astra_dagster.archive.sas import Archive
    from astra_dagster.errors import ChecksumError, DownloadError

    damaged = 0
    root = settings.sas_base_dir()
    windows = (files for item in found for files, _ in walk_files(item.product, item.release, root, where))
    data_ids = (file.data_id for files in windows for file in files)
    with tqdm(total=sum(item.files for item in found), unit="file", disable=None) as progress:
        for result in Archive.from_settings().verify(data_ids):
            progress.update()
            error = result.error
            if error is None:
                continue
            silent = isinstance(error, DownloadError) and not isinstance(error, ChecksumError)
            damaged += not silent
            click.echo(f"not compared with the SAS: {error}" if silent else str(error), err=True)
    return damaged
