"""The command that compares two sets of results of a task."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from astra_dagster.cli.common import TaskCommand, json_option, put_json, task_names
from astra_dagster.errors import ComparisonError, ParameterError, UnknownColumnError, UnknownReleaseError
from astra_dagster.outputs.atomic import replacing

if TYPE_CHECKING:  # slow to import
    from astra_dagster.comparison.comparison import Comparison

SHOWN = 10
"""Most outliers of a column, and keys on one side only, that are printed."""

SUFFIXES = (".parquet", ".fits", ".html")
MISTAKES = (ComparisonError, ParameterError, UnknownColumnError, UnknownReleaseError)
"""Errors that say that two sides cannot be compared at all."""


@click.command(cls=TaskCommand, short_help="Compare two sets of results of TASK.")
@click.argument("task", shell_complete=task_names)
@click.argument("a")
@click.argument("b")
@click.option("--match", "by", type=click.Choice(["key", "visit", "object"]), help="How rows are matched.")
@click.option("--columns", metavar="A,B", help="Only these columns.")
@click.option(
    "--output",
    "outputs",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the joined table, .parquet or .fits, or a page, .html; repeatable.",
)
@json_option
def compare(
    task: str, a: str, b: str, by: str | None, columns: str | None, outputs: Sequence[Path], as_json: bool
) -> None:
    """Compare two sets of results of TASK: what is the same, what differs by how much, and which rows jump.

    A and B are parameters (order=3, default), a release or reduction (DR17), a code version (code_version=2), a time
    (2026-01-31, yesterday), a table that was kept (old.parquet), or several of these with blanks between them.

    Example: astra-dagster compare ap_visit_snr default fudge_factor=2 --output compared.html
    """
    for path in outputs:
        if path.suffix not in SUFFIXES:
            raise click.UsageError(f"--output ends in {', '.join(SUFFIXES)}, not in {path.suffix or 'nothing'!r}")
    from astra_dagster.results.comparing import compare_requests
    from astra_dagster.tasks.registry import find_task

    found = find_task(task)
    names = [] if columns is None else list(dict.fromkeys(columns.split(",")))
    try:
        made = compare_requests(found, a, b, by=by or "", columns=names)
    except MISTAKES as error:
        raise click.UsageError(str(error)) from error
    for path in outputs:
        _write(path, made)
    if as_json:
        put_json(_document(made))
    else:
        click.echo("\n".join(_lines(made)))
    for path in outputs:
        click.echo(f"wrote {path}", err=as_json)


def _write(path: Path, made: "Comparison") -> None:
    from astra_dagster.comparison.comparison import write_table
    from astra_dagster.comparison.page import page

    with replacing(path, what="comparison", hint="make it writable, or say with --output where it goes") as stream:
        if path.suffix == ".html":
            stream.write(page(made).encode())
        else:
            write_table(stream, made, path.suffix)


def _document(made: "Comparison") -> dict[str, Any]:
    matches = made.matches
    return {
        **{label: {"side": side.name, "rows": len(side.table), "source": side.source} for label, side in made.sides},
        "matched_by": matches.by,
        "matched": len(matches.a),
        "only_a": matches.only_a,
        "only_b": matches.only_b,
        "repeated": matches.repeated,
        "columns": made.summary(),
        "changed": made.changed,
        "left_out": made.left_out,
        "outliers": [row for name in made.columns for row in made.list_outliers(name)],
    }


def _lines(made: "Comparison") -> list[str]:
    from astra_dagster.comparison.comparison import tabulate
    from astra_dagster.tables.texts import align, write_cell

    matches = made.matches
    lines = [f"{label}: {side.name}, {len(side.table)} rows, {side.source}" for label, side in made.sides]
    lines.append(f"{len(matches.a)} rows matched by {matches.by}")
    for label, keys in (("a", matches.only_a), ("b", matches.only_b)):
        more = [f"and {len(keys) - SHOWN} more"] if len(keys) > SHOWN else []
        lines += [f"{len(keys)} only in {label}: {', '.join([*keys[:SHOWN], *more])}"] if keys else []
    if matches.repeated:
        lines.append(f"{matches.repeated} left out: their {matches.by} is there several times")
    if made.columns:
        lines += ["", "b - a", *align(tabulate(made))]
    lines += [f"{name}: {count} differ" for name, count in made.changed.items() if count]
    lines += [f"{name} is not compared: {why}" for name, why in made.left_out.items()]
    for name, column in made.columns.items():
        count = len(column.outliers)
        if count:
            rows = [[_key(row), write_cell(row["a"]), write_cell(row["b"])] for row in made.list_outliers(name, SHOWN)]
            more = [f"and {count - SHOWN} more: --json or --output has all"] if count > SHOWN else []
            lines += ["", *align([[f"outliers of {name}", "a", "b"], *rows]), *more]
    return lines


def _key(row: dict[str, Any]) -> str:
    texts = [row["key"], f"[{row['spectrum']}]" if row.get("spectrum") else "", f"= {row.get('key_b', '')}"]
    return " ".join(text for text in texts if text not in ("", "= "))
