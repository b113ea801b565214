"""Open the files that partitions have in common, once in each worker."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from astra_dagster.archive.discovery import HASHED, content_version, file_version
from astra_dagster.errors import InputMissingError
from astra_dagster.outputs.store import PartitionWork
from astra_dagster.presence import status_of
from astra_dagster.tasks.inputs.forms import Form, open_as
from astra_dagster.tasks.task import Task

OPEN = 8
"""Number of files that a worker keeps open."""


def add_common(task: Task, inputs: Sequence[Any], work: PartitionWork) -> list[Any]:
    """Return the arguments of a function: its inputs, and at their places the files that partitions have in common.

    Raises
    ------
    AstraError
        If one of them cannot be opened.
    """
    arguments = list(inputs)
    for (place, file), given in zip(task.common.items(), work.common, strict=True):
        arguments.insert(place, _open(given.files[0], given.version, file.form))
    return arguments


@functools.lru_cache(maxsize=OPEN)
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
