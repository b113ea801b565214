"""Outputs on disk: where each lies, how it is written, and how one that is there is recognised.

An output lies at ``<root>/<task>/<parameters digest>/<release>/.../<task>-<key parts>.<json or fits>``, and
``parameters.json`` beside the releases spells the digest out. Same inputs and parameters, same bytes. Each format has
the same three things in it: the key, the provenance and the results.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from astra_dagster.datamodel.keys import ABSENT
from astra_dagster.errors import AstraError, Fault, InputMissingError, OutputError
from astra_dagster.files import SMALL, parse_json, read_file
from astra_dagster.fits import writer as encode
from astra_dagster.fits.reader import LARGEST, FitsFile
from astra_dagster.fits.writer import Card
from astra_dagster.outputs.atomic import MOVE, replacing
from astra_dagster.spectra import output
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.spectra.readers import reader
from astra_dagster.tasks.columns import Results
from astra_dagster.tasks.groups import PartitionID
from astra_dagster.tasks.parameters import Parameters
from astra_dagster.tasks.task import Task

FORMAT = 2
"""Version of the layout of the outputs."""


@dataclass(frozen=True, slots=True)
class Given:
    """What one requirement gives to one partition.

    Attributes
    ----------
    name
        Product, or task with the digest of its parameters.
    path
        Path below SAS_BASE_DIR, partition key of a task, or how many there are.
    version
        Data version; of many partitions a hash of theirs.
    files
        The files themselves.
    """

    name: str
    path: str
    version: str
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Work:
    """One partition to do: its data ID, and what each requirement gives to it."""

    data_id: PartitionID
    given: tuple[Given, ...]

    @property
    def input_version(self) -> str:
        """Data version of all that is given."""
        return "|".join(given.version for given in self.given)

    @property
    def path(self) -> Path | None:
        """First file that is given."""
        return self.given[0].files[0] if self.given[0].files else None


@dataclass(frozen=True, slots=True)
class Written:
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
        That reading, computing and writing took, as its share of what was done together; None if it was there before.
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
        return self.root / self.task.family / self.digest

    @cached_property
    def _folder(self) -> str:
        return str(self.folder)

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
        parts = [data_id.release, *(part for part in data_id.parts if part != ABSENT)]
        folder = "/".join((self._folder, *parts[:-1]))
        return Path(f"{folder}/{'-'.join((self.task.family, *parts))}.{self.task.output}")

    def failure_path(self, data_id: PartitionID) -> Path:
        """Where it is noted that a data ID failed."""
        path = self.path(data_id)
        return path.with_name(f"{path.name}.failed")

    def prepare(self) -> None:
        """Make the folder of these parameters, with ``parameters.json``.

        Raises
        ------
        OutputError
            If the folder cannot be written to.
        """
        required = self.task.required_digests
        document = {
            "task": self.task.family,
            "parameters": self.parameters.as_dict(),
            **({"requires": required} if required else {}),
        }
        path = self.folder / "parameters.json"
        contents = _encoded(document)
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
            document = parse_json(read_file(self.root / self.task.family / digest / "parameters.json"))
            return {**document["parameters"], **document.get("requires", {})}
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def provenance(self, work: Work) -> dict[str, Any]:
        """What an output says of its own origin."""
        return {
            "format": FORMAT,
            "task": self.task.family,
            "code_version": self.task.version,
            "parameters": self.parameters.as_dict(),
            "parameters_digest": self.digest,
            "inputs": [{"name": g.name, "path": g.path, "data_version": g.version} for g in work.given],
        }

    def write(self, work: Work, results: Mapping[str, Any], spectra: SpectrumBatch | None = None) -> Written:
        """Write the output of a partition, whole or not at all.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        key, path = work.data_id.key, self.path(work.data_id)
        if spectra is None:
            version = _version(_canonical(results))
            contents = _encoded({"key": key, "results": dict(results), "provenance": self.provenance(work)})
        else:
            about = {name: values for name, values in spectra.meta.items() if name not in results}
            hdus = output.encode_spectra(replace(spectra, meta=about))
            version = _version(_canonical(results), hdus)
            head = [
                *self._provenance_cards(work),
                *output.pairs("RES", results, "result"),
                ("SEVERAL", self.several, "results are lists, one value a spectrum"),
                ("VERSION", version, "data version: hash of results and spectra"),
            ]
            contents = encode.primary(head) + hdus
        _write_atomically(path, contents, key)
        return Written(path, len(contents), version, results)

    def find(self, work: Work) -> Written | None:
        """Output that is there already, if it came from these inputs by this code and these parameters."""
        path = self.path(work.data_id)
        try:
            contents = read_file(path, SMALL if self.task.output == "json" else 2 * LARGEST)
            found = self._found_json if self.task.output == "json" else self._found_fits
            results, version = found(contents, work)
        except (OSError, ValueError, KeyError, TypeError, AstraError):
            return None
        return Written(path, len(contents), version, results)

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

    def note_failure(self, work: Work, error: AstraError) -> None:
        """Leave a note that a partition failed, for later plans; what cannot be noted is not."""
        note = {
            "key": work.data_id.key,
            "error": error.without_key(),
            "fault": error.fault,
            "tried": self._attempt(work),
        }
        with contextlib.suppress(OutputError):
            _write_atomically(self.failure_path(work.data_id), _encoded(note))

    def forget_failure(self, data_id: PartitionID) -> None:
        """Remove the note of a failure, if there is one."""
        with contextlib.suppress(OSError):
            self.failure_path(data_id).unlink()

    def failure(self, work: Work) -> Failure | None:
        """What went wrong when these inputs were last tried with this code; None if nothing did."""
        try:
            note = parse_json(read_file(self.failure_path(work.data_id), SMALL))
            if note["tried"] != self._attempt(work):
                return None
            return Failure(str(note["error"]), Fault(note.get("fault", Fault.FILE)))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _attempt(self, work: Work) -> list[str]:
        return [self.task.version, work.input_version]

    def _found_json(self, contents: bytes, work: Work) -> tuple[dict[str, Any], str]:
        document = parse_json(contents)
        results = document["results"]
        same = document["provenance"] == self.provenance(work) and document["key"] == work.data_id.key
        if not same or (self.task.columns and set(results) != set(self.task.columns)):
            raise ValueError("of another origin")
        return results, _version(_canonical(results))

    def _found_fits(self, contents: bytes, work: Work) -> tuple[dict[str, Any], str]:
        if not contents.startswith(encode.primary_begins(self._provenance_cards(work))):
            raise ValueError("of another origin")
        with FitsFile(self.path(work.data_id)) as file:
            header = file.hdu(0).header
            start = file.hdu(0).offset
        results = output.read_pairs(header, "RES")
        version = _version(_canonical(results), contents[start:])
        if (self.task.columns and set(results) != set(self.task.columns)) or header.text("VERSION") != version:
            raise ValueError("damaged")
        return results, version

    def _provenance_cards(self, work: Work) -> list[Card]:
        origin = self.provenance(work)
        inputs: list[Card] = []
        for number, item in enumerate(origin["inputs"], start=1):
            inputs += [
                (f"INNAM{number}", item["name"], "product or task of the input"),
                (f"INPATH{number}", item["path"], "input, below SAS_BASE_DIR"),
                (f"INVER{number}", item["data_version"], "data version of the input"),
            ]
        return [
            ("ORIGIN", output.ORIGIN, "program that wrote this"),
            ("FORMAT", origin["format"], "version of the layout"),
            ("LONGSTRN", "OGIP 1.0", "long texts are continued"),
            ("KEY", work.data_id.key, "partition key"),
            ("TASK", origin["task"], "task"),
            ("CODEVER", origin["code_version"], "code version of the task"),
            ("DIGEST", origin["parameters_digest"], "digest of the parameters"),
            *output.pairs("PAR", origin["parameters"], "parameter"),
            *inputs,
        ]


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
        results = parse_json(read_file(path))["results"]
        columns = results.items()
    except FileNotFoundError as error:
        raise InputMissingError("the output is not there", path=path, hint=f"run {task.name}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise OutputError(f"the output cannot be read: {error}", path=path, hint=f"run {task.name} again") from error
    several = several_spectra(task)
    return Results({name: _array(value if several else [value]) for name, value in columns})


def _array(values: list[Any]) -> np.ndarray[Any, Any]:
    if any(isinstance(value, str) for value in values):
        return np.array(["" if value is None else value for value in values])
    array = np.array(values, dtype=object)
    return array.astype(float) if any(value is None for value in array.ravel()) else np.array(values)


def _encoded(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, allow_nan=False) + "\n").encode()


def _canonical(results: Mapping[str, Any]) -> bytes:
    return json.dumps(dict(results), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _version(*parts: bytes) -> str:
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(part)
    return hashed.hexdigest()[:16]


def _write_atomically(path: Path, contents: bytes, key: str | None = None) -> None:
    with replacing(path, key) as stream:
        stream.write(contents)
