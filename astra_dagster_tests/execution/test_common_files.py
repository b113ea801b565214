"""Runs of tasks whose partitions have a file in common, and of tasks over products without a reader."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from astra_dagster import Parameters, SpectrumBatch, ap_visit, product, spectrum_task
from astra_dagster.archive.discovery import content_version, file_version
from astra_dagster.errors import InputMissingError, SpectrumFileError
from astra_dagster.execution import preparation
from astra_dagster.outputs import document
from astra_dagster.outputs.store import InputFiles, OutputStore, PartitionWork
from astra_dagster.spectra.readers import read_spectra
from astra_dagster.tasks.inputs.common_files import CommonFile
from astra_dagster.tasks.inputs.forms import Form
from astra_dagster.tasks.task import Task
from astra_dagster_tests.execution.work import run, run_elsewhere, work_on


@pytest.fixture(autouse=True)
def opened() -> Iterator[None]:
    """Nothing is open in this process yet."""
    preparation._open.cache_clear()
    yield
    preparation._open.cache_clear()


@spectrum_task(requires=ap_visit, version="1")
def scaled(spectra: SpectrumBatch, models: Mapping[str, Any], parameters: Parameters) -> dict[str, Any]:
    """Flux times a factor in a file."""
    return {"flux": np.nansum(spectra.flux, axis=1) * models["factor"], "together": [len(spectra)] * len(spectra)}


def make_store(tmp_path: Path, task: Task) -> OutputStore:
    return OutputStore(tmp_path / "out", task, task.values())


def over(path: Path, task: Task = scaled) -> Task:
    return replace(task, common={1: CommonFile(path, Form.ARRAYS, path.name)})


def with_common(work: list[PartitionWork], path: Path, version: str = "") -> list[PartitionWork]:
    return [
        replace(one, common=(InputFiles(path.name, path.name, version or content_version(path), (str(path),)),))
        for one in work
    ]


def models(path: Path, factor: float) -> Path:
    np.savez(path, factor=factor)
    return path


def test_a_function_receives_a_common_file_in_batches_and_it_is_in_the_provenance(
    synthetic: Path, tmp_path: Path
) -> None:
    path = models(tmp_path / "models.npz", 2.0)
    store = make_store(tmp_path, over(path))
    outcomes = run(store, with_common(work_on(synthetic)[:8], path))
    for outcome in outcomes:
        assert outcome.written is not None
        flux = np.nansum(read_spectra(outcome.work.path, "apVisit").flux)
        assert outcome.written.results == {"flux": pytest.approx(2 * flux), "together": 1}
        inputs = document.read(outcome.written.path, "json").origin.inputs
        assert [(one.name, one.path) for one in inputs][1:] == [("models.npz", "models.npz")]
        assert inputs[1].version == content_version(path)
        assert store.find(outcome.work) == outcome.written


def test_it_is_opened_once(synthetic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    monkeypatch.setattr(preparation, "open_as", lambda form, path: opened.append(path) or {"factor": len(opened)})
    path = models(tmp_path / "models.npz", 2.0)
    store = make_store(tmp_path, over(path))
    run(store, with_common(work_on(synthetic), path))
    run(store, with_common(work_on(synthetic), path))
    assert opened == [path]
    models(path, 3.0)
    run(store, with_common(work_on(synthetic), path))
    assert opened == [path, path], "another version is another file"


def test_a_file_that_changed_since_the_plan_is_not_used(synthetic: Path, tmp_path: Path) -> None:
    path = models(tmp_path / "models.npz", 2.0)
    works = with_common(work_on(synthetic)[:2], path)
    models(path, 3.0)
    for now in (works, with_common(works, path, file_version(1, 1))):
        for outcome in run(make_store(tmp_path, over(path)), now):
            assert isinstance(outcome.error, InputMissingError)
            assert str(outcome.error).startswith("the file has changed since the run was planned")
            assert outcome.error.path == str(path)
    path.unlink()
    (outcome,) = run(make_store(tmp_path, over(path)), works[:1])
    assert isinstance(outcome.error, InputMissingError)


def test_partitions_with_different_files_are_not_computed_together(synthetic: Path, tmp_path: Path) -> None:
    one, other = models(tmp_path / "one.npz", 1.0), models(tmp_path / "other.npz", 10.0)
    works = work_on(synthetic)[:4]
    task = replace(over(one), batch_size=4)
    plain = run(make_store(tmp_path / "plain", task), with_common(works, one))
    mixed = [*with_common(works[:2], one), *with_common(works[2:], other)]
    outcomes = run(make_store(tmp_path, task), mixed)
    values = [outcome.written.results["flux"] for outcome in outcomes if outcome.written]
    before = [outcome.written.results["flux"] for outcome in plain if outcome.written]
    np.testing.assert_allclose(np.array(values) / before, [1, 1, 10, 10])


def test_a_damaged_common_file_is_told_with_its_path(synthetic: Path, tmp_path: Path) -> None:
    path = tmp_path / "models.npz"
    path.write_text("nothing of the sort")
    for outcome in run(make_store(tmp_path, over(path)), with_common(work_on(synthetic)[:2], path)):
        assert isinstance(outcome.error, SpectrumFileError)
        assert outcome.error.path == str(path)
        assert "cannot be read as Mapping" in str(outcome.error)


def test_workers_open_it_too(synthetic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = models(tmp_path / "models.npz", 2.0)
    work = with_common(work_on(synthetic)[:1], path)
    (outcome,) = run_elsewhere(make_store(tmp_path, over(path)), work, monkeypatch, preparation._open.cache_clear)
    assert outcome.error is None


def plates(tmp_path: Path) -> list[PartitionWork]:
    """Two files of a product without a reader."""
    works = []
    for mjd in (56000, 56001):
        data_id = product("apPlateSum").data_id("DR17", telescope="apo25m", field="120+12", plate=5226, mjd=mjd)
        path = tmp_path / f"sum-{mjd}.fits"
        table = fits.BinTableHDU.from_columns([fits.Column("a", "D", array=[mjd, 2.0])])
        fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)
        works.append(PartitionWork(data_id, (InputFiles("apPlateSum", data_id.relative_path, "1", (str(path),)),)))
    return works


def by_default(file, parameters: Parameters) -> Any:  # type: ignore[no-untyped-def]
    return {"first": fits.getdata(file)["a"][0]}


def as_path(file: Path, parameters: Parameters) -> Any:
    return {"first": fits.getdata(file)["a"][0]}


def as_table(file: "Table", parameters: Parameters) -> Any:  # type: ignore[name-defined]  # noqa: F821
    return {"first": file["a"][0]}


def as_hdus(file: fits.HDUList, parameters: Parameters) -> Any:
    return {"first": file[1].data["a"][0]}


@pytest.mark.parametrize("function", [by_default, as_path, as_table, as_hdus])
@pytest.mark.parametrize("each", [False, True])
def test_a_product_without_a_reader_is_received_as_a_file(function: Any, each: bool, tmp_path: Path) -> None:
    task = spectrum_task(requires=product("apPlateSum"), version="1", name="first", each=each)(function)
    outcomes = run(make_store(tmp_path, task), plates(tmp_path))
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert [outcome.written.results for outcome in outcomes if outcome.written] == [
        {"first": 56000.0},
        {"first": 56001.0},
    ]


def test_spectra_beside_the_file_that_they_are_in(synthetic: Path, tmp_path: Path) -> None:
    @spectrum_task(requires=(ap_visit, ap_visit), version="1", name="both")
    def both(path: Path, spectra: SpectrumBatch, parameters: Parameters) -> Any:
        return {"name": [path.name], "n": [len(spectra)]}

    works = [replace(one, given=one.given * 2) for one in work_on(synthetic)[:2]]
    outcomes = run(make_store(tmp_path, both), works)
    for outcome in outcomes:
        assert outcome.written is not None, outcome.error
        assert outcome.written.results == {"name": Path(str(outcome.work.path)).name, "n": 1}
