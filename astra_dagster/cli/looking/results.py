"""The command that prints the results of a task."""

import csv
import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from astra_dagster.cli.common import (
    TaskCommand,
    json_option,
    put_json,
    selection,
    setting,
    settings_of,
    task_names,
    where_of,
)

if TYPE_CHECKING:  # slow to import
    import pyarrow as pa

SHOWN = 50
"""Most rows of the table for people."""


@click.command(cls=TaskCommand, short_help="Print the results of TASK.")
@click.argument("task", shell_complete=task_names)
@click.argument("keys", metavar="[KEY]...", nargs=-1)
@click.option("--columns", metavar="A,B", help="Only these columns, besides the key.")
@click.option("--sort", metavar="COLUMN", help="Sort by this column; -COLUMN has the largest first.")
@selection
@setting
@click.option("--csv", "form", flag_value="csv", help="Print CSV instead.")
@click.option("--votable", "form", flag_value="votable", help="Print a VOTable instead.")
@json_option
def results(
    task: str,
    keys: Sequence[str],
    columns: str | None,
    sort: str | None,
    releases: Sequence[str],
    where: Sequence[str],
    values: Sequence[str],
    form: str | None,
    as_json: bool,
) -> None:
    """Print the results of TASK, for all partitions or for each KEY, one row a spectrum.

    CSV, JSON and VOTable have all rows; the table has the first 50, and says how many are left out.

    Example: astra-dagster results ap_visit_snr --columns snr,object --sort -snr --release DR17
    """
    if form and as_json:
        raise click.UsageError("one of --csv, --json and --votable at a time")
    from astra_dagster.tasks.registry import find_task

    found = find_task(task).setting(settings_of(values)).results(keys or None, release=releases, where=where_of(where))
    wanted = None if columns is None else list(dict.fromkeys(["key", *columns.split(",")]))
    table = found.to_arrow(wanted)
    if sort is not None:
        name = sort.removeprefix("-")
        by = found.to_arrow([name]).rename_columns(["by"])
        order = [("by", "descending" if sort.startswith("-") else "ascending")]
        table = table.take(_places(by, order))
    if as_json:
        put_json(table.to_pylist())
    elif form == "csv":
        click.echo(_csv(table), nl=False)
    elif form == "votable":
        click.echo(_votable(table), nl=False)
    else:
        click.echo(_aligned(table))
    click.echo(f"{len(table)} rows, {found.source}", err=True)
    for reason in found.unreadable.values():
        click.echo(f"left out: {reason}", err=True)


def _places(by: "pa.Table", order: list[tuple[str, str]]) -> "pa.Array":
    import pyarrow.compute as pc

    return pc.sort_indices(by, sort_keys=order)


def _aligned(table: "pa.Table") -> str:
    from astra_dagster.tables.texts import align, write_cell

    names = table.column_names
    rows = [[write_cell(row[name]) for name in names] for row in table.slice(0, SHOWN).to_pylist()]
    lines = align([names, *rows])
    more = len(table) - SHOWN
    lines += [f"and {more} more rows: --csv, --json or --votable has all"] if more > 0 else []
    return "\n".join(lines)


def _csv(table: "pa.Table") -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.column_names)
    for row in table.to_pylist():
        writer.writerow([json.dumps(value) if isinstance(value, list) else value for value in row.values()])
    return text.getvalue()


def _votable(table: "pa.Table") -> str:
    from astra_dagster.results.columns import make_qtable

    stream = io.BytesIO()
    make_qtable(table).write(stream, format="votable")
    return stream.getvalue().decode()
