"""Open the Dagster instance of DAGSTER_HOME, for the command line and for Python."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from astra_dagster import settings
from astra_dagster.errors import make_write_error
from astra_dagster.orchestration.causes import opening_error


def prepare_home() -> Path:
    """Make the folder DAGSTER_HOME if it is missing, and return it.

    Raises
    ------
    AstraError
        If it is not set, or cannot be made.
    """
    home = settings.dagster_home()
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise make_write_error(error, "DAGSTER_HOME", home, hint="set it to a folder that you can write to") from error
    os.environ["DAGSTER_HOME"] = str(home)  # Dagster and dagster.yaml read it too
    logging.getLogger().addFilter(_no_retries)
    return home


@contextmanager
def open_instance() -> Iterator[dg.DagsterInstance]:
    """Open the Dagster instance of DAGSTER_HOME.

    Raises
    ------
    AstraError
        If it cannot be opened.
    """
    home = prepare_home()
    try:
        instance = dg.DagsterInstance.get()
    except Exception as error:
        known = opening_error(error, home)
        if known is None:
            raise
        raise known from error
    with instance:
        yield instance


def _no_retries(record: logging.LogRecord) -> bool:
    """Whether a log record is kept: those of dagster-postgres about each new try are not, as its error is enough."""
    return not record.getMessage().startswith("Retrying failed database")
