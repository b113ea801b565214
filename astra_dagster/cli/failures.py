"""Errors of the command line: one line for the user, and the traceback in a log."""

import contextlib
import errno
import os
import re
import shlex
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from astra_dagster import __version__, settings
from astra_dagster.errors import AstraError, describe, in_one_line

if TYPE_CHECKING:
    from astra_dagster.orchestration.internals import SerializableErrorInfo

LOG = "astra-dagster.log"
"""Log of tracebacks in ``DAGSTER_HOME/logs``."""

LARGEST = 1_000_000
"""Size in bytes beyond which the log is started anew."""

STOPPED, NO_READER = 130, 141
"""Exit codes, as in a shell, after Ctrl-C and after writing to a closed pipe."""


def failure(error: BaseException, known: AstraError | None = None) -> click.ClickException:
    """Make an error in one line from an unexpected one, with its cause; write the traceback to the log.

    Parameters
    ----------
    known
        Error that explains it, if the caller knows one.
    """
    from astra_dagster.orchestration.causes import known_error

    known = known or known_error(error)
    log = write_log("".join(traceback.format_exception(error)))
    if known is not None:
        return click.ClickException(f"{known} (log: {log})")
    return click.ClickException(
        f"{describe(error)}; this is a mistake in astra-dagster: please report it with the log {log}"
    )


def of_step(info: "SerializableErrorInfo") -> click.ClickException:
    """Make an error in one line from that of a step of a run, of which Dagster keeps only the texts."""
    from astra_dagster.orchestration.causes import PLACE, storage_error

    log = write_log(info.to_string())
    while info.cause is not None:
        info = info.cause
    said, *notes = info.message.strip().split(f"\n{PLACE}")
    if notes:
        return click.ClickException(f"{storage_error(said.partition(': ')[2], notes[0].strip())} (log: {log})")
    return click.ClickException(f"the run failed: {in_one_line(said)} (log: {log})")


def write_log(text: str) -> Path | str:
    """Add to the log in DAGSTER_HOME, or else make one in the folder for temporary files; return its path."""
    command = shlex.join(["astra-dagster", *sys.argv[1:]])
    head = f"{time.strftime('%Y-%m-%d %H:%M:%S')} astra-dagster {__version__}, process {os.getpid()}: {command}\n"
    entry = re.sub(r"(://[^:/@\s]*):[^@\s]+@", r"\1:***@", f"{head}{text.rstrip()}\n\n")  # without passwords of URLs
    with contextlib.suppress(OSError, AstraError):
        path = settings.dagster_home() / "logs" / LOG
        if path.parent.parent.is_dir():
            path.parent.mkdir(exist_ok=True)
            anew = path.exists() and path.stat().st_size > LARGEST
            with path.open("w" if anew else "a", encoding="utf-8") as stream:
                stream.write(entry)
            return path
    with contextlib.suppress(OSError):
        handle, name = tempfile.mkstemp(prefix="astra-dagster-", suffix=".log")
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(entry)
        return Path(name)
    return "could not be written"


def of_output(error: OSError) -> bool:
    """Whether an error arose while printing; if so, discard all further output, also that at exit."""
    if all(frame.f_globals.get("__name__") != "click.utils" for frame, _ in traceback.walk_tb(error.__traceback__)):
        return False
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def without_output(error: OSError) -> click.ClickException:
    """Make the error of a command that cannot print its results; it is silent if the pipe is closed."""
    if error.errno == errno.EPIPE:
        return _NoReader("")
    return click.ClickException(f"the results cannot be written: {error.strerror}")


class _NoReader(click.ClickException):
    exit_code = NO_READER

    def show(self, file: IO[str] | None = None) -> None:
        """Print nothing."""
