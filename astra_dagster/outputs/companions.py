"""The small documents that lie with the outputs: notes of failures, and ``parameters.json``. Written and read here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from astra_dagster.errors import Fault
from astra_dagster.files import parse_json
from astra_dagster.outputs.document import encode_json
from astra_dagster.tasks.parameters import digest


@dataclass(frozen=True, slots=True)
class FailureNote:
    """That a partition failed: what went wrong, whose fault it was, and what was tried.

    Attributes
    ----------
    tried
        Code version, and data version of the inputs.
    """

    key: str
    error: str
    fault: Fault
    tried: tuple[str, ...]

    def encode(self) -> bytes:
        """The note as bytes."""
        document = {"key": self.key, "error": self.error, "fault": self.fault, "tried": list(self.tried)}
        return encode_json(document)


@dataclass(frozen=True, slots=True)
class DigestMeaning:
    """What a digest stands for: the parameters of a task, and the digest of each task that it requires."""

    task: str
    parameters: Mapping[str, Any]
    required: Mapping[str, str]

    @property
    def digest(self) -> str:
        """The digest."""
        return digest(self.parameters, self.required)

    def encode(self) -> bytes:
        """What ``parameters.json`` holds."""
        requires = {"requires": dict(self.required)} if self.required else {}
        return encode_json({"task": self.task, "parameters": dict(self.parameters), **requires})


def read_failure_note(contents: bytes) -> FailureNote:
    """A note of a failure.

    Raises
    ------
    ValueError, KeyError, TypeError
        If it is none.
    """
    note = parse_json(contents)
    tried = tuple(map(str, note["tried"]))
    return FailureNote(str(note["key"]), str(note["error"]), Fault(note.get("fault", Fault.FILE)), tried)


def read_meaning(contents: bytes) -> DigestMeaning:
    """What a ``parameters.json`` says.

    Raises
    ------
    ValueError, KeyError, TypeError, AttributeError
        If it is none.
    """
    document = parse_json(contents)
    return DigestMeaning(document["task"], dict(document["parameters"]), dict(document.get("requires") or {}))
