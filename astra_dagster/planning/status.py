"""The status of a partition and its reason, as types; only this module puts a reason into words.

Code that depends on a reason uses its kind or its fault, never its words.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from astra_dagster.errors import AstraError, Fault
from astra_dagster.outputs.store import Failure


class Status(Enum):
    """The status of a partition today."""

    COMPLETE = auto()
    """Its output exists and is recorded."""
    TO_RECORD = auto()
    """Its output exists, but the latest record differs or is missing: it is to be recorded, not computed."""
    TO_DO = auto()
    """Its output is to be made."""
    WAITING = auto()
    """A task that it requires must be done first, or a file that it has in common with others is not there."""
    NO_INPUT = auto()
    """Its file does not exist yet, or was removed; of many files, too many."""
    UNREACHABLE = auto()
    """Its file or its output cannot be examined."""
    INVALID = auto()
    """Its partition key is not valid."""


class ReasonKind(Enum):
    """The kind of a reason why a partition is not complete."""

    NO_RECORD = auto()
    PARAMETERS_CHANGED = auto()
    CODE_CHANGED = auto()
    LAYOUT_CHANGED = auto()
    """Its output was written by another version of this package, in a way that this one does not read."""
    INPUT_CHANGED = auto()
    FILE_CHANGED = auto()
    """A file that it has in common with other partitions has changed, and nothing else."""
    UPSTREAM_CHANGED = auto()
    MEMBERS_CHANGED = auto()
    """The many partitions that it requires are others than it was made from."""
    OUTPUT_MISSING = auto()
    OUTPUT_DAMAGED = auto()
    OUTPUT_ALTERED = auto()
    """Its output has the recorded size, and holds something else than was recorded."""
    OVERWRITE = auto()
    """It is complete, but is to be computed again."""
    FAILED_BEFORE = auto()
    """It failed when the same inputs and code were last tried."""
    REQUIRED_FIRST = auto()
    """A task that it requires must be run first."""
    REQUIRED_UNRECORDED = auto()
    """The output of a task that it requires exists, but must be recorded first."""
    MEMBER_LACKING = auto()
    """One of many partitions that it requires must be done first."""
    MEMBERS_UNKNOWN = auto()
    """Its file does not tell which partitions it requires."""
    FILE_MISSING = auto()
    """A file that it has in common with other partitions is not there."""
    TOO_FEW = auto()
    """Of the many partitions that it requires, fewer are there than the minimum."""
    NEVER_CAME = auto()
    GONE = auto()
    """Its file was recorded, and has been removed."""
    UNREACHABLE = auto()
    INVALID_KEY = auto()


_STATUSES: Mapping[ReasonKind, Status] = {
    ReasonKind.REQUIRED_FIRST: Status.WAITING,
    ReasonKind.REQUIRED_UNRECORDED: Status.WAITING,
    ReasonKind.MEMBER_LACKING: Status.WAITING,
    ReasonKind.MEMBERS_UNKNOWN: Status.WAITING,
    ReasonKind.FILE_MISSING: Status.WAITING,
    ReasonKind.TOO_FEW: Status.NO_INPUT,
    ReasonKind.NEVER_CAME: Status.NO_INPUT,
    ReasonKind.GONE: Status.NO_INPUT,
    ReasonKind.UNREACHABLE: Status.UNREACHABLE,
    ReasonKind.INVALID_KEY: Status.INVALID,
}
"""Status by kind of reason; with any other kind a partition is to do."""


@dataclass(frozen=True, slots=True)
class Reason:
    """The reason why a partition is not complete.

    Attributes
    ----------
    details
        Texts that complete the sentence: the required task, or the values before and now.
    cause
        The reason of what it waits for, an error, or a noted failure.
    """

    kind: ReasonKind
    details: tuple[str, ...] = ()
    cause: "Reason | AstraError | Failure | None" = None

    @property
    def status(self) -> Status:
        """Status of a partition that has this reason."""
        return _STATUSES.get(self.kind, Status.TO_DO)

    @property
    def fault(self) -> Fault | None:
        """Whose fault it is; None if it is nobody's."""
        return None if self.cause is None else self.cause.fault


NEVER_CAME = Reason(ReasonKind.NEVER_CAME)
GONE = Reason(ReasonKind.GONE)

SENTENCES: Mapping[ReasonKind, str] = {
    ReasonKind.NO_RECORD: "no record",
    ReasonKind.PARAMETERS_CHANGED: "parameters changed: {all}",
    ReasonKind.CODE_CHANGED: "code version {0} -> {1}",
    ReasonKind.LAYOUT_CHANGED: "layout of outputs {0} -> {1}",
    ReasonKind.INPUT_CHANGED: "input changed",
    ReasonKind.FILE_CHANGED: "{all} changed",
    ReasonKind.UPSTREAM_CHANGED: "upstream changed: {all}",
    ReasonKind.MEMBERS_CHANGED: "input changed: {all}",
    ReasonKind.OUTPUT_MISSING: "output missing",
    ReasonKind.OUTPUT_DAMAGED: "output has {0} bytes, recorded were {1}",
    ReasonKind.OUTPUT_ALTERED: "output differs from its record",
    ReasonKind.OVERWRITE: "overwrite",
    ReasonKind.FAILED_BEFORE: "failed before: {cause}",
    ReasonKind.REQUIRED_FIRST: "{0} first: {cause}",
    ReasonKind.REQUIRED_UNRECORDED: "{0} is to be recorded again",
    ReasonKind.MEMBER_LACKING: "{0}: {cause}",
    ReasonKind.MEMBERS_UNKNOWN: "{cause}",
    ReasonKind.FILE_MISSING: "{cause}",
    ReasonKind.TOO_FEW: "waits for {0} of {1} {2}",
    ReasonKind.NEVER_CAME: "no input yet",
    ReasonKind.GONE: "input gone",
    ReasonKind.UNREACHABLE: "{cause}",
    ReasonKind.INVALID_KEY: "{cause}",
}
"""Sentence of each kind of reason, with its details by number, all of them, or its cause."""

SHORT: Mapping[ReasonKind, str] = {
    ReasonKind.FAILED_BEFORE: "failed before",
    ReasonKind.MEMBERS_CHANGED: "input changed",
    ReasonKind.MEMBER_LACKING: "{cause}",
}
"""Sentences without what differs from file to file."""


def sentence(reason: Reason, *, short: bool = False) -> str:
    """Return a reason in words, without the partition key.

    Parameters
    ----------
    short
        Whether to leave out what differs from file to file: the error of a failure, and keys.
    """
    cause = ""
    if isinstance(reason.cause, Reason):
        cause = sentence(reason.cause, short=short)
    elif isinstance(reason.cause, Failure):
        cause = reason.cause.error
    elif reason.cause is not None:  # the error may be that of a file with another key
        named = reason.kind is ReasonKind.MEMBERS_UNKNOWN
        cause = str(reason.cause) if named else reason.cause.without_key()
    words = SHORT.get(reason.kind, SENTENCES[reason.kind]) if short else SENTENCES[reason.kind]
    return words.format(*reason.details, all=", ".join(reason.details), cause=cause)
