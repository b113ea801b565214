"""The annotation of an argument says in which form a function receives a file."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from astra_dagster import Parameters, SpectrumBatch, ap_visit, file, grouped, product, spectrum_task
from astra_dagster.errors import InputMissingError, SpectrumFileError
from astra_dagster.tasks.files.forms import Form, find_form, open_as
from astra_dagster.tasks.task import Task
from astra_dagster_tests.tasks.sample import two_spectra


def annotated(
    a,
    b: Path,
    c: "Table",
    d: fits.HDUList,
    e: np.ndarray,  # type: ignore[type-arg]
    f: NDArray[np.float64],
    g: Mapping[str, NDArray[Any]],
    h: list[Path],
    i: "Sequence[fits.HDUList]",
    j: Any,
    k: SpectrumBatch,
) -> None: ...


def test_annotations_name_forms() -> None:
    forms = [find_form(annotated, place) for place in range(12)]
    first = [None, Form.PATH, Form.TABLE, Form.HDUS, Form.ARRAY, Form.ARRAY, Form.ARRAYS, Form.PATH, Form.HDUS]
    assert forms == [*first, None, None, None]


def test_files_are_opened_in_each_form(tmp_path: Path) -> None:
    Table({"line": [1.5, 2.5]}).write(tmp_path / "lines.csv")
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.arange(3.0))]).writeto(tmp_path / "image.fits")
    np.save(tmp_path / "one.npy", np.arange(4))
    np.savez(tmp_path / "two.npz", flux=np.ones(2), error=np.zeros(2))
    assert open_as(Form.PATH, tmp_path / "any") == tmp_path / "any"
    assert list(open_as(Form.TABLE, tmp_path / "lines.csv")["line"]) == [1.5, 2.5]
    assert open_as(Form.HDUS, tmp_path / "image.fits")[1].data.sum() == 3
    array, arrays = open_as(Form.ARRAY, tmp_path / "one.npy"), open_as(Form.ARRAYS, tmp_path / "two.npz")
    assert array.tolist() == [0, 1, 2, 3]
    assert set(arrays) == {"flux", "error"}
    for shared in (array, arrays["flux"]):  # by all partitions that a worker does
        with pytest.raises(ValueError, match="read-only"):
            shared[0] = 7


@pytest.mark.parametrize("form", [form for form in Form if form is not Form.PATH])
def test_what_cannot_be_opened_says_so(form: Form, tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="is not there"):
        open_as(form, tmp_path / "none.fits")
    (tmp_path / "bad.fits").write_bytes(b"no such file\0")
    with pytest.raises(SpectrumFileError, match=f"cannot be read as {form}: .*bad.fits"):
        open_as(form, tmp_path / "bad.fits")
    os.mkfifo(tmp_path / "fifo.fits")
    with pytest.raises(SpectrumFileError, match="a FIFO, not a file"):
        open_as(form, tmp_path / "fifo.fits")


def task(function: Any, *requires: Any, **keywords: Any) -> Task:
    return spectrum_task(requires=requires, version="1", name="made", **keywords)(function)


def test_a_path_is_relative_to_the_module_that_declares_the_task() -> None:
    def made(spectra, lines, grid: Mapping[str, NDArray[Any]], parameters): ...

    common = task(made, ap_visit, file("lines.csv"), file("/grids/a.npz")).common
    assert {place: (item.of, item.form, item.text) for place, item in common.items()} == {
        1: (Path(__file__).parent / "lines.csv", Form.PATH, "lines.csv"),
        2: (Path("/grids/a.npz"), Form.ARRAYS, "/grids/a.npz"),
    }


def test_an_argument_that_is_a_file_cannot_be_something_else() -> None:
    def made(spectra, lines: SpectrumBatch, parameters): ...

    with pytest.raises(ValueError, match=r"received as Path, Table, .* argument 2 is annotated as SpectrumBatch"):
        task(made, ap_visit, file("lines.csv"))


def test_a_task_over_nothing_but_common_files_has_no_partitions() -> None:
    with pytest.raises(ValueError, match="made requires nothing"):
        task(lambda lines, parameters: {}, file("lines.csv"))


def test_in_memory_files_are_arguments_in_the_order_of_what_is_required() -> None:
    def made(scale: Mapping[str, float], spectra: SpectrumBatch, path: Path, parameters: Parameters) -> Any:
        return {"sum": spectra.flux.sum(axis=1) * scale["factor"], "name": [path.name] * len(spectra)}

    found = task(made, file("scale.npz"), ap_visit, file("x.txt"))({"factor": 2.0}, two_spectra(), Path("x.txt"))
    assert found == {"sum": [6.0, 6.0], "name": ["x.txt", "x.txt"]}


def test_a_function_of_one_spectrum_receives_the_same_files_each_time() -> None:
    def made(spectra: SpectrumBatch, scale: Mapping[str, float], parameters: Parameters) -> Any:
        return {"sum": spectra.flux.sum() * scale["factor"]}

    assert task(made, ap_visit, file("scale.npz"), each=True)(two_spectra(), {"factor": 2.0}) == {"sum": [6.0, 6.0]}


def test_stages_receive_common_files_too() -> None:
    def made(spectra: SpectrumBatch, scale: Mapping[str, float], before: Any, parameters: Parameters) -> Any:
        return {"n": (0 if before is None else before["n"]) + np.full(len(spectra), scale["step"])}

    last = task(made, ap_visit, file("scale.npz"), stages=2)
    first = last.upstream[0](two_spectra(), {"step": 2})
    assert last(two_spectra(), {"step": 2}, {"n": np.array(first["n"])}) == {"n": [4, 4]}


def test_files_of_a_product_are_received_in_the_form_that_is_annotated() -> None:
    def one(path: Path, parameters: Parameters) -> Any:
        return {"name": path.name}

    def many(paths: list[Path], parameters: Parameters) -> Any:
        return {"n": len(paths)}

    assert [item.form for item in task(one, ap_visit).requires] == [Form.PATH]
    assert task(one, ap_visit)(Path("a.fits")) == {"name": ["a.fits"]}
    assert [item.form for item in task(many, grouped(product("apField"), by="field")).requires] == [Form.PATH]
