"""What goes over all partitions holds few records at a time, and looks at the disk once."""

import dagster as dg
import pytest

from astra_dagster import product
from astra_dagster.cli import main
from astra_dagster.orchestration import discover, records
from astra_dagster.orchestration.runs import materialise
from astra_dagster_tests.orchestration.runs.main_job import discover as run_discover
from astra_dagster_tests.orchestration.runs.main_job import recorded, update

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


def test_the_command_looks_at_the_disk_once(
    mirror: object, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = []
    find_files = discover.find_files
    monkeypatch.setattr(discover, "find_files", lambda *given: searched.append(given[:2]) or find_files(*given))
    main(["discover", "--product", "apVisit", "--release", "DR17"], standalone_mode=False)
    assert len(searched) == 1
    assert len(recorded(instance, dg.AssetKey("ap_visit"))) == 12
