"""Files come, change and go, ticks die and runs end, in any order: each version is requested once and recorded."""

import os
import re
import tempfile
import time
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.dagster_run import DagsterRun
from dagster._core.storage.tags import RUN_KEY_TAG, SENSOR_NAME_TAG
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from astra_dagster import product
from astra_dagster.archive.watch_state import LONGEST_WAIT, Watch
from astra_dagster.archive.watching import COARSE
from astra_dagster.fits.truncation import is_cut_short
from astra_dagster.orchestration import records, sources
from astra_dagster.orchestration.partitions import registered
from astra_dagster.orchestration.watch import tick as arrivals
from astra_dagster.orchestration.watch.requests import Request, named
from astra_dagster.orchestration.watch.settings import Watched
from astra_dagster.orchestration.watch.tick import Tick, sensor_name, tick
from astra_dagster_tests.archive.found import find_files

ASPCAP = product("aspcapStar")
SEEN = Watched(ASPCAP, releases=("DR17",), partitions=2)
STARS = st.integers(0, 4)
PLACES = ("look_at", "_data_id", "register", "requests_for", "open_requests")
"""Where a tick may die."""


class Killed(BaseException):
    """What a kill looks like to the code that is killed."""


class Arrivals(RuleBasedStateMachine):
    """A mirror of five stars, the ticks that watch over it, and the runs that they ask for."""

    def __init__(self) -> None:
        super().__init__()
        self.accepted: dict[str, dict[str, str]] = {}  # what was asked for, by run key
        self.asked_for: dict[str, dict[str, str]] = {}
        self.waiting: list[Request] = []
        self.ahead, self.changes = 0.0, 0
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name)
        self.root = self.folder / "sas"
        (self.root / "dr17/apogee/spectro/aspcap").mkdir(parents=True)
        self.environment = pytest.MonkeyPatch()
        self.environment.setenv("SAS_BASE_DIR", str(self.root))
        self.environment.setenv("ASTRA_OUTPUTS", str(self.folder / "outputs"))
        self.instance = dg.DagsterInstance.ephemeral(str(self.folder))
        self.one_tick()  # what is there from the start and changes in place is left to the daily job

    @rule(star=STARS)
    def put(self, star: int) -> None:
        """A whole file, in place of the old one if there was one."""
        path = self.path(star)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.write(self.folder / "new", self.contents())
        (self.folder / "new").rename(path)

    @rule(star=STARS)
    def put_another(self, star: int) -> None:
        """As this happens most."""
        self.put(star)

    @rule(star=STARS)
    def rewrite(self, star: int) -> None:
        """Other contents, in place."""
        if self.path(star).exists():
            self.write(self.path(star), self.contents())

    @rule(star=STARS)
    def halve(self, star: int) -> None:
        """Other contents, in place, of which only a part has come."""
        if self.path(star).exists():
            contents = self.contents()
            self.write(self.path(star), contents[: 2880 + self.changes // 2])

    @rule(star=STARS)
    def remove(self, star: int) -> None:
        self.path(star).unlink(missing_ok=True)

    @rule()
    def wait(self) -> None:
        """Until files have settled."""
        self.ahead += 2 * SEEN.settle

    @rule()
    def look(self) -> None:
        """A tick whose requests become runs."""
        self.ahead += COARSE
        self.one_tick()

    @rule()
    def look_unheard(self) -> None:
        """A tick whose requests are lost."""
        self.ahead += COARSE
        self.one_tick(heard=False)

    @rule(place=st.sampled_from(PLACES))
    def look_and_die(self, place: str) -> None:
        """A tick that is killed, if it comes to this place."""
        self.ahead += COARSE
        self.one_tick(place)

    @rule()
    def work(self) -> None:
        """All runs do what they are for."""
        for request in self.waiting:
            self.end(request, dg.DagsterRunStatus.SUCCESS)
            data_ids = [ASPCAP.parse_key(key) for key in named(self.instance, ASPCAP, request.partitions)]
            for found in sources.examine(self.instance, ASPCAP, data_ids, self.root):
                if found.file is not None and found.version is not None and not found.recorded:
                    made = records.source_materialisation(ASPCAP, found.data_id.key, found.version, found.version, {})
                    self.instance.report_runless_asset_event(made)
        self.waiting.clear()

    @rule()
    def lose_runs(self) -> None:
        """All runs die."""
        for request in self.waiting:
            self.end(request, dg.DagsterRunStatus.FAILURE)
        self.waiting.clear()

    @invariant()
    def no_version_is_requested_twice(self) -> None:
        said = [(key, said) for asked in self.accepted.values() for key, said in asked.items()]
        every = [(key, re.sub(" for [^,]*", "", version)) for key, version in said]
        assert len(every) == len(set(every)), "requested twice"

    def teardown(self) -> None:
        """In the end all is quiet: what is whole is recorded, and nothing is left to be requested."""
        try:
            self.come_to_rest()
        finally:
            self.instance.dispose()
            self.environment.undo()
            self.temporary.cleanup()

    def come_to_rest(self) -> None:
        for more in (LONGEST_WAIT, 0, LONGEST_WAIT, 0):
            self.work()
            self.ahead += SEEN.settle + COARSE + more
            last = self.one_tick()
        files, _ = find_files(ASPCAP, "DR17", self.root)
        whole = {file.data_id.key: file.version for file in files if not is_cut_short(file.path)}
        known = records.source_records(self.instance, ASPCAP, list(whole))
        assert last is not None
        assert last.requests == []
        assert last.writing == len(files) - len(whole)
        assert {key: record.version for key, record in known.items()} == whole
        assert set(registered(self.instance, ASPCAP)) >= set(whole)
        self.no_version_is_requested_twice()

    def path(self, star: int) -> Path:
        values = {"telescope": "apo25m", "field": f"120+1{star % 2}", "obj": f"2M0000000{star}+0000000"}
        return ASPCAP.data_id("DR17", **values).path(self.root)

    def contents(self) -> bytes:
        """A FITS file of a size that there was not before."""
        self.changes += 1
        size = f"NAXIS1  = {self.changes}".encode()
        cards = (b"SIMPLE  = T", b"BITPIX  = 8", b"NAXIS   = 1", size, b"END")
        return b"".join(card.ljust(80) for card in cards).ljust(2880) + bytes(self.changes)

    def write(self, path: Path, contents: bytes) -> None:
        """Write a file in place, with a date that there was not before."""
        path.write_bytes(contents)
        date = time.time_ns() - 10**14 + self.changes
        os.utime(path, ns=(date, date))

    def one_tick(self, place: str | None = None, *, heard: bool = True) -> Tick | None:
        """A tick, and the runs that it asks for if it is heard; None if it died at the place."""
        requests_for = arrivals.requests_for

        def asking(*args: object, **named: object) -> list[tuple[Request, list[str]]]:
            made = requests_for(*args, **named)  # type: ignore[arg-type]
            for request, _ in made:
                self.asked_for[request.run_key] = dict(args[2])  # type: ignore[call-overload]
            return made

        def dying(*_: object, **__: object) -> None:
            raise Killed

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(arrivals, "requests_for", asking)
            if place in ("look_at", "register", "requests_for"):
                patch.setattr(arrivals, place, dying)
            elif place == "_data_id":
                patch.setattr(arrivals._Ticking, place, dying)
            elif place:
                patch.setattr(Watch, place, dying)
            try:
                made = tick(self.instance, SEEN, lambda: time.time() + self.ahead)
            except Killed:
                return None
        for request in made.requests if heard else ():
            if request.run_key not in self.accepted:
                keys = named(self.instance, ASPCAP, request.partitions)
                self.accepted[request.run_key] = {key: self.asked_for[request.run_key][key] for key in keys}
                tags = {RUN_KEY_TAG: request.run_key, SENSOR_NAME_TAG: sensor_name(SEEN)}
                self.instance.add_run(DagsterRun(job_name="x", tags=tags, status=dg.DagsterRunStatus.STARTED))
                self.waiting.append(request)
        return made

    def end(self, request: Request, status: dg.DagsterRunStatus) -> None:
        """Have a run end so."""
        tags = {RUN_KEY_TAG: request.run_key, SENSOR_NAME_TAG: sensor_name(SEEN)}
        (run,) = self.instance.get_runs(dg.RunsFilter(tags=tags))
        self.instance.delete_run(run.run_id)
        self.instance.add_run(run.with_status(status))


TestArrivals = pytest.mark.slow(Arrivals.TestCase)
TestArrivals.settings = hypothesis_settings(max_examples=60, stateful_step_count=30)


@pytest.mark.parametrize(
    "events",
    [
        "put, look_unheard",
        "put, look, put_other, look",
        "put, look, lose_runs, look, wait, look, lose_runs",
        "put, look, remove, work, put, look",
        "put, look, work, rewrite",
        "put, look, work, wait, look, halve, look, work",
    ],
)
def test_histories_that_went_wrong_once(events: str) -> None:
    history = Arrivals()
    for event in events.split(", "):
        if event in ("put", "rewrite", "halve", "remove"):
            getattr(history, event)(star=1)
        elif event == "put_other":
            history.put(star=2)
        else:
            getattr(history, event)()
        history.no_version_is_requested_twice()
    history.teardown()
