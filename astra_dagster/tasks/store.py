"""Outputs on disk: where each lies, how it is written, and how one that is there is recognised.

An output lies at ``<root>/<task>/<parameters digest>/<release>/.../<task>-<key parts>.<json or fits>``, and
``parameters.json`` beside the releases spells the digest out. Same inputs and parameters, same bytes. Each format has
the same three things in it: the key, the provenance and the results.
"""

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from astra_dagster.datamodel.keys import ABSENT
from astra_dagster.datamodel.products import DataID
from astra_dagster.errors import AstraError, OutputError
from astra_dagster.spectra import encode, output
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.spectra.fits import FitsFile
from astra_dagster.spectra.output import Card
from astra_dagster.spectra.readers import reader
from astra_dagster.tasks.parameters import Parameters
from astra_dagster.tasks.task import Task

FORMAT = 1
"""Version of the layout of the outputs."""


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
        return self.folder.joinpath(*parts[:-1]) / f"{'-'.join([self.task.name, *parts])}.{self.task.output}"

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

    def write(
        self,
        data_id: DataID,
        input_version: str,
        results: Mapping[str, Any],
        spectra: SpectrumBatch | None = None,
    ) -> Written:
        """Write the output of a data ID, whole or not at all.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        path = self.path(data_id)
        if spectra is None:
            version = _version(_canonical(results))
            provenance = self.provenance(data_id, input_version)
            contents = _encoded({"key": data_id.key, "results": dict(results), "provenance": provenance})
        else:
            about = {name: values for name, values in spectra.meta.items() if name not in results}
            hdus = output.encode_spectra(replace(spectra, meta=about))
            version = _version(_canonical(results), hdus)
            several = reader(self.task.requires.name).several
            head = [
                *self._provenance_cards(data_id, input_version),
                *output.pairs("RES", results, "result"),
                ("SEVERAL", several, "results are lists, one value a spectrum"),
                ("VERSION", version, "data version: hash of results and spectra"),
            ]
            contents = encode.primary(head) + hdus
        _write_atomically(path, contents, data_id.key)
        return Written(path, len(contents), version, results)

    def find(self, data_id: DataID, input_version: str) -> Written | None:
        """Output that is there already, if it came from this input by this code and these parameters."""
        path = self.path(data_id)
        try:
            contents = path.read_bytes()
            found = self._found_json if self.task.output == "json" else self._found_fits
            results, version = found(contents, data_id, input_version)
        except (OSError, ValueError, KeyError, TypeError, AstraError):
            return None
        return Written(path, len(contents), version, results)

    def _found_json(self, contents: bytes, data_id: DataID, input_version: str) -> tuple[dict[str, Any], str]:
        document = json.loads(contents)
        results = document["results"]
        same = document["provenance"] == self.provenance(data_id, input_version) and document["key"] == data_id.key
        if not same or set(results) != set(self.task.columns):
            raise ValueError("of another origin")
        return results, _version(_canonical(results))

    def _found_fits(self, contents: bytes, data_id: DataID, input_version: str) -> tuple[dict[str, Any], str]:
        head = encode.primary_begins(self._provenance_cards(data_id, input_version))
        if not contents.startswith(head):
            raise ValueError("of another origin")
        with FitsFile(self.path(data_id)) as file:
            header = file.hdu(0).header
            start = file.hdu(0).offset
        results = output.read_pairs(header, "RES")
        version = _version(_canonical(results), contents[start:])
        if set(results) != set(self.task.columns) or header.text("VERSION") != version:
            raise ValueError("damaged")
        return results, version

    def _provenance_cards(self, data_id: DataID, input_version: str) -> list[Card]:
        origin = self.provenance(data_id, input_version)
        return [
            ("ORIGIN", output.ORIGIN, "program that wrote this"),
            ("FORMAT", origin["format"], "version of the layout"),
            ("LONGSTRN", "OGIP 1.0", "long texts are continued"),
            ("KEY", data_id.key, "partition key"),
            ("TASK", origin["task"], "task"),
            ("CODEVER", origin["code_version"], "code version of the task"),
            ("DIGEST", origin["parameters_digest"], "digest of the parameters"),
            *output.pairs("PAR", origin["parameters"], "parameter"),
            ("INPROD", origin["input"]["product"], "product of the input"),
            ("INPATH", origin["input"]["path"], "input, below SAS_BASE_DIR"),
            ("INVER", origin["input"]["data_version"], "data version of the input"),
        ]


_MOVE = "make it writable, or set ASTRA_OUTPUTS to another folder"


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
