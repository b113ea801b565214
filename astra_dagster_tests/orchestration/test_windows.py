"""What goes over all partitions holds few records at a time, and what goes over some of them reads no others."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import dagster as dg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from astra_dagster import product
from astra_dagster.archive import discovery
from astra_dagster.cli import main
from astra_dagster.errors import AstraError, InvalidKeyError
from astra_dagster.orchestration import discover, partitions, records
from astra_dagster.orchestration.partitions import register, registered
from astra_dagster.orchestration.runs import materialise
from astra_dagster.orchestration.runs.jobs import match_keys
from astra_dagster.orchestration.storage import sqlite
from astra_dagster.orchestration.storage.batches import BatchedEventLogStorage
from astra_dagster.planning.ledger import Selection, select_keys
from astra_dagster_tests.orchestration.homes import home
from astra_dagster_tests.orchestration.runs.main_job import SNR, recorded, update
from astra_dagster_tests.orchestration.runs.main_job import discover as run_discover

VISITS = product("apVisit")


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of records that are written together, of which at most four may be."""
    numbers: list[int] = []
    write = records.write

    def count(context: dg.OpExecutionContext, made: list[dg.AssetMaterialization]) -> None:
        numbers.append(len(made))
        write(context, made)

    monkeypatch.setattr(records, "write", count)
    monkeypatch.setattr(records, "BATCH", 4)
    monkeypatch.setattr(materialise, "RECORD", 4)
    return numbers


def test_records_of_files_are_made_a_batch_at_a_time(instance: dg.DagsterInstance, written: list[int]) -> None:
    assert run_discover(instance, products=["apVisit"], releases=["DR17"]).success
    assert written == [4, 4, 4]


@pytest.mark.usefixtures("windows")
def test_outputs_without_a_record_are_recorded_a_batch_at_a_time(
    instance: dg.DagsterInstance, written: list[int]
) -> None:
    assert run_discover(instance, products=["apVisit"], releases=["DR17"]).success
    assert update(instance).success
    assert update(instance, fudge_factor=2.0).success
    written.clear()
    assert update(instance).success  # its outputs are there already
    assert [number for number in written if number] == [4, 4, 4]
    assert len(recorded(instance)) == 12


def test_a_search_comes_in_parts_of_which_only_keys_are_held(
    instance: dg.DagsterInstance, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the parts are, everything is found, once, and what is missing is missed."""
    monkeypatch.setattr(discovery, "WINDOW", 1)
    config = discover.DiscoverConfig(products=["apVisit"], releases=["DR17"])
    parts = list(discover.search(instance, config))
    assert [(part.files, len(part.inputs), len(part.new_keys)) for part in parts] == [(4, 4, 4), (8, 8, 8)]
    (found,) = discover.add_up(parts)
    assert (found.files, found.new, found.outdated, found.changed, found.inputs) == (12, 12, 12, 0, ())
    assert run_discover(instance, products=["apVisit"], releases=["DR17"]).success
    (found,) = discover.add_up(discover.search(instance, config))
    assert (found.files, found.new, found.outdated, found.missing) == (12, 0, 0, ())
    changed, removed, *_ = (one.path(mirror) for one in map(VISITS.parse_key, registered(instance, VISITS)))
    os.utime(changed, (1, 1))
    removed.unlink()
    parts = list(discover.search(instance, config))
    assert [one.file.path for part in parts for one in part.inputs if one.file] == [changed]
    (found,) = discover.add_up(parts)
    assert (found.files, found.new, found.outdated, found.changed) == (11, 0, 1, 1)
    assert [one.data_id.path(mirror) for one in found.missing] == [removed]


def test_what_was_found_is_recorded_before_the_search_ends(
    instance: dg.DagsterInstance, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search that breaks off loses nothing of the parts before, and the next one does the rest."""
    monkeypatch.setattr(discovery, "WINDOW", 1)
    walk_files = discover.walk_files

    def break_off(*given: Any) -> Iterator[Any]:
        yield next(walk_files(*given))
        raise AstraError("no more")

    with monkeypatch.context() as patched:
        patched.setattr(discover, "walk_files", break_off)
        with pytest.raises(click.ClickException, match="no more"):
            main(["discover", "--product", "apVisit", "--release", "DR17"], standalone_mode=False)
    assert len(registered(instance, VISITS)) == len(recorded(instance, dg.AssetKey("ap_visit"))) == 4
    main(["discover", "--product", "apVisit", "--release", "DR17"], standalone_mode=False)
    assert len(registered(instance, VISITS)) == len(recorded(instance, dg.AssetKey("ap_visit"))) == 12


def test_the_command_looks_at_the_disk_once(
    mirror: object, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = []
    walk_files = discover.walk_files
    monkeypatch.setattr(discover, "walk_files", lambda *given: searched.append(given[:2]) or walk_files(*given))
    main(["discover", "--product", "apVisit", "--release", "DR17"], standalone_mode=False)
    assert len(searched) == 1
    assert len(recorded(instance, dg.AssetKey("ap_visit"))) == 12


KEYS = [
    f"{start}/120+12/{plate}/56000/001" for start in ("DR17/apo25m", "DR17/lco25m") for plate in (5226, 5227, 15226)
]
NONSENSE = "DR17/b"
KEYS += ["DR17/apo25m/120+12/5226/56000/002", "DR12/-/-/5226/56000/001", NONSENSE]


@pytest.fixture
def batched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[dg.DagsterInstance]:
    """An instance with our storage and some registered visits, all of which nobody may read."""
    monkeypatch.setenv(
        "DAGSTER_HOME", str(home(tmp_path / "batched", request, getattr(request, "param", "sqlite"), ours=True))
    )
    with dg.DagsterInstance.get() as instance:
        register(instance, VISITS, KEYS)

        def refuse(self: object, name: str) -> None:
            raise AssertionError("all keys are read")

        monkeypatch.setattr(BatchedEventLogStorage, "get_dynamic_partitions", refuse)
        yield instance


@pytest.fixture(params=["few stems", "many stems", "too many stems", "an invalid key"])
def looked_up(batched: dg.DagsterInstance, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have keys looked up by stem, or by their likeness where there is an invalid one or the stems are many."""
    if request.param != "an invalid key":
        batched.delete_dynamic_partition("ap_visit", NONSENSE)
    if request.param == "many stems":
        monkeypatch.setattr(partitions, "FEW_STEMS", 1)
    if request.param == "too many stems":
        monkeypatch.setattr(sqlite, "STEMS", 2)


SELECTIONS: list[tuple[tuple[str, ...], dict[str, object]]] = [
    ((), {"plate": 5226}),
    ((), {"fiber": "2"}),
    ((), {"fibre": "2..", "mjd": 56000}),
    (("DR17",), {}),
    (("DR17",), {"plate": "5226", "telescope": "apo25m"}),
    (("DR17",), {"plate": "5226,5227"}),
    ((), {"plate": "5227..", "fibre": 1}),
    (("DR17",), {"telescope": "lco*"}),
]


@pytest.mark.usefixtures("looked_up")
@pytest.mark.parametrize("batched", ["sqlite", "postgresql"], indirect=True)
def test_a_selection_is_made_by_the_database(batched: dg.DagsterInstance) -> None:
    for releases, where in SELECTIONS:
        found = select_keys(records.DagsterLedger(batched), VISITS, Selection(releases, where))
        assert found == VISITS.select(sorted(KEYS), releases, where) != [], (releases, where)


@pytest.mark.parametrize(
    ("releases", "where"), [((), {"plate": 9999}), (("DR16",), {}), (("DR16", "DR12"), {"mjd": "7*"}), ((), {})]
)
def test_a_selection_of_nothing_is_made_by_the_database_too(
    releases: tuple[str, ...], where: dict[str, object], batched: dg.DagsterInstance
) -> None:
    of = VISITS if releases or where else product("apStar")
    assert select_keys(records.DagsterLedger(batched), of, Selection(releases, where or {"field": "M13"})) == []


@pytest.mark.parametrize(
    ("releases", "where"), [((), {"plate": "what"}), (("DR17",), {"healpix": 1}), ((), {"telescope": "apo26m"})]
)
def test_what_no_key_can_match_is_refused_in_the_same_words(
    releases: tuple[str, ...], where: dict[str, object], batched: dg.DagsterInstance
) -> None:
    with pytest.raises(InvalidKeyError) as wanted:
        VISITS.select(sorted(KEYS), releases, where)
    with pytest.raises(InvalidKeyError) as told:
        select_keys(records.DagsterLedger(batched), VISITS, Selection(releases, where))
    assert str(told.value) == str(wanted.value)


@pytest.mark.parametrize("batched", ["sqlite", "postgresql"], indirect=True)
def test_the_first_key_of_each_release(batched: dg.DagsterInstance) -> None:
    storage = batched.event_log_storage
    assert isinstance(storage, BatchedEventLogStorage)
    firsts = {key.partition("/")[0]: key for key in sorted(KEYS, reverse=True)}
    assert storage.first_of_each_release("ap_visit") == sorted(firsts.values())
    assert storage.first_of_each_release("spec") == []


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys=st.sets(st.text("a/+0~é", min_size=1, max_size=6).filter(lambda key: "/" in key), min_size=1))
def test_the_first_key_of_each_stem(keys: set[str], batched: dg.DagsterInstance) -> None:
    storage = batched.event_log_storage
    assert isinstance(storage, BatchedEventLogStorage)
    name = "_".join(sorted(keys))
    batched.add_dynamic_partitions(name, sorted(keys))
    parts = min(key.count("/") for key in keys)  # keys with more are invalid, and none of what is asked for
    by_stem: dict[str, list[str]] = {}
    for key in sorted(key for key in keys if key.count("/") == parts):
        by_stem.setdefault(key.rpartition("/")[0], []).append(key)
    first = storage.first_of_each_stem(name)
    if first is None:
        assert len({key.count("/") for key in keys}) > 1
        return
    assert first == sorted(of[0] for of in by_stem.values())
    found = storage.keys_of_stems(name, first[::2])
    wanted = [key for one in first[::2] for key in by_stem[one.rpartition("/")[0]]]
    assert [key for key in found if key.count("/") == parts] == sorted(wanted)


def test_stems_of_keys_without_parts_are_not_told(batched: dg.DagsterInstance) -> None:
    storage = batched.event_log_storage
    assert isinstance(storage, BatchedEventLogStorage)
    batched.add_dynamic_partitions("odd", ["a/b", "c", "d/e"])
    assert storage.first_of_each_stem("odd") is None
    assert storage.first_of_each_stem("none") == []


def test_a_product_whose_keys_are_releases_is_selected_too(batched: dg.DagsterInstance) -> None:
    plans = product("platePlans")
    ledger, selection = records.DagsterLedger(batched), Selection(["DR17"])
    assert plans.parts == ()
    assert select_keys(ledger, plans, selection) == []
    register(batched, plans, ["DR16", "DR17"])
    assert select_keys(ledger, plans, selection) == ["DR17"]


def test_a_selection_narrows_what_is_read(batched: dg.DagsterInstance) -> None:
    storage = batched.event_log_storage
    assert isinstance(storage, BatchedEventLogStorage)
    patterns = VISITS.like(["DR17"], {"plate": 5226, "fibre": "1,2"})
    assert patterns == ["DR17/%/%/5226/%/%"]
    assert list(storage.match_dynamic_partitions("ap_visit", patterns)) == [KEYS[0], KEYS[6], KEYS[3]]


def test_named_keys_are_looked_up_alone(batched: dg.DagsterInstance) -> None:
    assert match_keys(records.DagsterLedger(batched), SNR, [KEYS[4], KEYS[0], KEYS[4]]) == [KEYS[4], KEYS[0]]
