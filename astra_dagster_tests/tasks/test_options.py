"""Options of a reader through a task: parameters with which its files are read."""

from pathlib import Path

import numpy as np
import pytest

from astra_dagster import Parameters, ap_visit, product, spectrum_task
from astra_dagster.errors import DeclarationError, SpectrumFileError
from astra_dagster.execution import runner
from astra_dagster.outputs.store import OutputStore
from astra_dagster.spectra import readers
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.spectra.readers import AddedReader, Reader
from astra_dagster_tests.execution.work import run, work_of, work_on
from astra_dagster_tests.spectra.synthetic import write_mwm
from astra_dagster_tests.tasks.others import BOTH


class Chosen(Parameters):
    """Which spectra are read."""

    instrument: str | None = None


class Rejected(Parameters):
    """Which pixels are bad."""

    reject: tuple[str, ...] | None = None


@spectrum_task(requires=product("mwmStar"), parameters=Chosen, options=["instrument"], version="1")
def width(spectra: SpectrumBatch, parameters: Chosen) -> dict[str, object]:
    """How many pixels the spectra have."""
    return {"pixels": [spectra.flux.shape[1]] * len(spectra)}


@spectrum_task(requires=ap_visit, parameters=Rejected, options=["reject"], version="1")
def bad(spectra: SpectrumBatch, parameters: Rejected) -> dict[str, object]:
    """How many pixels are bad."""
    return {"bad": spectra.bad.sum(axis=1)}


def test_files_are_read_with_the_parameter(tmp_path: Path) -> None:
    work = [work_of(BOTH, write_mwm(BOTH.path(tmp_path), (1, 0, 0, 1)), "1")]
    tasks = [width, width.variant("boss", instrument="BOSS"), width.variant("apogee", instrument="apogee")]
    stores = [OutputStore(tmp_path, task, task.values()) for task in tasks]
    assert len({store.folder for store in stores}) == 3
    unset, *others = (one for chunk in runner.run([(store, work) for store in stores]) for one in chunk)
    assert isinstance(unset.error, SpectrumFileError)
    assert "has spectra of both BOSS and APOGEE" in str(unset.error)
    assert 'instrument="BOSS" or "APOGEE"; of a task it is a parameter, options=["instrument"]' in str(unset.error)
    assert [one.written.results["pixels"] for one in others] == [[4648], [8575]]


def test_reject_is_an_option_too(synthetic: Path, tmp_path: Path) -> None:
    work = work_on(synthetic)[:1]
    for given in (None, (), ("PERSIST_HIGH",)):
        task = bad.setting(reject=given)
        (outcome,) = run(OutputStore(tmp_path, task, task.values()), work)
        expected = readers.read_spectra(work[0].path, "apVisit", **({} if given is None else {"reject": given}))
        assert outcome.written.results["bad"] == expected.bad.sum()


def test_options_are_of_a_reader_and_have_a_parameter() -> None:
    def declare(of: str, option: str) -> None:
        spectrum_task(requires=product(of), parameters=Chosen, options=[option], version="1", name="task")(
            width.function
        )

    declare("mwmVisit", "instrument")
    with pytest.raises(DeclarationError, match="no reader of the files of task has an option 'instrument'"):
        declare("apVisit", "instrument")
    with pytest.raises(DeclarationError, match="task has no parameter for its option 'reject'; add it"):
        declare("mwmStar", "reject")
    with pytest.raises(DeclarationError, match="has an option 'bitmask'"):
        declare("mwmStar", "bitmask")


def test_options_of_a_reader_of_ones_own() -> None:
    def read(path: Path, hdu: int = 1, *, wavelength: bool = True) -> SpectrumBatch:
        return SpectrumBatch(np.full((1, 3), hdu), np.ones((1, 3)))

    added = AddedReader("apField", read, several=False)
    assert Reader(added, lambda file: False).options == ("hdu",)
    assert added(Path("x"), hdu=2).flux[0, 0] == 2
