"""The apVisit reader: against astropy, on real and synthetic files."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from astra_dagster.errors import SpectrumFileError
from astra_dagster.spectra.batch import FLUX_UNIT, stack
from astra_dagster.spectra.products.ap_visit import read_ap_visit
from astra_dagster_tests.mirrors import find_real
from astra_dagster_tests.spectra.synthetic import write_ap_visit

VISIT = "dr17/apogee/spectro/redux/dr17/visit/apo25m/120+12/5226/56000/apVisit-dr17-5226-56000-{:03d}.fits"
CARDS = {
    "object": "OBJID",
    "telescope": "TELESCOP",
    "field": "FIELD",
    "location": "LOCID",
    "plate": "PLATE",
    "mjd": "MJD5",
    "fibre": "FIBERID",
    "ra": "RA",
    "dec": "DEC",
    "snr": "SNR",
    "starflag": "STARFLAG",
    "v_observed": "VRAD",
    "v_barycentric": "BC",
    "v_helio": "VHELIO",
}


def check_against_astropy(path: Path) -> None:
    spectrum = read_ap_visit(path, bitmask=True)
    with fits.open(path, memmap=False) as hdus:
        header = hdus[0].header
        flux, error, mask, wavelength = (hdus[i].data for i in (1, 2, 3, 4))
    order = np.argsort(wavelength.ravel(), kind="stable")
    assert len(spectrum) == 1
    assert spectrum.unit == FLUX_UNIT
    assert spectrum.continuum is None
    np.testing.assert_array_equal(spectrum.flux[0], flux.ravel()[order])
    np.testing.assert_array_equal(spectrum.error[0], error.ravel()[order])
    np.testing.assert_array_equal(spectrum.wavelength, wavelength.ravel()[order][None])
    np.testing.assert_array_equal(spectrum.bitmask, mask.ravel()[order][None])
    assert np.all(np.diff(spectrum.wavelength) > 0)
    bad = ((mask & 16639) != 0) | (error >= 1e10) | ~np.isfinite(error) | ~np.isfinite(flux) | (error <= 0)
    np.testing.assert_array_equal(spectrum.bad[0], bad.ravel()[order])
    np.testing.assert_array_equal(spectrum.ivar == 0, spectrum.bad)
    good = ~spectrum.bad
    np.testing.assert_array_equal(spectrum.ivar[good], 1 / spectrum.error[good] ** 2)
    assert {array.dtype for array in (spectrum.flux, spectrum.error, spectrum.ivar, spectrum.wavelength)} == {
        np.dtype(float)
    }
    assert spectrum.bad.dtype == bool
    assert spectrum.bitmask.dtype == np.int64
    for row, chip in enumerate(("red", "green", "blue")):
        np.testing.assert_array_equal(spectrum.flux[0, spectrum.chip(chip)], flux[row, ::-1])

    assert spectrum.meta.keys() == {"frame", *CARDS}
    assert spectrum.meta["frame"] == ("TOPOCENT",)
    for name, card in CARDS.items():
        (value,), expected = spectrum.meta[name], header.get(card)
        assert value == (expected.strip() if isinstance(expected, str) else expected), name
        assert type(value) in (str, int, float, type(None))
    # The header has the median over the green chip, bad pixels included.
    green = spectrum.chip("green")
    assert np.median(spectrum.flux[0, green] / spectrum.error[0, green]) == pytest.approx(header["SNR"], rel=1e-3)


def test_real_files(real_mirrors: list[Path]) -> None:
    for path in find_real(real_mirrors, "apVisit"):
        check_against_astropy(path)
        meta = read_ap_visit(path).meta
        (v_rad,), (correction,), (v_helio,) = meta["v_observed"], meta["v_barycentric"], meta["v_helio"]
        assert v_rad + correction == pytest.approx(v_helio, abs=1e-3)


def test_synthetic_files(synthetic: Path) -> None:
    paths = sorted(synthetic.rglob("a?Visit*.fits"))
    assert len(paths) == 18
    for path in paths:
        check_against_astropy(path)
    assert {read_ap_visit(path).flux.shape for path in paths} == {(1, 12288), (1, 6144)}


def test_options(synthetic: Path) -> None:
    path = synthetic / VISIT.format(1)
    plain, full = read_ap_visit(path), read_ap_visit(path, wavelength=False, bitmask=True)
    assert plain.bitmask is None
    assert full.wavelength is None
    assert full.bitmask is not None
    np.testing.assert_array_equal(plain.bad, full.bad)
    np.testing.assert_array_equal(plain.flux, full.flux)
    assert plain.meta == full.meta


def test_leaves_no_file_open(synthetic: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in synthetic.rglob("a?Visit*.fits"):
        read_ap_visit(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_arrays_are_read_only_and_stacked(synthetic: Path) -> None:
    spectrum = read_ap_visit(synthetic / VISIT.format(1))
    for array in (spectrum.flux, spectrum.ivar, spectrum.bad, spectrum.error, spectrum.wavelength):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 1
    with pytest.raises(KeyError, match="no chip 'violet', but blue, green, red"):
        spectrum.chip("violet")
    both = stack([spectrum, read_ap_visit(synthetic / VISIT.format(2))])
    assert len(both) == 2
    np.testing.assert_array_equal(both.flux[0], spectrum.flux[0])
    with pytest.raises(ValueError, match="the same chips"):
        stack([spectrum, read_ap_visit(synthetic / VISIT.format(8))])


@pytest.mark.parametrize("bit", range(15))
def test_bits_of_the_mask(bit: int, tmp_path: Path) -> None:
    path = write_ap_visit(tmp_path, dithered=False)
    with fits.open(path, mode="update", memmap=False) as hdus:
        hdus[2].data[:] = 1
        hdus[3].data[:] = 0
        hdus[3].data[0, 5] = 1 << bit
    spectrum = read_ap_visit(path, bitmask=True)
    assert spectrum.bad.sum() == (bit < 8 or bit == 14)
    assert spectrum.bitmask[0, -6] == 1 << bit


@pytest.mark.parametrize("error", [1e10, 3e38, np.inf, np.nan, 0, -1, -np.inf])
def test_errors_that_make_a_pixel_bad(error: float, tmp_path: Path) -> None:
    path = write_ap_visit(tmp_path, dithered=False)
    with fits.open(path, mode="update", memmap=False) as hdus:
        hdus[2].data[:] = 1
        hdus[3].data[:] = 0
        hdus[2].data[2, 7] = error
        hdus[2].data[2, 8] = 9.9e9
        hdus[1].data[2, 9] = np.inf
    spectrum = read_ap_visit(path)
    assert np.flatnonzero(spectrum.bad).tolist() == [2048 - 10, 2048 - 8]
    assert np.flatnonzero(spectrum.ivar == 0).tolist() == [2048 - 10, 2048 - 8]


@pytest.mark.parametrize("code", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8"])
def test_a_mask_of_another_integer_type(code: str, tmp_path: Path) -> None:
    path = write_ap_visit(tmp_path, dithered=False)
    with fits.open(path, mode="update", memmap=False) as hdus:
        hdus[3].data &= 127
    expected = read_ap_visit(path, bitmask=True)
    assert expected.bitmask.any()
    with fits.open(path, memmap=False) as hdus:
        hdus[3] = fits.ImageHDU(hdus[3].data.astype(code))
        hdus.writeto(path, overwrite=True)
    found = read_ap_visit(path, bitmask=True)
    np.testing.assert_array_equal(found.bitmask, expected.bitmask)
    np.testing.assert_array_equal(found.bad, expected.bad)


def test_chips_are_not_reordered(tmp_path: Path) -> None:
    """A file with another order of chips or pixels has no increasing grid, and says so."""
    path = write_ap_visit(tmp_path, dithered=False)
    with fits.open(path, memmap=False) as hdus:
        for order in ((slice(None, None, -1),), (slice(None), slice(None, None, -1)), ([0, 0, 2],)):
            wavelength = fits.ImageHDU(np.ascontiguousarray(hdus[4].data[order]))
            other = tmp_path / "other.fits"
            fits.HDUList([*hdus[:4], wavelength]).writeto(other, overwrite=True)
            with pytest.raises(SpectrumFileError, match=r"HDU 4 \(wavelength\) is not one increasing grid"):
                read_ap_visit(other)
            read_ap_visit(other, wavelength=False)
