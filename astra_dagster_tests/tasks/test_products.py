"""The S/N and continuum tasks of every spectrum product, each family from one definition."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from astra_dagster.cli import main
from astra_dagster.errors import ParameterError, UnknownFlagError
from astra_dagster.outputs.store import OutputStore
from astra_dagster.spectra.output import read_output
from astra_dagster.spectra.products.ap_star import AP_STAR
from astra_dagster.spectra.products.ap_visit import AP_VISIT
from astra_dagster.spectra.products.astra import ASTRA
from astra_dagster.spectra.products.spec import SPEC
from astra_dagster.spectra.readers import READERS, read_spectra
from astra_dagster.tasks.continuum import ContinuumParameters, MWMContinuumParameters, OpticalContinuumParameters
from astra_dagster.tasks.declared import read_declared
from astra_dagster.tasks.snr import MWMSNRParameters, mwm_star_snr
from astra_dagster.tasks.task import Task
from astra_dagster_tests.execution.work import find_work, run
from astra_dagster_tests.tasks.others import BOSS_ALONE, BOTH, CONTINUUM, OTHERS, SNR, write_others


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp("others")
    write_others(root)
    return root


def test_every_product_with_a_reader_has_its_tasks() -> None:
    assert {task.name for task in SNR} == {f"{task.domain.asset_name}_snr" for task in SNR}
    assert {task.name for task in CONTINUUM} == {f"{task.domain.asset_name}_continuum" for task in CONTINUUM}
    spectra = set(READERS) - set(ASTRA)  # models have no noise
    assert {task.domain.name for task in SNR} == spectra
    assert {task.domain.name for task in CONTINUUM} == spectra - {"aspcapStar"}  # has no continuum any more


@pytest.mark.parametrize("tasks", [SNR, CONTINUUM], ids=["snr", "continuum"])
@pytest.mark.parametrize("family", [AP_VISIT, AP_STAR, SPEC, ("mwmStar", "mwmVisit")])
def test_a_family_is_one_definition(family: tuple[str, ...], tasks: list[Task]) -> None:
    first, *rest = (task for task in tasks if task.domain.name in family)
    assert len(rest) == len(family) - 1
    for task in rest:
        for name in ("function", "parameters", "version", "options", "bitmask", "wavelength", "output"):
            assert getattr(task, name) == getattr(first, name)
        assert task.columns == first.columns
        assert task.digest(task.values()) == first.digest(first.values())


@pytest.mark.parametrize("task", OTHERS, ids=lambda task: task.name)
def test_files_of_every_product(task: Task, others: Path, tmp_path: Path) -> None:
    store = OutputStore(tmp_path, task, task.values())
    outcomes = run(store, find_work(task, others, "DR17", "DR19", "DR20"))
    assert outcomes
    for outcome in outcomes:
        assert outcome.written is not None, outcome.error
        alone = outcome.work.data_id == BOSS_ALONE
        chosen = {"instrument": "BOSS" if alone else "APOGEE"} if "instrument" in task.options else {}
        spectra = read_spectra(outcome.work.path, task.domain.name, bitmask=True, **chosen)
        results = outcome.written.results
        good = (~spectra.bad).sum(axis=1)
        if task.output == "json":
            assert np.atleast_1d(results["good_pixels"]).tolist() == good.tolist()
        else:
            made = read_output(outcome.written.path)
            assert made.flux.shape == spectra.flux.shape
            assert made.bad[spectra.bad].all()
            assert 0.9 < np.median(made.flux[~made.bad]) < 1.02  # it is noise around a level
            (low, *_), (*_, high) = zip(*task_regions(task, chosen), strict=True)
            wavelength = np.broadcast_to(made.wavelength, made.flux.shape)[~made.bad]
            assert low < wavelength.min() < low * 1.02
            assert high * 0.98 < wavelength.max() < high
        if chosen:
            assert set(results["instrument"]) == {chosen["instrument"]}
            assert "telescope" in results


def task_regions(task: Task, chosen: dict[str, str]) -> tuple[tuple[float, float], ...]:
    parameters = task.values()
    return (parameters.of(chosen["instrument"]) if chosen else parameters).regions


def test_which_instrument_a_star_has_its_results_from(others: Path, tmp_path: Path) -> None:
    work = find_work(mwm_star_snr, others, "DR19", "DR20")
    assert {item.data_id for item in work} == {BOTH, BOSS_ALONE}
    for given, expected in (("APOGEE,BOSS", "APOGEE"), ("boss, apogee", "BOSS"), ("BOSS", "BOSS")):
        outcomes = run(OutputStore(tmp_path, mwm_star_snr, mwm_star_snr.values({"instrument": given})), work)
        found = {item.work.data_id: item.written.results["instrument"] for item in outcomes}
        assert found == {BOTH: [expected], BOSS_ALONE: ["BOSS"] * 2}
    lacking = OutputStore(tmp_path, mwm_star_snr, mwm_star_snr.values({"instrument": "APOGEE"}))
    errors = {item.work.data_id: str(item.error) for item in run(lacking, work) if item.error is not None}
    assert list(errors) == [BOSS_ALONE]
    assert "has no APOGEE spectra" in errors[BOSS_ALONE]
    assert "it has those of BOSS" in errors[BOSS_ALONE]


@pytest.mark.parametrize("kind", [MWMSNRParameters, MWMContinuumParameters])
def test_the_mask_is_that_of_the_instrument(kind: type[MWMSNRParameters | MWMContinuumParameters]) -> None:
    assert kind().reject == ()
    assert kind(instrument="boss", reject="BRIGHTSKY").reject == ("BRIGHTSKY",)
    with pytest.raises(UnknownFlagError):
        kind(instrument="APOGEE", reject="BRIGHTSKY")
    with pytest.raises(ParameterError, match="reject needs one instrument; set instrument=APOGEE"):
        kind(reject="BADPIX")
    for wrong in ("MaNGA", "", (), 3):
        with pytest.raises(ParameterError, match="instrument cannot be"):
            kind(instrument=wrong)


def test_the_continuum_is_that_of_the_instrument() -> None:
    made = MWMContinuumParameters(order=5)
    assert made.of("APOGEE") == ContinuumParameters(order=5, reject=())
    assert made.of("BOSS") == OpticalContinuumParameters(order=5)
    assert MWMContinuumParameters(L=900).of("BOSS").L == 900
    with pytest.raises(ParameterError, match="regions"):
        MWMContinuumParameters(regions=((2.0, 1.0),))
    with pytest.raises(ParameterError, match="pixels cannot be"):
        MWMContinuumParameters(pixels="some")


def test_an_instrument_is_declared_in_yaml(tmp_path: Path) -> None:
    text = (
        "type: astra_dagster.SpectrumTask\nattributes: {task: mwm_star_snr, name: boss, parameters: {instrument: BOSS}}"
    )
    (tmp_path / "defs.yaml").write_text(text)
    (made,) = read_declared(tmp_path, (mwm_star_snr,), frozenset()).variants.values()
    assert made.task.values().instrument == ("BOSS",)
    assert made.task.digest(made.task.values()) != mwm_star_snr.digest(mwm_star_snr.values())


def test_from_discovery_to_results(others: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAS_BASE_DIR", str(others))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ASTRA_OUTPUTS", str(tmp_path / "outputs"))
    told = ""
    for words in (
        "init",
        "discover --product spec-lite --product mwmStar",
        "run spec_lite_snr",
        "run mwm_star_snr",
        "plan mwm_star_snr --set instrument=BOSS",
    ):
        done = CliRunner().invoke(main, words.split())
        assert done.exit_code == 0, done.output
        told += done.output
    assert "\n1 computed" in told
    assert "\n2 computed" in told
    assert "2 parameters changed: instrument " in told
