"""What a function may return for its spectra: missing values, arrays of any shape, and marks of those that failed."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from astropy.table import MaskedColumn

from astra_dagster import Column, SpectrumBatch, ap_visit, failed, spectrum_task
from astra_dagster.errors import TaskError
from astra_dagster.tasks.columns import MAX_CELLS, Failed
from astra_dagster.tasks.task import Task
from astra_dagster_tests.tasks.sample import two_spectra

NO = failed("no convergence")


def returning(made: Any, **keywords: Any) -> Task:
    return spectrum_task(requires=ap_visit, version="1", name="made", **keywords)(lambda spectra, parameters: made)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ([1.0, None], [1.0, None]),
        ([None, None], [None, None]),
        (np.array([1, None], dtype=object), [1, None]),
        (np.ma.array([1.0, 2.0], mask=[False, True]), [1.0, None]),
        (np.ma.array([1, 2]), [1, 2]),
        (np.ma.array(["a", "b"], mask=[True, False]), [None, "b"]),
        (MaskedColumn([3, 4], mask=[True, False]), [None, 4]),
        (np.ma.array([[1, 2], [3, 4]], mask=[[0, 1], [0, 0]]), [[1, None], [3, 4]]),
        ([np.array([1, 2]), np.array([3, 4])], [[1, 2], [3, 4]]),
        ([np.array([1.5, np.nan]), None], [[1.5, None], None]),
        (np.arange(8).reshape(2, 2, 2), [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]),
        (np.ones((2, 200)), [[1.0] * 200] * 2),
    ],
)
def test_values_are_stored_as_plain_python(given: Any, stored: list[Any]) -> None:
    assert returning({"x": given})(two_spectra()) == {"x": stored}


def test_missing_values_are_errors_where_none_is_promised() -> None:
    for values in ([1.0, None], np.ma.array([1, 2], mask=[0, 1]), np.ma.array([[1, 2], [3, 4]], mask=[[0, 1], [0, 0]])):
        with pytest.raises(TaskError, match="column x is not finite"):
            returning({"x": values}, columns={"x": Column(finite=True)})(two_spectra())


def test_arrays_have_a_largest_size() -> None:
    with pytest.raises(TaskError, match=f"arrays of at most {MAX_CELLS} numbers"):
        returning({"x": np.broadcast_to(1.0, (2, MAX_CELLS + 1))})(two_spectra())


def test_a_spectrum_that_failed_has_its_mark_in_every_column() -> None:
    made = returning(
        {"teff": [NO, 5000.0], "n": np.array([1, 2]), "name": ["a", "b"]},
        columns=dict.fromkeys(("teff", "n", "name"), Column(finite=True)),
    )
    assert made(two_spectra()) == {"teff": [NO, 5000.0], "n": [NO, 2], "name": [NO, "b"]}
    assert returning({"x": NO, "y": [1, 2]})(two_spectra()) == {"x": [NO, NO], "y": [NO, NO]}
    other = failed("no light")
    assert returning({"x": [NO, 1], "y": [1, other]})(two_spectra()) == {"x": [NO, other], "y": [NO, other]}
    with pytest.raises(TaskError, match="column y has 3 values for 2 spectra"):
        returning({"x": [NO, 1], "y": [1, 2, 3]})(two_spectra())
    with pytest.raises(TaskError, match=r"^no convergence$"):
        returning(NO)(two_spectra())


def test_a_column_of_failures_is_made_if_it_is_promised() -> None:
    columns = {"x": Column(), "failure": Column()}
    assert returning({"x": [1, 2]}, columns=columns)(two_spectra()) == {"x": [1, 2], "failure": [None, None]}
    assert returning({"x": [1, NO]}, columns=columns)(two_spectra()) == {"x": [1, NO], "failure": [None, NO]}


def test_a_function_of_one_spectrum_marks_it() -> None:
    answers: list[Any] = []

    @spectrum_task(requires=ap_visit, version="1", each=True)
    def made(spectrum: SpectrumBatch, parameters: Any) -> Any:
        return answers.pop()

    answers[:] = [{"x": [[1, 2], [3, 4]]}, NO]
    assert made(two_spectra()) == {"x": [NO, [[1, 2], [3, 4]]]}
    answers[:] = [NO, {"x": 1}]
    assert made(two_spectra()) == {"x": [1, NO]}
    answers[:] = [NO, NO]
    with pytest.raises(TaskError, match="no convergence"):
        made(two_spectra())


def test_spectra_are_marked_in_their_metadata() -> None:
    @spectrum_task(requires=ap_visit, version="1", output="fits", columns={"x": "A number."})
    def made(spectra: SpectrumBatch, parameters: Any) -> SpectrumBatch:
        return replace(spectra, meta={"x": (1, NO), "y": (2, 3)})

    assert made(two_spectra()).meta == {"x": (1, None), "y": (2, 3)}

    @spectrum_task(requires=ap_visit, version="1", output="fits", each=True)
    def each(spectra: SpectrumBatch, parameters: Any) -> SpectrumBatch | Failed:
        return NO if spectra.meta["n"][0] else spectra

    with pytest.raises(TaskError, match="no convergence"):
        each(replace(two_spectra(), meta={"n": (0, 1)}))
    assert len(each(replace(two_spectra(), meta={"n": (0, 0)}))) == 2
