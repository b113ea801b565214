"""Commands about registered partitions: list them, and forget some."""

from collections.abc import Sequence

import click

from astra_dagster.cli.common import json_option, open_instance, put_json, selection, where_of
from astra_dagster.errors import AstraError, InvalidKeyError, nearest


@click.command("list", short_help="List registered files of a product.")
@click.argument("product")
@selection
@json_option
def list_keys(product: str, releases: Sequence[str], where: Sequence[str], as_json: bool) -> None:
    """Print the partition keys of the files of PRODUCT that are registered, one a line.

    Example: astra-dagster list ap_visit --where mjd=56000..56100 --where field=120*
    """
    from astra_dagster.datamodel.products import product as find_product

    keys = find_product(product).search(release=releases, where=where_of(where)).keys
    if as_json:
        put_json(keys)
    else:
        click.echo("\n".join(keys))


@click.command(short_help="Unregister keys that stand for no file.")
@click.argument("product")
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Also keys of which there is a record.")
def forget(product: str, keys: Sequence[str], yes: bool) -> None:
    """Unregister each KEY of PRODUCT: one that was mistyped, or of a file that will never come.

    A key of a file that was here, or of which there are results, has records, and is left alone without --yes. Records,
    outputs and files stay in any case; a file that is here is registered again when it is discovered.

    Example: astra-dagster forget ap_visit DR17/apo25m/120+12/5226/56000/099
    """
    import dagster as dg

    from astra_dagster.datamodel.products import product as find_product
    from astra_dagster.orchestration.partitions import registered, unregister
    from astra_dagster.orchestration.records import asset_key, event_pointers
    from astra_dagster.tasks import registry

    found = find_product(product)
    with open_instance() as instance:
        known = dict.fromkeys(registered(instance, found))
        for key in keys:
            if key not in known:
                error = InvalidKeyError(
                    f"no {found.asset_name} partition is registered as {key}", hint=nearest(key, known)
                )
                raise click.UsageError(str(error))
        assets = [dg.AssetKey(task.name) for task in registry.tasks().values() if task.domain == found]
        for asset in (asset_key(found), *assets) if not yes else ():
            recorded = list(event_pointers(instance, asset, keys))
            if recorded:
                raise AstraError(
                    f"there is a record of it by {asset.to_user_string()}",
                    key=recorded[0],
                    hint="with --yes it is forgotten all the same; its records and outputs stay",
                )
        unregister(instance, found, keys, registry.groups())
    click.echo(f"{len(keys)} forgotten")
