"""The readers of apStar and aspcapStar files: against astropy, on real and synthetic files."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from astra_dagster.demo import APSTAR_WAVELENGTH
from astra_dagster.errors import SpectrumFileError
from astra_dagster.spectra.batch import FLUX_UNIT
from astra_dagster.spectra.products.ap_star import COMBINED, read_ap_star, read_aspcap_star
from astra_dagster_tests.mirrors import find_real
from astra_dagster_tests.spectra.synthetic import write_ap_star, write_ap_star_dr17, write_aspcap_star

CARDS = {
    "object": "OBJID",
    "telescope": "TELESCOP",
    "field": "FIELD",
    "location": "LOCID",
    "healpix": "HEALPIX",
    "ra": "RA",
    "dec": "DEC",
    "visits": "NVISITS",
}
VISIT_CARDS = {"snr": "SNRVIS{}", "v_helio": "VHELIO{}", "starflag": "FLAG{}", "fibre": "FIBER{}", "jd": "JD{}"}


def check_against_astropy(path: Path) -> None:
    stars = read_ap_star(path, bitmask=True)
    with fits.open(path, memmap=False) as hdus:
        header = hdus[0].header
        flux, error, mask = (np.atleast_2d(hdus[i].data) for i in (1, 2, 3))
    assert stars.flux.shape == flux.shape
    assert stars.unit == FLUX_UNIT
    np.testing.assert_array_equal(stars.flux, flux)
    np.testing.assert_array_equal(stars.error, error)
    np.testing.assert_array_equal(stars.bitmask, mask)
    np.testing.assert_array_equal(stars.wavelength, APSTAR_WAVELENGTH)
    with np.errstate(invalid="ignore"):
        bad = ((mask & 16639) != 0) | (error >= 1e10) | ~np.isfinite(error) | ~np.isfinite(flux) | (error <= 0)
    np.testing.assert_array_equal(stars.bad, bad)
    np.testing.assert_array_equal(stars.ivar == 0, stars.bad)
    np.testing.assert_array_equal(stars.ivar[~bad], 1 / stars.error[~bad] ** 2)
    assert {array.dtype for array in (stars.flux, stars.error, stars.ivar, stars.wavelength)} == {np.dtype(float)}
    assert stars.bitmask.dtype == np.int64
    # The header has the median of the combined spectrum, bad pixels included.
    with np.errstate(invalid="ignore", divide="ignore"):
        assert np.nanmedian(stars.flux[0] / stars.error[0]) == pytest.approx(header["SNR"], rel=1e-3)
    check_meta(stars.meta, header, len(flux))


def check_meta(meta: dict[str, tuple[object, ...]], header: fits.Header, rows: int) -> None:
    visits = header["NVISITS"]
    assert rows == (visits + 2 if visits > 1 else rows)
    assert meta["row"] == (*COMBINED, *(f"visit {i}" for i in range(1, visits + 1)))[:rows]
    for name, card in CARDS.items():
        assert meta[name] == (header.get(card),) * rows
    for name, card in VISIT_CARDS.items():
        expected = [header.get(card.format(i)) for i in range(1, rows - 1)]
        assert list(meta[name][2:]) == expected
    combined = min(rows, 2)
    assert meta["snr"][:combined] == (header["SNR"], None)[:combined]
    assert meta["v_helio"][:combined] == (header.get("VHELIO"),) * combined
    assert meta["frame"] == ("SOURCE",) * rows
    assert meta["starflag"][:combined] == (header.get("STARFLAG"),) * combined
    assert meta["fibre"][:combined] == meta["jd"][:combined] == (None,) * combined
    assert meta.keys() == {"row", "frame", *CARDS, *VISIT_CARDS}
    assert {len(values) for values in meta.values()} == {rows}
    assert {type(value) for values in meta.values() for value in values} <= {str, int, float, type(None)}


def test_real_files(real_mirrors: list[Path]) -> None:
    for path in find_real(real_mirrors, "apStar"):
        check_against_astropy(path)


def test_synthetic_files(synthetic: Path) -> None:
    paths = sorted(synthetic.rglob("a*Star*.fits"))
    assert len(paths) == 4
    for path in paths:
        check_against_astropy(path)
    assert {len(read_ap_star(path)) for path in paths} == {2, 4, 5, 6}


@pytest.mark.parametrize(("visits", "rows"), [(1, 1), (2, 4), (3, 5), (9, 11)])
def test_files_of_dr12_to_dr16(visits: int, rows: int, tmp_path: Path) -> None:
    path = write_ap_star(tmp_path / "apStar.fits", visits)
    check_against_astropy(path)
    stars = read_ap_star(path)
    assert stars.flux.shape == (rows, 8575)
    assert set(np.flatnonzero(stars.bad[0])) > set(range(1000, 1008)) | set(range(2000, 2005))
    with fits.open(path) as hdus:
        assert len(hdus) == 10
        assert hdus[1].data.ndim == (1 if visits == 1 else 2)


def test_one_visit_of_dr17_has_an_empty_second_row(tmp_path: Path) -> None:
    path = write_ap_star_dr17(tmp_path, 1)
    check_against_astropy(path)
    stars = read_ap_star(path)
    assert stars.flux.shape == (2, 8575)
    assert stars.bad[1].all()
    assert not stars.bad[0].all()
    assert stars.meta["row"] == COMBINED


def test_options(tmp_path: Path) -> None:
    path = write_ap_star(tmp_path / "apStar.fits", 2)
    plain, full = read_ap_star(path), read_ap_star(path, wavelength=False, bitmask=True)
    assert plain.bitmask is None
    assert full.wavelength is None
    np.testing.assert_array_equal(plain.bad, full.bad)
    assert plain.meta == full.meta


def test_chips_are_the_pixels_of_the_detectors(tmp_path: Path) -> None:
    stars = read_ap_star(write_ap_star(tmp_path / "apStar.fits", 1))
    assert [name for name, _, _ in stars.chips] == ["blue", "green", "red"]
    limits = {"blue": (15143, 15810), "green": (15857, 16435), "red": (16473, 16954)}  # in an apVisit file
    for name, (low, high) in limits.items():
        wavelength = stars.wavelength[stars.chip(name)]
        assert low - 15 < wavelength[0] < low + 15
        assert high - 15 < wavelength[-1] < high + 15


@pytest.mark.parametrize(
    ("card", "value"),
    [("CDELT1", 6e-86), ("CDELT1", -6e-6), ("CDELT1", 0.0), ("CDELT1", 2e-6), ("CRVAL1", 4179.0), ("CRVAL1", 4.178)],
)
def test_a_grid_that_is_none(card: str, value: float, tmp_path: Path) -> None:
    for path, read in (
        (write_ap_star(tmp_path / "apStar.fits", 1), read_ap_star),
        (write_aspcap_star(tmp_path / "aspcapStar.fits"), read_aspcap_star),
    ):
        # By hand: astropy refuses a file that has a card which is not legal.
        known = {"CRVAL1": 4.179, "CDELT1": 6e-6}[card]
        old, new = (str(fits.Card(card, number)).encode() for number in (known, value))
        path.write_bytes(path.read_bytes().replace(old, new))
        with pytest.raises(SpectrumFileError, match=r"HDU 1 \(wavelength\) has the grid .* where APOGEE's is"):
            read(path)


def test_files_that_do_not_tell_their_grid(tmp_path: Path) -> None:
    path = write_ap_star(tmp_path / "apStar.fits", 1)
    fits.delval(path, "CRVAL1", ext=1)
    np.testing.assert_array_equal(read_ap_star(path).wavelength, APSTAR_WAVELENGTH)


@pytest.mark.parametrize("gap", [0, 10])
def test_aspcap_star(gap: float, tmp_path: Path) -> None:
    path = write_aspcap_star(tmp_path / "aspcapStar.fits", gap)
    star = read_aspcap_star(path, bitmask=True)
    with fits.open(path, memmap=False) as hdus:
        assert len(hdus) == 5
        with pytest.raises(fits.VerifyError):
            hdus[0].header["AKWISE"]
        flux, error = hdus[1].data, hdus[2].data
    np.testing.assert_array_equal(star.flux, flux[None])
    np.testing.assert_array_equal(star.error, error[None])
    np.testing.assert_array_equal(star.wavelength, APSTAR_WAVELENGTH)
    np.testing.assert_array_equal(star.bad, ((error <= 0) | (error >= 10))[None])
    np.testing.assert_array_equal(star.ivar == 0, star.bad)
    assert star.bad[0, flux == 0].all()
    assert star.bad[0, 5000:5010].all()
    assert not star.bad.all()
    assert star.unit == ""
    assert star.bitmask is None
    assert {name: value for name, (value,) in star.meta.items() if value is not None} == {
        "frame": "SOURCE",
        "object": "2M00000032+5737103",
        "field": "120+12",
    }
    assert read_aspcap_star(path, wavelength=False).wavelength is None


def test_an_ap_star_of_one_visit_is_no_aspcap_star(tmp_path: Path) -> None:
    path = write_ap_star(tmp_path / "apStar.fits", 1)
    with pytest.raises(SpectrumFileError, match=r"HDU 3 \(best-fitting model\) holds numbers of type int16"):
        read_aspcap_star(path)


def test_an_aspcap_star_of_two_rows(tmp_path: Path) -> None:
    path = tmp_path / "aspcapStar.fits"
    fits.HDUList([fits.PrimaryHDU(), *(fits.ImageHDU(np.ones((2, 8575), "f4")) for _ in range(3))]).writeto(path)
    with pytest.raises(SpectrumFileError, match=r"HDU 1 \(normalised flux\) has shape \(2, 8575\), not \(1, 8575\)"):
        read_aspcap_star(path)
