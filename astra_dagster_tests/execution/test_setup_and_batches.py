"""What a task sets up once a worker, in which batches its function is called, and the data IDs that it receives."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from astra_dagster import Parameters, SpectrumBatch, ap_star, ap_visit, file, grouped, spectrum_task
from astra_dagster.archive.discovery import content_version
from astra_dagster.errors import Fault, SetupError
from astra_dagster.execution import preparation, runner
from astra_dagster.orchestration.runs.summary import TaskSummary
from astra_dagster.outputs.store import InputFiles, OutputStore, PartitionWork
from astra_dagster.tasks.task import Task
from astra_dagster_tests.execution.work import find_work, run, work_on
from astra_dagster_tests.tasks.sample import two_spectra


@pytest.fixture(autouse=True)
def nothing_prepared() -> Iterator[None]:
    """This process has set nothing up, and keeps nothing."""
    preparation._set_up.cache_clear()
    preparation.take_seconds()
    yield
    preparation._set_up.cache_clear()


class Factor(Parameters):
    """A parameter of the setup."""

    factor: float = 1.0


def make_store(tmp_path: Path, task: Task, **values: Any) -> OutputStore:
    return OutputStore(tmp_path / "out", task, task.values(values))


def results(store: OutputStore, work: list[PartitionWork]) -> list[Mapping[str, Any]]:
    outcomes = run(store, work)
    assert [outcome.error for outcome in outcomes if outcome.error] == []
    return [outcome.written.results for outcome in outcomes if outcome.written]


def test_a_setup_is_called_once_for_all_batches_and_its_time_is_told(synthetic: Path, tmp_path: Path) -> None:
    called: list[float] = []

    def load(parameters: Factor) -> float:
        called.append(parameters.factor)
        return 10 * parameters.factor

    @spectrum_task(requires=ap_visit, parameters=Factor, version="1", setup=load)
    def made(spectra: SpectrumBatch, model: float, parameters: Factor) -> Any:
        return {"model": [model] * len(spectra)}

    store, work = make_store(tmp_path, made, factor=2.0), work_on(synthetic)
    outcomes = run(store, work)
    assert {outcome.written.results["model"] for outcome in outcomes if outcome.written} == {20.0}
    assert called == [2.0]
    assert results(make_store(tmp_path, made, factor=3.0), work[:1]) == [{"model": 30.0}]
    assert called == [2.0, 3.0], "other parameters may lead to another setup"
    setups = [outcome.written.setup for outcome in outcomes if outcome.written]
    assert [seconds > 0 for seconds in setups] == [True] + [False] * 11
    summary = TaskSummary()
    for outcome in outcomes:
        summary.add(outcome)
    assert summary.words == "12 computed, setup in 1 workers, 0.0 s each"
    assert summary.metadata["setup seconds"] >= 0


def test_a_setup_receives_the_files_and_the_function_what_it_made_of_them(synthetic: Path, tmp_path: Path) -> None:
    def load(model: np.ndarray, path: Path, parameters: Parameters) -> Any:  # type: ignore[type-arg]
        return model.sum(), path.name

    required = (file(tmp_path / "model.npy"), ap_visit, file(tmp_path / "b.txt"))

    @spectrum_task(requires=required, version="1", setup=load, stages=2)
    def made(spectra: SpectrumBatch, before: Any, model: Any, parameters: Parameters) -> Any:
        return {"sum": [model[0]] * len(spectra), "name": [model[1]] * len(spectra)}

    np.save(tmp_path / "model.npy", np.arange(4.0))
    (tmp_path / "b.txt").write_text("b")
    (first,) = made.upstream
    files = tuple(
        InputFiles(path.name, path.name, content_version(path), (str(path),))
        for path in (tmp_path / "model.npy", tmp_path / "b.txt")
    )
    work = [replace(one, common=files) for one in work_on(synthetic)[:2]]
    assert results(make_store(tmp_path, first), work) == [{"sum": 6.0, "name": "b.txt"}] * 2
    assert made(two_spectra(), {"sum": [1, 1]}, (1, "x"))["name"] == ["x", "x"]


def test_a_function_of_one_spectrum_receives_what_is_set_up() -> None:
    @spectrum_task(requires=ap_visit, version="1", each=True, setup=lambda parameters: [5, 6, 7])
    def made(spectrum: SpectrumBatch, model: list[int], parameters: Parameters, data_ids: Any) -> Any:
        return {"model": sum(model), "key": data_ids[0]}

    assert made(two_spectra(), [5, 6, 7], data_ids=("a", "b")) == {"model": [18, 18], "key": ["a", "b"]}


def test_a_setup_that_fails_is_called_once_and_is_the_reason_for_every_file(synthetic: Path, tmp_path: Path) -> None:
    called: list[int] = []

    def load(parameters: Parameters) -> None:
        called.append(1)
        raise OSError("no device")

    @spectrum_task(requires=ap_visit, version="1", setup=load)
    def made(spectra: SpectrumBatch, model: Any, parameters: Parameters) -> Any: ...

    work = work_on(synthetic)[:8]
    outcomes = run(make_store(tmp_path, made), [one for one in work if one.path])
    for outcome in outcomes:
        assert isinstance(outcome.error, SetupError)
        assert outcome.error.key == outcome.work.data_id.key
        assert outcome.error.fault is Fault.MACHINE, "it is tried again by itself"
        assert str(outcome.error).startswith("the setup of made failed: OSError: no device (line ")
    assert len(called) == 8, "there are eight chunks of one file, in which it is not tried again"


def record_batches(sizes: list[int], **keywords: Any) -> Task:
    @spectrum_task(version="1", name="sizes", **{"requires": ap_visit, **keywords})
    def made(spectra: SpectrumBatch, parameters: Parameters) -> Any:
        sizes.append(len(spectra))
        return {"n": [len(spectra)] * len(spectra)}

    return made


@pytest.mark.parametrize(("batch_size", "sizes"), [(1, [1] * 7), (3, [3, 3, 1]), (100, [7]), (None, [1] * 7)], ids=str)
def test_batches_have_at_most_so_many_spectra(
    batch_size: int | None, sizes: list[int], synthetic: Path, tmp_path: Path
) -> None:
    """Without a size, seven files are seven chunks, which report often."""
    found: list[int] = []
    work = work_on(synthetic)[:7]
    results(make_store(tmp_path, record_batches(found, batch_size=batch_size)), work)
    assert found == sizes


def test_the_spectra_of_a_file_stay_together(synthetic: Path, tmp_path: Path) -> None:
    found: list[int] = []
    task = record_batches(found, requires=ap_star, batch_size=2)
    results(make_store(tmp_path, task), find_work(task, synthetic, "DR17"))
    assert found == [2, 5, 4]


def test_a_batch_size_makes_chunks_of_so_many_files_for_each_worker() -> None:
    files: Any = [[i] for i in range(10_000)]
    assert len(runner._split_work(files)(2)) == 64
    assert len(runner._split_work(files, batch=1000)(2)) == 1000
    assert len(runner._split_work(files[:600], batch=1000)(2)) == 300, "all workers have something to do"
    assert len(runner._split_work(files[:100], batch=2)(1)) == 13


def test_a_batch_size_is_a_positive_number() -> None:
    with pytest.raises(ValueError, match="the batch size of sizes must be at least 1, not 0"):
        record_batches([], batch_size=0)


def test_a_function_receives_the_data_ids_of_its_spectra(synthetic: Path, tmp_path: Path) -> None:
    def made(spectra: Any, parameters: Parameters, data_ids: Any) -> Any:
        assert len(data_ids) == (1 if isinstance(spectra, list) else len(spectra))
        return {"key": [one.key for one in data_ids]}

    task = spectrum_task(requires=ap_visit, version="1", batch_size=5)(made)
    work = work_on(synthetic)
    assert [found["key"] for found in results(make_store(tmp_path, task), work)] == [one.data_id.key for one in work]
    star = spectrum_task(requires=ap_star, version="1", name="star")(made)
    (one, *_) = find_work(star, synthetic, "DR17")
    (found,) = results(make_store(tmp_path, star), [one])
    assert found["key"] == [one.data_id.key] * len(found["key"])
    field = spectrum_task(requires=grouped(ap_visit, by="field"), version="1", name="field")(made)
    group = field.domain.parse_key("DR17/120+12")
    given = InputFiles("apVisit", "1 partitions", "1", work[0].given[0].locations, (work[0].data_id.key,))
    (found,) = results(make_store(tmp_path, field), [PartitionWork(group, (given,))])
    assert found["key"] == "DR17/120+12"


def test_in_memory_data_ids_are_those_that_are_given() -> None:
    @spectrum_task(requires=ap_visit, version="1")
    def made(spectra: SpectrumBatch, parameters: Parameters, data_ids: Any = ()) -> Any:
        return {"n": [len(data_ids)] * len(spectra)}

    assert made(two_spectra()) == {"n": [0, 0]}
    assert made(two_spectra(), data_ids=["a", "b"]) == {"n": [2, 2]}
