"""The main job on a real Dagster instance: discover, materialise, ask again, break things."""

import json
import os
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value

from astra_dagster import product
from astra_dagster.definitions import build_definitions, defs
from astra_dagster.orchestration import records
from astra_dagster.orchestration.discover import DiscoverConfig, search
from astra_dagster.orchestration.partitions import register, registered
from astra_dagster.orchestration.runs.jobs import UpdateConfig
from astra_dagster.orchestration.sources import make_planner
from astra_dagster.outputs.store import OutputStore
from astra_dagster.planning.ledger import Selection, select_keys
from astra_dagster.planning.status import Status
from astra_dagster.spectra.pixel_flags import APOGEE_REJECTED
from astra_dagster.spectra.products.astra import ASTRA
from astra_dagster.spectra.readers import READERS
from astra_dagster.tasks import registry
from astra_dagster.tasks.task import RESERVED
from astra_dagster_tests.orchestration.runs.main_job import KEY, SNR, VISITS, discover, recorded, update

RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


def materialise(instance: dg.DagsterInstance, *keys: str, config: dict | None = None) -> dg.ExecuteInProcessResult:
    """As `dagster asset materialize` and the launch button do it: one run, tagged with a partition or a range."""
    tags = {"dagster/partition": keys[0]} if len(keys) == 1 else dict(zip(RANGE, keys, strict=True))
    return defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        asset_selection=[KEY],
        tags=tags,
        run_config={"ops": {"ap_visit_snr": {"config": config or {}}}},
        raise_on_error=False,
    )


def failed(instance: dg.DagsterInstance) -> set[str]:
    """Partitions that the web UI shows as failed."""
    partitions = next(a for a in defs.assets if isinstance(a, dg.AssetsDefinition)).partitions_def
    with partition_loading_context(dynamic_partitions_store=instance):
        status = get_and_update_asset_status_cache_value(instance, KEY, partitions)
        return set(status.deserialize_failed_partition_subsets(partitions).get_partition_keys())


def events(result: dg.ExecuteInProcessResult) -> list[dg.AssetMaterialization]:
    with dg.DagsterInstance.get() as instance:
        logged = instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    return [e.dagster_event.step_materialization_data.materialization for e in logged]


def outputs() -> dict[Path, int]:
    root = Path(os.environ["ASTRA_OUTPUTS"])
    return {path: path.stat().st_mtime_ns for path in root.rglob("ap_visit_snr-*.json")}


@pytest.fixture
def keys(instance: dg.DagsterInstance) -> list[str]:
    """All visits, discovered."""
    assert discover(instance).success
    return list(registered(instance, VISITS))


def plan(instance: dg.DagsterInstance, keys: list[str], **parameters: float) -> dict[str, int]:
    store = OutputStore(Path(os.environ["ASTRA_OUTPUTS"]), SNR, SNR.parameters(**parameters))
    made = make_planner(instance, store.root, Path(os.environ["SAS_BASE_DIR"])).plan(store, keys)
    return {"complete": len(made.of(Status.COMPLETE)), "found": len(made.of(Status.TO_RECORD)), **made.reasons}


def test_discovery_registers_and_records_each_file_once(instance: dg.DagsterInstance, mirror: Path) -> None:
    first = discover(instance)
    assert len(registered(instance, VISITS)) == 18
    assert recorded(instance, dg.AssetKey("ap_visit")) == set(registered(instance, VISITS))
    assert len(recorded(instance, dg.AssetKey("ap_star"))) == 4
    assert len(recorded(instance, dg.AssetKey("spec"))) == 3
    made = next(m for m in events(first) if m.partition == "DR17/apo25m/120+12/5226/56000/001")
    path = VISITS.parse_key(made.partition).path(mirror)
    assert made.metadata["path"].value == str(path)
    assert made.metadata["size"].value == path.stat().st_size
    assert made.tags["dagster/data_version"] == f"{path.stat().st_size}-{path.stat().st_mtime_ns}"

    assert events(discover(instance)) == []
    os.utime(path, ns=(1, 1))
    assert [m.partition for m in events(discover(instance))] == [made.partition]
    assert len(registered(instance, VISITS)) == 18


def test_discovery_by_content_reads_every_file(instance: dg.DagsterInstance, mirror: Path) -> None:
    """A bit that flips on the disk changes neither size nor date."""
    discover(instance, by_content=True, products=["apVisit"])
    path = next(mirror.rglob("apVisit-*.fits"))
    before = path.stat()
    contents = bytearray(path.read_bytes())
    contents[100_000] ^= 1
    path.write_bytes(contents)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    config = DiscoverConfig(products=["apVisit"])
    assert not any(found.to_record for found in search(instance, config))
    again = DiscoverConfig(products=["apVisit"], by_content=True)
    changed = [one for found in search(instance, again) for one in found.to_record]
    assert [one.file.path for one in changed if one.file] == [path]
    discover(instance, by_content=True, products=["apVisit"])
    assert not any(found.to_record for found in search(instance, again))


def test_discovery_by_content_keeps_the_version_of_an_unchanged_copy(
    instance: dg.DagsterInstance, mirror: Path
) -> None:
    discover(instance, by_content=True, products=["apVisit"])
    key = "DR17/apo25m/120+12/5226/56000/001"
    before = records.source_records(instance, VISITS, [key])[key]
    assert before.version.startswith("sha256-")
    path = VISITS.parse_key(key).path(mirror)
    os.utime(path, ns=(1, 1))
    assert len(events(discover(instance, products=["apVisit"]))) == 1
    after = records.source_records(instance, VISITS, [key])[key]
    assert after.version == before.version
    assert after.file != before.file
    assert events(discover(instance, products=["apVisit"])) == []


def test_discovery_selects(instance: dg.DagsterInstance) -> None:
    discover(instance, products=["ap_visit"], releases=["DR17"], where={"telescope": ["lco25m"]})
    assert [key.split("/")[1] for key in registered(instance, VISITS)] == ["lco25m"] * 4
    assert registered(instance, product("spec")) == []


def test_one_partition_and_a_range_in_one_run_each(instance: dg.DagsterInstance, keys: list[str]) -> None:
    one = materialise(instance, keys[0])
    assert one.success
    assert recorded(instance) == {keys[0]}
    many = materialise(instance, keys[0], keys[9])
    assert many.success
    assert recorded(instance) == set(keys[:10])
    assert {m.partition for m in events(many)} == set(keys[1:10])


def test_asking_again_computes_nothing(instance: dg.DagsterInstance, keys: list[str]) -> None:
    assert update(instance).success
    assert recorded(instance) == set(keys)
    before = outputs()
    assert len(before) == 18
    for again in (update(instance), materialise(instance, keys[0], keys[-1])):
        assert again.success
        assert events(again) == []
    assert outputs() == before
    assert failed(instance) == set()
    assert plan(instance, keys) == {"complete": 18, "found": 0}


def test_changed_parameters_write_elsewhere_and_back_computes_nothing(
    instance: dg.DagsterInstance, keys: list[str]
) -> None:
    update(instance)
    first = outputs()
    assert plan(instance, keys, fudge_factor=2.0) == {
        "complete": 0,
        "found": 0,
        "parameters changed: fudge_factor 1.0 -> 2.0": 18,
    }
    assert update(instance, fudge_factor=2.0).success
    both = outputs()
    assert len(both) == 36
    assert first.items() <= both.items()
    assert plan(instance, keys) == {"complete": 0, "found": 18}
    assert update(instance).success
    assert outputs() == both
    assert plan(instance, keys) == {"complete": 18, "found": 0}


def test_records_carry_results_and_provenance(instance: dg.DagsterInstance, keys: list[str]) -> None:
    (made,) = events(materialise(instance, keys[0]))
    document = json.loads(Path(made.metadata["output"].value).read_text())
    for name, value in document["results"].items():
        told = made.metadata[name].value if name in made.metadata else None
        if isinstance(value, float) and not SNR.columns[name].identity:
            assert told == float(f"{value:.4g}")
        else:
            assert told == value
    names = list(made.metadata)
    identity = [names.index(name) for name in names if name in SNR.columns and SNR.columns[name].identity]
    assert names.index("good_pixels") < min(identity) <= max(identity) < names.index("output")
    assert made.metadata["parameters"].value == {"fudge_factor": 1.0, "reject": list(APOGEE_REJECTED)}
    source = records.source_records(instance, VISITS, [keys[0]])[keys[0]]
    pointer = records.event_pointers(instance, dg.AssetKey("ap_visit"), [keys[0]])[keys[0]]
    assert made.tags["dagster/code_version"] == SNR.version
    assert made.tags["dagster/input_data_version/ap_visit"] == source.version
    assert made.tags["dagster/input_event_pointer/ap_visit"] == str(pointer)
    record = records.task_records(instance, SNR, keys)[keys[0]]
    assert str(record) == made.tags["dagster/data_version"]
    assert record.size == Path(made.metadata["output"].value).stat().st_size


def test_changed_lost_and_damaged_files_are_done_again(
    instance: dg.DagsterInstance, keys: list[str], mirror: Path
) -> None:
    update(instance)
    store = OutputStore(Path(os.environ["ASTRA_OUTPUTS"]), SNR, SNR.parameters())
    os.utime(VISITS.parse_key(keys[0]).path(mirror), ns=(1, 1))
    store.path(VISITS.parse_key(keys[1])).unlink()
    store.path(VISITS.parse_key(keys[2])).write_text("{}")
    reasons = plan(instance, keys)
    assert reasons.pop("complete") == 15
    assert {reason.split()[0]: count for reason, count in reasons.items()} == {"found": 0, "input": 1, "output": 1}
    again = update(instance)
    assert {m.partition for m in events(again) if m.asset_key == KEY} == set(keys[:3])
    assert {m.partition for m in events(again) if m.asset_key != KEY} == {keys[0]}
    assert plan(instance, keys) == {"complete": 18, "found": 0}


def test_overwrite(instance: dg.DagsterInstance, keys: list[str]) -> None:
    update(instance)
    before = outputs()
    again = update(instance, overwrite=True, where={"fibre": ["1", "2"]})
    assert {m.partition for m in events(again)} == set(keys[:2])
    assert sum(outputs()[path] != mtime for path, mtime in before.items()) == 2


@pytest.mark.usefixtures("windows")
@pytest.mark.parametrize("by_range", [True, False])
def test_a_corrupt_file_costs_itself(
    by_range: bool, instance: dg.DagsterInstance, keys: list[str], mirror: Path
) -> None:
    materialise(instance, keys[0], keys[2])
    path = VISITS.parse_key(keys[4]).path(mirror)
    whole = path.read_bytes()
    path.write_bytes(whole[:30_000])
    result = materialise(instance, keys[0], keys[9]) if by_range else update(instance)
    expected = set(keys[:10] if by_range else keys) - {keys[4]}
    assert not result.success
    assert recorded(instance) == expected
    assert failed(instance) == {keys[4]}
    (event,) = [e for e in result.all_events if e.is_step_failure]
    failure = event.step_failure_data.user_failure_data
    assert failure is not None
    assert failure.description.startswith(f"1 of {10 if by_range else 18} partitions failed")
    assert keys[4] in failure.description
    assert str(path) in failure.description
    assert failure.metadata["failures"].value.records[0].data["partition"] == keys[4]

    # Only it remains to do, and is done once the file is whole.
    assert set(plan(instance, sorted(expected | {keys[4]}))) == {"complete", "found", "failed before"}
    path.write_bytes(whole)
    again = materialise(instance, keys[0], keys[9]) if by_range else update(instance)
    assert again.success
    assert {m.partition for m in events(again) if m.asset_key == KEY} == {keys[4]}
    assert failed(instance) == set()


def test_a_range_takes_what_was_found_later(instance: dg.DagsterInstance, mirror: Path) -> None:
    wanted = [f"DR17/apo25m/120+12/5226/56000/{fibre:03}" for fibre in range(1, 9)]
    path = VISITS.parse_key(wanted[2]).path(mirror)
    path.rename(mirror / "late")
    assert discover(instance, products=["apVisit"]).success
    (mirror / "late").rename(path)
    assert discover(instance, products=["apVisit"]).success
    assert materialise(instance, wanted[0], wanted[-1]).success
    assert recorded(instance) == set(wanted)


def test_a_range_that_holds_no_partition_says_so(instance: dg.DagsterInstance, keys: list[str]) -> None:
    result = materialise(instance, keys[3], keys[1])
    (event,) = [e for e in result.all_events if e.is_step_failure]
    assert "its first partition comes after its last" in event.step_failure_data.user_failure_data.description
    assert recorded(instance) == set()


def test_a_missing_file_is_no_failure(instance: dg.DagsterInstance, keys: list[str], mirror: Path) -> None:
    VISITS.parse_key(keys[0]).path(mirror).unlink()
    assert materialise(instance, keys[0]).success
    assert update(instance).success
    assert recorded(instance) == set(keys[1:])
    assert failed(instance) == set()


def test_a_file_that_cannot_be_reached_fails_alone(instance: dg.DagsterInstance, keys: list[str], mirror: Path) -> None:
    path = VISITS.parse_key(keys[3]).path(mirror)
    aside = path.rename(path.with_name("aside"))
    path.symlink_to(path)  # nobody can tell what is behind it, not even root
    assert not update(instance).success
    assert recorded(instance) == set(keys) - {keys[3]}
    assert failed(instance) == {keys[3]}
    sources = defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey("ap_visit")],
        tags=dict(zip(RANGE, (keys[0], keys[-1]), strict=True)),
        raise_on_error=False,
    )
    (event,) = [e for e in sources.all_events if e.is_step_failure]
    assert event.step_failure_data.user_failure_data.description == (
        f"1 of 18 files cannot be looked at\n{keys[3]}: cannot be looked at: too many levels of symbolic links "
        f"(file {path}); a link in it leads back to itself"
    )
    aside.replace(path)
    assert update(instance).success
    assert failed(instance) == set()


def test_an_invalid_registered_key_fails_alone(instance: dg.DagsterInstance, keys: list[str]) -> None:
    register(instance, VISITS, ["DR17/apo25m/../5226/56000/001"])
    assert not update(instance).success
    assert recorded(instance) == set(keys)
    assert failed(instance) == {"DR17/apo25m/../5226/56000/001"}


@pytest.mark.parametrize("name", ["SAS_BASE_DIR", "ASTRA_OUTPUTS"])
def test_missing_settings_fail_the_run_with_one_line(
    name: str, instance: dg.DagsterInstance, keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(name)
    monkeypatch.delenv("DAGSTER_HOME")
    result = update(instance)
    (event,) = [e for e in result.all_events if e.is_step_failure]
    assert name in event.step_failure_data.user_failure_data.description
    assert "\n" not in event.step_failure_data.user_failure_data.description


def test_selection_of_keys(instance: dg.DagsterInstance, keys: list[str]) -> None:
    ledger = records.DagsterLedger(instance)
    assert select_keys(ledger, VISITS) == keys
    assert len(select_keys(ledger, VISITS, Selection(["DR19"]))) == 6
    assert select_keys(ledger, VISITS, Selection(["DR13"])) == []
    assert len(select_keys(ledger, VISITS, Selection(where={"telescope": ["lco25m"]}))) == 7
    assert select_keys(ledger, VISITS, Selection(["DR17"], {"fibre": ["1"], "mjd": ["56000"]})) == [keys[0]]


def test_many_keys_are_registered_and_looked_up_in_chunks(instance: dg.DagsterInstance) -> None:
    many = [f"DR17/apo25m/120+12/{plate}/56000/{fibre:03d}" for plate in range(1, 101) for fibre in range(1, 301)]
    register(instance, VISITS, many)
    assert registered(instance, VISITS) == sorted(many)
    assert records.source_records(instance, VISITS, many) == {}
    assert records.event_pointers(instance, dg.AssetKey("ap_visit"), many) == {}


def test_source_assets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "astra.toml").write_text('products = ["mwmStar"]')
    monkeypatch.setenv("ASTRA_CONFIG", str(tmp_path / "astra.toml"))
    specs = {spec.key.to_user_string(): spec for spec in build_definitions().resolve_all_asset_specs()}
    assert set(specs) == {
        *(product(name).asset_name for name in READERS if name not in ASTRA),
        *registry.tasks(),
        *(f"{t}_table" for t in registry.tasks()),
    }
    for name, group in (("ap_visit", "apogee_visits"), ("ap_star", "apogee_stars"), ("spec", "boss_spectra")):
        assert specs[name].group_name == group
        assert specs[name].kinds == {"fits"}
        assert specs[name].partitions_def.name == name
        assert specs[name].metadata["partition_key"] == product(name).key_order
        assert specs[name].metadata["data_model"].url.startswith("https://data.sdss.org/datamodel/files/")
        assert len(specs[name].description) > 100
    assert specs["ap_visit_snr"].partitions_def.name == "ap_visit"
    assert [dep.asset_key.to_user_string() for dep in specs["ap_visit_snr"].deps] == ["ap_visit"]


def test_no_parameter_of_a_task_has_the_name_of_an_option_of_a_run() -> None:
    assert set(UpdateConfig.model_fields) <= RESERVED
