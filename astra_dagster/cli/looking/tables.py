"""The command that puts all results of a task into one table."""

from collections.abc import Sequence
from typing import Any

import click

from astra_dagster.cli.common import (
    TaskCommand,
    also_set,
    json_option,
    open_instance,
    put_json,
    raise_failures,
    setting,
    settings_of,
    task_names,
)

LISTED = 20
"""Most left-out outputs that are listed."""


@click.command(cls=TaskCommand, short_help="Put all results of TASK into one table: Parquet, FITS.")
@click.argument("task", shell_complete=task_names)
@setting
@click.option("--fits/--no-fits", default=True, show_default=True, help="Write the table as FITS as well.")
@click.option("--overwrite", is_flag=True, help="Read all outputs again.")
@json_option
def table(task: str, values: Sequence[str], fits: bool, overwrite: bool, as_json: bool) -> None:
    """Put all results of TASK into one table, Parquet and FITS; only new and changed outputs are read.

    Example: astra-dagster table ap_visit_snr
    """
    import dagster as dg

    from astra_dagster.orchestration.partitions import registered
    from astra_dagster.orchestration.records import table_name
    from astra_dagster.orchestration.runs.start import run_job
    from astra_dagster.planning.ledger import make_none_registered
    from astra_dagster.tasks import registry

    found = registry.find_task(task)
    parameters = found.setting(settings_of(values)).values()
    config = {**parameters.as_dict(all=True), **also_set(values), "fits": fits, "overwrite": overwrite}
    with open_instance() as instance:
        if not registered(instance, found.domain):
            raise make_none_registered(found.domain, selected=False)
        from astra_dagster import definitions

        name = table_name(found)
        result = run_job(
            definitions.defs.resolve_implicit_global_asset_job_def(),
            instance,
            {"ops": {name: {"config": config}}},
            asset_selection=[dg.AssetKey(name)],
        )
        raise_failures(result)
        (made,) = result.asset_materializations_for_node(name)
    about: dict[str, Any] = {label: entry.value for label, entry in made.metadata.items()}
    if as_json:
        names = ("partitions", "new", "changed", "dropped", "unreadable", "parquet", "fits", "database", "parameters")
        put_json({"rows": about["dagster/row_count"], **{name: about[name] for name in names if name in about}})
        return
    click.echo(
        f"{about['dagster/row_count']} rows of {about['partitions']} partitions: {about['new']} new, "
        f"{about['changed']} changed, {about['dropped']} dropped"
    )
    for label in ("parquet", "fits", "database"):
        if label in about:
            click.echo(f"  {about[label]}")
    if about["unreadable"]:
        for record in about["left_out"].records[:LISTED]:
            click.echo(f"left out: {record.data['reason']}", err=True)
        click.echo(f"{about['unreadable']} outputs cannot be read", err=True)
    elif not about["dagster/row_count"]:
        click.echo(f"nothing is complete with these parameters; run astra-dagster run {task}", err=True)
