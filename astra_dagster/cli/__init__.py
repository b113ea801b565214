"""The command line: a thin layer over the functions that the web UI uses too.

Exit codes: 0 all is well, 1 something failed or is missing (one line says what), 2 wrong usage.
"""

import atexit
import gc

import click

from astra_dagster import __version__
from astra_dagster.cli.clean import clean
from astra_dagster.cli.common import Group
from astra_dagster.cli.demo import demo
from astra_dagster.cli.fetch import fetch, path, url
from astra_dagster.cli.files import discover
from astra_dagster.cli.init import init
from astra_dagster.cli.looking.compare import compare
from astra_dagster.cli.looking.night import night
from astra_dagster.cli.looking.results import results
from astra_dagster.cli.looking.show import show
from astra_dagster.cli.looking.tables import table
from astra_dagster.cli.new import new
from astra_dagster.cli.partitions import forget, list_keys
from astra_dagster.cli.register import register
from astra_dagster.cli.run import plan, run

EPILOG = """\b
Exit codes: 0 all is well; 1 something failed or is missing, and one line
says what; 2 wrong usage. Each command has an example in its own --help."""

atexit.register(gc.freeze)  # or Python looks for garbage among all that was imported, for most of a second


@click.group(cls=Group, context_settings={"help_option_names": ["--help", "-h"]}, epilog=EPILOG)
@click.version_option(__version__, prog_name="astra-dagster")
def main() -> None:
    """Analyse SDSS spectra: find files, run tasks on them, compute nothing twice."""


for command in (
    *(discover, register, list_keys, forget, fetch, path, url, plan, run, results, show, table, compare, night, clean),
    *(init, demo, new),
):
    main.add_command(command)
