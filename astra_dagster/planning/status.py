"""What can be true of a partition, and why: as types, and the one place that puts a reason into words.

Whatever decides by a reason decides by its kind, or by whose fault it is, never by its words.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from astra_dagster.errors import AstraError, Fault
from astra_dagster.outputs.store import Failure


class Status(Enum):
    """What is true of a partition today."""

    COMPLETE = auto()
    """Its output is there and recorded."""
    TO_RECORD = auto()
    """Its output is there, while the latest record is another one or none: it is to be recorded, not computed."""
    TO_DO = auto()
    """Its output is to be made."""
    WAITING = auto()
    """A task that it requires must be done first."""
    NO_INPUT = auto()
    """Its file has not come yet, or was removed."""
    UNREACHABLE = auto()
    """Nobody can tell whether its file, or its output, is there."""
    INVALID = auto()
    """Its key identifies no file."""


class ReasonKind(Enum):
    """Why a partition is not complete."""

    NO_RECORD = auto()
    PARAMETERS_CHANGED = auto()
    CODE_CHANGED = auto()
    INPUT_CHANGED = auto()
    UPSTREAM_CHANGED = auto()
    OUTPUT_MISSING = auto()
    OUTPUT_DAMAGED = auto()
    OVERWRITE = auto()
    """It is complete, and somebody wants it again."""
    FAILED_BEFORE = auto()
    """It failed when the same was tried last."""
    REQUIRED_FIRST = auto()
    """What it requires is to be made first."""
    REQUIRED_UNRECORDED = auto()
    """What it requires is there, and is to be recorded first."""
    MEMBER_LACKING = auto()
    """One of many partitions that it requires must be done first."""
    MEMBERS_UNKNOWN = auto()
    """Its file does not tell which partitions it requires."""
    NEVER_CAME = auto()
    GONE = auto()
    """Its file was here before, and was removed."""
    UNREACHABLE = auto()
    INVALID_KEY = auto()


_STATUSES: Mapping[ReasonKind, Status] = {
    ReasonKind.REQUIRED_FIRST: Status.WAITING,
    ReasonKind.REQUIRED_UNRECORDED: Status.WAITING,
    ReasonKind.MEMBER_LACKING: Status.WAITING,
    ReasonKind.MEMBERS_UNKNOWN: Status.WAITING,
    ReasonKind.NEVER_CAME: Status.NO_INPUT,
    ReasonKind.GONE: Status.NO_INPUT,
    ReasonKind.UNREACHABLE: Status.UNREACHABLE,
    ReasonKind.INVALID_KEY: Status.INVALID,
}
"""The status that a reason gives; every other makes a partition one to do."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a partition is not complete.

    Attributes
    ----------
    details
        What the kind leaves open: the task that is required, what was before and what is now.
    cause
        What is behind it: the reason of what it waits for, an error, or a failure that was noted.
    """

    kind: ReasonKind
    details: tuple[str, ...] = ()
    cause: "Reason | AstraError | Failure | None" = None

    @property
    def status(self) -> Status:
        """What it makes of a partition."""
        return _STATUSES.get(self.kind, Status.TO_DO)

    @property
    def fault(self) -> Fault | None:
        """Whose fault it is, if it is somebody's."""
        return None if self.cause is None else self.cause.fault


NEVER_CAME = Reason(ReasonKind.NEVER_CAME)
GONE = Reason(ReasonKind.GONE)

SENTENCES: Mapping[ReasonKind, str] = {
    ReasonKind.NO_RECORD: "no record",
    ReasonKind.PARAMETERS_CHANGED: "parameters changed: {all}",
    ReasonKind.CODE_CHANGED: "code version {0} -> {1}",
    ReasonKind.INPUT_CHANGED: "input changed",
    ReasonKind.UPSTREAM_CHANGED: "upstream changed: {all}",
    ReasonKind.OUTPUT_MISSING: "output missing",
    ReasonKind.OUTPUT_DAMAGED: "output has {0} bytes, recorded were {1}",
    ReasonKind.OVERWRITE: "overwrite",
    ReasonKind.FAILED_BEFORE: "failed before: {cause}",
    ReasonKind.REQUIRED_FIRST: "{0} first: {cause}",
    ReasonKind.REQUIRED_UNRECORDED: "{0} is to be recorded again",
    ReasonKind.MEMBER_LACKING: "{0}: {cause}",
    ReasonKind.MEMBERS_UNKNOWN: "{cause}",
    ReasonKind.NEVER_CAME: "no input yet",
    ReasonKind.GONE: "input gone",
    ReasonKind.UNREACHABLE: "{cause}",
    ReasonKind.INVALID_KEY: "{cause}",
}
"""How each reason reads: with its details by number, with all of them, and with what is behind it."""

SHORT: Mapping[ReasonKind, str] = {ReasonKind.FAILED_BEFORE: "failed before"}
"""How a reason reads without what differs from file to file."""


def sentence(reason: Reason, *, short: bool = False) -> str:
    """Say why, for where the partition key stands beside it.

    Parameters
    ----------
    short
        Whether to leave out how what failed before did so, which differs from file to file.
    """
    if short and reason.kind in SHORT:
        return SHORT[reason.kind]
    cause = ""
    if isinstance(reason.cause, Reason):
        cause = sentence(reason.cause, short=short)
    elif isinstance(reason.cause, Failure):
        cause = reason.cause.error
    elif reason.cause is not None:  # what the members are may be told by a file of another key
        named = reason.kind is ReasonKind.MEMBERS_UNKNOWN
        cause = str(reason.cause) if named else reason.cause.without_key()
    return SENTENCES[reason.kind].format(*reason.details, all=", ".join(reason.details), cause=cause)
