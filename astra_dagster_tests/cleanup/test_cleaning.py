"""What is no longer needed is found, kind by kind, with Dagster absent; what is needed stays."""

import hashlib
import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astra_dagster import grouped, product
from astra_dagster.cleanup import cleaning
from astra_dagster.cleanup.cleaning import Found, Selection
from astra_dagster.cleanup.known_tasks import Family
from astra_dagster.cleanup.removal import remove
from astra_dagster.datamodel.keys import ABSENT
from astra_dagster.errors import AstraError
from astra_dagster.outputs.layout import file_name, place_of
from astra_dagster.outputs.own_files import SKEW, file_system_time
from astra_dagster.outputs.record import record_of
from astra_dagster.outputs.store import OutputStore
from astra_dagster.planning.status import Status
from astra_dagster.spectra.readers import read_spectra
from astra_dagster.tables.collection import collect
from astra_dagster.tasks.continuum import ap_visit_continuum
from astra_dagster.tasks.groups import GroupID
from astra_dagster.tasks.snr import ap_visit_snr
from astra_dagster_tests.cleanup.cleaned import DAY, NAME, Older, Place, age, make_place, tree
from astra_dagster_tests.execution.work import run

KEYS = (
    *("DR17/apo25m/120+12/5226/56000/001", "DR13/apo25m/-/5564/55903/105"),
    *("DR17/apo25m/120+12/-/2M00012723+6258059", "DR19/apo25m/-/1013/2M01183798+8403419"),
    "DR17/v5_13_2/3586/55181/0500",
)


@pytest.fixture
def place(synthetic: Path, tmp_path: Path) -> Place:
    return make_place(synthetic, tmp_path)


@pytest.mark.parametrize("key", KEYS)
def test_places_are_those_of_the_store(key: str, tmp_path: Path) -> None:
    name = {6: "apVisit", 5: "spec" if "v5" in key else "apStar"}[len(key.split("/"))]
    task = replace(ap_visit_snr, requires=(product(name),))
    store = OutputStore(tmp_path, task, task.values())
    assert store.path(product(name).parse_key(key)) == store.folder / f"{place_of(NAME, key)}.json"


@given(st.lists(st.sampled_from(["a", "b-", "1+2", ABSENT, "x.y"]), max_size=5))
def test_places_of_groups_are_those_of_the_store(parts: list[str]) -> None:
    store = OutputStore(Path("/o"), ap_visit_snr, ap_visit_snr.values())
    group = GroupID(grouped(product("apVisit"), by="plate").domain, "DR17", tuple(parts))
    assert store.path(group) == store.folder / f"{place_of(NAME, group.key)}.json"


def test_what_is_complete_is_not_listed(place: Place) -> None:
    before = tree(place.root)
    assert place.kinds(kinds=list(cleaning.KINDS)) == {}
    assert place.clean().removed == []
    assert tree(place.root) == before


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert cleaning.find(tmp_path / "none", {}, Selection(), began=0) == Found()


@pytest.mark.parametrize("digest_in", ["nothing", "a record"])
def test_superseded_parameters(place: Place, digest_in: str) -> None:
    other = place.other(replace(ap_visit_snr, parameters=Older))
    if digest_in == "a record":
        records = place.family.records[NAME]
        records = {**records, place.keys[0]: replace(records[place.keys[0]], digest=other.digest)}
        place.family = replace(place.family, records={NAME: records})
        assert place.kinds() == {"(superseded)": 3}
        assert place.clean(other_parameters=True, older_days=0).removed == []
        (kept,) = {c.kept for c in place.find(kinds=["superseded"]).candidates}
        assert kept == f"in the latest records of 1 partitions: --digest {other.digest}"
    else:
        assert place.kinds() == {"superseded": 3}
    removed = place.clean(digests=[other.digest] if digest_in == "a record" else []).removed
    assert len(removed) == 3
    assert not other.folder.exists()
    assert place.path(0).exists()


def test_other_parameters_stay_unless_asked_for(place: Place) -> None:
    other = place.other(fudge_factor=2.0)
    before = tree(place.root)
    assert place.kinds() == {"(other-parameters)": 3}
    assert place.clean().removed == place.clean(kinds=["other-parameters"]).removed == []
    assert place.clean(older_days=1).removed == []
    assert tree(place.root) == before
    for asked in ({"other_parameters": True}, {"digests": [other.digest]}, {"older_days": 0}):
        assert place.kinds(**asked) == {"other-parameters": 3}
    assert len(place.clean(other_parameters=True).removed) == 3
    assert [path.name for path in (place.root / NAME).iterdir()] == [place.store.digest]


def test_a_variant_is_not_other_parameters(place: Place) -> None:
    variant = ap_visit_snr.variant("double", fudge_factor=2.0)
    place.other(fudge_factor=2.0)
    place.family = replace(place.family, tasks=[ap_visit_snr, variant])
    assert place.kinds() == {}
    assert place.kinds(tasks=["ap_visit_snr_double"]) == {}


def test_an_older_code_version(place: Place) -> None:
    older = replace(ap_visit_snr, version="1")
    run(OutputStore(place.root, older, older.values()), place.work[:3])
    for i, status in enumerate((Status.TO_DO, Status.WAITING, Status.TO_DO)):
        place.put(i, status)
    place.forget(2)
    assert place.kinds() == {"code": 3}
    assert len(place.clean().removed) == 3
    assert not place.path(0).exists()


def test_another_format_of_output_is_an_older_code_version(place: Place) -> None:
    path = place.path(0).with_suffix(".fits")
    about = {"name": NAME, "family": "", "version": ap_visit_snr.version, "parameters": ap_visit_snr.parameters}
    fits = replace(ap_visit_continuum, **about)
    spectra = ap_visit_continuum(read_spectra(place.work[0].path, "apVisit"))
    written = OutputStore(place.root, fits, ap_visit_snr.values()).write(place.work[0], {"n": 1.0}, spectra)
    assert written.path == path
    assert place.kinds() == {"code": 1}
    place.clean()
    assert not path.exists()
    assert place.path(0).exists()


def test_outputs_without_a_record(place: Place) -> None:
    for i, status in enumerate((Status.TO_DO, Status.WAITING, Status.TO_RECORD)):
        place.forget(i)
        place.put(i, status)
    place.put(3, Status.TO_DO)  # recorded, its input changed: the next run writes it anew
    assert place.kinds() == {"unrecorded": 1, "(recordable)": 1}
    assert [c.path.split("-")[-1] for c in place.clean().removed] == ["001.json"]


def test_partitions_that_are_not_registered(place: Place) -> None:
    place.family = replace(place.family, registered=frozenset(place.keys[2:]))
    place.forget(1)
    assert place.kinds() == {"unregistered": 1, "(stray)": 1}
    assert len(place.clean().removed) == 1
    assert not place.path(0).exists()
    assert place.kinds(kinds=["stray"]) == {"stray": 1}
    assert len(place.clean(kinds=["stray"]).removed) == 1


def test_inputs_that_have_gone(place: Place) -> None:
    place.put(0, Status.NO_INPUT)
    place.put(1, Status.UNREACHABLE)
    assert place.kinds() == {"(no-input)": 2}
    assert place.clean(older_days=0, tasks=[NAME]).removed == []
    assert place.kinds(kinds=["no-input"]) == {"no-input": 1, "(no-input)": 1}
    assert len(place.clean(kinds=["no-input"]).removed) == 1
    assert place.path(1).exists()
    assert {c.kept for c in place.find(kinds=["no-input"]).candidates} == {cleaning.OUTAGE}


@pytest.mark.parametrize("family", ["", NAME, "another"])
def test_what_a_run_holds_stays(family: str, place: Place) -> None:
    place.other(replace(ap_visit_snr, parameters=Older))
    place.other(replace(ap_visit_snr, name="not_registered", family=""))
    place.held = {family: "the run 0123 is not finished"}
    goes, unknown = family == "another", family != ""
    kinds = place.kinds(tasks=[NAME, "not_registered"])
    assert kinds == {"superseded" if goes else "(superseded)": 3, "unknown-task" if unknown else "(unknown-task)": 3}
    assert len(place.clean(tasks=[NAME, "not_registered"]).removed) == 3 * goes + 3 * unknown
    assert {c.kept for c in place.find().candidates if c.kind == "superseded"} <= {"the run 0123 is not finished"}


@pytest.mark.parametrize("ahead", [-7200, 7200])
def test_what_is_younger_than_the_look_stays_whatever_this_machine_says_it_is(ahead: int, place: Place) -> None:
    """The file server's clock dates the files; that of this machine may be hours off."""
    for i in range(3):
        place.unwanted(i)
        age(place.path(i), ahead + (-1, 0, 1)[i])  # a second after, just as, and a second before the look began
    began = place.path(1).stat().st_mtime_ns
    found = cleaning.find(place.root, {NAME: place.family}, Selection(), began=began)
    assert [(c.path[-8:], c.kept) for c in found.candidates] == [
        *(("003.json", ""), ("001.json", cleaning.YOUNG), ("002.json", cleaning.YOUNG))
    ]
    assert [c.path[-8:] for c in remove(place.root, found.candidates).removed] == ["003.json"]


def test_the_time_of_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = time.time_ns()
    now = file_system_time(tmp_path)
    assert before - 10**8 < now < time.time_ns() + 10**8
    assert list(tmp_path.iterdir()) == []
    assert time.time_ns() - file_system_time(tmp_path / "none") > (SKEW - 1) * 10**9
    real = os.fstat

    def dated(descriptor: int) -> os.stat_result:
        values = list(real(descriptor))
        return os.stat_result(values, {"st_mtime_ns": 5})

    monkeypatch.setattr(os, "fstat", dated)
    assert file_system_time(tmp_path) == 5  # what the server says


def test_notes_of_failures(place: Place) -> None:
    for i in range(4):
        place.store.note_failure(place.work[i], AstraError("bad"))
    place.put(1, Status.TO_DO)
    place.put(2, Status.TO_RECORD)
    place.put(3, Status.TO_DO)
    place.family = replace(place.family, registered=frozenset(place.keys[:3]))
    place.store.failure_path(place.work[4].data_id).write_text('{"key": "of somebody else"}')
    kinds = place.kinds(kinds=["failures"])
    assert kinds == {"failures": 3}
    place.clean(kinds=["failures"])
    left = [i for i in range(12) if place.store.failure_path(place.work[i].data_id).exists()]
    assert left == [1, 4]


@pytest.mark.parametrize(
    ("process", "seconds", "goes"),
    [("own", 10, False), ("own", 3000, False), ("own", 4000, True), ("none", 10, False), ("none", 70, True)],
)
def test_temporary_files(place: Place, process: str, seconds: float, goes: bool) -> None:
    number = os.getpid() if process == "own" else 2**31
    paths = [place.path(0).with_name(f".astra-{number}-0123456789ab.tmp")]
    paths += [place.store.folder / f".astra-{number}-0123456789ff.tmp"]
    for path in paths:
        path.write_bytes(b"SIMPLE  = half an out")
        age(path, seconds)
    assert place.kinds() == ({"temporary": 2} if goes else {})
    place.clean()
    assert [path.exists() for path in paths] == [not goes] * 2


def test_tasks_that_are_not_registered(place: Place) -> None:
    place.other(replace(ap_visit_snr, name="gone", family=""))
    assert place.kinds() == {"(unknown-task)": 3}
    assert place.clean(other_parameters=True, older_days=0).removed == []
    assert place.kinds(tasks=["gone"]) == {"unknown-task": 3}
    assert len(place.clean(tasks=["gone"]).removed) == 3
    assert not (place.root / "gone").exists()


def test_records_without_an_output_are_only_listed(place: Place) -> None:
    place.path(0).unlink()
    place.put(0, Status.TO_DO)
    assert place.kinds() == {"(lost)": 1}
    assert place.find().candidates[0].path == place.keys[0]
    assert place.kinds(older_days=0) == place.kinds(digests=["0123456789ab"]) == place.kinds(kinds=["code"]) == {}
    shutil.move(place.store.folder, place.root / "elsewhere")
    assert place.kinds() == {"(lost)": 12}
    place.store.folder.symlink_to(place.root / "elsewhere")  # not followed, but not lost either
    assert place.kinds() == {"(lost)": 1}
    assert place.clean().removed == []


@pytest.mark.parametrize("key", ["", "DR17", "DR17/a\0b", "DR17/" + 300 * "x", "DR17/../../x", "//"])
def test_keys_that_are_none_do_no_harm(key: str, place: Place) -> None:
    record = place.family.records[NAME][place.keys[0]]
    records = {NAME: {**place.family.records[NAME], key: record}}
    place.family = replace(place.family, records=records, registered={*place.keys, key})
    assert set(place.kinds()) <= {"(lost)"}


def test_a_dagster_home_without_a_record_of_the_task_removes_nothing(place: Place) -> None:
    place.other(replace(ap_visit_snr, parameters=Older))
    place.family = replace(place.family, records={}, statuses={})
    before = tree(place.root)
    assert place.kinds() == {"(superseded)": 3}
    assert place.clean(older_days=0, other_parameters=True).removed == []
    assert tree(place.root) == before
    assert place.kinds(tasks=[NAME]) == {"superseded": 3}


def test_selections(place: Place) -> None:
    place.unwanted(0)
    other = place.other(fudge_factor=2.0)
    assert place.kinds(kinds=["unrecorded"]) == {"unrecorded": 1}
    assert place.kinds(digests=[other.digest]) == {"other-parameters": 3}
    assert place.kinds(digests=[place.store.digest]) == {"unrecorded": 1}
    assert place.kinds(tasks=["another"]) == {}
    assert place.kinds(older_days=1) == {}
    age(place.path(0), 3 * DAY)
    age(other.path(place.work[0].data_id), 3 * DAY)
    age(other.folder / "parameters.json", 3 * DAY)
    assert place.kinds(older_days=2) == {"unrecorded": 1, "other-parameters": 1}
    assert len(place.clean(older_days=2).removed) == 2
    assert (other.folder / "parameters.json").exists()
    assert other.path(place.work[1].data_id).exists()


def test_tables_go_with_the_last_output_of_their_folder(place: Place) -> None:
    other = place.other(fudge_factor=2.0)
    for store in (place.store, other):
        collect(store, {work.data_id.key: record_of(store, work, store.find(work)) for work in place.work[:2]})
    age(other.path(place.work[0].data_id), 3 * DAY)
    assert len(place.clean(older_days=1).removed) == 1
    assert len(list(other.folder.glob("*_table.*"))) == 2
    assert place.kinds(other_parameters=True) == {"other-parameters": 4}
    place.clean(other_parameters=True)
    assert not other.folder.exists()
    assert len(list(place.store.folder.glob("*_table.*"))) == 2


def test_fits_outputs(place: Place) -> None:
    task = ap_visit_continuum
    store = OutputStore(place.root, task, task.values())
    run(store, place.work[:2])
    (store.path(place.work[2].data_id)).write_bytes(store.path(place.work[0].data_id).read_bytes())
    records = {work.data_id.key: record_of(store, work, store.find(work)) for work in place.work[:2]}
    statuses = {store.digest: dict.fromkeys(place.keys[:3], Status.NO_INPUT)}
    known = {NAME: place.family, task.name: Family([task], frozenset(place.keys), {task.name: records}, statuses)}
    began = time.time_ns() + 10**9
    found = cleaning.find(place.root, known, Selection(kinds=["no-input"]), began=began)
    assert [(c.kind, c.path[-8:]) for c in found.candidates] == [("no-input", "001.fits"), ("no-input", "002.fits")]
    assert len(remove(place.root, found.candidates).removed) == 2
    newer = replace(task, version="next")
    run(store, place.work[:1])
    statuses = {store.digest: {place.keys[0]: Status.TO_DO}}
    known[task.name] = Family([newer], frozenset(place.keys), {task.name: records}, statuses)
    found = cleaning.find(place.root, known, Selection(kinds=["code"]), began=began)
    assert [c.path[-8:] for c in found.candidates] == ["001.fits"]


def put_file(output: Path, contents: bytes) -> Path:
    """A file beside an output, as tasks make them."""
    path = output.with_name(file_name(output.stem, "plot", hashlib.sha256(contents).hexdigest()[:12], "png"))
    path.write_bytes(contents)
    age(path, DAY)
    return path


def test_files_that_a_task_made_besides_go_with_their_output(place: Place) -> None:
    plots = [put_file(place.path(i), bytes([i])) for i in range(6)]
    mine = place.path(0).with_name(plots[0].name.replace("plot-", "plot-0123456789ab-"))
    other = put_file(place.path(0), b"a plot")
    other.write_bytes(b"which somebody has drawn on")
    mine.write_bytes(b"a user's own")
    assert place.kinds() == {}
    place.unwanted(0)
    place.put(1, Status.NO_INPUT)
    place.put(2, Status.UNREACHABLE)
    place.put(3, Status.TO_DO)  # and its record is there: it will be replaced
    place.family = replace(place.family, registered=place.family.registered - {place.keys[4]})
    place.put(5, Status.TO_DO)
    place.path(5).unlink()
    assert place.kinds(kinds=["unrecorded", "no-input", "unregistered"]) == {
        "unrecorded": 3,
        "no-input": 2,
        "(no-input)": 2,
        "unregistered": 2,
    }
    removed = place.clean(kinds=["unrecorded", "unregistered"])
    assert {path.exists() for path in (plots[0], plots[4], plots[5])} == {False}
    assert all(path.exists() for path in (*plots[1:4], mine, other))
    assert len(removed.removed) == 5


def test_files_of_an_older_code_version_go_with_their_output(place: Place) -> None:
    plot = put_file(place.path(0), b"x")
    place.family = replace(place.family, tasks=[replace(ap_visit_snr, version="99")])
    place.put(0, Status.TO_DO)
    found = place.find(kinds=["code"])
    assert {candidate.path.rpartition("/")[2] for candidate in found.candidates} >= {plot.name, place.path(0).name}


def test_files_of_superseded_parameters_go_too(place: Place) -> None:
    store = place.other(replace(ap_visit_snr, parameters=Older), smoothing=5)
    plot = put_file(store.path(place.work[0].data_id), b"x")
    assert place.kinds() == {"superseded": 4}
    place.clean()
    assert not plot.exists()
    assert not store.folder.exists()


def test_what_is_removed_leaves_no_empty_folder(place: Place) -> None:
    for i in range(12):
        place.put(i, Status.NO_INPUT)
    place.clean(kinds=["no-input"])
    assert list(tree(place.store.folder)) == ["parameters.json"]
    assert json.loads((place.store.folder / "parameters.json").read_text())["task"] == NAME
