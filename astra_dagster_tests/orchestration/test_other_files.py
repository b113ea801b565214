"""Tasks over files that are not spectra of their partitions: in common, or of a product without a reader of ours."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from click.testing import CliRunner

from astra_dagster import ap_visit, product, settings
from astra_dagster.cli import main
from astra_dagster.definitions import build_definitions
from astra_dagster.orchestration.discover import discover_job
from astra_dagster.orchestration.partitions import register
from astra_dagster.spectra import readers
from astra_dagster.tasks import registry
from astra_dagster.tasks.task import Task
from astra_dagster_tests.orchestration.chain import update

PICTURES = True
KEY = "DR17/apo25m/120+12/5226/56000/001"
TASKS = '''
import numpy as np
from astropy.table import Table
from astra_dagster import SpectrumBatch, ap_visit, file, product, spectrum_task
from my_files import readers


@spectrum_task(requires=(ap_visit, file(product("allStar")), file("factors.npy")), version="1")
def scaled(spectra, stars: Table, factors: np.ndarray, parameters):
    """Flux times a factor."""
    return {"flux": np.nansum(spectra.flux, axis=1) * factors[0], "stars": [len(stars)] * len(spectra)}


@spectrum_task(requires=product("apPlateSum"), version="1")
def plate_rows(path, parameters):
    """Rows of a file."""
    return {"rows": len(Table.read(path))}


@spectrum_task(requires=product("apField"), version="1", files={"dump": "npy"})
def field_flux(spectra, parameters):
    """Sums of what a reader of the package reads, and arrays."""
    dumps = [row.tobytes() for row in spectra.flux]
    return {"flux": spectra.flux.sum(axis=1), "dump": dumps, "long": np.ones((len(spectra), 5, 20))}
'''
READERS = """
import numpy as np
from astropy.io import fits
from astra_dagster import SpectrumBatch, register_reader


def read_field(path):
    flux = fits.getdata(path).astype(float)
    return SpectrumBatch(flux, np.ones_like(flux), np.arange(1.0, 1 + flux.shape[1]))


register_reader("apField", read_field, several=True)
"""


@pytest.fixture
def tasks(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, Task]]:
    """A package with a reader, tasks and a file, and one partition of each of its products."""
    monkeypatch.setattr(readers, "_ADDED", {})
    folder = settings.dagster_home()
    (folder / "my_files").mkdir()
    (folder / "my_files" / "__init__.py").write_text("")
    (folder / "my_files" / "tasks.py").write_text(TASKS)
    (folder / "my_files" / "readers.py").write_text(READERS)
    np.save(folder / "my_files" / "factors.npy", [2.0])
    (folder / "astra.toml").write_text('packages = ["my_files"]\nworkers = "in-process"\n')
    importlib.invalidate_caches()
    register(instance, ap_visit, [KEY], [])
    yield dict(registry.tasks())
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_files"]:
        del sys.modules[name]


def plan(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["plan", "scaled", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_files_in_common_from_the_plan_to_the_record(instance: dg.DagsterInstance, tasks: dict[str, Task]) -> None:
    stars = product("allStar").data_id("DR17").path(settings.sas_base_dir())
    factors = settings.dagster_home() / "my_files" / "factors.npy"
    assert "1 wait for a file that they require\n  1 no allStar of DR17 (file dr17/apogee" in plan()
    result = update(instance, tasks["scaled"])
    assert not result.success
    (event,) = [event for event in result.all_events if event.is_step_failure]
    assert f"{KEY}: no allStar of DR17" in event.step_failure_data.user_failure_data.description

    stars.parent.mkdir(parents=True)
    Table({"id": np.arange(5)}).write(stars)
    assert update(instance, tasks["scaled"]).success
    made = instance.get_latest_materialization_event(dg.AssetKey("scaled"))
    assert made is not None
    assert made.asset_materialization is not None
    told = made.asset_materialization.metadata
    assert told["stars"].value == 5
    assert set(told["common files"].value) == {str(stars), str(factors)}
    seen = instance.get_latest_materialization_event(dg.AssetKey("all_star"))
    assert seen is not None
    assert seen.asset_materialization is not None
    assert seen.asset_materialization.metadata["path"].value == str(stars)
    assert plan() == "scaled: 1 partitions\n1 complete, 0 to do\n"
    np.save(factors, [3.0])
    assert plan() == "scaled: 1 partitions\n0 complete, 1 to do\n  1 factors.npy changed\n"
    story = plan("--explain", KEY)
    assert "  input: factors.npy factors.npy, version sha256-" in story
    assert "  input: allStar dr17/apogee/spectro/aspcap/dr17/synspec_rev1/allStar-dr17-synspec_rev1.fits" in story


def test_products_in_common_are_assets_above_the_task(tasks: dict[str, Task]) -> None:
    graph = build_definitions().resolve_asset_graph()
    parents = {key.to_user_string() for key in graph.get(dg.AssetKey("scaled")).parent_keys}
    assert parents == {"ap_visit", "all_star"}


def test_a_product_without_a_reader_and_one_with_a_reader_of_the_package(
    instance: dg.DagsterInstance, tasks: dict[str, Task]
) -> None:
    root = settings.sas_base_dir()
    plate = product("apPlateSum").data_id("DR17", telescope="apo25m", field="120+12", plate=5226, mjd=56000)
    field = product("apField").data_id("DR17", telescope="apo25m", field="120+12")
    plate.path(root).parent.mkdir(parents=True, exist_ok=True)
    Table({"a": [1, 2, 3]}).write(plate.path(root))
    field.path(root).parent.mkdir(parents=True, exist_ok=True)
    fits.writeto(field.path(root), np.ones((2, 5)))
    found = discover_job.execute_in_process(
        instance=instance, run_config={"ops": {"discover_files": {"config": {"products": ["apPlateSum", "apField"]}}}}
    )
    assert found.success
    for name, results in (("plate_rows", {"rows": 3}), ("field_flux", {"spectra": 2, "flux": 5.0})):
        assert update(instance, tasks[name]).success
        made = instance.get_latest_materialization_event(dg.AssetKey(name))
        assert made is not None
        assert made.asset_materialization is not None
        told = made.asset_materialization.metadata
        assert {key: told[key].value for key in results} == results
        assert "preview" not in told
    assert told["long"].value == "array of shape (5, 20), 100 values"
    assert Path(str(told["dump"].value)).read_bytes() == np.ones(5).tobytes()
