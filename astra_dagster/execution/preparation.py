"""What a worker prepares once and uses for all spectra that it does: files in common, and what a task sets up."""

import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from astra_dagster.archive.discovery import HASHED, content_version, file_version
from astra_dagster.errors import InputMissingError, SetupError, TaskError
from astra_dagster.outputs.store import OutputStore, PartitionWork
from astra_dagster.presence import status_of
from astra_dagster.tasks.calling import call_function
from astra_dagster.tasks.inputs.forms import Form, open_as
from astra_dagster.tasks.parameters import Parameters

KEPT = 8
"""Number of files that a worker keeps open, and of setups that it keeps."""

_seconds: list[float] = []
"""How long each setup took since `take_seconds` was called."""


def add_prepared(store: OutputStore, inputs: Sequence[Any], work: PartitionWork) -> list[Any]:
    """Return the arguments of a task's function: its inputs, and what is prepared once for the partition and others.

    That is what the task's setup returned, as the last; or without a setup the files in common, at their places.

    Raises
    ------
    AstraError
        If a file cannot be opened, or the setup fails.
    """
    task, arguments = store.task, list(inputs)
    pairs = zip(task.common.values(), work.common, strict=True)
    files = tuple((given.files[0], given.version, file.form) for file, given in pairs)
    if task.setup is not None:
        return [*arguments, _set_up(task.name, task.setup, files, store.parameters)]
    for place, file in zip(task.common, files, strict=True):
        arguments.insert(place, _open(*file))
    return arguments


def take_seconds() -> list[float]:
    """Return how long each setup took since the last call."""
    taken = list(_seconds)
    _seconds.clear()
    return taken


@functools.lru_cache(maxsize=KEPT)
def _set_up(
    name: str, setup: Callable[..., Any], files: tuple[tuple[Path, str, Form], ...], parameters: Parameters
) -> Any:
    start = time.perf_counter()
    opened = [_open(*file) for file in files]
    try:
        made = call_function(f"the setup of {name}", setup.__module__, setup, *opened, parameters)
    except TaskError as error:
        raise SetupError(error.message) from error
    _seconds.append(time.perf_counter() - start)
    return made


@functools.lru_cache(maxsize=KEPT)
def _open(path: Path, version: str, form: Form) -> Any:
    """Open a file, which must be as it was when the run was planned."""
    if _version_now(path, version) != version:
        raise InputMissingError(
            "the file has changed since the run was planned", path=path, hint="run it again, with the file as it is now"
        )
    return open_as(form, path)


def _version_now(path: Path, version: str) -> str | None:
    """Return the version of a file as it is now, of the same sort as another: by its contents, or size and date."""
    status = status_of(path)
    if status is None:
        return None
    return content_version(path) if version.startswith(HASHED) else file_version(status.st_size, status.st_mtime_ns)
