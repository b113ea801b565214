"""Commands about files: finding and registering them."""

from collections.abc import Sequence

import click

from astra_dagster.cli.common import json_option, open_instance, put_json, raise_failures, run_job, selection, where_of
from astra_dagster.errors import AstraError


@click.command(short_help="Find files below SAS_BASE_DIR, register and record them.")
@click.option("--product", "products", multiple=True, metavar="NAME", help="Only this product; repeatable.")
@selection
@click.option("--by-content", is_flag=True, help="Tell files apart by a hash of their contents; reads every file.")
@click.option("--dry-run", is_flag=True, help="Say what would be registered and recorded.")
@json_option
def discover(
    products: Sequence[str],
    releases: Sequence[str],
    where: Sequence[str],
    by_content: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Find files below SAS_BASE_DIR, register and record them.

    Example: astra-dagster discover --release DR13 --product apVisit
    """
    from astra_dagster.orchestration.discover import DiscoverConfig, discover_job, search
    from astra_dagster.orchestration.partitions import register
    from astra_dagster.tasks import registry

    config = DiscoverConfig(
        products=list(products), releases=list(releases), where=where_of(where), by_content=by_content
    )
    with open_instance() as instance:
        found = list(search(instance, config))
        for item in found if not as_json else ():
            click.echo(str(item))
            for skipped in item.skipped:
                click.echo(f"  skipped {skipped.path}: {skipped.reason}", err=True)
        if not any(item.inputs for item in found):
            from astra_dagster import settings

            raise AstraError(
                "no files found" + (" for this selection" if products or releases or where else ""),
                path=settings.sas_base_dir(),
                hint="is SAS_BASE_DIR the folder that holds dr17, sdsswork, ...?",
            )
        if not dry_run and any(item.to_record or item.new for item in found):
            result = run_job(discover_job, instance, {"ops": {"discover_files": {"config": config.model_dump()}}})
            raise_failures(result)
        elif not dry_run:  # nothing new, but perhaps a task over groups of what was there already
            for product in dict.fromkeys(item.product for item in found):
                register(instance, product, (), registry.groups())
    if as_json:
        put_json(
            [
                {
                    "product": item.product.name,
                    "release": item.release,
                    "files": len(item.inputs),
                    "new": len(item.new),
                    "to_record": len(item.to_record),
                    "skipped": [{"path": skipped.path, "reason": skipped.reason} for skipped in item.skipped],
                }
                for item in found
            ]
        )
