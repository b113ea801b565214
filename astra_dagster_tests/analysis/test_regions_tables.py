"""The shipped tables of continuum regions: well formed, free of strong lines, and the pixels they were made from."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

Array = NDArray[np.float64]

MASK = Path(__file__).parents[3] / "shared" / "dr17_contmask.npy"
AP_STAR = 10 ** (4.179 + 6e-6 * np.arange(8575))
DETECTORS = ((246, 3274), (3585, 6080), (6344, 8335))

RYDBERG = 1.09677583e-3  # of hydrogen, per Angstrom
LINES = {  # Angstrom, vacuum
    "Balmer": 1 / (RYDBERG * (1 / 2**2 - 1 / np.arange(3.0, 60) ** 2)),
    "Paschen": 1 / (RYDBERG * (1 / 3**2 - 1 / np.arange(7.0, 60) ** 2)),
    "Ca II": (3934.77, 3969.59, 8500.35, 8544.44, 8664.52),
    "Mg b": (5168.76, 5174.12, 5185.04),
    "Na I": (5891.58, 5897.55, 8185.51, 8197.07),
    "K I": (7667.01, 7701.08),
    "O I": (7774.08, 7776.31, 7777.53, 8448.68),
    "Mg": (4482.46, 8809.18),
    "Ca I": (4227.92, 6104.41, 6123.91, 6163.88),
    "Fe I": (4046.95, 4064.74, 4072.89, 4272.96, 4326.98, 4384.77, 4405.99, 5271.01, 5329.52),
    "He I": (4027.34, 4472.75, 5877.23, 6679.99, 7067.15),
    "nebulae": (3727.09, 3729.88, 3869.86, 4960.29, 5008.24, 6549.86, 6585.27, 6718.29, 6732.68),
    "night sky": (5578.89, 6302.04, 6365.54),
}
BANDS = {  # Angstrom, vacuum
    "G band": (4301.21, 4316.21),
    "telluric B": (6868.89, 6945.92),
    "telluric A": (7596.09, 7702.12),
    "water 0.72": (7161.97, 7342.02),
    "water 0.82": (8122.23, 8352.29),
    "water 0.94": (8932.45, 9822.69),
}


def lines_of(name: str) -> list[str]:
    return (files("astra_dagster") / "analysis" / "regions" / name).read_text(encoding="ascii").splitlines()


def regions_of(name: str) -> Array:
    return np.array([[float(x) for x in line.split()] for line in lines_of(name) if not line.startswith("#")])


def chosen(regions: Array, wavelength: Array) -> NDArray[np.bool_]:
    start, end = regions.T
    return ((start <= wavelength[:, None]) & (wavelength[:, None] <= end)).any(axis=1)


@pytest.mark.parametrize(("name", "low", "high"), [("apogee.txt", 15100, 17000), ("optical.txt", 3650, 10300)])
def test_tables_are_well_formed(name: str, low: float, high: float) -> None:
    regions = regions_of(name)
    assert regions.shape[1] == 2
    assert (np.diff(regions.ravel()) > 0).all()
    assert regions[0, 0] >= low
    assert regions[-1, 1] <= high
    assert all(line.isascii() and len(line) <= 120 and line == line.strip() for line in lines_of(name))


@pytest.mark.parametrize("name", ["apogee.txt", "optical.txt"])
def test_tables_say_what_they_are(name: str) -> None:
    comment = " ".join(line for line in lines_of(name) if line.startswith("#")).lower()
    for word in ("angstrom", "frame: rest frame", "medium: vacuum", "source"):
        assert word in comment


@pytest.mark.parametrize("species", LINES)
def test_no_optical_window_comes_near_a_strong_line(species: str) -> None:
    start, end = regions_of("optical.txt").T
    for line in LINES[species]:
        near = (start - 5 < line) & (line < end + 5)
        assert not near.any(), (line, start[near], end[near])


@pytest.mark.parametrize("band", BANDS)
def test_no_optical_window_touches_a_band(band: str) -> None:
    start, end = regions_of("optical.txt").T
    low, high = BANDS[band]
    assert not ((start < high) & (low < end)).any()


def test_optical_windows_leave_no_wide_gap_but_that_of_water() -> None:
    start, end = regions_of("optical.txt").T
    wide = start[1:] - end[:-1] > 450
    (low,), (high,) = end[:-1][wide], start[1:][wide]
    assert low < BANDS["water 0.94"][0] < BANDS["water 0.94"][1] < high
    assert start[0] < 3900
    assert end[-1] > 10000
    assert (end - start >= 8).all()


def test_each_optical_window_has_a_source() -> None:
    lines = lines_of("optical.txt")
    first = next(i for i, line in enumerate(lines) if line.startswith("# source: "))
    header = "\n".join(lines[:first])
    assert all(line.startswith("#") for line in lines[:first])
    for line, following in zip(lines[first:], lines[first + 1 :], strict=False):
        if line.startswith("#"):
            assert following[0].isdigit()
            for source in line.removeprefix("# source: ").split(", ")[0].split(" and "):
                assert f"#   {source}" in header


def test_apogee_regions_choose_the_pixels_of_the_mask() -> None:
    regions = regions_of("apogee.txt")
    pixels = chosen(regions, AP_STAR)
    assert len(regions) == 318
    assert [pixels[low:high].sum() for low, high in DETECTORS] == [192, 138, 202]
    assert pixels.sum() == 532


def test_no_apogee_region_spans_two_detectors() -> None:
    start, end = regions_of("apogee.txt").T
    of_start = [(start > AP_STAR[low - 1]) & (start < AP_STAR[high]) for low, high in DETECTORS]
    of_end = [(end > AP_STAR[low - 1]) & (end < AP_STAR[high]) for low, high in DETECTORS]
    assert sum(of_start).all()
    np.testing.assert_array_equal(of_start, of_end)


@pytest.mark.skipif(not MASK.exists(), reason="the mask that the APOGEE table was made from is not kept here")
def test_apogee_regions_are_those_of_the_mask() -> None:
    expected = np.zeros(AP_STAR.size, bool)
    expected[np.r_[tuple(slice(*d) for d in DETECTORS)]] = np.load(MASK)
    np.testing.assert_array_equal(chosen(regions_of("apogee.txt"), AP_STAR), expected)
