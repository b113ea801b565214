"""The command that removes files, or records, that are no longer needed."""

from collections.abc import Sequence

import click

from astra_dagster.cli.common import (
    TaskCommand,
    json_option,
    open_instance,
    put_json,
    selection,
    verify_option,
    where_of,
)
from astra_dagster.errors import printable


@click.command(cls=TaskCommand, short_help="List what is no longer needed; with --yes, remove it.")
@click.option("--yes", is_flag=True, help="Remove what is listed; without, nothing is removed.")
@click.option("--list", "paths", is_flag=True, help="Print each path too.")
@click.option("--task", "tasks", multiple=True, metavar="NAME", help="Only this task; repeatable.")
@click.option("--digest", "digests", multiple=True, metavar="DIGEST", help="Only these parameters; repeatable.")
@click.option("--older", type=click.FloatRange(min=0), metavar="DAYS", help="Only files not modified for so long.")
@click.option("--kind", "kinds", multiple=True, metavar="KIND", help="Only this kind; repeatable.")
@click.option("--other-parameters", is_flag=True, help="Remove outputs of other parameters too.")
@click.option("--records", is_flag=True, help="Records that later ones have replaced, instead of files.")
@selection
@verify_option
@json_option
def clean(
    yes: bool,
    paths: bool,
    tasks: Sequence[str],
    digests: Sequence[str],
    older: float | None,
    kinds: Sequence[str],
    other_parameters: bool,
    records: bool,
    releases: Sequence[str],
    where: Sequence[str],
    verify: bool,
    as_json: bool,
) -> None:
    """List what is no longer needed below the outputs folder; with --yes, remove it.

    \b
    superseded        of parameters that no setting of today's task leads to
    other-parameters  of parameters that a setting leads to, and that are no
                      task's defaults; stay, except with --other-parameters,
                      --older or --digest
    code              of another code version than today's
    unrecorded        without a record, and no run would take them up
    altered           other than was recorded; found only with --verify
    unregistered      of recorded partitions that are not registered any more
    no-input          whose input file was removed; stay, except with --kind
                      no-input, and in any case where its disk may be away
    failures          notes of failures that are over
    temporary         files of killed runs
    unknown-task      of tasks that are not registered; stay, except with --task
    stray             of partitions that this DAGSTER_HOME never heard of; stay,
                      except with --kind stray
    recordable        without a record, and the next run takes them up; stay
    lost              records without an output; Dagster removes no single record

    Parameters that latest records carry (the column recorded counts these) stay
    unless --digest names them. What a run that is not finished may write stays,
    and what has come since clean began to look.
    Files that are not ours, by name and content, stay in any case.

    With --records, what goes are records in Dagster's database that came before
    the latest one of the same partition, which always stays. --task names tasks
    and products then.

    Example: astra-dagster clean --task ap_visit_snr --older 30 --list
    """  # noqa: D301 (click takes the character itself)
    if records:
        if paths or digests or kinds or other_parameters or releases or where or verify:
            raise click.UsageError("--records goes with --task, --older, --yes and --json alone")
        _clean_records(tasks, older or 0.0, yes=yes, as_json=as_json)
        return
    from astra_dagster import settings
    from astra_dagster.orchestration.clean import CleanConfig, carry_out, size_text, survey, table

    root = settings.outputs_dir()
    config = CleanConfig(
        tasks=list(tasks),
        digests=list(digests),
        older_days=older,
        kinds=list(kinds),
        other_parameters=other_parameters,
        releases=list(releases),
        where=where_of(where),
    )
    with open_instance() as instance:
        found = survey(instance, root, config.selection(root), verify=verify)
        if as_json:
            removal = carry_out(instance, root, found) if yes else None
            gone = {item.path for item in removal.removed} if removal else set()
            put_json(
                [
                    {
                        "kind": item.kind,
                        "task": item.family,
                        "digest": item.digest,
                        "path": item.path,
                        "size": item.size,
                        "stays": item.kept,
                        "removed": item.path in gone,
                    }
                    for item in found.candidates
                ]
            )
            _warn([*found.problems, *(removal.failed if removal else ())])
            if found.problems or (removal and removal.failed):
                raise click.exceptions.Exit(1)
            return
        if not found.candidates and not found.problems:
            click.echo(f"nothing to clean below {root}")
            return
        click.echo("\n".join(table(found)))
        for item in found.candidates if paths else ():
            place = item.path if item.kind == "lost" else str(root / item.path)
            click.echo(f"{'stays' if item.kept else 'remove'}  {item.kind}  {printable(place)}")
        _warn(found.problems)
        if not yes:
            if any(not item.kept for item in found.candidates):
                click.echo("nothing was removed; add --yes to remove")
            return
        removal = carry_out(instance, root, found)
    click.echo(f"{len(removal.removed)} removed, {size_text(sum(item.size for item in removal.removed))}")
    _warn(removal.left, "left ")
    _warn(removal.failed, "not removed ")
    failures = len(removal.failed) + len(found.problems)
    if failures:
        raise click.ClickException(f"{failures} could not be removed")


def _clean_records(names: Sequence[str], older: float, *, yes: bool, as_json: bool) -> None:
    """List records that later ones have replaced; with `yes`, remove them."""
    from astra_dagster.orchestration.clean import size_text
    from astra_dagster.orchestration.storage.pruning import find_assets, remove, survey

    with open_instance() as instance:
        found = survey(instance, find_assets(names), older)
        removed = remove(instance, found, older) if yes else 0
    if as_json:
        put_json([{"asset": one.asset, "earlier": one.count, "size": one.size, "removed": yes} for one in found])
        return
    if not found:
        click.echo("nothing to clean: each partition has its latest record alone")
        return
    width = max(len(one.asset) for one in found)
    for one in found:
        click.echo(f"{one.asset:{width}}  {one.count} earlier records, {size_text(one.size)}")
    if not yes:
        click.echo("nothing was removed; add --yes to remove")
        return
    click.echo(f"{removed} removed; new records fill their place, and VACUUM makes the database smaller")


def _warn(problems: Sequence[tuple[str, str]], what: str = "") -> None:

    for path, reason in problems:
        click.echo(f"{what}{printable(path)}: {reason}", err=True)
