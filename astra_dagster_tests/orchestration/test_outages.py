"""A disk that is away, or a folder that may not be entered, is told, and changes nothing: as a person sees it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from astra_dagster import product
from astra_dagster.cleanup.cleaning import KINDS
from astra_dagster.cli import main
from astra_dagster.orchestration.clean import CleanConfig, carry_out, survey
from astra_dagster.orchestration.partitions import register, registered
from astra_dagster.orchestration.sources import make_planner
from astra_dagster.outputs.store import OutputStore
from astra_dagster.planning.plan import Plan
from astra_dagster.planning.status import ReasonKind, Status
from astra_dagster.tasks import registry
from astra_dagster_tests.outages import OUTAGES, Undo, circle, empty, missing, unlinked

VISITS = product("apVisit")
NAME = "ap_visit_snr"
AWAY = "was here before, and this folder {} now (file {}); mount its disk"
TASKS = """
from astra_dagster import ap_star, grouped, matching, spectrum_task
from astra_dagster.tasks.requirements import visits_of_star
from astra_dagster.tasks.snr import ap_visit_snr

@spectrum_task(requires=grouped(ap_visit_snr, by="field"), version="1")
def field_snr(visits, parameters):
    return {"n": len(visits)}
"""


def astra(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def keys(instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All visits, discovered and done, and all fields of them."""
    (tmp_path / "tasks_of_outages.py").write_text(TASKS)
    (tmp_path / "astra.toml").write_text('packages = ["tasks_of_outages"]\nworkers = "in-process"\n')
    monkeypatch.setenv("ASTRA_CONFIG", str(tmp_path / "astra.toml"))
    monkeypatch.syspath_prepend(tmp_path)
    assert astra("discover", "--product", "apVisit").exit_code == 0
    assert astra("run", "field_snr").exit_code == 0
    return list(registered(instance, VISITS))


def store(name: str = NAME) -> OutputStore:
    task = registry.tasks()[name]
    return OutputStore(Path(os.environ["ASTRA_OUTPUTS"]), task, task.values())


def plan(instance: dg.DagsterInstance, name: str = NAME) -> Plan:
    mine = store(name)
    planner = make_planner(instance, mine.root, Path(os.environ["SAS_BASE_DIR"]))
    return planner.plan(mine, registered(instance, mine.task.domain))


def keys_of(plan: Plan, *statuses: Status) -> list[str]:
    return [one.key for status in statuses for one in plan.of(status)]


def outputs() -> dict[Path, tuple[bytes, int]]:
    files = Path(os.environ["ASTRA_OUTPUTS"]).rglob("*.*")
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files if path.is_file()}


def folder_of(key: str, root: Path) -> Path:
    return VISITS.parse_key(key).path(root).parent


def test_a_mirror_that_is_away_is_an_error(instance: dg.DagsterInstance, keys: list[str], mirror: Path) -> None:
    before = outputs()
    for outage, what in ((empty, "is empty"), (missing, "is missing"), (unlinked, "is a link that leads nowhere")):
        undo = outage(mirror / "dr17")
        told = AWAY.format(what, mirror / "dr17")
        run = astra("run", NAME)
        assert run.exit_code == 1
        assert f"6 complete, 0 to do\n12 cannot be looked at\n  12 {told}" in run.output
        assert f"Error: 12 of 18 partitions failed\n{keys[0]}: {told}" in run.output
        one = astra("plan", NAME, "--release", "DR17", "--where", "fibre=1")
        assert one.exit_code == 1
        assert one.output.endswith("Error: 1 of 1 cannot be looked at\n")
        assert told in one.output
        found = astra("discover", "--product", "apVisit")
        assert found.exit_code == 1
        assert "apVisit in DR19: 6 files" in found.output
        assert f"12 known files: {told}" in found.output
        document = json.loads(astra("plan", NAME, "--json").stdout)[0]
        assert (document["complete"], document["no_input"], len(document["unreachable"])) == (6, 0, 12)
        assert document["unreachable"][0]["partition"] == keys[0]
        assert document["unreachable"][0]["reason"].startswith(told)
        assert "0 removed" in astra("clean", "--yes").output
        undo()
        again = astra("run", NAME)
        assert again.exit_code == 0
        assert again.output == f"{NAME}: 18 partitions\n18 complete, 0 to do\n"
        assert outputs() == before


def test_files_that_were_removed_on_purpose_are_forgotten_when_somebody_says_so(
    instance: dg.DagsterInstance, keys: list[str], mirror: Path
) -> None:
    for path in folder_of(keys[8], mirror).iterdir():
        path.unlink()
    VISITS.parse_key(keys[0]).path(mirror).unlink()
    circle(VISITS.parse_key(keys[1]).path(mirror))
    before = outputs()
    for arguments in ((), ("--product", "apVisit"), ("--release", "DR17")):
        refused = astra("discover", *arguments, "--forget")
        assert "Error: to forget files takes one product and one release; name them" in refused.output
    one = ("discover", "--product", "apVisit", "--release", "DR17", "--forget")
    assert "5 to forget" in astra(*one, "--dry-run").output
    assert list(registered(instance, VISITS)) == keys
    made = astra(*one)
    assert made.output.startswith("apVisit in DR17: 6 files, 0 new, 0 changed, 0 skipped, 5 to forget\n")
    assert made.exit_code == 1  # there is one of which nobody can tell
    assert list(registered(instance, VISITS)) == [*keys[1:8], *keys[12:]]
    assert "DR17/000+02" not in registered(instance, store("field_snr").task.domain)
    assert outputs() == before
    assert "6 to remove" in astra("clean", "--kind", "unregistered", "--task", NAME, "--task", "field_snr").output


def test_a_file_that_never_came_or_was_removed_is_no_failure(
    instance: dg.DagsterInstance, keys: list[str], mirror: Path
) -> None:
    register(instance, VISITS, [keys[0].replace("/001", "/299"), keys[0].replace("5226", "5227")])
    VISITS.parse_key(keys[0]).path(mirror).unlink()
    made = astra("run", NAME)
    assert made.exit_code == 0
    assert made.output == f"{NAME}: 20 partitions\n17 complete, 0 to do\nno input yet: 2\ninput gone: 1\n"
    found = astra("discover", "--product", "apVisit", "--release", "DR17")
    assert found.output == "apVisit in DR17: 11 files, 0 new, 0 changed, 0 skipped, 1 gone\n"
    assert found.exit_code == 0


def test_a_group_does_not_do_without_what_may_be_away(
    instance: dg.DagsterInstance, keys: list[str], mirror: Path
) -> None:
    assert len(plan(instance, "field_snr").of(Status.COMPLETE)) == 4
    for outage in OUTAGES:
        undo = outage(folder_of(keys[0], mirror))
        made = plan(instance, "field_snr")
        assert (len(made.of(Status.COMPLETE)), keys_of(made, Status.UNREACHABLE)) == (3, ["DR17/120+12"])
        undo()
    undo = circle(VISITS.parse_key(keys[0]).path(mirror))
    assert keys_of(plan(instance, "field_snr"), Status.UNREACHABLE) == ["DR17/120+12"]
    undo()
    missing(VISITS.parse_key(keys[0]).path(mirror))  # this one was removed
    assert keys_of(plan(instance, "field_snr"), Status.TO_DO) == ["DR17/120+12"]


def test_an_output_that_cannot_be_looked_at_is_not_made_again(instance: dg.DagsterInstance, keys: list[str]) -> None:
    circle(store().path(VISITS.parse_key(keys[0])))
    made = astra("run", NAME)
    assert made.exit_code == 1
    assert "17 complete, 0 to do\n1 cannot be looked at" in made.output
    story = astra("plan", NAME, "--explain", keys[0])
    assert story.exit_code == 1
    assert "too many levels of symbolic links" in story.output


def test_counts_and_places_of_files_say_what_cannot_be_looked_at(
    instance: dg.DagsterInstance, keys: list[str], mirror: Path, tmp_path: Path
) -> None:
    circle(VISITS.parse_key(keys[0]).path(mirror))
    table = tmp_path / "list.csv"
    table.write_text("telescope,field,plate,mjd,fibre\napo25m,120+12,5226,56000,1\napo25m,120+12,5226,56000,2\n")
    made = astra("register", str(table), "--product", "apVisit", "--release", "DR17")
    assert "1 on disk, 0 not yet, 1 cannot be looked at; 0 rows rejected" in made.output
    assert "1 files: cannot be looked at: too many levels of symbolic links" in made.output
    there = astra("fetch", *keys[:2], "--dry-run")
    assert there.exit_code == 1
    assert "too many levels of symbolic links" in there.output
    assert f"here   {keys[1]}" in there.output
    assert "Error: 1 of 2 cannot be looked at" in there.output
    assert "too many levels" in astra("show", keys[0], "--no-open").output
    assert "too many levels" in astra("path", keys[0]).output or astra("path", keys[0]).exit_code == 1


DENIED = """
import sys
from click.testing import CliRunner
from astra_dagster.cli import main

for command in sys.argv[1:]:
    made = CliRunner().invoke(main, command.split())
    print(made.exit_code, made.output)
"""


def test_permission_denied(instance: dg.DagsterInstance, keys: list[str], mirror: Path) -> None:
    plain = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    before = outputs()
    folder = folder_of(keys[0], mirror)
    folder.chmod(0)
    try:
        told = subprocess.run(
            [*plain, sys.executable, "-c", DENIED, f"run {NAME}", "discover --product apVisit", "clean --yes"],
            check=True,
            text=True,
            capture_output=True,
        ).stdout
    finally:
        folder.chmod(0o755)
    run, found, cleaned = told.split("apVisit in DR17")[0], told[told.index("apVisit in DR17") :], told
    denied = f"cannot be looked at: permission denied (file {folder}); ask its owner"
    assert run.startswith(f"1 {NAME}: 18 partitions\n10 complete, 0 to do\n8 cannot be looked at\n  8 {denied}\n")
    assert f"Error: 8 of 18 partitions failed\n{keys[0]}: {denied}\n" in run
    assert f"8 known files: {denied}\n" in found
    assert "it may be an outage" in cleaned
    assert "\n0 removed" in cleaned
    assert outputs() == before


BY_NAME = {outage.__name__: outage for outage in OUTAGES}
STEP = st.tuples(st.sampled_from(["back", "delete", "unlink", "run", *BY_NAME]), st.integers(0, 17))


class History:
    """What happens to a mirror, and can be undone."""

    def __init__(self, instance: dg.DagsterInstance, keys: list[str], mirror: Path) -> None:
        self.instance, self.keys, self.mirror = instance, keys, mirror
        self.undo: list[Undo] = []
        self.removed: set[str] = set()

    def step(self, what: str, number: int) -> None:
        """One thing that happens, if it can happen now."""
        key = self.keys[number]
        file = VISITS.parse_key(key).path(self.mirror)
        if what == "back":
            if self.undo:
                self.undo.pop()()
        elif what == "run":
            run = self.instance.add_run(dg.DagsterRun("a_job", status=dg.DagsterRunStatus.STARTED))
            self.undo.append(lambda: self.instance.report_run_failed(run) and None)
        elif what in ("delete", "unlink"):
            if file.is_file():
                self.undo.append((missing if what == "delete" else unlinked)(file))
                self.removed |= {key} if what == "delete" else set()
        else:
            folder = (*file.parents,)[number % 5]  # of a night, a plate, a field, a telescope, all visits
            if folder.is_dir():
                self.undo.append(BY_NAME[what](folder))

    def end(self) -> None:
        """All is back."""
        while self.undo:
            self.undo.pop()()


def test_whatever_happens_nothing_is_lost_or_made_again(
    instance: dg.DagsterInstance, keys: list[str], mirror: Path
) -> None:
    before = outputs()
    root = store().root

    @settings(max_examples=12)
    @given(steps=st.lists(STEP, min_size=1, max_size=5))
    def happens(steps: list[tuple[str, int]]) -> None:
        history = History(instance, keys, mirror)
        try:
            for step in steps:
                history.step(*step)
            made = plan(instance)
            assert keys_of(made, Status.TO_DO, Status.TO_RECORD, Status.WAITING, Status.INVALID) == []
            assert made.of(ReasonKind.NEVER_CAME) == []
            assert set(keys_of(made, Status.NO_INPUT)) <= history.removed  # what is back is among these, and complete
            groups = plan(instance, "field_snr")
            changed = set(keys_of(groups, Status.TO_DO))
            assert changed <= {store("field_snr").task.domain.key_of(key) for key in history.removed}
            every = survey(instance, root, CleanConfig(kinds=list(KINDS)).selection(root))
            offered = {Path(item.path).name for item in every.candidates if not item.kept and item.family == NAME}
            assert offered <= {store().path(VISITS.parse_key(key)).name for key in history.removed}
            carry_out(instance, root, survey(instance, root, CleanConfig(older_days=0).selection(root)))
            assert outputs() == before
        finally:
            history.end()

    happens()
    for name, count in ((NAME, 18), ("field_snr", 4)):
        assert len(plan(instance, name).of(Status.COMPLETE)) == count
    assert "18 complete, 0 to do" in astra("run", NAME).output
    assert outputs() == before
