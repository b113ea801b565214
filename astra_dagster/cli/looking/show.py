"""The command that shows spectra, as a page for a browser or as a picture."""

import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from astra_dagster import settings
from astra_dagster.cli.common import data_id_of, setting, settings_of, tell_left_out
from astra_dagster.outputs.atomic import replacing

if TYPE_CHECKING:
    from astra_dagster.viewer.shown import ShownSpectra

PICTURES = (".png", ".pdf", ".svg")
ELSEWHERE = "make it writable, or say with --output where it goes"


@click.command(short_help="Show spectra in a browser, or as a picture.")
@click.argument("what", nargs=-1, required=True, metavar="KEY... [TASK]")
@setting
@click.option("--product", metavar="NAME", help="Product of KEY, where KEY and files do not tell; without TASK.")
@click.option("--instrument", type=click.Choice(["BOSS", "APOGEE"]), help="Which spectra of an mwm file.")
@click.option("--row", default=0, metavar="N", help="Which spectrum of a file with several; the first is 0.")
@click.option("--png", is_flag=True, help="Make a picture, not a page.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to: .html, .png, .pdf or .svg.  [default: named after KEY, in this folder]",
)
@click.option("--open/--no-open", "opened", default=True, help="Open it in a browser; only done on a terminal.")
def show(
    what: Sequence[str],
    values: Sequence[str],
    product: str | None,
    instrument: str | None,
    row: int,
    png: bool,
    output: Path | None,
    opened: bool,
) -> None:
    """Show the spectra of KEY, with continuum, bad pixels and main lines: of the file, or what TASK made of it.

    The page needs nothing but a browser. Several keys get a panel each.

    Example: astra-dagster show DR17/apo25m/120+12/5226/56000/001 ap_visit_continuum
    """
    keys, task = _keys_and_task(what)
    if task and (product or instrument):
        raise click.UsageError("--product and --instrument are for files, not for what a task made of them")
    if values and not task:
        raise click.UsageError("--set is for the parameters of a task")
    shown = _outputs(keys, task, values) if task else [_input(key, product, instrument) for key in keys]
    path = output or Path(_file_name(task or shown[0].product, keys, ".png" if png else ".html"))
    if path.suffix not in (".html", *PICTURES) or (png and path.suffix != ".png"):
        raise click.UsageError(f"--output cannot end in {path.suffix or 'nothing'!r} here")
    if path.suffix == ".html":
        from astra_dagster.viewer.browser import page

        contents = page(shown, row).encode()
    else:
        from astra_dagster.viewer.preview import encode_figure, picture

        contents = encode_figure(picture(shown, row), path.suffix)
    with replacing(path, what="picture" if path.suffix in PICTURES else "page", hint=ELSEWHERE) as stream:
        stream.write(contents)
    click.echo(f"wrote {path}")
    if opened and sys.stdout.isatty():
        webbrowser.open(path.absolute().as_uri())


def _keys_and_task(what: Sequence[str]) -> tuple[list[str], str | None]:
    """Separate keys, which contain slashes, from the name of a task."""
    keys, tasks = [text for text in what if "/" in text], [text for text in what if "/" not in text]
    if not keys:
        raise click.UsageError(f"{tasks[0]!r} is no partition key: a key reads release/.../...")
    if len(tasks) > 1:
        raise click.UsageError(f"one task at a time, not {' and '.join(tasks)}")
    return keys, tasks[0] if tasks else None


def _outputs(keys: Sequence[str], name: str, values: Sequence[str]) -> "list[ShownSpectra]":
    from astra_dagster.outputs.pictures import shown_output
    from astra_dagster.outputs.store import OutputStore
    from astra_dagster.tasks import registry

    task = registry.find_task(name)
    tell_left_out(registry.broken())
    task = task.setting(settings_of(values))
    store = OutputStore(settings.outputs_dir(), task, task.values())
    return [shown_output(store, task.domain.parse_key(key)) for key in keys]


def _input(key: str, name: str | None, instrument: str | None) -> "ShownSpectra":
    from astra_dagster.outputs.pictures import shown_input

    return shown_input(data_id_of(key, name), settings.sas_base_dir(), instrument)


def _file_name(what: str, keys: Sequence[str], suffix: str) -> str:
    parts = [part for part in keys[0].split("/") if part != "-"]
    more = [f"and-{len(keys) - 1}-more"] if len(keys) > 1 else []
    return "-".join([what, *parts, *more]) + suffix
