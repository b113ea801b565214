"""The command that runs the whole pipeline on synthetic files."""

import os
import shlex
import shutil
import sys
from pathlib import Path

import click

from astra_dagster.cli.common import open_instance
from astra_dagster.cli.files import discover
from astra_dagster.cli.init import DAGSTER_YAML
from astra_dagster.cli.looking.show import show
from astra_dagster.cli.run import plans_of, run
from astra_dagster.errors import make_write_error


@click.command(short_help="Run the whole pipeline on synthetic files.")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--second-reduction", is_flag=True, help="With a plate of DR16 too, to compare with that of DR17.")
@click.pass_context
def demo(ctx: click.Context, folder: Path, second_reduction: bool) -> None:
    """Write a small synthetic SAS mirror into FOLDER, and run the whole pipeline on it.

    Example: astra-dagster demo demo
    """
    from astra_dagster.demo import write_mirror, write_second_reduction
    from astra_dagster.planning.status import Status

    folder = folder.absolute()
    places = {"SAS_BASE_DIR": folder / "sas", "DAGSTER_HOME": folder / "dagster", "ASTRA_OUTPUTS": folder / "outputs"}
    try:
        paths = write_mirror(places["SAS_BASE_DIR"])
        if second_reduction:
            paths += write_second_reduction(places["SAS_BASE_DIR"])
        places["DAGSTER_HOME"].mkdir(exist_ok=True)
        (places["DAGSTER_HOME"] / "dagster.yaml").write_text(DAGSTER_YAML, encoding="utf-8")
    except OSError as error:
        raise make_write_error(error, "the demo", folder) from error
    click.echo(f"{len(paths)} synthetic files in {places['SAS_BASE_DIR']}")
    os.environ.update({name: str(path) for name, path in places.items()})
    os.environ.pop("ASTRA_CONFIG", None)
    ctx.invoke(discover)
    ctx.invoke(run, tasks=["ap_visit_snr"])

    with open_instance() as instance:
        _, (plan,) = plans_of(instance, ["ap_visit_snr"], (), (), {}, overwrite=False)
    columns = [name for name, column in plan.store.task.columns.items() if not column.identity]
    complete = plan.work(Status.COMPLETE)
    width = max(len(work.data_id.key) for work in complete)
    click.echo("\n" + "  ".join([f"{'partition':{width}}", *(f"{name:>11}" for name in columns)]))
    for work in complete:
        written = plan.store.find(work)
        if written is not None:
            cells = (_cell(written.results[name]) for name in columns)
            click.echo("  ".join([f"{work.data_id.key:{width}}", *cells]))
    click.echo("\nA spectrum, as a page for a browser:")
    ctx.invoke(show, what=[complete[0].data_id.key], output=folder / "spectrum.html")
    click.echo("\nTo look at all of it in the web UI, at http://localhost:3000:\n")
    for name, path in places.items():
        click.echo(f"  export {name}={shlex.quote(str(path))}")
    here = Path(sys.executable).with_name("dagster")
    dagster = "dagster" if shutil.which("dagster") == str(here) else shlex.quote(str(here))
    click.echo(f"  {dagster} dev -m astra_dagster.definitions")


def _cell(value: object) -> str:
    return f"{value:>11.2f}" if isinstance(value, float) else f"{value!s:>11}"
