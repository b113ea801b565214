"""The outputs of a task with one set of parameters: written, found again, and read.

Where they lie is the business of `layout`, what they say that of `document`.
"""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from astra_dagster.errors import AstraError, Fault, InputMissingError, OutputError
from astra_dagster.files import SMALL, read_file
from astra_dagster.outputs import document, layout
from astra_dagster.outputs.atomic import MOVE, replacing
from astra_dagster.outputs.companions import DigestMeaning, FailureNote, read_failure_note, read_meaning
from astra_dagster.outputs.document import InputRef, Label, Origin
from astra_dagster.spectra import output
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.spectra.readers import reader
from astra_dagster.tasks.columns import Results
from astra_dagster.tasks.groups import PartitionID
from astra_dagster.tasks.parameters import Parameters
from astra_dagster.tasks.task import Task


@dataclass(frozen=True, slots=True)
class InputFiles:
    """The input that a partition has from one requirement of its task: files, with their data version.

    Attributes
    ----------
    name
        Product, or task with the digest of its parameters.
    path
        Path below SAS_BASE_DIR; for the output of a task its partition key; for many partitions their number.
    version
        Data version; for many partitions a hash of their versions.
    files
        Paths of the files.
    """

    name: str
    path: str
    version: str
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class PartitionWork:
    """A partition that a run may compute: its data ID, and the input from each requirement of the task."""

    data_id: PartitionID
    given: tuple[InputFiles, ...]

    @property
    def input_version(self) -> str:
        """Data version of all inputs together."""
        return document.input_version(given.version for given in self.given)

    @property
    def path(self) -> Path | None:
        """The first input file, if there is one."""
        return self.given[0].files[0] if self.given[0].files else None


@dataclass(frozen=True, slots=True)
class StoredOutput:
    """An output that is on disk.

    Attributes
    ----------
    path, size
        Where it lies, and its size in bytes.
    version
        Data version: hash of what was computed, so that equal results have equal versions.
    results
        Value by column; a list of values for a product with several spectra a file.
    seconds
        Seconds that reading, computing and writing took, as an equal share of its chunk; None if the output was there
        before.
    """

    path: Path
    size: int
    version: str
    results: Mapping[str, Any]
    seconds: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong when some inputs were last tried, and whose fault it was."""

    error: str
    fault: Fault


@dataclass(frozen=True)
class OutputStore:
    """Outputs of one task with one set of parameters.

    Attributes
    ----------
    root
        Folder of all outputs.
    """

    root: Path
    task: Task
    parameters: Parameters

    @property
    def folder(self) -> Path:
        """Folder of the outputs of these parameters."""
        return Path(self._folder)

    @cached_property
    def _folder(self) -> str:
        return layout.digest_folder(self.root, self.task.family, self.digest)

    @cached_property
    def digest(self) -> str:
        """Identity of what the task makes with these parameters."""
        return self.task.digest(self.parameters)

    @cached_property
    def several(self) -> bool:
        """Whether an output holds several spectra, so that each of its results is a list."""
        return several_spectra(self.task)

    def path(self, data_id: PartitionID) -> Path:
        """Where the output of a data ID lies."""
        return self.path_of(data_id.key)

    def path_of(self, key: str) -> Path:
        """Where the output of a partition key lies, which is one."""
        return Path(f"{self._folder}/{layout.place_of(self.task.family, key)}.{self.task.output}")

    def failure_path(self, data_id: PartitionID) -> Path:
        """Where it is noted that a data ID failed."""
        path = self.path(data_id)
        return path.with_name(layout.note_name(path.name))

    def prepare(self) -> None:
        """Make the folder of these parameters, with ``parameters.json``.

        Raises
        ------
        OutputError
            If the folder cannot be written to.
        """
        path = self.folder / layout.PARAMETERS
        meaning = DigestMeaning(self.task.family, self.parameters.as_dict(), self.task.required_digests)
        contents = meaning.encode()
        try:
            unchanged = read_file(path) == contents
        except OSError:
            unchanged = False
        if not unchanged:
            _write_atomically(path, contents)
        elif not os.access(self.folder, os.W_OK):
            raise OutputError("the output folder cannot be written to", path=self.folder, hint=MOVE)

    def parameters_of(self, digest: str) -> dict[str, Any] | None:
        """Parameters of another digest of this task, if they were ever used here."""
        try:
            folder = layout.digest_folder(self.root, self.task.family, digest)
            meaning = read_meaning(read_file(f"{folder}/{layout.PARAMETERS}"))
            return {**meaning.parameters, **meaning.required}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def origin(self, work: PartitionWork) -> Origin:
        """What an output says of its own origin."""
        label = Label(work.data_id.key, self.task.family, self.digest, self.task.version)
        inputs = tuple(InputRef(given.name, given.path, given.version) for given in work.given)
        return Origin(label, self.parameters.as_dict(), inputs)

    def write(
        self, work: PartitionWork, results: Mapping[str, Any], spectra: SpectrumBatch | None = None
    ) -> StoredOutput:
        """Write the output of a partition, whole or not at all.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        key, path = work.data_id.key, self.path(work.data_id)
        contents, version = document.encode(self.origin(work), results, spectra, several=self.several)
        _write_atomically(path, contents, key)
        return StoredOutput(path, len(contents), version, results)

    def find(self, work: PartitionWork) -> StoredOutput | None:
        """Output that is there already, if it came from these inputs by this code and these parameters."""
        path = self.path(work.data_id)
        try:
            results, version, size = document.read_same(path, self.task.output, self.origin(work))
        except (OSError, ValueError, KeyError, TypeError, AstraError):
            return None
        if self.task.columns and set(results) != set(self.task.columns):
            return None
        return StoredOutput(path, size, version, results)

    def read(self, data_id: PartitionID) -> SpectrumBatch | Results:
        """Output of a partition: its spectra, or the columns of a task that makes no spectra.

        Raises
        ------
        InputMissingError
            If there is none.
        AstraError
            If it cannot be read.
        """
        return read_task_output(self.task, self.path(data_id))

    def note_failure(self, work: PartitionWork, error: AstraError) -> None:
        """Leave a note that a partition failed, for later plans; what cannot be noted is not."""
        note = FailureNote(work.data_id.key, error.without_key(), error.fault, self._attempt(work))
        with contextlib.suppress(OutputError):
            _write_atomically(self.failure_path(work.data_id), note.encode())

    def forget_failure(self, data_id: PartitionID) -> None:
        """Remove the note of a failure, if there is one."""
        with contextlib.suppress(OSError):
            self.failure_path(data_id).unlink()

    def failure(self, work: PartitionWork) -> Failure | None:
        """What went wrong when these inputs were last tried with this code; None if nothing did."""
        try:
            note = read_failure_note(read_file(self.failure_path(work.data_id), SMALL))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return Failure(note.error, note.fault) if note.tried == self._attempt(work) else None

    def _attempt(self, work: PartitionWork) -> tuple[str, str]:
        return self.task.version, work.input_version


def several_spectra(task: Task) -> bool:
    """Whether a partition of a task stands for several spectra."""
    first = task.requires[0]
    if not first.one_to_one:
        return False
    return reader(first.product.name).several if first.task is None else several_spectra(first.task)


def read_task_output(task: Task, path: Path) -> SpectrumBatch | Results:
    """Output of a task: its spectra, or its columns where it makes no spectra.

    Raises
    ------
    InputMissingError
        If there is no such file.
    AstraError
        If it cannot be read.
    """
    if task.output == "fits":
        return output.read_output(path)
    try:
        columns = document.read_results(path)
    except FileNotFoundError as error:
        raise InputMissingError("the output is not there", path=path, hint=f"run {task.name}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise OutputError(f"the output cannot be read: {error}", path=path, hint=f"run {task.name} again") from error
    several = several_spectra(task)
    return Results({name: _array(value if several else [value]) for name, value in columns.items()})


def _array(values: list[Any]) -> np.ndarray[Any, Any]:
    if any(isinstance(value, str) for value in values):
        return np.array(["" if value is None else value for value in values])
    array = np.array(values, dtype=object)
    return array.astype(float) if any(value is None for value in array.ravel()) else np.array(values)


def _write_atomically(path: Path, contents: bytes, key: str | None = None) -> None:
    with replacing(path, key) as stream:
        stream.write(contents)
