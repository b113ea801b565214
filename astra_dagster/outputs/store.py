"""Write, find and read the outputs of a task with one set of parameters.

`layout` makes their paths, `document` their contents.
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
from astra_dagster.outputs import document, layout, result_files
from astra_dagster.outputs.atomic import MOVE, replacing
from astra_dagster.outputs.companions import DigestMeaning, FailureNote, read_failure_note
from astra_dagster.outputs.document import InputRef, Label, Origin
from astra_dagster.spectra import output
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.spectra.result_arrays import stack_rows
from astra_dagster.tasks.columns import MEMBERSHIP, Results
from astra_dagster.tasks.groups import PartitionID
from astra_dagster.tasks.parameters import Parameters
from astra_dagster.tasks.task import Task

UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, AstraError)
"""Errors of an output that is not there, or damaged."""


@dataclass(frozen=True, slots=True)
class InputFiles:
    """The input of a partition from one requirement of its task: files, with their data version.

    Attributes
    ----------
    name
        Product, or task with its parameters digest.
    path
        Path below SAS_BASE_DIR; for the output of a task its partition key; for many partitions their number; for a
        file that the task names, the path that it gives.
    version
        Data version; for many partitions a hash of their versions.
    locations
        Paths of the files, as text, which takes a tenth of the memory.
    keys, versions
        Partition keys and data versions of the files, if they are those of many partitions.
    expected
        How many partitions there should be; 0 if there is one, or no more than there are.
    """

    name: str
    path: str
    version: str
    locations: tuple[str, ...]
    keys: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    expected: int = 0

    @property
    def files(self) -> tuple[Path, ...]:
        """Paths of the files."""
        return tuple(map(Path, self.locations))

    @property
    def members(self) -> tuple[tuple[str, str], ...]:
        """Partition key and data version of each file, if they are those of many partitions."""
        return tuple(zip(self.keys, self.versions, strict=False))


@dataclass(frozen=True, slots=True)
class PartitionWork:
    """A partition that a run may compute: its data ID, and the input from each requirement of the task.

    Attributes
    ----------
    common
        The files that it has in common with other partitions, in the order of the arguments.
    """

    data_id: PartitionID
    given: tuple[InputFiles, ...]
    common: tuple[InputFiles, ...] = ()

    @property
    def inputs(self) -> tuple[InputFiles, ...]:
        """All inputs, those in common last."""
        return self.given + self.common

    @property
    def input_version(self) -> str:
        """Data version of all inputs together."""
        return document.input_version(one.version for one in self.inputs)

    @property
    def membership(self) -> dict[str, int]:
        """From how many partitions it is made, and how many were expected, if a requirement is of many."""
        many = [given for given in self.given if given.keys]
        counts = (sum(len(item.keys) for item in many), sum(item.expected or len(item.keys) for item in many))
        return dict(zip(MEMBERSHIP, counts, strict=True)) if many else {}

    @property
    def path(self) -> Path | None:
        """The first input file, if there is one."""
        return None if self.location is None else Path(self.location)

    @property
    def location(self) -> str | None:
        """Path of the first input file as text, if there is one."""
        return next(iter(self.given[0].locations), None)


@dataclass(frozen=True, slots=True)
class StoredOutput:
    """An output that is on disk.

    Attributes
    ----------
    path, size
        Path and size in bytes.
    version
        Data version: hash of the results, so that equal results have equal versions.
    results
        Value by column; a list of values for a product with several spectra in a file.
    seconds
        Seconds for reading, computing and writing, as an equal share of the chunk; None if the output existed before.
    setup
        Seconds that the task's setup took, if a worker had to call it for this output; else 0.
    """

    path: Path
    size: int
    version: str
    results: Mapping[str, Any]
    seconds: float | None = field(default=None, compare=False)
    setup: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Failure:
    """The error when some inputs were last tried, and whose fault it was."""

    error: str
    fault: Fault


@dataclass(frozen=True)
class OutputStore:
    """The outputs of one task with one set of parameters.

    Attributes
    ----------
    root
        Folder of all outputs.
    task
        The task, with these parameters by default: so what it requires has the parameters that it shares.
    """

    root: Path
    task: Task
    parameters: Parameters

    def __post_init__(self) -> None:
        object.__setattr__(self, "task", self.task.with_values(self.parameters))

    @property
    def folder(self) -> Path:
        """Folder of the outputs of these parameters."""
        return Path(self._folder)

    @cached_property
    def _folder(self) -> str:
        return layout.digest_folder(self.root, self.task.family, self.digest)

    @cached_property
    def digest(self) -> str:
        """Parameters digest: the identity of the results of the task with these parameters."""
        return self.task.digest(self.parameters)

    @cached_property
    def several(self) -> bool:
        """Whether an output holds several spectra, so that each of its results is a list."""
        return several_spectra(self.task)

    def path(self, data_id: PartitionID) -> Path:
        """Return the path of the output of a data ID."""
        return self.path_of(data_id.key)

    def path_of(self, key: str) -> Path:
        """Return the path of the output of a valid partition key."""
        return Path(self.location_of(key))

    def location_of(self, key: str) -> str:
        """Return the path of the output of a valid partition key as text."""
        return f"{self._folder}/{layout.place_of(self.task.family, key)}.{self.task.output}"

    def failure_path(self, data_id: PartitionID) -> Path:
        """Return the path of the note of a data ID's failure."""
        return Path(self._failure_location(data_id.key))

    def _failure_location(self, key: str) -> str:
        return layout.note_name(self.location_of(key))

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

    def origin(self, work: PartitionWork) -> Origin:
        """Make the origin of the output of a partition."""
        label = Label(work.data_id.key, self.task.family, self.digest, self.task.version)
        inputs = tuple(
            InputRef(item.name, item.path, item.version, item.members if len(item.keys) <= document.LISTED else ())
            for item in work.inputs
        )
        return Origin(label, self.parameters.as_dict(), inputs)

    def write(
        self, work: PartitionWork, results: Mapping[str, Any], spectra: SpectrumBatch | None = None
    ) -> StoredOutput:
        """Write the output of a partition, completely or not at all; first the files that the results hold.

        Results of many partitions say of how many.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        key, path = work.data_id.key, self.path(work.data_id)
        if work.membership:
            count = max([len(values) for values in results.values() if self.several], default=len(spectra or ()))
            added = {name: [value] * count if self.several else value for name, value in work.membership.items()}
            results = {**results, **{name: value for name, value in added.items() if name not in results}}
        earlier = self._files_of(path) if self.task.files else []
        named = result_files.write_files(path, results, self.task.files, key)
        contents, version = document.encode(self.origin(work), named, spectra, several=self.several)
        _write_atomically(path, contents, key)
        result_files.remove_files(path, set(earlier) - set(result_files.names_in(named, self.task.files)))
        return StoredOutput(path, len(contents), version, named)

    def _files_of(self, path: Path) -> list[str]:
        """Return the names of the files that an existing output names."""
        try:
            return result_files.names_in(document.read(path, self.task.output).results, self.task.files)
        except UNREADABLE:
            return []

    def find(self, work: PartitionWork) -> StoredOutput | None:
        """Find an existing output that was made from these inputs with this code and these parameters."""
        location = self.location_of(work.data_id.key)
        if not os.path.lexists(location):  # as of most that are asked for
            return None
        path = Path(location)
        try:
            results, version, size = document.read_same(path, self.task.output, self.origin(work))
        except (OSError, ValueError, KeyError, TypeError, AstraError):
            return None
        if self.task.promised and set(results) != set(self.task.promised):
            return None
        if not result_files.are_whole(path, results, self.task.files):
            return None
        return StoredOutput(path, size, version, results)

    def version_of(self, data_id: PartitionID) -> str | None:
        """Return the data version of an output, from all that it holds; None if it, or a file of it, is not whole."""
        path = self.path(data_id)
        try:
            if self.task.files:
                results = document.read(path, self.task.output).results
                if not result_files.are_whole(path, results, self.task.files):
                    return None
            return document.read_version(path, self.task.output)
        except UNREADABLE:
            return None

    def read(self, data_id: PartitionID) -> SpectrumBatch | Results:
        """Read the output of a partition: its spectra, or its columns if the task makes no spectra.

        Raises
        ------
        InputMissingError
            If there is none.
        AstraError
            If it cannot be read.
        """
        return read_task_output(self.task, self.path(data_id))

    def read_origin(self, data_id: PartitionID) -> Origin:
        """Read the provenance of the output of a partition.

        Raises
        ------
        OutputError
            If it cannot be read.
        """
        path = self.path(data_id)
        try:
            return document.read(path, self.task.output).origin
        except UNREADABLE as error:
            hint = f"run {self.task.name} again"
            raise OutputError(f"the output does not say its origin: {error}", path=path, hint=hint) from error

    def note_failure(self, work: PartitionWork, error: AstraError) -> None:
        """Write a note that a partition failed, for later plans; ignore it if the note cannot be written."""
        note = FailureNote(work.data_id.key, error.without_key(), error.fault, self._attempt(work))
        with contextlib.suppress(OutputError):
            _write_atomically(self.failure_path(work.data_id), note.encode())

    def forget_failure(self, data_id: PartitionID) -> None:
        """Remove the note of a failure, if there is one."""
        with contextlib.suppress(OSError):
            self.failure_path(data_id).unlink()

    def failure(self, work: PartitionWork) -> Failure | None:
        """Return the failure when these inputs were last tried with this code; None if there was none."""
        location = self._failure_location(work.data_id.key)
        if not os.path.lexists(location):  # as of most that are asked for
            return None
        try:
            note = read_failure_note(read_file(location, SMALL))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return Failure(note.error, note.fault) if note.tried == self._attempt(work) else None

    def _attempt(self, work: PartitionWork) -> tuple[str, str]:
        return self.task.version, work.input_version


def several_spectra(task: Task) -> bool:
    """Whether a partition of a task holds several spectra."""
    first = next((item for item in task.requires if item.task is not None or item.reader is not None), None)
    if first is None or not first.one_to_one:
        return False
    return first.reader.several if first.reader is not None else first.task is not None and several_spectra(first.task)


def read_task_output(task: Task, path: Path) -> SpectrumBatch | Results:
    """Read an output of a task: its spectra, or its columns if the task makes no spectra.

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
    array = stack_rows(values)
    return array.astype(float) if any(value is None for value in array.ravel()) else np.array(values)


def _write_atomically(path: Path, contents: bytes, key: str | None = None) -> None:
    with replacing(path, key) as stream:
        stream.write(contents)
