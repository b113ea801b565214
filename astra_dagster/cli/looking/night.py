"""The command that looks at a night."""

from collections.abc import Sequence

import click

from astra_dagster.cli.common import TaskCommand, json_option, open_instance, put_json, selection, where_of


@click.command(cls=TaskCommand, short_help="Say how far a night is, and what stands out.")
@click.argument("nights", metavar="[MJD]...", nargs=-1)
@click.option("--field", "fields", multiple=True, metavar="NAME", help="Only this field; repeatable.")
@selection
@json_option
def night(
    nights: Sequence[str], fields: Sequence[str], releases: Sequence[str], where: Sequence[str], as_json: bool
) -> None:
    """Say what each task has done of a night, by default the last, and write a page about it.

    The page has what is left and why, what failed, medians of results with those that are far from the others, and each
    plate as a picture. MJD may be a range, 56000..56010. Nothing is computed.

    Example: astra-dagster night 56000 --release DR17
    """
    from astra_dagster.orchestration.watch.nights import NOT_OF_PRODUCT, find_nights, make_night, write_night
    from astra_dagster.planning.ledger import Selection

    chosen = Selection(releases, {**where_of(where), **({"field": list(fields)} if fields else {})})
    documents = []
    with open_instance() as instance:
        try:
            found = find_nights(instance, nights, chosen)
        except NOT_OF_PRODUCT as error:
            raise click.UsageError(str(error)) from error
        for mjd in found:
            made = make_night(instance, mjd, chosen)
            documents.append(made.as_dict())
            if not as_json:
                click.echo("\n".join(made.lines()))
                click.echo(f"wrote {write_night(made)}")
    if as_json:
        put_json(documents)
