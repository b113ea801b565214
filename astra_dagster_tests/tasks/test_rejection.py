"""The parameter `reject` of the tasks: which bits of the survey's mask make pixels bad."""

from pathlib import Path

import numpy as np
import pytest

from astra_dagster.datamodel.products import product
from astra_dagster.errors import AnalysisError, ParameterError, TaskError, UnknownFlagError
from astra_dagster.execution import runner
from astra_dagster.outputs.store import OutputStore
from astra_dagster.spectra import SpectrumBatch, read_output, read_spectra
from astra_dagster.spectra.pixel_flags import APOGEE_REJECTED
from astra_dagster.tasks.continuum import ap_star_continuum, ap_visit_continuum, spec_continuum
from astra_dagster.tasks.decorator import spectrum_task
from astra_dagster.tasks.parameters import digest
from astra_dagster.tasks.snr import ap_star_snr, ap_visit_snr, spec_snr
from astra_dagster.tasks.task import Task
from astra_dagster_tests.execution.work import run, work_on
from astra_dagster_tests.mirrors import find_real, skip_without
from astra_dagster_tests.spectra.synthetic import write_ap_star, write_spec

TASKS = (ap_visit_snr, ap_star_snr, spec_snr, ap_visit_continuum, ap_star_continuum, spec_continuum)
MORE = (*APOGEE_REJECTED[:-1], "PERSIST_HIGH", APOGEE_REJECTED[-1])  # in the order of the bits


@spectrum_task(requires=product("apVisit"), version="1")
def untouched(spectra: SpectrumBatch, parameters: object) -> SpectrumBatch:
    """The spectra of a task that asked for no mask."""
    return spectra


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_every_task_of_the_package_rejects_by_name(task: Task) -> None:
    optical = task.domain.product.name == "spec"
    default = task.values()
    assert default.reject == (() if optical else APOGEE_REJECTED)
    assert "reject" not in default.as_dict()  # so that results of versions without it stay complete
    assert task.bitmask
    name = "BRIGHTSKY" if optical else "SIG_SKYLINE"
    more = task.values({"reject": [*default.reject, name]})
    assert task.digest(more) != task.digest(default)
    same = task.values({"reject": [name.lower(), *reversed(default.reject), name]})
    assert task.digest(same) == task.digest(more)
    assert task.values({"reject": ",".join(more.reject)}) == more
    assert task.values({"reject": ""}).reject == ()
    with pytest.raises(UnknownFlagError, match=f"did you mean {name}"):
        task.values({"reject": [f"{name}S"]})
    with pytest.raises(ParameterError, match="reject"):
        task.values({"reject": [12]})


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_digests_of_earlier_versions_stay(factor: float) -> None:
    for task in (ap_visit_snr, ap_star_snr, spec_snr):
        assert task.digest(task.values({"fudge_factor": factor})) == digest({"fudge_factor": factor})


def first_visit(root: Path) -> Path:
    return next(iter(sorted(root.rglob("apVisit-*.fits"))))


def check_good_pixels(snr: Task, continuum: Task, path: Path, name: str) -> None:
    """What is rejected is missing in the results; what is not rejected is there."""
    of = snr.domain.product.name
    spectra = read_spectra(path, of, bitmask=True)
    whole = read_spectra(path, of, bitmask=True, reject=())
    more = whole.rejecting([*snr.values().reject, name])
    assert (more.bad & ~spectra.bad).any()
    assert snr(spectra)["good_pixels"] == (~spectra.bad).sum(axis=1).tolist()
    assert snr(spectra, reject=())["good_pixels"] == (~whole.bad).sum(axis=1).tolist()
    assert snr(spectra, reject=more.reject) == snr(more, reject=more.reject)
    assert snr(spectra, reject=more.reject)["good_pixels"] == (~more.bad).sum(axis=1).tolist()
    made = continuum(spectra, reject=more.reject)
    assert made.bad[more.bad].all()
    assert made.reject == more.reject
    np.testing.assert_array_equal(made.bitmask, spectra.bitmask)
    np.testing.assert_array_equal(made.flux, continuum(more, reject=more.reject).flux)
    assert not continuum(spectra).bad[more.bad].all()


def test_what_is_rejected_has_no_part_in_results(synthetic: Path, tmp_path: Path) -> None:
    check_good_pixels(ap_visit_snr, ap_visit_continuum, first_visit(synthetic), "PERSIST_HIGH")
    check_good_pixels(ap_star_snr, ap_star_continuum, write_ap_star(tmp_path / "star.fits", 3), "SIG_SKYLINE")
    check_good_pixels(spec_snr, spec_continuum, write_spec(tmp_path / "spec.fits"), "BRIGHTSKY")


@pytest.mark.parametrize(
    ("snr", "continuum", "name"),
    [
        (ap_visit_snr, ap_visit_continuum, "SIG_SKYLINE"),
        (ap_star_snr, ap_star_continuum, "SIG_SKYLINE"),
        (spec_snr, spec_continuum, "BRIGHTSKY"),
    ],
    ids=["apVisit", "apStar", "spec"],
)
def test_what_is_rejected_of_real_files(snr: Task, continuum: Task, name: str, real_mirrors: list[Path]) -> None:
    of = snr.domain.product.name
    for path in find_real(real_mirrors, of):
        spectra = read_spectra(path, of, bitmask=True)
        if (spectra.flagged([name]) & ~spectra.bad).any():
            check_good_pixels(snr, continuum, path, name)
            return
    skip_without(f"{of} with good pixels that are {name}")


def test_spectra_without_a_mask_are_taken_as_they_are() -> None:
    made = SpectrumBatch(np.ones((2, 30)), np.full((2, 30), 4.0), np.arange(30.0) + 15100)
    assert ap_visit_snr.parameters().apply_to(made) is made
    with pytest.raises(TaskError, match="no mask whose bits are known"):
        ap_visit_snr(made, reject=MORE)


def test_other_bits_need_the_mask(synthetic: Path) -> None:
    spectra = read_spectra(first_visit(synthetic), "apVisit")
    ap_visit_continuum(spectra)
    with pytest.raises(AnalysisError, match="bitmask=True"):
        ap_visit_continuum.values({"reject": MORE}).apply_to(spectra)
    with pytest.raises(TaskError, match="bitmask=True"):
        ap_visit_continuum(spectra, reject=MORE)


def test_a_run_reads_and_keeps_the_mask(synthetic: Path, tmp_path: Path) -> None:
    work = work_on(synthetic)[:2]
    store = OutputStore(tmp_path, ap_visit_continuum, ap_visit_continuum.values({"reject": MORE}))
    for outcome in run(store, work):
        assert outcome.written is not None, outcome.error
        read, made = read_spectra(outcome.work.path, "apVisit", bitmask=True), read_output(outcome.written.path)
        np.testing.assert_array_equal(made.bitmask, read.bitmask)
        assert (made.mask_name, made.reject) == ("APOGEE_PIXMASK", MORE)
        assert made.bad[read.flagged(["PERSIST_HIGH"])].all()


def test_a_task_has_the_same_bytes_beside_one_that_reads_the_mask(synthetic: Path, tmp_path: Path) -> None:
    work = work_on(synthetic)[:2]
    alone, beside, other = (
        OutputStore(tmp_path / name, task, task.values())
        for name, task in (("alone", untouched), ("beside", untouched), ("beside", ap_visit_continuum))
    )
    run(alone, work)
    for _ in runner.run([(beside, work), (other, work)]):
        pass
    for item in work:
        assert alone.path(item.data_id).read_bytes() == beside.path(item.data_id).read_bytes()
        assert read_output(alone.path(item.data_id)).bitmask is None
        assert read_output(other.path(item.data_id)).bitmask is not None
