"""The command line: a thin layer over the functions that the web UI uses too.

Exit codes: 0 all is well, 1 something failed or is missing (one line says what), 2 wrong usage.
"""

import json
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from astra_dagster import __version__
from astra_dagster.errors import AstraError

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class _Group(click.Group):
    """A group whose commands turn our errors into one line on stderr and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except AstraError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="astra-dagster")
def main() -> None:
    """Analyse SDSS spectra: find the files, run tasks on them, compute nothing twice."""


def _selection(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--where", "where", multiple=True, metavar="PART=VALUE", help="Only these: mjd=56439."),
        click.option("--release", "releases", multiple=True, metavar="NAME", help="Only this release; repeatable."),
    ):
        command = option(command)
    return command


@main.command()
@click.option("--product", "products", multiple=True, metavar="NAME", help="Only this product; repeatable.")
@_selection
@click.option("--by-content", is_flag=True, help="Tell files apart by a hash of their contents; reads every file.")
@click.option("--dry-run", is_flag=True, help="Say what would be registered and recorded.")
def discover(
    products: Sequence[str], releases: Sequence[str], where: Sequence[str], by_content: bool, dry_run: bool
) -> None:
    """Find files below SAS_BASE_DIR, register and record them.

    Example: astra-dagster discover --release DR13 --product apVisit
    """
    from astra_dagster.orchestration.discover import DiscoverConfig, discover_job, search

    config = DiscoverConfig(
        products=list(products), releases=list(releases), where=_where(where), by_content=by_content
    )
    with _instance() as instance:
        found = list(search(instance, config))
        for item in found:
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
            result = discover_job.execute_in_process(
                instance=instance,
                run_config={"ops": {"discover_files": {"config": config.model_dump()}}, **QUIET},
                raise_on_error=False,
            )
            _raise_failures(result)


@main.command()
@click.argument("task")
@_selection
@click.option("--set", "values", multiple=True, metavar="NAME=VALUE", help="Set a parameter: fudge_factor=2.")
@click.option("--dry-run", is_flag=True, help="Say what would run, and why.")
@click.option("--overwrite", is_flag=True, help="Compute complete partitions again.")
def run(
    task: str,
    releases: Sequence[str],
    where: Sequence[str],
    values: Sequence[str],
    dry_run: bool,
    overwrite: bool,
) -> None:
    """Run TASK on everything that is not complete, in one Dagster run.

    Example: astra-dagster run ap_visit_snr --release DR13 --where mjd=56439
    """
    from astra_dagster import definitions, settings
    from astra_dagster.orchestration.assets import update_job_name, update_run_config
    from astra_dagster.orchestration.planning import make_plan, select_keys
    from astra_dagster.tasks.store import OutputStore
    from astra_dagster.tasks.task import find_task

    found = find_task(task, definitions.TASKS)
    parameters = found.parameters.from_mapping(dict(_pair(text, "--set") for text in values))
    wanted, root = _where(where), settings.sas_base_dir()
    with _instance() as instance:
        store = OutputStore(settings.check_outputs_dir(), found, parameters)
        keys = select_keys(instance, found.requires, releases, wanted)
        if not keys:
            raise AstraError(
                f"no {found.requires.name} partition is registered"
                + (" for this selection" if releases or where else ""),
                hint=f"run astra-dagster discover --product {found.requires.name}",
            )
        plan = make_plan(instance, store, keys, root, overwrite=overwrite)
        click.echo("\n".join([f"{task}: {len(keys)} partitions", *plan.lines()]))
        if dry_run or not (plan.incomplete or plan.invalid or plan.found):
            return
        config = {**parameters.as_dict(), "overwrite": overwrite, "releases": list(releases), "where": wanted}
        job = definitions.defs.resolve_job_def(update_job_name(found))
        result = job.execute_in_process(
            instance=instance,
            run_config={**update_run_config(found, config), **QUIET},
            raise_on_error=False,
        )
        _raise_failures(result)
        click.echo(f"{len(plan.incomplete)} computed; outputs in {store.folder}")


@main.command()
@click.argument("task")
@click.argument("key")
@click.option("--set", "values", multiple=True, metavar="NAME=VALUE", help="Set a parameter: order=5.")
@click.option("--row", default=0, metavar="N", help="Which spectrum of a file with several; the first is 0.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("spectrum.png"),
    show_default=True,
    help="Where to; the ending says how: png, pdf or svg.",
)
def plot(task: str, key: str, values: Sequence[str], row: int, output: Path) -> None:
    """Draw what TASK made of KEY: the spectrum, its continuum, and the normalised flux.

    Example: astra-dagster plot ap_visit_continuum DR13/apo25m/-/5564/55903/105 --output visit.png
    """
    from astra_dagster import definitions, settings
    from astra_dagster.spectra.output import read_output
    from astra_dagster.spectra.preview import preview, save_preview
    from astra_dagster.tasks.store import OutputStore
    from astra_dagster.tasks.task import find_task

    found = find_task(task, definitions.TASKS)
    if found.output != "fits":
        raise AstraError(f"{task} makes no spectra", hint="ap_visit_continuum does, for example")
    parameters = found.parameters.from_mapping(dict(_pair(text, "--set") for text in values))
    path = OutputStore(settings.outputs_dir(), found, parameters).path(found.requires.parse_key(key))
    if not path.is_file():
        raise AstraError(
            "there is no such output", key=key, path=path, hint=f"run astra-dagster run {task} with these parameters"
        )
    save_preview(preview(read_output(path), row, title=f"{task} {key}"), output)
    click.echo(f"wrote {output}")


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.pass_context
def demo(ctx: click.Context, folder: Path) -> None:
    """Write a small synthetic SAS mirror into FOLDER, and run the whole pipeline on it.

    Example: astra-dagster demo demo
    """
    from astra_dagster import definitions, settings
    from astra_dagster.demo import write_mirror
    from astra_dagster.orchestration.planning import make_plan, select_keys
    from astra_dagster.tasks.store import OutputStore

    folder = folder.absolute()
    places = {"SAS_BASE_DIR": folder / "sas", "DAGSTER_HOME": folder / "dagster", "ASTRA_OUTPUTS": folder / "outputs"}
    try:
        paths = write_mirror(places["SAS_BASE_DIR"])
        places["DAGSTER_HOME"].mkdir(exist_ok=True)
        (places["DAGSTER_HOME"] / "dagster.yaml").write_text(
            "telemetry:\n  enabled: false\nnux:\n  enabled: false\n", encoding="utf-8"
        )
    except OSError as error:
        raise AstraError(f"the demo cannot be written: {error.strerror}", path=folder) from error
    click.echo(f"{len(paths)} synthetic files in {places['SAS_BASE_DIR']}")
    os.environ.update({name: str(path) for name, path in places.items()})
    os.environ.pop("ASTRA_CONFIG", None)
    ctx.invoke(discover)
    ctx.invoke(run, task="ap_visit_snr")

    task = definitions.TASKS["ap_visit_snr"]
    store = OutputStore(settings.outputs_dir(), task, task.parameters())
    with _instance() as instance:
        keys = select_keys(instance, task.requires)
        plan = make_plan(instance, store, keys, settings.sas_base_dir())
    width = max(map(len, keys))
    click.echo("\n" + "  ".join([f"{'partition':{width}}", *(f"{name:>11}" for name in task.columns)]))
    for work in plan.complete:
        written = store.find(work.data_id, work.input_version)
        if written is not None:
            cells = (_cell(written.results[name]) for name in task.columns)
            click.echo("  ".join([f"{work.data_id.key:{width}}", *cells]))
    click.echo("\nTo look at it in the web UI, at http://localhost:3000:\n")
    for name, path in places.items():
        click.echo(f"  export {name}={shlex.quote(str(path))}")
    click.echo("  dagster dev -m astra_dagster.definitions")


def _cell(value: Any) -> str:
    return f"{value:>11.2f}" if isinstance(value, float) else f"{value!s:>11}"


@contextmanager
def _instance() -> Iterator[Any]:
    """The Dagster instance of DAGSTER_HOME; the folder is made if it is not there."""
    import dagster as dg

    from astra_dagster import settings

    home = settings.dagster_home()
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AstraError(f"DAGSTER_HOME cannot be made: {error.strerror}", path=home) from error
    with dg.DagsterInstance.get() as instance:
        yield instance


def _pair(text: str, option: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"{option} takes NAME=VALUE, not {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _where(texts: Sequence[str]) -> dict[str, list[str]]:
    where: dict[str, list[str]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise click.UsageError(f"--where takes PART=VALUE, not {text!r}")
        where.setdefault(name, []).append(value)
    return where


def _raise_failures(result: Any) -> None:
    """Say why a run failed: what it said itself where it did, else the name of its error."""
    if result.success:
        return
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            if data.user_failure_data is not None:
                raise click.ClickException(str(data.user_failure_data.description))
            message = data.error.message.strip() if data.error else "no reason given"
            raise click.ClickException(f"the run {result.run_id} failed: {message}")
    raise click.ClickException(f"the run {result.run_id} failed")
