"""Spectra that a function marks as failed, and the others that stand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from astra_dagster import Column, SpectrumBatch, ap_star, ap_visit, failed, spectrum_task
from astra_dagster.errors import Fault, TaskError
from astra_dagster.outputs.store import OutputStore
from astra_dagster.tasks.task import Task
from astra_dagster_tests.execution.work import find_work, run, work_on


def make_store(tmp_path: Path, task: Task) -> OutputStore:
    return OutputStore(tmp_path / "out", task, task.values())


def test_a_file_of_one_spectrum_fails_with_the_reason_and_no_other_does(synthetic: Path, tmp_path: Path) -> None:
    called: list[int] = []

    @spectrum_task(requires=ap_visit, version="1", batch_size=7)
    def made(spectra: SpectrumBatch, parameters: Any) -> Any:
        called.append(len(spectra))
        return {"fibre": [failed("it is the third") if f == 3 else f for f in spectra.meta["fibre"]]}

    store = make_store(tmp_path, made)
    outcomes = run(store, work_on(synthetic)[:7])
    assert called == [7], "nothing is computed again"
    assert [
        o.written.results["fibre"] if o.written else str(o.error) for o in outcomes if o.work.data_id.parts[-1] != "003"
    ] == [1, 2, 4, 5, 6, 7]
    (error,) = [outcome.error for outcome in outcomes if outcome.error]
    assert isinstance(error, TaskError)
    assert (error.message, error.fault, error.key) == ("it is the third", Fault.TASK, outcomes[2].work.data_id.key)
    assert error.path == str(outcomes[2].work.path)
    failure = store.failure(outcomes[2].work)
    assert failure is not None
    assert failure.error.startswith("it is the third (file ")


def of_star(*promised: str, bad: Any = lambda row: row == 1) -> Task:
    @spectrum_task(
        requires=ap_star,
        version="1",
        columns={**dict.fromkeys(("row", "flux"), Column(finite=True)), **dict.fromkeys(promised, "")},
    )
    def made(spectra: SpectrumBatch, parameters: Any) -> Any:
        rows = range(len(spectra))
        return {"row": list(rows), "flux": [failed(f"dark {row}") if bad(row) else 1.5 for row in rows]}

    return made


@pytest.mark.parametrize("promised", [False, True])
def test_of_a_file_of_several_the_others_stand_if_a_column_holds_the_reason(
    promised: bool, synthetic: Path, tmp_path: Path
) -> None:
    task = of_star(*(["failure"] if promised else []))
    store = make_store(tmp_path, task)
    (outcome,) = run(store, find_work(task, synthetic, "DR17")[:1])
    if promised:
        assert outcome.written is not None
        assert outcome.written.results == {"row": [0, None], "flux": [1.5, None], "failure": [None, "dark 1"]}
        found = store.read(outcome.work.data_id)
        np.testing.assert_array_equal(found["flux"], [1.5, np.nan])  # type: ignore[index]
        assert store.find(outcome.work) == outcome.written
    else:
        assert str(outcome.error).startswith("spectrum 1 failed: dark 1 (")
        assert "let the task promise a column 'failure'" in str(outcome.error)


def test_a_file_of_which_all_spectra_failed_has_failed(synthetic: Path, tmp_path: Path) -> None:
    task = of_star("failure", bad=lambda row: True)
    (outcome,) = run(make_store(tmp_path, task), find_work(task, synthetic, "DR17")[:1])
    assert str(outcome.error).startswith("all 2 spectra failed: dark 0 (")


def test_arrays_of_any_shape_go_to_tasks_that_require_them(synthetic: Path, tmp_path: Path) -> None:
    @spectrum_task(requires=ap_visit, version="1")
    def samples(spectra: SpectrumBatch, parameters: Any) -> Any:
        values = [None if f == 2 else np.full((2, 50), float(f)) for f in spectra.meta["fibre"]]
        return {"chain": values, "fibre": spectra.meta["fibre"]}

    store = make_store(tmp_path, samples)
    outcomes = run(store, work_on(synthetic)[:3])
    found = [store.read(outcome.work.data_id)["chain"] for outcome in outcomes]  # type: ignore[index]
    assert [values.shape for values in found] == [(1, 2, 50), (1,), (1, 2, 50)]
    assert found[2].max() == 3
