"""Files that a task makes besides its results: whole or not there, named in the results, and removed with them."""

import hashlib
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from astra_dagster import Column, SpectrumBatch, ap_star, ap_visit, failed, spectrum_task
from astra_dagster.errors import OutputError, TaskError
from astra_dagster.outputs import atomic
from astra_dagster.outputs.store import OutputStore, PartitionWork
from astra_dagster.tasks.task import Task
from astra_dagster_tests.execution.work import find_work, run, work_on
from astra_dagster_tests.tasks.sample import two_spectra

DUMP = b"\0numbers\0"


@spectrum_task(requires=ap_visit, version="1", files={"dump": "npy", "plot": "png"}, columns={"n": "A number."})
def made(spectra: SpectrumBatch, parameters: Any) -> Any:
    """Contents that end with a byte that NumPy would cut off, and a plot of some."""
    fibres = spectra.meta["fibre"]
    return {
        "n": list(fibres),
        "dump": [DUMP + bytes([fibre, 0]) for fibre in fibres],
        "plot": [plt.figure(figsize=(1, 1)) if fibre == 1 else None for fibre in fibres],
    }


def make_store(tmp_path: Path, task: Task) -> OutputStore:
    return OutputStore(tmp_path / "out", task, task.values())


def names_beside(store: OutputStore, work: PartitionWork) -> list[str]:
    path = store.path(work.data_id)
    return sorted(item.name for item in path.parent.iterdir() if item.name.startswith(path.stem) and item != path)


def test_files_lie_beside_the_output_that_names_them(synthetic: Path, tmp_path: Path) -> None:
    store, works = make_store(tmp_path, made), work_on(synthetic)[:2]
    outcomes = run(store, works)
    for i, outcome in enumerate(outcomes):
        assert outcome.written is not None, outcome.error
        results, contents = outcome.written.results, DUMP + bytes([i + 1, 0])
        stem = outcome.written.path.stem
        assert results["dump"] == f"{stem}.dump-{hashlib.sha256(contents).hexdigest()[:12]}.npy"
        assert outcome.written.path.with_name(results["dump"]).read_bytes() == contents
        assert names_beside(store, works[i]) == sorted(filter(None, [results["dump"], results["plot"]]))
        assert store.find(works[i]) == outcome.written
    assert plt.get_fignums() == [], "figures are closed"
    first = [outcome.written.results for outcome in outcomes if outcome.written]
    run(store, works)
    assert [outcome.written.results for outcome in run(store, works) if outcome.written] == first, "without dates"
    assert first[0]["plot"].endswith(".png")
    assert first[1]["plot"] is None


def test_an_output_whose_file_is_lost_or_altered_is_not_found_and_differs_from_its_record(
    synthetic: Path, tmp_path: Path
) -> None:
    store, (work, *_) = make_store(tmp_path, made), work_on(synthetic)
    (outcome,) = run(store, [work])
    assert outcome.written is not None
    version = store.version_of(work.data_id)
    assert version == outcome.written.version
    path = outcome.written.path.with_name(outcome.written.results["dump"])
    path.write_bytes(b"other")
    assert store.find(work) is None
    assert store.version_of(work.data_id) is None
    path.unlink()
    assert store.find(work) is None


def test_files_of_an_earlier_output_are_removed_once_there_is_another(synthetic: Path, tmp_path: Path) -> None:
    store, (work, *_) = make_store(tmp_path, made), work_on(synthetic)
    run(store, [work])
    before = names_beside(store, work)
    mine = store.path(work.data_id).with_name("my.dump-0123456789ab.npy")
    mine.write_bytes(b"a user's own")
    other = replace(made, function=lambda spectra, parameters: {"n": [1], "dump": [b"new"], "plot": [None]})
    run(make_store(tmp_path, other), [work])
    assert len(before) == 2
    assert len(names_beside(store, work)) == 1
    assert set(names_beside(store, work)).isdisjoint(before)
    assert mine.exists()


def test_an_output_is_not_replaced_if_its_files_cannot_be_written(
    synthetic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, (work, *_) = make_store(tmp_path, made), work_on(synthetic)
    run(store, [work])
    before = store.find(work)

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(atomic.os, "fsync", fail)
    (outcome,) = run(store, [work])
    assert isinstance(outcome.error, OutputError)
    assert store.find(work) == before


def test_of_several_spectra_each_has_its_file(synthetic: Path, tmp_path: Path) -> None:
    @spectrum_task(requires=ap_star, version="1", files={"dump": "txt"}, columns={"x": Column(), "failure": ""})
    def several(spectra: SpectrumBatch, parameters: Any) -> Any:
        rows = range(len(spectra))
        return {"x": [failed("no") if row == 1 else row for row in rows], "dump": [bytes([row]) for row in rows]}

    store = make_store(tmp_path, several)
    work = find_work(several, synthetic, "DR17")[1]
    (outcome,) = run(store, [work])
    assert outcome.written is not None, outcome.error
    names = outcome.written.results["dump"]
    assert [name is None for name in names] == [False, True, False, False, False]
    assert len(names_beside(store, work)) == 4
    assert store.find(work) == outcome.written


def test_files_go_with_spectra_too(synthetic: Path, tmp_path: Path) -> None:
    @spectrum_task(requires=ap_visit, version="1", files={"dump": "txt"})
    def spectra(spectra: SpectrumBatch, parameters: Any) -> SpectrumBatch:
        return replace(spectra, meta={**spectra.meta, "dump": tuple(b"x" for _ in range(len(spectra)))})

    store, (work, *_) = make_store(tmp_path, spectra), work_on(synthetic)
    (outcome,) = run(store, [work])
    assert outcome.written is not None, outcome.error
    assert names_beside(store, work) == [outcome.written.results["dump"]]
    assert store.find(work) == outcome.written


def test_a_function_of_one_spectrum_makes_one_file() -> None:
    @spectrum_task(requires=ap_visit, version="1", files={"dump": "bin"}, each=True)
    def one(spectrum: SpectrumBatch, parameters: Any) -> Any:
        return {"x": 1, "dump": b"ends with\0"}

    assert one(two_spectra()) == {"x": [1, 1], "dump": [b"ends with\0"] * 2}


@pytest.mark.parametrize("contents", [["a", "b"], [b"a"], 3, [np.ones(3), None]])
def test_what_is_no_file_is_refused(contents: Any) -> None:
    task = spectrum_task(requires=ap_visit, version="1", name="x", files={"dump": "bin"})
    with pytest.raises(TaskError, match=r"x: dump is no file for each spectrum; expected 2 times bytes, a figure"):
        task(lambda spectra, parameters: {"dump": contents})(two_spectra())


@pytest.mark.parametrize("files", [{"a b": "png"}, {"plot": ".png"}, {"Plot": "png"}, {"plot": "a/b"}])
def test_names_of_files_are_plain(files: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="a file of x cannot be"):
        spectrum_task(requires=ap_visit, version="1", name="x", files=files)(lambda spectra, parameters: {})


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_a_figure_is_always_the_same_file(suffix: str) -> None:
    def draw(spectra: SpectrumBatch, parameters: Any) -> Any:
        figure, axes = plt.subplots(figsize=(1, 1))
        axes.plot([1, 2])
        return {"plot": figure}

    task = spectrum_task(requires=ap_visit, version="1", files={"plot": suffix})(draw)
    one, other = (task(two_spectra()[0])["plot"][0] for _ in range(2))
    assert one == other
    assert len(io.BytesIO(one).read()) > 100
