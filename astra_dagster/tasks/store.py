"""Outputs on disk: where each lies, how it is written, and how one that is there is recognised.

An output lies at ``<root>/<task>/<parameters digest>/<release>/.../<task>-<key parts>.json``, and
``parameters.json`` beside the releases spells the digest out. Same inputs and parameters, same bytes.
"""

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astra_dagster.datamodel.keys import ABSENT
from astra_dagster.datamodel.products import DataID
from astra_dagster.errors import OutputError
from astra_dagster.tasks.parameters import Parameters
from astra_dagster.tasks.task import Task

FORMAT = 1
"""Version of the layout of the documents."""


@dataclass(frozen=True, slots=True)
class Written:
    """An output that is on disk.

    Attributes
    ----------
    path, size
        Where it lies, and its size in bytes.
    version
        Data version: hash of the results, so that equal results have equal versions.
    results
        Value by column.
    """

    path: Path
    size: int
    version: str
    results: Mapping[str, Any]


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
        return self.root / self.task.name / self.parameters.digest

    def path(self, data_id: DataID) -> Path:
        """Where the output of a data ID lies."""
        parts = [data_id.release, *(part for part in data_id.parts if part != ABSENT)]
        return self.folder.joinpath(*parts[:-1]) / f"{'-'.join([self.task.name, *parts])}.json"

    def prepare(self) -> None:
        """Make the folder of these parameters, with ``parameters.json``.

        Raises
        ------
        OutputError
            If the folder cannot be written to.
        """
        document = {"task": self.task.name, "parameters": self.parameters.as_dict()}
        path = self.folder / "parameters.json"
        contents = _encoded(document)
        try:
            unchanged = path.read_bytes() == contents
        except OSError:
            unchanged = False
        if not unchanged:
            _write_atomically(path, contents)
        elif not os.access(self.folder, os.W_OK):
            raise OutputError("the output folder cannot be written to", path=self.folder, hint=_MOVE)

    def parameters_of(self, digest: str) -> dict[str, Any] | None:
        """Parameters of another digest of this task, if they were ever used here."""
        try:
            text = (self.root / self.task.name / digest / "parameters.json").read_text(encoding="utf-8")
            parameters = json.loads(text)["parameters"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return parameters if isinstance(parameters, dict) else None

    def provenance(self, data_id: DataID, input_version: str) -> dict[str, Any]:
        """What an output says of its own origin."""
        return {
            "format": FORMAT,
            "task": self.task.name,
            "code_version": self.task.version,
            "parameters": self.parameters.as_dict(),
            "parameters_digest": self.parameters.digest,
            "input": {
                "product": self.task.requires.name,
                "path": data_id.relative_path,
                "data_version": input_version,
            },
        }

    def write(self, data_id: DataID, input_version: str, results: Mapping[str, Any]) -> Written:
        """Write the output of a data ID, whole or not at all.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        path = self.path(data_id)
        document = {
            "key": data_id.key,
            "results": dict(results),
            "provenance": self.provenance(data_id, input_version),
        }
        contents = _encoded(document)
        _write_atomically(path, contents, data_id.key)
        return Written(path, len(contents), _version(results), results)

    def find(self, data_id: DataID, input_version: str) -> Written | None:
        """Output that is there already, if it came from this input by this code and these parameters."""
        path = self.path(data_id)
        try:
            contents = path.read_bytes()
            document = json.loads(contents)
            same = document["provenance"] == self.provenance(data_id, input_version)
            if not same or document["key"] != data_id.key or set(document["results"]) != set(self.task.columns):
                return None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return Written(path, len(contents), _version(document["results"]), document["results"])


_MOVE = "make it writable, or set ASTRA_OUTPUTS to another folder"


def _encoded(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, allow_nan=False) + "\n").encode()


def _version(results: Mapping[str, Any]) -> str:
    text = json.dumps(dict(results), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _write_atomically(path: Path, contents: bytes, key: str | None = None) -> None:
    temporary = path.with_name(f".astra-{os.getpid()}-{secrets.token_hex(6)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as stream:
            stream.write(contents)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"the output cannot be written: {error.strerror}", key=key, path=path, hint=_MOVE) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
