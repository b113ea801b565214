"""Reasons: each has a status and a sentence, and the sentences are those that people know."""

import pytest

from astra_dagster.errors import Fault, InputMissingError, SpectrumFileError, UnreachableError
from astra_dagster.outputs.store import Failure
from astra_dagster.planning.status import GONE, NEVER_CAME, SENTENCES, Reason, ReasonKind, Status, sentence

FAILED = Reason(ReasonKind.FAILED_BEFORE, cause=Failure("no flux (file /a.fits)", Fault.FILE))
BROKEN = SpectrumFileError("no header", key="DR17/1", path="/b.fits")
AWAY = UnreachableError("cannot be looked at", key="DR17/1", path="/b.fits")
NO_RECORD = Reason(ReasonKind.NO_RECORD)
TOLD = [
    (NO_RECORD, Status.TO_DO, None, "no record"),
    (
        Reason(ReasonKind.PARAMETERS_CHANGED, ("a 1 -> 2", "b x -> {y}")),
        Status.TO_DO,
        None,
        "parameters changed: a 1 -> 2, b x -> {y}",
    ),
    (Reason(ReasonKind.CODE_CHANGED, ("1", "2")), Status.TO_DO, None, "code version 1 -> 2"),
    (Reason(ReasonKind.INPUT_CHANGED), Status.TO_DO, None, "input changed"),
    (Reason(ReasonKind.FILE_CHANGED, ("a.npz", "b.csv")), Status.TO_DO, None, "a.npz, b.csv changed"),
    (Reason(ReasonKind.UPSTREAM_CHANGED, ("a", "b")), Status.TO_DO, None, "upstream changed: a, b"),
    (
        Reason(ReasonKind.MEMBERS_CHANGED, ("1 more (DR17/1)", "2 changed (DR17/2, DR17/3)")),
        Status.TO_DO,
        None,
        "input changed: 1 more (DR17/1), 2 changed (DR17/2, DR17/3)",
    ),
    (Reason(ReasonKind.TOO_FEW, ("2", "5", "ap_visit")), Status.NO_INPUT, None, "waits for 2 of 5 ap_visit"),
    (Reason(ReasonKind.OUTPUT_MISSING), Status.TO_DO, None, "output missing"),
    (Reason(ReasonKind.OUTPUT_DAMAGED, ("5", "7")), Status.TO_DO, None, "output has 5 bytes, recorded were 7"),
    (Reason(ReasonKind.OUTPUT_ALTERED), Status.TO_DO, None, "output differs from its record"),
    (Reason(ReasonKind.LAYOUT_CHANGED, ("1", "2")), Status.TO_DO, None, "layout of outputs 1 -> 2"),
    (Reason(ReasonKind.OVERWRITE), Status.TO_DO, None, "overwrite"),
    (FAILED, Status.TO_DO, Fault.FILE, "failed before: no flux (file /a.fits)"),
    (Reason(ReasonKind.REQUIRED_FIRST, ("a",), NO_RECORD), Status.WAITING, None, "a first: no record"),
    (Reason(ReasonKind.REQUIRED_UNRECORDED, ("a",)), Status.WAITING, None, "a is to be recorded again"),
    (
        Reason(ReasonKind.MEMBER_LACKING, ("DR17/1",), Reason(ReasonKind.REQUIRED_FIRST, ("a",), FAILED)),
        Status.WAITING,
        Fault.FILE,
        "DR17/1: a first: failed before: no flux (file /a.fits)",
    ),
    (
        Reason(ReasonKind.MEMBERS_UNKNOWN, cause=BROKEN),
        Status.WAITING,
        Fault.FILE,
        "no header (key DR17/1, file /b.fits)",
    ),
    (
        Reason(ReasonKind.FILE_MISSING, cause=InputMissingError("a.npz is not there", path="/a.npz")),
        Status.WAITING,
        Fault.MACHINE,
        "a.npz is not there (file /a.npz)",
    ),
    (NEVER_CAME, Status.NO_INPUT, None, "no input yet"),
    (GONE, Status.NO_INPUT, None, "input gone"),
    (
        Reason(ReasonKind.UNREACHABLE, cause=AWAY),
        Status.UNREACHABLE,
        Fault.MACHINE,
        "cannot be looked at (file /b.fits)",
    ),
    (Reason(ReasonKind.INVALID_KEY, cause=BROKEN), Status.INVALID, Fault.FILE, "no header (file /b.fits)"),
]


@pytest.mark.parametrize(("reason", "status", "fault", "text"), TOLD, ids=[item[0].kind.name for item in TOLD])
def test_a_reason_has_a_status_a_fault_and_a_sentence(
    reason: Reason, status: Status, fault: Fault | None, text: str
) -> None:
    assert (reason.status, reason.fault, sentence(reason)) == (status, fault, text)


def test_every_kind_of_reason_has_a_sentence_and_is_told_here() -> None:
    assert set(SENTENCES) == set(ReasonKind) == {item[0].kind for item in TOLD}


def test_what_failed_before_is_counted_as_one_however_it_failed() -> None:
    waits = Reason(ReasonKind.REQUIRED_FIRST, ("a",), FAILED)
    assert sentence(FAILED, short=True) == "failed before"
    assert sentence(waits, short=True) == "a first: failed before"
    assert sentence(Reason(ReasonKind.MEMBER_LACKING, ("DR17/1",), waits), short=True) == "a first: failed before"
    assert sentence(Reason(ReasonKind.MEMBERS_CHANGED, ("1 more (DR17/1)",)), short=True) == "input changed"
    assert sentence(Reason(ReasonKind.CODE_CHANGED, ("1", "2")), short=True) == "code version 1 -> 2"
