"""The command that shows spectra, as a page for a browser or as a picture."""

import re
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from astra_dagster import settings
from astra_dagster.cli.common import data_id_of, setting, settings_of, tell_left_out
from astra_dagster.errors import AstraError, InputMissingError, InvalidKeyError
from astra_dagster.outputs.atomic import replacing
from astra_dagster.presence import is_file

if TYPE_CHECKING:
    from astra_dagster.datamodel.products import DataID, Product
    from astra_dagster.tasks.groups import PartitionID
    from astra_dagster.viewer.shown import ShownSpectra

PICTURES = (".png", ".pdf", ".svg")
_STAR = re.compile(r"(2MASS|2M|AP)?\s?J?\d{8}[+-]\d{7}")
ELSEWHERE = "make it writable, or say with --output where it goes"


@click.command(short_help="Show spectra in a browser, or as a picture.")
@click.argument("what", nargs=-1, required=True, metavar="WHAT... [TASK]")
@setting
@click.option("--product", metavar="NAME", help="Product of WHAT, where it does not tell; without TASK.")
@click.option("--instrument", type=click.Choice(["BOSS", "APOGEE"]), help="Which spectra of an mwm file.")
@click.option("--row", default=0, metavar="N", help="Which spectrum of a file with several; the first is 0.")
@click.option("--png", is_flag=True, help="Make a picture, not a page.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to: .html, .png, .pdf or .svg.  [default: named after WHAT, in this folder]",
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
    """Show spectra with continuum, bad pixels and main lines: of a file, or what TASK made of it.

    WHAT is a partition key, the path of a file, or a star by its 2MASS name. The page needs nothing but a browser.
    Several files get a panel each.

    Example: astra-dagster show DR17/apo25m/120+12/5226/56000/001 ap_visit_continuum
    """
    sources, task = _sources_and_task(what)
    if task and (product or instrument):
        raise click.UsageError("--product and --instrument are for files, not for what a task made of them")
    if values and not task:
        raise click.UsageError("--set is for the parameters of a task")
    shown = _outputs(sources, task, values) if task else _inputs(sources, product, instrument)
    path = output or Path(_file_name(task or shown[0].product, sources, len(shown), ".png" if png else ".html"))
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


def _sources_and_task(what: Sequence[str]) -> tuple[list[str], str | None]:
    """Separate keys, paths and stars from the name of a task."""
    sources = [text for text in what if "/" in text or _is_file(text) or _STAR.fullmatch(text)]
    tasks = [text for text in what if text not in sources]
    if not sources:
        raise click.UsageError(f"{tasks[0]!r} is no partition key, file or star: a key reads release/.../...")
    if len(tasks) > 1:
        raise click.UsageError(f"one task at a time, not {' and '.join(tasks)}")
    if tasks and any(map(_is_file, sources)):
        raise click.UsageError("what a task made is shown by partition key or star, not by file")
    return sources, tasks[0] if tasks else None


def _is_file(text: str) -> bool:
    from astra_dagster.datamodel.templates import COMPRESSIONS

    return text.lower().endswith((".fits", ".fit", *COMPRESSIONS)) or is_file(Path(text))


def _outputs(sources: Sequence[str], name: str, values: Sequence[str]) -> "list[ShownSpectra]":
    from astra_dagster.datamodel.products import Product
    from astra_dagster.outputs.pictures import shown_output
    from astra_dagster.outputs.store import OutputStore
    from astra_dagster.tasks import registry

    task = registry.find_task(name)
    tell_left_out(registry.broken())
    task = task.setting(settings_of(values))
    store = OutputStore(settings.outputs_dir(), task, task.values())
    found: list[PartitionID] = []
    for text in sources:
        if _STAR.fullmatch(text) and isinstance(task.domain, Product):
            found += _find_files(text, [task.domain])
        else:
            found.append(task.domain.parse_key(text))
    return [shown_output(store, one) for one in found]


def _inputs(sources: Sequence[str], name: str | None, instrument: str | None) -> "list[ShownSpectra]":
    from astra_dagster.datamodel.products import product
    from astra_dagster.orchestration.sources import source_products
    from astra_dagster.outputs.pictures import show_file, shown_input

    shown = []
    for text in sources:
        if _is_file(text):
            shown.append(show_file(Path(text), product(name) if name else None, instrument))
            continue
        star = _STAR.fullmatch(text)
        files = _find_files(text, [product(name)] if name else source_products()) if star else [data_id_of(text, name)]
        shown += [shown_input(file, settings.sas_base_dir(), instrument) for file in files]
    return shown


def _find_files(star: str, products: "Sequence[Product]") -> "Sequence[DataID]":
    """Find the registered files of a star, which are to be of one product.

    Raises
    ------
    InvalidKeyError
        If there is none, or there are some of several products.
    """
    found = []
    problems: list[AstraError] = []
    for item in products:
        try:
            found.append(item.search(star=star))
        except (InvalidKeyError, InputMissingError) as error:
            problems.append(error)
    if not found:
        hint = "run astra-dagster discover, and a task such as ap_visit_snr, whose results tell stars of visits"
        raise problems[0] if len(products) == 1 else InvalidKeyError(f"no file is known of {star}", hint=hint)
    if len(found) > 1:
        names = " or ".join(f"--product {files.product.name}" for files in found)
        raise InvalidKeyError("files of several products are of this star", key=star, hint=f"add {names}")
    return found[0]


def _file_name(what: str, sources: Sequence[str], number: int, suffix: str) -> str:
    first = Path(sources[0]).name if _is_file(sources[0]) else sources[0]
    parts = [part for part in first.split("/") if part != "-"]
    more = [f"and-{number - 1}-more"] if number > 1 else []
    return "-".join([*([] if first.startswith(what) else [what]), *parts, *more]) + suffix
