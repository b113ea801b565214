"""The motion of the Earth: against astropy's position of the Earth, and headers of real visits."""

import numpy as np
import pytest
from astropy.coordinates import SkyCoord, get_body_barycentric_posvel
from astropy.io import fits
from astropy.time import Time

from astra_dagster.errors import AnalysisError
from astra_dagster.tasks.chain.barycentre import find_barycentric, to_barycentric
from astra_dagster_tests.mirrors import find_real


@pytest.mark.parametrize("julian_date", [2456000.8, 2457100.5, 2459000.7])
def test_the_earth_moves_towards_where_it_goes(julian_date: float) -> None:
    """Towards its apex the correction is the speed of the Earth, which rotation changes by less than 0.5 km/s."""
    _, moving = get_body_barycentric_posvel("earth", Time(julian_date, format="jd"))
    speed = float(moving.norm().to_value("km/s"))
    apex = SkyCoord(moving.x, moving.y, moving.z, representation_type="cartesian").spherical
    there = apex.lon.deg, apex.lat.deg
    assert find_barycentric(*there, julian_date, "apo25m") == pytest.approx(speed, abs=0.5)
    assert find_barycentric(there[0] + 180, -there[1], julian_date, "lco25m") == pytest.approx(-speed, abs=0.5)


def test_both_observatories_differ_by_their_rotation() -> None:
    apo, lco = (find_barycentric(150.0, 0.0, 2457100.6, name) for name in ("apo25m", "lco25m"))
    assert 0.005 < abs(apo - lco) < 1


def test_an_unknown_telescope_is_an_error() -> None:
    with pytest.raises(AnalysisError, match="telescope 'vlt8m'"):
        find_barycentric(0.0, 0.0, 2457100.6, "vlt8m")


def test_velocities_add() -> None:
    added = to_barycentric(np.array([100.0, -20.0]), np.array([-10.0, 20.0]))
    assert added == pytest.approx([90.0, 0.0], abs=0.01)


def test_it_is_that_of_the_headers_of_real_visits(real_mirrors) -> None:  # type: ignore[no-untyped-def]
    tried = 0
    for path in find_real(real_mirrors, "apVisit"):
        header = fits.getheader(path)
        if {"JD-MID", "BC", "TELESCOP"} <= set(header):
            found = find_barycentric(header["RA"], header["DEC"], header["JD-MID"], header["TELESCOP"])
            assert found == pytest.approx(header["BC"], abs=0.02), path
            tried += 1
    if not tried:
        pytest.skip("no real visit says when it was")
