"""Velocities of visits and combinations of stars: synthetic ones, and real ones against the survey's."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from astra_dagster.analysis.velocity import LIGHT
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.spectra.products.ap_star import log_grid
from astra_dagster.spectra.readers import read_spectra
from astra_dagster.tasks.chain.stars import combine_visits, star_combination, star_snr
from astra_dagster.tasks.chain.visits import VelocityFlag, VelocityParameters, visit_velocity
from astra_dagster.tasks.registry import BUILT_IN, tasks
from astra_dagster_tests.analysis.stars import stars_with_visits
from astra_dagster_tests.analysis.visits import CHIPS, make_visits

PARAMETERS = VelocityParameters()
STAR, EARTH = 37.5, (-25.0, 3.0, 28.0)


def make_batches(snr: float = 60.0) -> list[SpectrumBatch]:
    """What `visit_velocity` makes of three visits of a star, as far as it is used."""
    visits = make_visits([STAR - earth for earth in EARTH], snr=snr)
    ivar = np.where(visits.bad, 0, visits.error**-2.0)
    return [
        SpectrumBatch(
            flux=visits.flux[i],
            ivar=ivar[i],
            wavelength=visits.wavelength,
            chips=CHIPS,
            meta={"object": ("star",), "barycentric": (earth,), "jd": (2456000.5 + i,)},
        )
        for i, earth in enumerate(EARTH)
    ]


def test_a_star_has_its_velocity_and_its_lines_at_rest() -> None:
    star = combine_visits(make_batches(), PARAMETERS)
    meta = {name: values[0] for name, values in star.meta.items()}
    assert meta["v_barycentre"] == pytest.approx(STAR, abs=0.2)
    assert meta["v_visits"] == pytest.approx([STAR] * 3, abs=0.3)
    assert meta["v_helio"] == meta["v_barycentre"]
    assert meta["v_scatter"] < 0.3
    assert (meta["template"], meta["flags"], meta["visits_used"]) == ("atoms_18", 0, 3)
    near = np.abs(log_grid() - 16060.009 - 4.388) < 1.5  # Si I
    assert log_grid()[near][star.flux[0, near].argmin()] == pytest.approx(16064.397, abs=16064 * 5 / LIGHT)


def test_a_visit_without_good_pixels_is_left_out() -> None:
    first, second, third = make_batches()
    lost = SpectrumBatch(
        flux=third.flux, ivar=np.zeros(third.flux.shape), wavelength=third.wavelength, chips=CHIPS, meta=third.meta
    )
    star = combine_visits([first, lost, second], PARAMETERS)
    assert star.meta["visits_used"] == (2,)
    assert star.meta["v_barycentre"][0] == pytest.approx(STAR, abs=0.3)
    assert np.isnan(star.meta["v_visits"][0][1])


def test_no_visit_with_good_pixels_is_flagged() -> None:
    empty = [
        SpectrumBatch(flux=v.flux, ivar=np.zeros(v.flux.shape), wavelength=v.wavelength, chips=CHIPS, meta=v.meta)
        for v in make_batches()
    ]
    star = combine_visits(empty, PARAMETERS)
    assert star.bad.all()
    assert star.meta["flags"][0] & VelocityFlag.NO_VELOCITY
    assert star.meta["v_barycentre"] == (None,)


def test_a_visit_of_unknown_time_has_no_date() -> None:
    first, second, _ = make_batches()
    star = combine_visits([first, replace(second, meta={**second.meta, "jd": (None,)})], PARAMETERS)
    assert star.meta["jd_visits"][0][0] == first.meta["jd"][0]
    assert np.isnan(star.meta["jd_visits"][0][1])


def test_noise_is_flagged() -> None:
    visits = make_batches(snr=0.5)
    assert combine_visits(visits, PARAMETERS).meta["flags"] == (VelocityFlag.LOW_PEAK,)


def test_the_chain_is_there_for_who_asks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {visit_velocity.name, star_combination.name, star_snr.name}
    assert not names & set(tasks())
    assert not any("chain" in name for name in BUILT_IN)
    (tmp_path / "astra.toml").write_text('packages = ["astra_dagster.tasks.chain"]\n')
    monkeypatch.setenv("ASTRA_CONFIG", str(tmp_path / "astra.toml"))
    assert names <= set(tasks())


def test_real_stars_have_the_velocities_of_the_survey(real_mirrors) -> None:  # type: ignore[no-untyped-def]
    """Wrong headers are found; scatter is small; the zero point is the survey's in the median, and so are spectra."""
    deviations, offsets = [], []
    for star, paths in stars_with_visits(real_mirrors):
        header = fits.getheader(star)
        survey = np.array([header[f"VHELIO{i}"] for i in range(1, len(paths) + 1)])
        visits = [visit_velocity.function(read_spectra(path, bitmask=True), path, PARAMETERS) for path in paths]
        for visit, right, path in zip(visits, survey, paths, strict=True):
            wrong = bool(abs(visit.meta["v_header"][0] - right) > PARAMETERS.header_tolerance)
            assert bool(visit.meta["flags"][0] & VelocityFlag.HEADER_DIFFERS) is wrong, path
        made = combine_visits(visits, PARAMETERS)
        difference = np.array(made.meta["v_visits"][0]) - survey
        deviations.extend(difference - np.median(difference))
        offsets.extend(difference)
        survey_spectrum = read_spectra(star)
        good = ~made.bad[0] & ~survey_spectrum.bad[0]
        pulls = (made.flux - survey_spectrum.flux)[0] / np.hypot(made.error, survey_spectrum.error)[0]
        assert np.mean(np.abs(pulls[good]) < 3) > 0.95, star
        survey_flux = survey_spectrum.flux[0, good]
        assert np.median(np.abs(made.flux[0, good] / survey_flux - 1)) < 0.006, star
        grid = log_grid()
        at_its_velocity = np.interp(grid, grid * (1 + np.median(difference) / LIGHT), made.flux[0])[good]
        assert np.median(np.abs(at_its_velocity / survey_flux - 1)) < 0.0035, star
    assert 1.4826 * np.median(np.abs(deviations)) < 0.3
    assert abs(np.median(offsets)) < 0.3
