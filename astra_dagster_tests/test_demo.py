"""The synthetic mirror: what its files say of each other."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from astra_dagster import product, read_spectra
from astra_dagster.demo import write_mirror, write_second_reduction


def test_a_star_of_sdss_v(synthetic: Path) -> None:
    """It has visits from two telescopes, two epochs of BOSS, and spectra of both instruments in the mwm files."""
    visits = [
        product("apVisit").parse_key(key).path(synthetic)
        for key in ("DR19/apo25m/084-03/3148/59162/271", "DR19/lco25m/084-02/10257/59601/212")
    ]
    headers = [fits.getheader(path) for path in visits]
    (name,) = {header["OBJID"] for header in headers}
    apo, lco = (header["VHELIO"] for header in headers)
    assert apo == pytest.approx(lco)
    assert headers[0]["VRAD"] != pytest.approx(headers[1]["VRAD"], abs=1)

    lites = sorted((synthetic / "dr19").rglob("spec-*.fits"))
    assert len({path.parent for path in lites}) == 2
    (position,) = {read_spectra(path, "specLite").meta["object"] for path in lites}
    assert position == ("SDSS J053610.04-032513.0",)
    for kind, boss in (("mwmStar", 1), ("mwmVisit", 2)):
        (path,) = (synthetic / "dr19").rglob(f"{kind}-*.fits")
        apogee = read_spectra(path, kind, instrument="APOGEE")
        assert apogee.meta["telescope"] == ("apo25m", "lco25m")
        assert apogee.meta["object"] == (name, name)
        assert len(read_spectra(path, kind, instrument="BOSS")) == boss


def test_the_combination_of_a_star(synthetic: Path) -> None:
    """The combined BOSS spectrum is the mean of the visits, weighted by their inverse variances."""
    (visit_file,), (star_file,) = ((synthetic / "dr19").rglob(f"{name}-*") for name in ("mwmVisit", "mwmStar"))
    visits = read_spectra(visit_file, "mwmVisit", instrument="BOSS")
    star = read_spectra(star_file, "mwmStar", instrument="BOSS")
    good = ~star.bad[0]
    mean = np.average(visits.flux[:, good], axis=0, weights=visits.ivar[:, good])
    np.testing.assert_allclose(star.flux[0, good], mean, rtol=1e-6)
    np.testing.assert_allclose(star.ivar[0], visits.ivar.sum(axis=0), rtol=1e-6)


def test_a_second_reduction(tmp_path: Path) -> None:
    """Each file has its own of DR17 beside it, with the differences that it is said to have and no other."""
    write_mirror(tmp_path)
    earlier = write_second_reduction(tmp_path)
    assert len(earlier) == 7
    for path in earlier:
        later = Path(str(path).replace("dr16", "dr17").replace("r12", "dr17"))
        a, b = read_spectra(path, "apVisit"), read_spectra(later, "apVisit")
        np.testing.assert_array_equal(a.flux, b.flux)
        np.testing.assert_array_equal(a.bad, b.bad)
        factor = 2.0 if b.meta["fibre"] == (3,) else 1.01
        np.testing.assert_allclose(b.ivar, a.ivar * factor**2, rtol=1e-6)
        assert b.meta["snr"][0] == pytest.approx(a.meta["snr"][0] * factor, rel=1e-5)
