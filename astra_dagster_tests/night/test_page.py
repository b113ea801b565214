"""The page of a night: where spectra are drawn, what is escaped, and that a browser shows it."""

from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from hypothesis import given
from hypothesis import strategies as st

from astra_dagster.night.page import project, write_list, write_page
from astra_dagster.night.report import ColumnReport, Night, Outlier, PlateReport, Position, TaskReport, say
from astra_dagster_tests.web_ui import browser, missing

PLATE = "DR17/apo25m/120+12/5226/56000"
EVIL = "<script>alert(1)</script>"


def link(task: str, key: str) -> str:
    return f"http://ui/{task}?{key}"


def spectrum(task: str, key: str) -> str:
    return "../pages/one.html" if key.endswith("001") else ""


@pytest.fixture
def night() -> Night:
    rng = np.random.default_rng(1)
    positions = tuple(
        Position(
            f"{PLATE}/{fibre:03d}",
            359.5 + rng.uniform(-1, 1),
            20 + rng.uniform(-1, 1),
            {"snr": float(fibre) if fibre != 300 else None, "depth": 0.5},
        )
        for fibre in range(1, 301)
    )
    plate = PlateReport(PLATE, {"complete": 300, "failed": 1}, positions)
    columns = (ColumnReport("snr", "", 299, 150.0, 50.0), ColumnReport("depth", "Angstrom", 300, 0.5, 0.1))
    outliers = (
        Outlier(f"{PLATE}/001", "snr", 1.0, 150.0, 9.0),
        Outlier(f"{PLATE}/002", "snr", 2.0, 150.0, 8.0),
    )
    failures = ((f"{PLATE}/301", f"broken {EVIL}"),)
    reasons = (("to do", "no record", 3),)
    return Night("56000", (TaskReport("ap_visit_snr", "0" * 12, (plate,), reasons, failures, columns, outliers, 4),))


@given(st.floats(0, 360), st.floats(-80, 80), st.integers(0, 10**6))
def test_positions_are_projected_as_astropy_does(ra: float, dec: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    distance, angle = rng.uniform(0, 1.5, 20) * u.deg, rng.uniform(0, 360, 20) * u.deg
    given = SkyCoord(ra * u.deg, dec * u.deg).directional_offset_by(angle, distance)
    unit = given.cartesian.mean()
    middle = SkyCoord(unit, representation_type="cartesian").spherical
    frame = SkyCoord(middle.lon, middle.lat).skyoffset_frame()
    offset = given.transform_to(frame).cartesian
    east, north = project(given.ra.deg, given.dec.deg)
    np.testing.assert_allclose(np.radians(east), offset.y / offset.x, atol=1e-12)
    np.testing.assert_allclose(np.radians(north), offset.z / offset.x, atol=1e-12)


def test_everything_is_on_the_page_and_nothing_in_it_runs(night: Night, tmp_path: Path) -> None:
    write_page(tmp_path / "56000.html", night, link, spectrum)
    text = (tmp_path / "56000.html").read_text()
    assert EVIL not in text
    assert "broken &lt;script&gt;" in text
    for said in ("300 complete, 1 failed", "no record", "Angstrom", "and 4 more", "../pages/one.html"):
        assert said in text
    assert f"astra-dagster show {PLATE}/002" in text
    assert f"astra-dagster show {PLATE}/001" not in text
    assert "http" not in text.replace("http://ui", "").replace("http://www.w3.org/2000/svg", "").replace(
        "http-equiv", ""
    )


def test_the_list_has_the_last_night_first(tmp_path: Path) -> None:
    for name in ("56000", "56001"):
        (tmp_path / f"{name}.html").touch()
    write_list(tmp_path)
    write_list(tmp_path)
    text = (tmp_path / "index.html").read_text()
    assert text.index("56001.html") < text.index("56000.html")
    assert "index.html" not in text


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_a_browser_draws_the_plate(night: Night, tmp_path: Path) -> None:
    write_page(tmp_path / "56000.html", night, link, spectrum)
    with browser(tmp_path.as_uri(), (1200, 900), tmp_path / "failed.png") as page:
        said: list[str] = []
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto((tmp_path / "56000.html").as_uri())
        dots = page.locator("#plates circle")
        assert dots.count() == 300
        assert page.locator("#plates circle[stroke='#d55e00']").count() == 2  # those far from the rest
        assert page.locator("#plates circle[fill='none']").count() == 1  # the missing value
        assert page.locator("#plates a").first.get_attribute("href") == link("ap_visit_snr", f"{PLATE}/001")
        east = [float(str(dots.nth(i).get_attribute("cx"))) for i in (0, 1)]
        first, second = (one.ra for one in night.tasks[0].plates[0].positions[:2])
        assert (east[0] > east[1]) == (first < second)  # east is to the left
        page.select_option("#what", label="ap_visit_snr: depth")
        assert page.locator("#plates circle[fill='none']").count() == 0
        assert "depth 0.5" in str(page.locator("#plates figcaption").text_content())
        assert said == []


@pytest.mark.parametrize(
    ("value", "said"),
    [(11632.0, "11632"), (-123456.7, "-123457"), (84.0712, "84.07"), (9999.4, "9999"), (2e12, "2e+12")],
)
def test_numbers_are_short_and_counts_whole(value: float, said: str) -> None:
    assert say(value) == said
