"""Turn errors of Dagster, of databases and of the disk into ours, by finding their cause.

Dagster, SQLAlchemy and the drivers each wrap the error of the layer below, and none of them says which file or server
it is about. So this module, once imported, adds a note to every error of a database that names the database.
"""

import contextlib
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy as sa
import yaml

from astra_dagster.errors import AstraError, ConfigurationError, StorageError, in_one_line
from astra_dagster.orchestration.internals import DagsterUserCodeProcessError, SerializableErrorInfo


class WithoutTrace(DagsterUserCodeProcessError):
    """An error of which Dagster shows the message alone, without the code that raised it: a user can mend it."""

    def __init__(self, message: str) -> None:
        told = SerializableErrorInfo(message, stack=[], cls_name=type(self).__name__)
        super().__init__(message, user_code_process_error_infos=[told])  # type: ignore[no-untyped-call]


class PlainFailure(dg.Failure, WithoutTrace):
    """The failure of a step, told in words; what it is about does not change by trying again."""

    def __init__(self, description: str, metadata: Mapping[str, Any] | None = None) -> None:
        super().__init__(description, metadata, allow_retries=False)


PLACE = "database: "
"""Prefix of the note that names the database of an error."""

FULL = 1_000_000
"""Number of free bytes below which a disk counts as full, whatever SQLite's message says."""

HINTS = (
    ("full", "make room, and repeat the command: finished work is kept"),
    ("locked", "another process holds it: wait until that has ended, and try again"),
    ("readonly|unable to open|disk I/O", "make it writable, and the folder that it is in"),
    (
        "not a database|malformed",
        "stop Dagster, move the file away and run astra-dagster discover: outputs that are there are found again",
    ),
    ("no such table|no such column|does not exist", "is it Dagster's? dagster instance migrate brings it up to date"),
)
"""What to do next, by a pattern that the driver's message matches."""


@sa.event.listens_for(sa.Engine, "handle_error")
def _note_place(context: sa.engine.ExceptionContext) -> None:
    """Add a note to an error that names its database."""
    if context.engine is not None:
        note = f"{PLACE}{find_place(context.engine.url)}"
        for error in (context.original_exception, context.sqlalchemy_exception):
            if error is not None and note not in getattr(error, "__notes__", ()):
                error.add_note(note)


def find_place(url: sa.URL) -> str:
    """Return where a database is: its file, or its URL without a password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return url.set(query={}).render_as_string(hide_password=True)


def list_causes(error: BaseException) -> list[BaseException]:
    """Return an error and its causes, the innermost last."""
    found: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in found:
        found.append(following)
        following = following.__cause__
    return found


def known_error(error: BaseException) -> AstraError | None:
    """Return our error for the cause of an error; None if the cause is unknown, and so a mistake in our code."""
    causes = list_causes(error)
    for one in causes:
        if isinstance(one, AstraError):
            return one
    for one in reversed(causes):
        notes = [note for note in getattr(one, "__notes__", ()) if note.startswith(PLACE)]
        if notes or isinstance(one, sa.exc.SQLAlchemyError):
            original = getattr(one, "orig", None) or one
            return storage_error(str(original), notes[0].removeprefix(PLACE) if notes else None)
        if isinstance(one, OSError) and isinstance(one.filename, str):
            return StorageError(one.strerror or str(one), path=one.filename)
    return None


def storage_error(reason: str, where: str | None) -> StorageError:
    """Say why a database cannot be used."""
    reason = in_one_line(reason)
    of_file = where is not None and where.startswith("/")
    with contextlib.suppress(OSError):
        if of_file and "full" not in reason and shutil.disk_usage(Path(str(where)).parent).free < FULL:
            reason = f"{reason}, the disk is full"
    hint = next((hint for words, hint in HINTS if re.search(words, reason)), "is it there, and can it be reached?")
    what = "Dagster's records cannot be used" if of_file or where is None else f"the database {where} cannot be used"
    return StorageError(f"{what}: {reason}", path=where if of_file else None, hint=hint)


@contextlib.contextmanager
def plain_failures() -> Iterator[None]:
    """Make an op or asset fail with one line instead of a traceback, for errors whose cause is known.

    Raises
    ------
    dagster.Failure
        In place of an error of ours, or of a database or disk, which becomes its cause. Other errors stay the same.
    """
    try:
        yield
    except dg.Failure:
        raise
    except Exception as error:
        known = known_error(error)
        if known is None:
            raise
        raise PlainFailure(str(known)) from error


def opening_error(error: Exception, home: Path) -> AstraError:
    """Say why the Dagster instance of a folder cannot be opened."""
    known = known_error(error)
    if known is not None and known.path != str(home / "dagster.yaml"):
        return known
    reason, hint = in_one_line(str(error)), "mend it, or move it away and run astra-dagster init"
    if known is not None:
        reason = known.message
    elif isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        reason = f"{error.problem} in line {error.problem_mark.line + 1}"
    elif isinstance(error, dg.DagsterInvalidConfigError) and error.errors:
        reason = in_one_line(error.errors[0].message.partition(" Expected: ")[0])
        unset = re.search(r'environment variable "(\w+)" which is not set', error.errors[0].message)
        if unset:
            reason = f"it takes a value from {unset[1]}, which is not set"
            hint = f"set {unset[1]} wherever Dagster or astra-dagster runs"
    reason = reason.removeprefix("Failure condition: ").rstrip(".")
    return ConfigurationError(f"dagster.yaml cannot be used: {reason}", path=home / "dagster.yaml", hint=hint)
