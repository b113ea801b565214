"""The continuum tasks: their parameters, their files, and the same bytes whatever the batch."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from astra_dagster import release
from astra_dagster.analysis.quality import ContinuumFlag
from astra_dagster.analysis.regions import named_regions
from astra_dagster.errors import AstraError, ConfigurationError, ParameterError
from astra_dagster.execution import runner
from astra_dagster.execution.runner import Outcome
from astra_dagster.outputs.store import OutputStore, PartitionWork
from astra_dagster.spectra.output import read_output
from astra_dagster.spectra.readers import read_spectra
from astra_dagster.tasks.continuum import (
    ContinuumParameters,
    OpticalContinuumParameters,
    ap_star_continuum,
    ap_visit_continuum,
    spec_continuum,
)
from astra_dagster.tasks.parameters import digest
from astra_dagster.tasks.snr import ap_star_snr, spec_snr
from astra_dagster.tasks.task import Task
from astra_dagster.viewer.preview import encode_figure, preview
from astra_dagster_tests.archive.found import find_files
from astra_dagster_tests.execution.work import work_of
from astra_dagster_tests.mirrors import releases_with, skip_without
from astra_dagster_tests.tasks.others import OTHERS

CONTINUUM = (ap_visit_continuum, ap_star_continuum, spec_continuum)


def work_on(task: Task, root: Path, *releases: str) -> list[PartitionWork]:
    there = [name for name in releases if product_of(task) in release(name).products]
    found = [f for name in there for f in find_files(task.domain.product, name, root)[0]]
    return [work_of(f.data_id, f.path, f.version) for f in found]


def product_of(task: Task) -> str:
    return task.domain.product.name


def first_of(values: object) -> object:
    return values[0] if isinstance(values, list) else values


def run(task: Task, root: Path, work: list[PartitionWork], **parameters: object) -> tuple[OutputStore, list[Outcome]]:
    store = OutputStore(root, task, task.parameters.from_mapping(parameters))
    return store, [outcome for chunk in runner.run([(store, work)]) for outcome in chunk]


@pytest.mark.parametrize("task", CONTINUUM, ids=lambda task: task.name)
def test_files_are_valid_and_say_where_they_come_from(task: Task, synthetic: Path, tmp_path: Path) -> None:
    store, outcomes = run(task, tmp_path, work_on(task, synthetic, "DR17", "DR19"), order=4)
    assert len(outcomes) >= 3
    for outcome in outcomes:
        work, written = outcome.work, outcome.written
        assert written is not None, outcome.error
        assert written.path == store.path(work.data_id)
        assert written.path.stat().st_size == written.size
        with fits.open(io.BytesIO(written.path.read_bytes()), checksum=True) as hdus:
            hdus.verify("exception")
            assert all(hdu.verify_checksum() == 1 and hdu.verify_datasum() == 1 for hdu in hdus)
            header = hdus[0].header
            assert [hdu.name for hdu in hdus] == ["PRIMARY", "SPECTRUM", "CONTINUUM"]
            columns = hdus["SPECTRUM"].columns
            assert columns.names == ["wavelength", "flux", "ivar", "mask", "bitmask"]
            assert columns["wavelength"].unit == "Angstrom"
            frame = {"apVisit": "TOPOCENT", "apStar": "SOURCE", "spec": "HELIOCEN"}[product_of(task)]
            for hdu in hdus[:2]:
                assert hdu.header["SPECSYS"] == frame
                assert hdu.header.get("OBJECT") == first_of(written.results["object"])
                assert hdu.header.get("SNR") == first_of(written.results["header_snr"])
                assert hdu.header.get("V_RAD") == first_of(written.results["v_rad"])
        assert header["TASK"] == task.name
        assert header["CODEVER"] == task.version
        assert header["DIGEST"] == store.digest
        assert header["KEY"] == work.data_id.key
        assert header["INPATH1"] == work.data_id.relative_path
        assert header["INVER1"] == work.input_version
        stated = {header[f"PARK{i}"]: header[f"PARV{i}"] for i in range(1, 7)}
        assert set(stated) == set(store.parameters.as_dict())
        assert (stated["order"], stated["L"]) == (4, store.parameters.L)
        assert json.loads(stated["regions"]) == store.parameters.as_dict()["regions"]
        results = {header[f"RESK{i}"]: header[f"RESV{i}"] for i in range(1, len(task.columns) + 1)}
        assert set(results) == set(task.columns) == set(written.results)
        assert written.results["condition"] == json.loads(results["condition"])
        assert not {"DATE", "DATE-OBS"} & set(header)


@pytest.mark.parametrize("task", CONTINUUM, ids=lambda task: task.name)
def test_numbers_are_those_of_the_input(task: Task, synthetic: Path, tmp_path: Path) -> None:
    _, outcomes = run(task, tmp_path, work_on(task, synthetic, "DR17"))
    for outcome in outcomes:
        assert outcome.written is not None
        before, after = read_spectra(outcome.work.path, product_of(task)), read_output(outcome.written.path)
        assert len(before) == len(after)
        np.testing.assert_array_equal(after.wavelength, before.wavelength)
        good = ~after.bad
        assert not (good & before.bad).any()
        np.testing.assert_allclose((after.flux * after.continuum)[good], before.flux[good], rtol=1e-13)
        np.testing.assert_allclose(after.ivar[good], (before.ivar * after.continuum**2)[good], rtol=1e-13)
        assert (after.ivar[after.bad] == 0).all()
        assert np.isfinite(after.flux).all()
        assert (after.unit, after.continuum_unit, after.chips) == ("", before.unit, before.chips)
        rows = [i for i in range(len(before)) if not before.bad[i].all()]
        assert after.meta["good_pixels"] == tuple((~after.bad).sum(axis=1))
        level = [np.percentile(after.flux[i][good[i]], 90) for i in rows]
        np.testing.assert_allclose(level, 1.0, atol=0.06)
        assert after.meta["object"] == before.meta["object"] if "object" in before.meta else True


def test_ap_star_keeps_its_rows(synthetic: Path, tmp_path: Path) -> None:
    _, outcomes = run(ap_star_continuum, tmp_path, work_on(ap_star_continuum, synthetic, "DR17"))
    counts = sorted(len(read_output(o.written.path)) for o in outcomes if o.written)
    assert counts == [2, 4, 5]
    (one,) = [o.written for o in outcomes if o.written and len(read_output(o.written.path)) == 2]
    assert one.results["condition"][1] == [None, None, None]  # the empty second row of a star with one visit
    assert one.results["good_pixels"][1] == 0


@pytest.mark.parametrize("task", CONTINUUM, ids=lambda task: task.name)
def test_same_bytes_again_and_alone(task: Task, synthetic: Path, tmp_path: Path) -> None:
    work = work_on(task, synthetic, "DR17", "DR19")
    together, _ = run(task, tmp_path / "a", work)
    again, _ = run(task, tmp_path / "b", work)
    for item in reversed(work):
        alone, _ = run(task, tmp_path / "c", [item])
    for item in work:
        contents = together.path(item.data_id).read_bytes()
        assert again.path(item.data_id).read_bytes() == contents
        assert alone.path(item.data_id).read_bytes() == contents


def test_an_output_is_found_again_unless_anything_differs(synthetic: Path, tmp_path: Path) -> None:
    item = work_on(ap_visit_continuum, synthetic, "DR17")[0]
    store, (outcome,) = run(ap_visit_continuum, tmp_path, [item])
    assert outcome.written is not None
    path = outcome.written.path
    assert store.find(item) == outcome.written
    assert store.find(work_of(item.data_id, item.path, "other")) is None
    whole = path.read_bytes()
    for damaged in (whole[:-2880], whole[:-3000] + b"x" + whole[-2999:], whole.replace(b"RESV1   = ", b"RESV1   =9")):
        path.write_bytes(damaged)
        assert store.find(item) is None
    path.write_bytes(whole)
    assert store.find(item) == outcome.written


def test_the_version_is_that_of_the_results(synthetic: Path, tmp_path: Path) -> None:
    """What is computed counts, not what it was called or what made it."""
    item = work_on(ap_visit_continuum, synthetic, "DR17")[0]
    _, (one,) = run(ap_visit_continuum, tmp_path, [item])
    renamed = work_of(item.data_id, item.path, "another version of the same contents")
    _, (other,) = run(ap_visit_continuum, tmp_path, [renamed])
    _, (changed,) = run(ap_visit_continuum, tmp_path, [item], order=2)
    assert one.written.version == other.written.version
    assert one.written.version != changed.written.version


def test_parameters() -> None:
    default = ContinuumParameters()
    assert default.continuum_regions == "apogee"
    assert digest(ContinuumParameters(order=5).as_dict()) != digest(default.as_dict())
    assert digest(OpticalContinuumParameters().as_dict()) != digest(default.as_dict())
    assert ContinuumParameters(regions=[[15100, 15800]]) == ContinuumParameters(regions=((15100.0, 15800.0),))
    pairs = named_regions("optical")
    assert ContinuumParameters(continuum_regions=pairs).continuum_regions == pairs


def test_of_a_file_of_regions_the_contents_are_the_parameter(tmp_path: Path) -> None:
    path = tmp_path / "regions.txt"
    path.write_text("15100 15200\n15300 15310\n")
    one = ContinuumParameters(continuum_regions=str(path))
    assert one.continuum_regions == ((15100.0, 15200.0), (15300.0, 15310.0))
    path.write_text("15100 15200\n15300 15311\n")
    assert digest(ContinuumParameters(continuum_regions=str(path)).as_dict()) != digest(one.as_dict())
    path.write_text("nothing")
    with pytest.raises(ConfigurationError, match="not a table"):
        ContinuumParameters(continuum_regions=str(path))


@pytest.mark.parametrize(
    "values",
    [
        {"order": 0},
        {"L": 0},
        {"L": -1.0},
        {"regions": ()},
        {"regions": ((2.0, 1.0),)},
        {"regions": ((1.0, 2.0, 3.0),)},
        {"pixels": "some"},
        {"frame": "galactic"},
        {"continuum_regions": "infrared"},
        {"continuum_regions": ()},
        {"continuum_regions": ((2.0, 1.0),)},
    ],
)
def test_impossible_parameters(values: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match=next(iter(values))):
        ContinuumParameters.from_mapping(values)


def test_a_spectrum_without_continuum_is_written_all_bad(synthetic: Path, tmp_path: Path) -> None:
    item = work_on(ap_visit_continuum, synthetic, "DR17")[0]
    chosen = {"pixels": "regions", "frame": "observed", "continuum_regions": ((100.0, 200.0),)}
    _, (outcome,) = run(ap_visit_continuum, tmp_path, [item], **chosen)
    assert outcome.written is not None
    results = outcome.written.results
    assert (results["condition"], results["good_pixels"]) == ([None, None, None], 0)
    assert ContinuumFlag(results["flags"]) == ContinuumFlag.NOT_FITTED
    assert read_output(outcome.written.path).bad.all()


def test_signal_to_noise_of_stars_and_optical_spectra(synthetic: Path, tmp_path: Path) -> None:
    _, stars = run(ap_star_snr, tmp_path, work_on(ap_star_snr, synthetic, "DR17"))
    for outcome in stars:
        assert outcome.written is not None
        results = outcome.written.results
        assert results["row"][0] == "combined, pixel weights"
        header = fits.getheader(outcome.work.path)
        assert results["snr_all"][0] == pytest.approx(header["SNR"], rel=1e-3)
        assert len(set(map(len, results.values()))) == 1
    _, spectra = run(spec_snr, tmp_path, work_on(spec_snr, synthetic, "DR17"))
    for outcome in spectra:
        batch = read_spectra(outcome.work.path, "spec")
        ratio = batch.flux * np.sqrt(batch.ivar)
        assert outcome.written is not None
        assert outcome.written.results["snr"] == pytest.approx(ratio[~batch.bad].mean(), rel=1e-12)
        assert outcome.written.results["snr_median"] == pytest.approx(np.median(ratio[~batch.bad]), rel=1e-12)


@pytest.mark.usefixtures("extra_release")
@pytest.mark.parametrize("task", [ap_star_snr, spec_snr, *CONTINUUM, *OTHERS], ids=lambda task: task.name)
def test_every_real_file(task: Task, real_mirrors: list[Path], tmp_path: Path) -> None:
    work = [item for root in real_mirrors for item in work_on(task, root, *releases_with(task.domain.name))]
    if not work:
        skip_without(task.domain.name)
    _, outcomes = run(task, tmp_path, work)
    for outcome in outcomes:
        assert outcome.written is not None, outcome.error
        if task is ap_star_snr:
            header = fits.getheader(outcome.work.path)
            assert outcome.written.results["snr_all"][0] == pytest.approx(header["SNR"], rel=1e-3)
        if task.output == "fits":
            after = read_output(outcome.written.path)
            assert (after.continuum[~after.bad] > 0).all()
            flags, snr = np.atleast_1d(outcome.written.results["flags"]), np.atleast_1d(after.meta["snr"])
            for row in np.flatnonzero([bool(value and value > 30) for value in snr]):
                assert not ContinuumFlag(int(flags[row])) & (ContinuumFlag.NOT_FITTED | ContinuumFlag.NOT_CONVERGED)
                if "spec" in task.domain.name and "QSO" in fits.getdata(outcome.work.path, 2)["CLASS"]:
                    continue  # the lines of a quasar stand above its continuum
                flux = after.flux[row][~after.bad[row]]
                assert 0.5 < np.median(flux) < 1.02  # lines and bands only lower it
                assert 0.95 < np.percentile(flux, 95) < 1.03 + 1.7 / snr[row]


def test_a_picture_on_demand(synthetic: Path, tmp_path: Path) -> None:
    item = work_on(ap_visit_continuum, synthetic, "DR17")[0]
    _, (outcome,) = run(ap_visit_continuum, tmp_path, [item])
    batch = read_output(outcome.written.path)
    figure = preview(batch, title="a visit")
    flux, below = figure.axes
    lines = {line.get_label(): line for line in flux.lines}
    assert set(lines) == {"flux", "bad pixels", "continuum"}
    assert len(lines["bad pixels"].get_xdata()) == batch.bad.sum()
    shown = np.asarray(lines["flux"].get_ydata())
    good = ~batch.bad[0] & np.isfinite(shown)
    np.testing.assert_allclose(shown[good], (batch.flux * batch.continuum)[0][good])
    assert good.sum() >= (~batch.bad).sum() - 3  # a line is broken between chips
    assert below.get_xlabel() == "vacuum wavelength [Angstrom]"
    for suffix in (".png", ".pdf", ".svg"):
        assert len(encode_figure(figure, suffix)) > 5000
    assert len(preview(read_spectra(item.path, "apVisit")).axes) == 1
    with pytest.raises(AstraError, match="choose a row from 0 to 0"):
        preview(batch, row=1)
    assert not list(tmp_path.rglob("*.png"))  # none beside the outputs
