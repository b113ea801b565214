"""What is decided is decided by statuses and kinds of reason: with other words everything is done in the same way."""

import itertools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import dagster as dg
import pytest

from astra_dagster.archive.watch_state import FIRST_WAIT, LONGEST_WAIT
from astra_dagster.cleanup.cleaning import KINDS
from astra_dagster.definitions import defs
from astra_dagster.errors import AstraError
from astra_dagster.orchestration.clean import CleanConfig, survey
from astra_dagster.orchestration.watch.jobs import any_job_name, any_run_config
from astra_dagster.planning import status
from astra_dagster.planning.plan import Plan
from astra_dagster.planning.status import ReasonKind
from astra_dagster_tests.orchestration.watch.arrivals import (
    FOLDER,
    KEY,
    NAME,
    VISITS,
    Daemon,
    make_anonymous,
    outputs,
    put,
    recorded,
)

TASKS = ("ap_visit_snr", "ap_visit_continuum")


class Nonsense(Mapping[ReasonKind, str]):
    """A sentence for each kind of reason that says nothing, and is never the same."""

    def __init__(self) -> None:
        self.number = itertools.count()

    def __getitem__(self, kind: ReasonKind) -> str:
        return f"{next(self.number)} trees"

    def __iter__(self) -> Iterator[ReasonKind]:
        return iter(ReasonKind)

    def __len__(self) -> int:
        return len(ReasonKind)


@pytest.fixture(params=["plain", "other"])
def words(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The words of today, or others for every reason, every error and every plan."""
    if request.param == "other":
        nonsense = Nonsense()
        monkeypatch.setattr(status, "SENTENCES", nonsense)
        monkeypatch.setattr(status, "SHORT", nonsense)
        monkeypatch.setattr(AstraError, "_compose", lambda *_: nonsense[ReasonKind.GONE])
        monkeypatch.setattr(Plan, "lines", lambda _: [nonsense[ReasonKind.GONE]])
        monkeypatch.setattr(Plan, "why", lambda *_: nonsense[ReasonKind.GONE])


@pytest.mark.usefixtures("words")
def test_words_decide_nothing(instance: dg.DagsterInstance, mirror: Path) -> None:
    daemon = Daemon(instance)
    whole = make_anonymous((mirror / FOLDER / NAME.format(1)).read_bytes())
    put(mirror / FOLDER / NAME.format(1), b"no FITS file" * 1000)
    made, success = daemon()
    assert (made.new, success) == (18, [False])
    assert KEY.format(1) not in recorded(instance, TASKS[0])
    for wait in (1, FIRST_WAIT, LONGEST_WAIT):  # the broken file is given up, the others are complete
        assert daemon.tick(wait).requests == []

    (mirror / FOLDER / NAME.format(2)).unlink()
    put(mirror / FOLDER / NAME.format(3), whole)
    before = outputs()
    made, success = daemon()
    assert (made.gone, made.changed, success) == (1, 1, [True])
    assert made.requests[0].partitions == (KEY.format(3),)
    assert {path.stem[-3:] for path, time in outputs().items() if before.get(path) != time} == {"003"}

    (missing,) = [path for path in outputs() if path.name.startswith(TASKS[0]) and path.stem.endswith("5226-56000-005")]
    missing.unlink()
    before = outputs()
    everything = defs.resolve_job_def(any_job_name(VISITS))
    config = {**any_run_config(VISITS, []), "resources": {"executor": {"config": {"workers": "in-process"}}}}
    assert everything.execute_in_process(instance=instance, run_config=config).success
    assert {path for path, time in outputs().items() if before.get(path) != time} == {missing}

    root = Path(os.environ["ASTRA_OUTPUTS"])
    found = survey(instance, root, CleanConfig(kinds=list(KINDS)).selection(root)).candidates
    assert {(one.kind, one.family, Path(one.path).stem[-3:]) for one in found} == {
        ("no-input", name, "002") for name in TASKS
    }
