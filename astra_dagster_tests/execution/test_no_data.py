"""A spectrum without a good pixel, as that of a dead fibre, is a result: 0 good pixels, no ratio, and no failure."""

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from click.testing import CliRunner

from astra_dagster import product
from astra_dagster.cli import main
from astra_dagster.demo import write_mirror
from astra_dagster.execution import runner
from astra_dagster.outputs.store import OutputStore
from astra_dagster.spectra.output import read_output
from astra_dagster.spectra.readers import read_spectra
from astra_dagster.tasks.continuum import ap_star_continuum, ap_visit_continuum, spec_continuum
from astra_dagster.tasks.snr import ap_star_snr, ap_visit_snr, spec_snr
from astra_dagster.tasks.task import Task
from astra_dagster_tests.execution.work import find_work

DEAD = {
    "apVisit": "DR17/apo25m/120+12/5226/56000/002",
    "apStar": "DR17/apo25m/120+12/-/2M00012723+6258059",
    "spec": "DR17/v5_13_2/3586/55181/0500",
}
TASKS = (ap_visit_snr, ap_star_snr, spec_snr, ap_visit_continuum, ap_star_continuum, spec_continuum)


def kill(path: Path, name: str) -> None:
    """Leave no good pixel in a file."""
    with fits.open(path, mode="update", memmap=False) as hdus:
        if name == "spec":
            hdus[1].data["ivar"][:] = 0
        else:
            hdus[2].data[:] = 1e10


def check_no_data(results: dict, several: bool) -> None:
    first = {name: values[0] if several else values for name, values in results.items()}
    assert first["good_pixels"] == 0
    for name in ("snr", "snr_median", "der_snr"):
        assert first.get(name) is None
    assert json.loads(json.dumps(results, allow_nan=False)) == results


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_dead_fibre_is_a_row_among_others(task: Task, mirror: Path, tmp_path: Path) -> None:
    name = task.domain.name
    kill(product(name).parse_key(DEAD[name]).path(mirror), name)
    store = OutputStore(tmp_path / "outputs", task, task.values())
    outcomes = [outcome for chunk in runner.run([(store, find_work(task, mirror, "DR17"))]) for outcome in chunk]
    assert len(outcomes) > 2
    for outcome in outcomes:
        assert outcome.written is not None, outcome.error
        if outcome.work.data_id.key == DEAD[name]:
            check_no_data(outcome.written.results, store.several)
            if task.output == "fits":
                made = read_output(outcome.written.path)
                assert made.bad.all()
                assert (made.ivar == 0).all()
                assert np.isfinite(made.flux).all()
        elif not store.several:
            assert outcome.written.results["good_pixels"] > 0


def test_the_command_says_that_all_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, folder in (("SAS_BASE_DIR", "sas"), ("DAGSTER_HOME", "home"), ("ASTRA_OUTPUTS", "outputs")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    write_mirror(tmp_path / "sas")
    kill(product("spec").parse_key(DEAD["spec"]).path(tmp_path / "sas"), "spec")
    for words in ("init", "discover --product spec", "run spec_snr spec_continuum", "table spec_snr"):
        done = CliRunner().invoke(main, words.split())
        assert done.exit_code == 0, done.output
    assert "3 rows of 3 partitions" in done.output


@pytest.mark.parametrize("task", [spec_snr, spec_continuum], ids=lambda task: task.name)
def test_real_dead_fibres(task: Task, real_mirrors: list[Path], tmp_path: Path) -> None:
    dead = [
        item
        for root in real_mirrors
        for name in ("spec", "spec-lite")
        for item in find_work(task, root, "DR12", "DR14", "DR17", name=name)
        if read_spectra(item.path, name).bad.all()
    ]
    if not dead:
        pytest.skip("no spectrum of the real files is without a good pixel")
    store = OutputStore(tmp_path / "outputs", task, task.values())
    for item in dead:
        ((outcome,),) = runner.run([(store, [item])])
        assert outcome.written is not None, outcome.error
        check_no_data(outcome.written.results, several=False)
