"""Write and read the small documents beside the outputs: notes of failures, and ``parameters.json``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from astra_dagster.errors import Fault
from astra_dagster.files import parse_json
from astra_dagster.outputs.document import encode_json
from astra_dagster.tasks.parameters import digest


@dataclass(frozen=True, slots=True)
class FailureNote:
    """A note that a partition failed: the error, whose fault it was, and what was tried.

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
        """Return the note as bytes."""
        document = {"key": self.key, "error": self.error, "fault": self.fault, "tried": list(self.tried)}
        return encode_json(document)


@dataclass(frozen=True, slots=True)
class DigestMeaning:
    """The meaning of a parameters digest: the parameters of a task, and the digests of the tasks that it requires."""

    task: str
    parameters: Mapping[str, Any]
    required: Mapping[str, str]

    @property
    def digest(self) -> str:
        """The parameters digest."""
        return digest(self.parameters, self.required)

    def encode(self) -> bytes:
        """Return the contents of ``parameters.json``."""
        requires = {"requires": dict(self.required)} if self.required else {}
        return encode_json({"task": self.task, "parameters": dict(self.parameters), **requires})


def read_failure_note(contents: bytes) -> FailureNote:
    """Parse a note of a failure.

    Raises
    ------
    ValueError, KeyError, TypeError
        If the contents are not one.
    """
    note = parse_json(contents)
    tried = tuple(map(str, note["tried"]))
    return FailureNote(str(note["key"]), str(note["error"]), Fault(note.get("fault", Fault.FILE)), tried)


def read_meaning(contents: bytes) -> DigestMeaning:
    """Parse the contents of a ``parameters.json``.

    Raises
    ------
    ValueError, KeyError, TypeError, AttributeError
        If the contents are not those of one.
    """
    document = parse_json(contents)
    return DigestMeaning(document["task"], dict(document["parameters"]), dict(document.get("requires") or {}))
