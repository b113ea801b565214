"""The command that registers the files of a table, which may not exist yet."""

import click

from astra_dagster.cli.common import json_option, open_instance, put_json


@click.command(short_help="Register the files that a table lists, here or not yet.")
@click.argument("table")
@click.option("--product", required=True, metavar="NAME", help="What the files are: apVisit.")
@click.option("--release", default="", metavar="NAME", help="Of which release; else the table has a column release.")
@click.option("--dry-run", is_flag=True, help="Say what would be registered.")
@json_option
def register(table: str, product: str, release: str, dry_run: bool, as_json: bool) -> None:
    """Register the files that TABLE lists, one a row, whether they are there or not.

    TABLE is an allVisit, allStar or spAll, or a list of one's own: FITS, VOTable or CSV with a column for each part of
    the product's key, under its SDSS name or ours, or with whole paths below SAS_BASE_DIR in a column path. A task
    leaves out what is not there yet; run it again every day, and each file is analysed once, when it has come.

    Example: astra-dagster register allVisit.fits --product apVisit --release DR17
    """
    from astra_dagster.orchestration.expected import RegisterConfig, expect, register_expected

    with open_instance() as instance:
        expected = expect(instance, RegisterConfig(table=table, product=product, release=release))
        if as_json:
            put_json(
                {
                    "product": expected.product.name,
                    "files": len(expected.keys),
                    "new": len(expected.new),
                    "on_disk": expected.on_disk,
                    "unreachable": expected.unreachable.total(),
                    "rejected": [str(row) for row in expected.rejected],
                }
            )
        for line in (str(expected), *expected.rejections) if not as_json else ():
            click.echo(line if line == str(expected) else f"  {line}", err=line != str(expected))
        if not dry_run:
            register_expected(instance, expected)
