"""The apVisit reader: against astropy, and against files that are not what they should be."""

import os
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from astra_dagster.errors import AstraError, InputMissingError, SpectrumFileError
from astra_dagster.spectra.ap_visit import read_ap_visit
from astra_dagster.spectra.batch import SpectrumBatch, stack

VISIT = "dr17/apogee/spectro/redux/dr17/visit/apo25m/120+12/5226/56000/apVisit-dr17-5226-56000-{:03d}.fits"


def check_against_astropy(path: Path) -> None:
    spectrum = read_ap_visit(path)
    with fits.open(path, memmap=False) as hdus:
        flux, error, mask, wavelength = (hdus[i].data for i in (1, 2, 3, 4))
    order = np.argsort(wavelength.ravel(), kind="stable")
    assert np.all(np.diff(wavelength.ravel()[::-1]) > 0)
    np.testing.assert_array_equal(spectrum.flux[0], flux.ravel()[order])
    np.testing.assert_array_equal(spectrum.error[0], error.ravel()[order])
    bad = ((mask & 16639) != 0) | (error >= 1e10) | ~np.isfinite(error) | ~np.isfinite(flux)
    np.testing.assert_array_equal(spectrum.bad[0], (bad | (error <= 0)).ravel()[order])
    assert spectrum.flux.dtype == spectrum.error.dtype == np.float64
    np.testing.assert_array_equal(spectrum.flux[0, spectrum.chip("green")], flux[1, ::-1])
    assert np.all(spectrum.ivar[spectrum.bad] == 0)
    good = ~spectrum.bad
    np.testing.assert_array_equal(spectrum.ivar[good], 1 / spectrum.error[good] ** 2)


def test_real_files(real: Path) -> None:
    paths = sorted(real.rglob("apVisit*.fits"))
    assert len(paths) == 36
    for path in paths:
        check_against_astropy(path)


def test_synthetic_files(synthetic: Path) -> None:
    paths = sorted(synthetic.rglob("a?Visit*.fits"))
    assert len(paths) == 18
    for path in paths:
        check_against_astropy(path)
    assert {read_ap_visit(path).flux.shape for path in paths} == {(1, 12288), (1, 6144)}


def test_leaves_no_file_open(synthetic: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in synthetic.rglob("a?Visit*.fits"):
        read_ap_visit(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_arrays_are_read_only_and_checked(synthetic: Path) -> None:
    spectrum = read_ap_visit(synthetic / VISIT.format(1))
    with pytest.raises(ValueError, match="read-only"):
        spectrum.flux[0, 0] = 1
    with pytest.raises(KeyError):
        spectrum.chip("violet")
    with pytest.raises(ValueError, match="one shape"):
        SpectrumBatch(np.ones((1, 2)), np.ones((1, 3)), np.zeros((1, 2), bool), ())
    both = stack([spectrum, read_ap_visit(synthetic / VISIT.format(2))])
    assert len(both) == 2
    np.testing.assert_array_equal(both.flux[0], spectrum.flux[0])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(b""), "not a readable FITS file"),
        (lambda path: path.write_bytes(b"x" * 100_000), "not a readable FITS file"),
        (lambda path: (path.unlink(), path.mkdir()), "a folder"),
        (lambda path: write(path, hdus=2), "HDU 2 .error. is missing"),
        (lambda path: write(path, shape=(3, 8575)), "has shape"),
        (lambda path: write(path, shape=(2, 4096)), "has shape"),
        (lambda path: write(path, shape=(12288,)), "has shape"),
        (lambda path: write(path, dtype="i2"), "no image of numbers"),
        (lambda path: write(path, error=1e10), "no good pixel"),
        (lambda path: write(path, error=np.nan), "no good pixel"),
        (lambda path: write(path, error=0), "no good pixel"),
    ],
)
def test_a_wrong_file_is_a_typed_error(damage: object, message: str, mirror: Path) -> None:
    path = mirror / VISIT.format(1)
    damage(path)  # type: ignore[operator]
    with pytest.raises(SpectrumFileError, match=message) as error:
        read_ap_visit(path)
    assert str(path) in str(error.value)


def write(path: Path, shape: tuple[int, ...] = (3, 4096), hdus: int = 4, dtype: str = "f4", error: float = 1.0) -> None:
    images = [np.ones(shape, dtype), np.full(shape, error, dtype), np.zeros(shape, "i2")][: hdus - 1]
    fits.HDUList([fits.PrimaryHDU(), *(fits.ImageHDU(image) for image in images)]).writeto(path, overwrite=True)


def test_a_missing_file_is_no_broken_file(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError):
        read_ap_visit(tmp_path / "apVisit.fits")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read(mirror: Path) -> None:
    path = mirror / VISIT.format(1)
    path.chmod(0)
    with pytest.raises(SpectrumFileError, match="permission denied"):
        read_ap_visit(path)


def test_truncated_at_every_structural_boundary(mirror: Path) -> None:
    path = mirror / VISIT.format(8)
    with fits.open(path, memmap=False) as hdus:
        needed = hdus[3]._data_offset + hdus[3].data.nbytes  # the mask is the last array that is read
        edges = sorted({place for hdu in hdus[:5] for place in (hdu._header_offset, hdu._data_offset)})
    whole = path.read_bytes()
    for edge in edges:
        for cut in (edge - 1, edge, edge + 1, edge + 80, edge + 2880):
            path.write_bytes(whole[: max(cut, 0)])
            if cut >= needed:
                read_ap_visit(path)
            else:
                with pytest.raises(SpectrumFileError):
                    read_ap_visit(path)


@given(data=st.data())
@settings(max_examples=60)
def test_flipped_bytes_give_a_spectrum_or_a_typed_error(synthetic: Path, tmp_path: Path, data: st.DataObject) -> None:
    contents = bytearray((synthetic / VISIT.format(8)).read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        # Headers are where a flipped byte changes the structure: the first blocks of the first HDUs.
        place = data.draw(st.sampled_from((0, 2880, 2880 + 2880 + 74880 - 2880)))
        contents[place + data.draw(st.integers(0, 2879))] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "apVisit.fits"
    path.write_bytes(contents)
    try:
        spectrum = read_ap_visit(path)
    except AstraError:
        return
    assert spectrum.flux.shape in ((1, 12288), (1, 6144))
