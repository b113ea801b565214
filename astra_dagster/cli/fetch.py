"""Commands about the Science Archive Server: fetch files, and print their paths and URLs."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from astra_dagster import settings
from astra_dagster.cli.common import data_id_of, json_option, keys_option, open_instance, put_json, selection, where_of
from astra_dagster.errors import AstraError, DiskFullError, UnreachableError

if TYPE_CHECKING:
    from astra_dagster.archive.sas import Archive
    from astra_dagster.datamodel.products import DataID

product = click.option("--product", "name", metavar="NAME", help="What the files are, if KEY does not tell: apVisit.")


@click.command(short_help="Fetch files from the Science Archive Server.")
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@product
@selection
@keys_option
@click.option("--workers", type=click.IntRange(1, 64), default=8, show_default=True, help="Requests at a time.")
@click.option("--overwrite", is_flag=True, help="Fetch files again that are here.")
@click.option("--dry-run", is_flag=True, help="Say what is here, what would be fetched, and from where.")
@json_option
def fetch(
    keys: Sequence[str],
    name: str | None,
    releases: Sequence[str],
    where: Sequence[str],
    listed: str | None,
    workers: int,
    overwrite: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Fetch files from the Science Archive Server into SAS_BASE_DIR: those of KEYs, of a list, or registered ones.

    Files that are here stay as they are, but for those that are shorter than their headers say, and with --overwrite;
    what has come when it breaks off is kept for the next time. Proprietary
    releases need a login in ~/.netrc. ASTRA_SAS_URL names a mirror to fetch from.

    Example: astra-dagster fetch DR17/apo25m/120+12/5226/56000/001
    """
    from tqdm import tqdm

    from astra_dagster.archive.sas import Archive

    archive = Archive.from_settings()
    wanted = _data_ids(keys, name, releases, where, listed)
    if dry_run:
        places = [_place(archive, data_id) for data_id in wanted]
        if as_json:
            put_json(places)
        for place in places if not as_json else ():
            what = "here " if place["here"] else "fetch"
            click.echo(f"{what}  {place['partition']}  {place['url']}" if place["error"] is None else place["error"])
        if unknown := sum(place["error"] is not None for place in places):
            raise click.ClickException(f"{unknown} of {len(places)} cannot be looked at")
        return
    came, received, failed = 0, 0, 0
    done = []
    with tqdm(total=len(wanted), unit="file", disable=None) as progress:
        try:
            for result in archive.fetch(wanted, workers, overwrite=overwrite):
                progress.update()
                told = {"received": result.received, "error": str(result.error) if result.error else None}
                done.append({**_named(archive, result.data_id, result.path), **told})
                if result.error is not None:
                    failed += 1
                    with progress.external_write_mode(file=sys.stderr):
                        click.echo(str(result.error), err=True)
                elif result.received:
                    came, received = came + 1, received + result.received
        except DiskFullError as error:
            error.message += f"; {came} fetched, {len(wanted) - len(done)} left to fetch"
            raise
    here = len(wanted) - came - failed
    if as_json:
        put_json(done)
    else:
        click.echo(f"{came} fetched ({received / 1e6:.1f} MB), {here} here already, {failed} failed")
    if failed:
        raise click.ClickException(f"{failed} of {len(wanted)} could not be fetched")


@click.command(short_help="Print where the file of KEY is, or would be.")
@click.argument("key")
@product
def path(key: str, name: str | None) -> None:
    """Print where the file of KEY is on this disk, or would be.

    Example: astra-dagster path DR17/apo25m/120+12/5226/56000/001
    """
    from astra_dagster.archive.sas import Archive

    (data_id,) = _data_ids([key], name)
    click.echo(Archive.from_settings().path(data_id))


@click.command()
@click.argument("key")
@product
def url(key: str, name: str | None) -> None:
    """Print where the file of KEY is fetched from.

    Example: astra-dagster url DR17/apo25m/120+12/5226/56000/001
    """
    from astra_dagster.archive.sas import Archive

    (data_id,) = _data_ids([key], name)
    click.echo(Archive(Path(), settings.sas_url()).url(data_id))


def _named(archive: "Archive", data_id: "DataID", path: Path | None = None) -> dict[str, Any]:
    where = path or data_id.path(archive.root)
    return {"partition": data_id.key, "path": str(where), "url": archive.url(data_id)}


def _place(archive: "Archive", data_id: "DataID") -> dict[str, Any]:
    """Return where a file is or would be, and whether it exists, or the error if it cannot be examined."""
    try:
        path = data_id.existing_path(archive.root)
    except UnreachableError as error:
        return {**_named(archive, data_id), "here": None, "error": str(error)}
    return {**_named(archive, data_id, path), "here": path is not None, "error": None}


def _data_ids(
    keys: Sequence[str],
    name: str | None,
    releases: Sequence[str] = (),
    where: Sequence[str] = (),
    listed: str | None = None,
) -> list[Any]:
    """Return the data IDs of the given keys and those of a list, or else of the selected registered ones."""
    from astra_dagster.datamodel.products import product as find_product

    if listed is not None:
        keys = [*keys, *_keys_of_list(listed, name)]
    if keys and (releases or where):
        raise click.UsageError("give keys, or --release and --where, not both")
    if not keys:
        if not releases and not where:
            raise click.UsageError("give keys, or --keys, or select registered ones by --release or --where")
        if not name:
            raise click.UsageError("registered files are those of a product: give --product too")
        from astra_dagster.orchestration.records import DagsterLedger
        from astra_dagster.planning.ledger import Selection, select_keys

        found = find_product(name)
        with open_instance() as instance:
            keys = select_keys(DagsterLedger(instance), found, Selection(releases, where_of(where)))
        if not keys:
            raise AstraError(
                f"no {found.asset_name} partition is registered for this selection",
                hint="astra-dagster register takes them from a table",
            )
    return [data_id_of(key, name) for key in dict.fromkeys(keys)]


def _keys_of_list(listed: str, name: str | None) -> list[str]:
    """Return the keys in a list, and those of registered files that it names otherwise."""
    from astra_dagster.datamodel.key_lists import match_entries, read_list
    from astra_dagster.datamodel.products import product as find_product
    from astra_dagster.orchestration.records import DagsterLedger
    from astra_dagster.planning.ledger import select_keys

    entries = read_list(listed)
    others = [entry for entry in entries if "/" not in entry]
    if not others:
        return entries
    if not name:
        raise click.UsageError(f"{others[0][:80]!r} is no key, and names files of any product: give --product too")
    item = find_product(name)
    with open_instance() as instance:
        known = select_keys(DagsterLedger(instance), item)
    return [key for key in entries if "/" in key] + match_entries(others, known, item.parts, item.asset_name)
