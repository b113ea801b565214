"""Checks of outputs pass on good files, real ones among them, and name the key of a bad one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from astra_dagster import SpectrumBatch, ap_star, ap_visit, grouped, product, spectrum_task
from astra_dagster.checks.output_checks import (
    BAD_PIXELS,
    CHECKS,
    HIGHEST,
    MIDDLE,
    bad_pixels,
    continuum_positive,
    envelope_level,
    flags_usable,
    outputs_as_recorded,
    results_finite,
    snr_as_in_header,
)
from astra_dagster.checks.sample import Level, OutputSample, measure_levels
from astra_dagster.outputs.store import OutputStore
from astra_dagster.tasks import registry
from astra_dagster.tasks.continuum import ContinuumParameters, ap_star_continuum, ap_visit_continuum, spec_continuum
from astra_dagster.tasks.snr import SNRParameters, ap_star_snr, ap_visit_snr, spec_snr
from astra_dagster.tasks.task import Task
from astra_dagster_tests.checks.checked import OTHER, STAR, VISIT, named, newest, only, visit_path
from astra_dagster_tests.mirrors import releases_with, skip_without

TASKS = (ap_visit_snr, ap_star_snr, spec_snr, ap_visit_continuum, ap_star_continuum, spec_continuum)
GENERIC = ["outputs_as_recorded", "results_finite"]


@spectrum_task(requires=ap_visit, version="1")
def toy(spectra, parameters):
    """A task that promises nothing."""
    return {"level": spectra.flux.mean(axis=1), "name": ["a"]}


@spectrum_task(requires=ap_visit, version="1", columns={"good_pixels": "Good pixels."})
def toy_pixels(spectra, parameters):
    """A task with a column that is known."""
    return {"good_pixels": (~spectra.bad).sum(axis=1)}


@spectrum_task(requires=ap_visit, parameters=SNRParameters, version="1")
def holes(spectra, parameters):
    """Nothing for one visit."""
    level = np.where(np.array(spectra.meta["fibre"]) == 2, np.nan, 1.5)
    ones = np.ones(len(spectra), dtype=int)
    return {"level": level, "cells": np.stack([level, ones], axis=1), "count": 3 * ones, "good": ones > 0}


def spoilt(name: str, spoil) -> Task:
    """A continuum task that does something wrong to one visit: to rows of flux, continuum and what is bad."""

    @spectrum_task(requires=ap_visit, parameters=ContinuumParameters, version="1", name=name)
    def task(spectra, parameters) -> SpectrumBatch:
        made = ap_visit_continuum.function(spectra, parameters)
        arrays = {name: getattr(made, name).copy() for name in ("flux", "continuum", "bad")}
        for i in np.flatnonzero(np.array(spectra.meta["fibre"]) == 2):
            spoil(*(array[i] for array in arrays.values()))
        return replace(made, **arrays)

    return task


def names_of(task: Task) -> list[str]:
    return [check.name for check in CHECKS if check.applies(task)]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_good_files_pass(task: Task, synthetic: Path, tmp_path: Path) -> None:
    found = (
        newest(task, synthetic, tmp_path, "DR17", "DR19")
        if task.domain.name != "spec"
        else newest(task, synthetic, tmp_path)
    )
    for check in CHECKS:
        if check.applies(task):
            verdict = check.look(found)
            assert verdict.findings == (), check.name
            assert verdict.looked_at >= len(set(found.keys)) > 2
            assert check.look is flags_usable or verdict.note == ""


@pytest.mark.usefixtures("extra_release")
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_real_files_pass(task: Task, real_mirrors: list[Path], tmp_path: Path) -> None:
    for found in newest_of_real(task, real_mirrors, tmp_path):
        for check in CHECKS:
            if check.applies(task):
                verdict = check.look(found)
                assert verdict.findings == (), check.name
                # A few may be too noisy to say anything of.
                assert verdict.looked_at >= 0.9 * len(set(found.keys)) - 1, check.name


def newest_of_real(task: Task, mirrors: list[Path], outputs: Path) -> list[OutputSample]:
    """What is made of the files of the task's product in each mirror that has some."""
    releases = releases_with(task.domain.name)
    made = [newest(task, root, outputs / str(i), *releases, sample=10_000) for i, root in enumerate(mirrors)]
    found = [one for one in made if one.keys]
    if not found:
        skip_without(task.domain.name)
    return found


@pytest.mark.usefixtures("extra_release")
def test_real_files_stay_well_within_the_limits(real_mirrors: list[Path], tmp_path: Path) -> None:
    """Usual files are far from the limits, so that one at a limit is unusual; one file may be."""
    for found in newest_of_real(ap_visit_snr, real_mirrors, tmp_path / "snr"):
        good = zip(found.keys, found.column("good_pixels"), strict=True)
        bad = [1 - number / found.files[key].pixels for key, number in good]
        assert 0 < np.median(bad) < 0.25 * BAD_PIXELS["apVisit"]
    for found in newest_of_real(ap_visit_continuum, real_mirrors, tmp_path / "continuum"):
        assert len(found.levels) == len(found.keys)
        clear = [level for _, level in found.levels if level.windows]
        assert len(clear) >= 0.9 * len(found.keys) - 1
        if clear:
            low, high = np.percentile([level.middle for level in clear], (5, 95))
            assert MIDDLE[0] + 0.1 < low <= high < MIDDLE[1] - 0.04
            assert np.percentile([level.highest for level in clear], 95) < HIGHEST - 0.06


def test_which_checks_a_task_gets() -> None:
    assert names_of(ap_visit_snr) == [*GENERIC, "snr_as_in_header", "bad_pixels"]
    assert names_of(ap_star_snr) == names_of(ap_visit_snr)
    assert names_of(spec_snr) == names_of(ap_visit_snr)
    for task in (ap_visit_continuum, ap_star_continuum, spec_continuum.variant("five", order=5)):
        assert names_of(task) == [*GENERIC, "bad_pixels", "continuum_positive", "envelope_level", "flags_usable"]
    assert names_of(ap_visit_snr.variant("double", fudge_factor=2.0)) == names_of(ap_visit_snr)
    assert names_of(toy) == GENERIC
    assert names_of(toy_pixels) == [*GENERIC, "bad_pixels"]
    of_many = spectrum_task(
        requires=grouped(ap_visit_snr, by="plate"), version="1", columns={"good_pixels": ""}, name="of_many"
    )
    assert names_of(of_many(lambda visits, parameters: None)) == GENERIC
    assert {product(name).name for name in BAD_PIXELS} == set(BAD_PIXELS)
    assert all(GENERIC[0] in names_of(task) for task in registry.tasks().values())


def test_an_output_that_is_not_what_was_recorded(synthetic: Path, tmp_path: Path) -> None:
    lost, cut = VISIT, OTHER

    def spoil(store: OutputStore) -> None:
        store.path(ap_visit.parse_key(lost)).unlink()
        path = store.path(ap_visit.parse_key(cut))
        path.write_bytes(path.read_bytes()[:100])

    for task in (ap_visit_snr, ap_visit_continuum):
        verdict = outputs_as_recorded(newest(task, synthetic, tmp_path / task.name, spoil=spoil))
        assert named(verdict) == [lost, cut]
        assert all(finding.unusable for finding in verdict.findings)
        assert "not there" in verdict.findings[0].value
        assert verdict.looked_at == 12


def test_numbers_that_are_missing(synthetic: Path, tmp_path: Path) -> None:
    verdict = results_finite(newest(holes, synthetic, tmp_path))
    assert (only(verdict).key, only(verdict).value) == (VISIT, "no level, cells")
    assert verdict.looked_at == 12


def test_a_column_without_any_number(synthetic: Path, tmp_path: Path) -> None:
    @spectrum_task(requires=ap_visit, version="1")
    def nothing(spectra, parameters):
        return {"level": [np.nan], "name": ["a"]}

    verdict = results_finite(newest(nothing, synthetic, tmp_path))
    assert len(verdict.findings) == 12
    assert {finding.value for finding in verdict.findings} == {"no level"}


def test_of_a_star_the_first_spectrum_counts(synthetic: Path, tmp_path: Path) -> None:
    @spectrum_task(requires=ap_star, version="1")
    def star(spectra, parameters):
        level = np.ones(len(spectra))
        level[1:] = np.nan
        return {"level": level if spectra.meta["object"][0] != "2M00012723+6258059" else level[::-1]}

    assert named(results_finite(newest(star, synthetic, tmp_path))) == [STAR]


@pytest.mark.parametrize("factor", [1.0, 2.0, -0.5])
def test_a_header_that_says_another_ratio(factor: float, mirror: Path, tmp_path: Path) -> None:
    path = visit_path(mirror)
    right = float(fits.getval(path, "SNR"))
    fits.setval(path, "SNR", value=1.002 * right)
    visits = newest(ap_visit_snr, mirror, tmp_path, fudge_factor=factor)
    verdict = snr_as_in_header(visits)
    assert only(verdict).key == VISIT
    assert only(verdict).value == f"snr_green {visits.column('snr_green')[visits.keys.index(VISIT)]:.6g}"
    assert only(verdict).expected.startswith(f"SNR {factor * 1.002 * right:.6g} ")
    assert not only(verdict).unusable
    fits.setval(path, "SNR", value=1.0002 * right)
    assert snr_as_in_header(newest(ap_visit_snr, mirror, tmp_path, fudge_factor=factor)).findings == ()


def test_a_star_whose_header_says_another_ratio(mirror: Path, tmp_path: Path) -> None:
    path = product("apStar").parse_key(STAR).path(mirror)
    fits.setval(path, "SNR", value=float(fits.getval(path, "SNR")) + 1)
    assert named(snr_as_in_header(newest(ap_star_snr, mirror, tmp_path))) == [STAR]


def test_files_that_say_nothing(mirror: Path, tmp_path: Path) -> None:
    found = newest(ap_visit_snr, mirror, tmp_path)
    visit_path(mirror).unlink()
    fits.delval(visit_path(mirror, OTHER), "SNR")
    verdict = snr_as_in_header(found)
    assert (verdict.findings, verdict.looked_at) == ((), 10)
    assert verdict.note == "2 without file, SNR card or result left out"
    verdict = bad_pixels(found)
    assert (verdict.findings, verdict.looked_at) == ((), 11)
    assert verdict.note == "1 without file or number of good pixels left out"


def test_a_file_that_was_damaged_since(mirror: Path, tmp_path: Path) -> None:
    found = newest(ap_visit_snr, mirror, tmp_path)
    path = visit_path(mirror)
    path.write_bytes(path.read_bytes()[:1000])
    verdict = snr_as_in_header(found)
    assert only(verdict).key == VISIT
    assert "cannot be read" in only(verdict).value


@pytest.mark.parametrize("task", [ap_visit_snr, ap_visit_continuum], ids=lambda task: task.name)
def test_a_file_of_many_bad_pixels(task: Task, mirror: Path, tmp_path: Path) -> None:
    path = visit_path(mirror)
    with fits.open(path, mode="update") as hdus:
        hdus[3].data[1, :1000] |= 1
    verdict = bad_pixels(newest(task, mirror, tmp_path))
    assert only(verdict).key == VISIT
    fraction = float(only(verdict).value.removesuffix("% bad"))
    assert 12 < fraction < 15
    assert only(verdict).expected == "at most 10%"
    assert not only(verdict).unusable


def test_bad_pixels_of_a_star_name_the_spectrum(mirror: Path, tmp_path: Path) -> None:
    path = product("apStar").parse_key(STAR).path(mirror)
    with fits.open(path, mode="update") as hdus:
        hdus[2].data[3] = 1e10
        hdus[2].data[4, :4000] = 1e10
    verdict = bad_pixels(newest(ap_star_snr, mirror, tmp_path))
    # The fourth is wholly bad, as are rows that a file leaves empty; the fifth is not.
    assert only(verdict).key == STAR
    assert only(verdict).value.startswith("spectrum 4: ")


@pytest.mark.parametrize("task", [ap_star_snr, ap_star_continuum], ids=lambda task: task.name)
def test_a_spectrum_without_a_good_pixel_is_told_of_and_no_fault(task: Task, mirror: Path, tmp_path: Path) -> None:
    path = product("apStar").parse_key(STAR).path(mirror)
    with fits.open(path, mode="update") as hdus:
        hdus[2].data[0] = 1e10
    found = newest(task, mirror, tmp_path)
    for check in CHECKS:
        if check.applies(task) and check.name != "snr_as_in_header":
            verdict = check.look(found)
            assert verdict.findings == (), check.name
            if check.name in ("results_finite", "bad_pixels"):
                assert verdict.note == f"no data in {STAR}"


def negative(flux, continuum, bad) -> None:
    continuum[2000:2020] = -1
    bad[2000:2020] = [True, False] * 10


def negative_where_bad(flux, continuum, bad) -> None:
    continuum[500:520] = 0
    bad[500:520] = True


def not_finite(flux, continuum, bad) -> None:
    flux[np.flatnonzero(~bad)[:3]] = np.nan


def brighter(flux, continuum, bad) -> None:
    flux *= 1.1


@pytest.mark.parametrize(
    ("spoil", "unusable", "text"),
    [
        (negative, True, "wrong in 0.2% of the pixels, 10 unusable pixels are not marked bad"),
        (
            negative_where_bad,
            False,
            "wrong in 0.2% of the pixels, 0 unusable pixels are not marked bad",
        ),
        (not_finite, True, "wrong in 0.0% of the pixels, 3 unusable pixels are not marked bad"),
    ],
)
def test_a_continuum_that_is_not_positive(spoil, unusable: bool, text: str, synthetic: Path, tmp_path: Path) -> None:
    task = spoilt(spoil.__name__, spoil)
    verdict = continuum_positive(newest(task, synthetic, tmp_path))
    assert (only(verdict).key, only(verdict).unusable) == (VISIT, unusable)
    assert only(verdict).value.startswith(text)


def test_a_level_that_is_not_one(synthetic: Path, tmp_path: Path) -> None:
    task = spoilt("bright", brighter)
    found = newest(task, synthetic, tmp_path)
    verdict = envelope_level(found)
    assert only(verdict).key == VISIT
    assert only(verdict).value.partition(",")[2] == f" median of {found.levels[0][1].windows} windows"
    assert 1.08 < float(only(verdict).value.partition(",")[0]) < 1.13
    assert continuum_positive(found).findings == ()
    assert named(envelope_level(newest(ap_visit_continuum, synthetic, tmp_path))) == []


def make_level(wavelength: np.ndarray, flux: np.ndarray, scale: float) -> Level:
    noise = scale * np.random.default_rng(1).standard_normal(len(flux))
    ivar = np.full(len(flux), scale**-2)
    (level,) = measure_levels(SpectrumBatch(flux=flux + noise, ivar=ivar, wavelength=wavelength))
    return level


def test_an_envelope_that_runs_away_at_an_edge_is_found_and_noise_is_allowed_for() -> None:
    wavelength = np.linspace(15000, 17000, 4400)
    level = make_level(wavelength, np.ones(4400), 0.05)
    assert (level.windows, level.middle) == (40, pytest.approx(1, abs=0.01))
    assert level.highest < 1.04
    edge = make_level(wavelength, np.where(wavelength > 16900, 1.4, 1.0), 0.01)
    assert edge.highest == pytest.approx(1.4, abs=0.01)
    assert edge.highest > HIGHEST
    assert edge.place > 16900
    assert make_level(wavelength, np.ones(4400), 0.5).windows == 0


def test_flags_are_counted_and_those_that_make_a_result_unusable_found(synthetic: Path, tmp_path: Path) -> None:
    found = newest(ap_visit_continuum, synthetic, tmp_path, continuum_regions=((100.0, 200.0),), pixels="regions")
    verdict = flags_usable(found)
    assert {item.value for item in verdict.findings} == {"not fitted"}
    assert len(verdict.findings) == len(found.keys) == verdict.looked_at
    assert f"{len(found.keys)} not fitted" in verdict.note
    good = flags_usable(newest(ap_visit_continuum, synthetic, tmp_path / "good"))
    assert good.findings == ()


def test_spectra_are_read_of_a_sample(synthetic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = newest(ap_visit_continuum, synthetic, tmp_path, sample=5)
    assert len(found.sampled) == 4
    assert found.sampled == list(dict.fromkeys(found.keys))[::3]
    for check in (continuum_positive, envelope_level):
        assert (check(found).looked_at, check(found).note) == (4, "the spectra of 4 of 12 outputs were read")
    none = newest(ap_visit_continuum, synthetic, tmp_path, sample=0)
    assert (continuum_positive(none).looked_at, none.levels) == (0, [])


def test_nothing_at_all(synthetic: Path, tmp_path: Path) -> None:
    store = OutputStore(tmp_path, ap_visit_continuum, ap_visit_continuum.values())
    from astra_dagster.checks.sample import OutputSample

    nothing = OutputSample.read(store, {}, synthetic, 50)
    for check in CHECKS:
        if check.applies(ap_visit_continuum):
            assert (check.look(nothing).looked_at, check.look(nothing).findings) == (0, ())


def test_many_outputs_are_read_in_their_order(synthetic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("astra_dagster.checks.sample.TOGETHER", 2)
    found = newest(holes, synthetic, tmp_path, spoil=lambda store: store.path(ap_visit.parse_key(OTHER)).unlink())
    assert found.keys == sorted(found.keys)
    assert len(found.keys) == 11
    assert found.column("level")[found.keys.index(VISIT)] is None
    assert found.column("count") == [3] * 11
    assert set(found.numbers) == {"level", "cells", "count"}
