"""Files that are registered before they are there: nothing to do until they come, then once."""

import os
import shutil
from pathlib import Path

import dagster as dg
import pytest
from astropy.table import Table
from click.testing import CliRunner, Result

from astra_dagster import product, settings
from astra_dagster.cli import main
from astra_dagster.definitions import defs
from astra_dagster.orchestration.discover import discover_job
from astra_dagster.orchestration.expected import register_job
from astra_dagster.orchestration.partitions import register, registered
from astra_dagster.tasks.groups import Group
from astra_dagster_tests.archive.found import find_files

VISITS = product("apVisit")
SNR = dg.AssetKey("ap_visit_snr")
SNR_RUN = ("run", "ap_visit_snr")


def astra(*arguments: str) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def launch(instance: dg.DagsterInstance, **config: str) -> dg.ExecuteInProcessResult:
    (settings.dagster_home() / "astra.toml").write_text(f"readable = ['{Path(config['table']).absolute().parent}']\n")
    return register_job.execute_in_process(
        instance=instance, run_config={"ops": {"register_table": {"config": config}}}, raise_on_error=False
    )


def failure(result: dg.ExecuteInProcessResult) -> str:
    (event,) = [event for event in result.all_events if event.is_step_failure]
    assert event.step_failure_data.user_failure_data is not None
    return str(event.step_failure_data.user_failure_data.description)


def over_range(instance: dg.DagsterInstance, first: str, last: str, asset: str = "ap_visit_snr") -> bool:
    """Whether a run over a range of partitions succeeds."""
    tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    job = defs.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey(asset)], tags=tags).success


def computed(instance: dg.DagsterInstance) -> set[str]:
    return set(instance.get_materialized_partitions(SNR))


class Mirror:
    """A mirror whose files have not come yet."""

    def __init__(self, root: Path) -> None:
        self.root, self.aside = root, root.with_name("to come")
        self.data_ids = [file.data_id for file in find_files(VISITS, "DR17", root)[0]]
        self.keys = [data_id.key for data_id in self.data_ids]
        root.rename(self.aside)
        root.mkdir()
        self.table = root.with_name("allVisit.fits")
        rows = [data_id.values for data_id in self.data_ids]
        columns = {"TELESCOPE": "telescope", "FIELD": "field", "PLATE": "plate", "MJD": "mjd", "FIBERID": "fibre"}
        Table({name: [f"{row[part]:>9} " for row in rows] for name, part in columns.items()}).write(self.table)

    def come(self, *numbers: int) -> None:
        """Put files there."""
        for number in numbers:
            source, target = (self.data_ids[number].path(root) for root in (self.aside, self.root))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


@pytest.fixture
def coming(instance: dg.DagsterInstance, mirror: Path) -> Mirror:
    return Mirror(mirror)


def test_each_file_is_analysed_once_when_it_has_come(instance: dg.DagsterInstance, coming: Mirror) -> None:
    made = astra("register", str(coming.table), "--product", "apVisit", "--release", "DR17", "--dry-run")
    assert made.output == "apVisit: 12 files, 12 new, 0 known; 0 on disk, 12 not yet; 0 rows rejected\n"
    assert registered(instance, VISITS) == []
    made = astra("register", str(coming.table), "--product", "ap_visit", "--release", "DR17")
    assert made.exit_code == 0
    assert registered(instance, VISITS) == coming.keys

    nothing = astra(*SNR_RUN)
    assert nothing.exit_code == 0
    assert nothing.output == "ap_visit_snr: 12 partitions\n0 complete, 0 to do\nno input yet: 12\n"

    coming.come(0, 2, 3, 7, 8, 11)
    some = astra(*SNR_RUN)
    assert some.exit_code == 0
    assert "0 complete, 6 to do\n  6 no record\nno input yet: 6\n6 computed" in some.output
    assert computed(instance) == {coming.keys[i] for i in (0, 2, 3, 7, 8, 11)}
    again = astra(*SNR_RUN)
    assert again.output == "ap_visit_snr: 12 partitions\n6 complete, 0 to do\nno input yet: 6\n"
    outputs = {path: path.stat().st_mtime_ns for path in Path(os.environ["ASTRA_OUTPUTS"]).rglob("ap_visit_snr-*")}
    assert len(outputs) == 6

    repeated = astra("register", str(coming.table), "--product", "apVisit", "--release", "DR17")
    assert repeated.output == "apVisit: 12 files, 0 new, 12 known; 6 on disk, 6 not yet; 0 rows rejected\n"
    coming.come(1, 4, 5, 6, 9, 10)
    rest = astra(*SNR_RUN)
    assert "6 complete, 6 to do\n  6 no record\n6 computed" in rest.output
    assert computed(instance) == set(coming.keys)
    assert all(path.stat().st_mtime_ns == before for path, before in outputs.items())
    assert astra(*SNR_RUN).output == "ap_visit_snr: 12 partitions\n12 complete, 0 to do\n"


def test_a_file_that_has_come_has_its_source_recorded_by_the_run(instance: dg.DagsterInstance, coming: Mirror) -> None:
    launch(instance, table=str(coming.table), product="apVisit", release="DR17")
    coming.come(0, 5)
    assert astra(*SNR_RUN).exit_code == 0
    assert instance.get_materialized_partitions(dg.AssetKey("ap_visit")) == {coming.keys[0], coming.keys[5]}


def test_discovery_does_not_register_them_twice(instance: dg.DagsterInstance, coming: Mirror) -> None:
    launch(instance, table=str(coming.table), product="apVisit", release="DR17")
    coming.come(*range(12))
    assert "apVisit in DR17: 12 files, 0 new, 12 changed" in astra("discover", "--product", "apVisit").output
    assert registered(instance, VISITS) == coming.keys
    assert discover_job.execute_in_process(
        instance=instance, run_config={"ops": {"discover_files": {"config": {}}}}
    ).success
    assert registered(instance, VISITS) == coming.keys
    launch(instance, table=str(coming.table), product="apVisit", release="DR17")
    assert registered(instance, VISITS) == coming.keys


@pytest.mark.parametrize("asset", ["ap_visit_snr", "ap_visit_continuum"])
def test_a_run_over_a_range_succeeds_and_does_what_can_be_done(
    asset: str, instance: dg.DagsterInstance, coming: Mirror
) -> None:
    assert launch(instance, table=str(coming.table), product="apVisit", release="DR17").success
    first, last = coming.keys[0], coming.keys[-1]
    assert over_range(instance, first, last, asset)
    assert instance.get_materialized_partitions(dg.AssetKey(asset)) == set()
    coming.come(2, 3)
    assert over_range(instance, first, last, asset)
    assert instance.get_materialized_partitions(dg.AssetKey(asset)) == {coming.keys[2], coming.keys[3]}


def test_a_corrupt_file_among_those_that_are_not_there_fails_alone(
    instance: dg.DagsterInstance, coming: Mirror
) -> None:
    launch(instance, table=str(coming.table), product="apVisit", release="DR17")
    coming.come(0, 1)
    coming.data_ids[1].path(coming.root).write_bytes(b"SIMPLE")
    result = astra(*SNR_RUN)
    assert result.exit_code == 1
    assert "1 of 12 partitions failed" in result.output
    assert computed(instance) == {coming.keys[0]}


def test_rejected_rows_are_told_and_at_most_twenty(instance: dg.DagsterInstance, coming: Mirror) -> None:
    lines = ["telescope,field,plate,mjd,fiber", *(f"apo25m,120+12,5226,56000,{i}" for i in range(291, 331))]
    coming.table.write_text("\n".join(lines))
    result = astra("register", str(coming.table), "--product", "apVisit", "--release", "DR17")
    assert result.exit_code == 0
    assert "10 files, 10 new, 0 known; 0 on disk, 10 not yet; 30 rows rejected" in result.output
    assert "  row 11: fibre cannot be '301'; expected 1 to 300\n" in result.output
    assert result.output.count("row ") == 20
    assert result.output.endswith("  and 10 more\n")
    assert len(registered(instance, VISITS)) == 10


def test_groups_of_what_is_to_come_are_registered(
    instance: dg.DagsterInstance, coming: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights = Group(VISITS, ("telescope", "mjd"))
    monkeypatch.setattr("astra_dagster.tasks.registry.groups", lambda: [nights])
    register(instance, VISITS, coming.keys[:1])
    astra("register", str(coming.table), "--product", "apVisit", "--release", "DR17")
    assert registered(instance, nights) == ["DR17/apo25m/56000", "DR17/lco25m/57900"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"release": "DR71"}, "no release 'DR71'; did you mean DR7"),
        ({"product": "apVisits"}, "did you mean apVisit"),
        ({"product": "mwmStar", "release": "DR19"}, "the table has no column sdss_id, which mwmStar in DR19 needs"),
        ({"release": ""}, "the table has no column release"),
        ({"table": "nowhere.fits"}, "no table can be read: No such file"),
        ({"release": "DR10", "product": "apVisit", "table": "none"}, "no row of the table is a file of apVisit; row 1"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    changes: dict[str, str], message: str, instance: dg.DagsterInstance, coming: Mirror
) -> None:
    config = {"table": str(coming.table), "product": "apVisit", "release": "DR17", **changes}
    if config["table"] == "none":
        config["table"] = str(coming.table.with_name("none.csv"))
        Path(config["table"]).write_text("plate,mjd,fiber\n5226,today,1\n")
    result = astra("register", config["table"], "--product", config["product"], "--release", config["release"])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1
    assert message in result.output
    assert message in failure(launch(instance, **config))
    assert registered(instance, VISITS) == []


def test_a_mirror_that_is_not_set_is_one_line(
    instance: dg.DagsterInstance, coming: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SAS_BASE_DIR")
    result = astra("register", str(coming.table), "--product", "apVisit")
    assert result.exit_code == 1
    assert result.output.startswith("Error: SAS_BASE_DIR is not set")
    assert astra("register", str(coming.table)).exit_code == 2
