"""Reading with nothing but a path: every file that we know is read as its product, in specutils too."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import specutils
from astropy.io import fits
from astropy.utils.exceptions import AstropyDeprecationWarning
from specutils import Spectrum, SpectrumList

import astra_dagster.spectra.loaders  # noqa: F401 (registers ours)
from astra_dagster.errors import CutShortError, OtherProductError
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.spectra.products.spec import SPEC
from astra_dagster.spectra.readers import read_spectra, recognise
from astra_dagster_tests.mirrors import NAMES, find_some
from astra_dagster_tests.spectra.loaded import Files
from astra_dagster_tests.spectra.synthetic import compressed

FAMILIES = dict.fromkeys(SPEC, "spec")


def read_with_astropy(path: Path, product: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Flux, inverse variance, wavelength and mask as the file has them, rows by pixels, wavelength increasing."""
    with fits.open(path, memmap=False) as hdus, np.errstate(divide="ignore", invalid="ignore"):
        if product in FAMILIES or product == "spec":
            table = hdus[1].data
            flux, ivar, loglam = (np.asarray(table[name], float)[None] for name in ("flux", "ivar", "loglam"))
            return flux, ivar, 10**loglam, table["and_mask"][None]
        flux, error = (np.atleast_2d(hdus[i].data).astype(float) for i in (1, 2))
        if product == "apVisit":
            mask, grid = hdus[3].data, hdus[4].data.astype(float)
            flux, error, mask, grid = (array.reshape(1, -1)[:, ::-1] for array in (flux, error, mask, grid))
            return flux, 1 / error**2, grid, mask
        header = hdus[1].header
        mask = np.atleast_2d(hdus[3].data) if product == "apStar" else None
        return flux, 1 / error**2, 10 ** (header["CRVAL1"] + header["CDELT1"] * np.arange(flux.shape[1])), mask


def check_like_astropy(path: Path, product: str) -> SpectrumBatch:
    """What is read without a product is what astropy reads: the same numbers, to the last bit."""
    batch = read_spectra(path, bitmask=True)
    flux, ivar, grid, mask = read_with_astropy(path, product)
    np.testing.assert_array_equal(batch.flux, flux)
    np.testing.assert_array_equal(batch.ivar, np.where(batch.bad, 0, ivar))
    np.testing.assert_array_equal(np.ravel(batch.wavelength), grid.ravel())
    if mask is None:
        assert batch.bitmask is None
    else:
        np.testing.assert_array_equal(batch.bitmask, mask)
    return batch


def check_like_batch(path: Path, batch: SpectrumBatch) -> None:
    """specutils reads the same spectra as we do, whole and as a list."""
    whole, rows = Spectrum.read(path), SpectrumList.read(str(path))
    assert len(rows) == len(batch)
    for i, one in enumerate([whole, *rows]):
        row = slice(None) if i == 0 and len(batch) > 1 else max(i - 1, 0)
        np.testing.assert_array_equal(one.flux.value, batch.flux[row])
        np.testing.assert_array_equal(one.uncertainty.array, batch.ivar[row])
        np.testing.assert_array_equal(one.mask, batch.bad[row])
        np.testing.assert_array_equal(one.spectral_axis.value, np.ravel(batch.wavelength))


def test_every_real_file_is_read_as_what_it_is(real_mirrors: list[Path]) -> None:
    """By name and headers, and by headers alone."""
    count = 0
    for root in real_mirrors:
        for name, pattern in NAMES.items():
            for path in sorted(root.rglob(pattern)):
                found = recognise(path)
                assert FAMILIES.get(found.choose(), found.choose()) == name, path
                assert found.by_headers == found.by_name == (found.choose(),), path
                check_like_astropy(path, name)
                count += 1
    if count == 0:
        pytest.skip("the mirrors of real files hold no file of spectra")


def test_specutils_reads_real_files_so(real_mirrors: list[Path]) -> None:
    for name, paths in find_some(real_mirrors).items():
        for path in paths[:2]:
            check_like_batch(path, check_like_astropy(path, name))


@pytest.mark.parametrize("product", ["apVisit", "apStar", "apStar of one visit", "aspcapStar", "spec"])
def test_specutils_reads_files_of_each_product_so(product: str, synthetic_files: Files) -> None:
    path = synthetic_files[product][-1]
    check_like_batch(path, check_like_astropy(path, product.partition(" ")[0]))


def test_a_list_has_the_spectra_of_both_spectrographs(synthetic_files: Files) -> None:
    (path,) = synthetic_files["mwmStar"]
    for form in (None, "astra mwmStar"):
        rows = SpectrumList.read(path, format=form)
        assert [spectrum.meta["instrument"] for spectrum in rows] == ["BOSS", "APOGEE", "APOGEE"]
        assert [spectrum.shape for spectrum in rows] == [(4648,), (8575,), (8575,)]
        assert len(SpectrumList.read(path, format=form, instrument="APOGEE")) == 2
    assert Spectrum.read(path, instrument="BOSS").shape == (4648,)
    assert SpectrumList.read(synthetic_files["mwmVisit"][0])[2].meta["mjd"] == 58152


@pytest.mark.skipif(not hasattr(specutils, "Spectrum1D"), reason="this specutils has no Spectrum1D any more")
def test_the_old_name_of_the_class(synthetic_files: Files, tmp_path: Path) -> None:
    """It reads as the new one does, and other files as before."""
    for product in ("apVisit", "apStar", "spec"):
        path = synthetic_files[product][-1]
        with pytest.warns(AstropyDeprecationWarning):
            old = specutils.Spectrum1D.read(path)
        assert type(old) is specutils.Spectrum1D
        batch = read_spectra(path)
        np.testing.assert_array_equal(np.atleast_2d(old.flux.value), batch.flux)
        np.testing.assert_array_equal(np.atleast_2d(old.uncertainty.array), batch.ivar)
        np.testing.assert_array_equal(np.atleast_2d(old.mask), batch.bad)
    Spectrum(flux=old.flux, spectral_axis=old.spectral_axis).write(tmp_path / "other.fits", format="tabular-fits")
    with pytest.warns(AstropyDeprecationWarning):
        other = specutils.Spectrum1D.read(tmp_path / "other.fits")
    np.testing.assert_array_equal(other.flux, old.flux)


def test_names_of_loaders_of_specutils_are_theirs(synthetic_files: Files) -> None:
    path = synthetic_files["apVisit"][0]
    assert Spectrum.read(path, format="APOGEE apVisit").mask is None
    assert Spectrum.read(path).mask is not None


def test_compressed_and_open_files(synthetic_files: Files) -> None:
    path = synthetic_files["apVisit"][0]
    batch = read_spectra(path)
    for suffix in (".gz", ".bz2"):
        packed = compressed(path, suffix)
        check_like_batch(packed, batch)
        packed.unlink()
    with path.open("rb") as stream:
        np.testing.assert_array_equal(Spectrum.read(stream).flux.value, batch.flux[0])


def test_a_file_of_ours_that_cannot_be_read_is_not_left_to_others(synthetic_files: Files, tmp_path: Path) -> None:
    """Loaders of specutils would make something of it."""
    cut = Path(shutil.copy(synthetic_files["apStar"][-1], tmp_path))
    cut.write_bytes(cut.read_bytes()[:-3000])
    with pytest.raises(CutShortError):
        Spectrum.read(cut)
    wrong = Path(shutil.copy(synthetic_files["mwmStar"][0], tmp_path / "mwmVisit-0.6.0-1.fits"))
    for kind in (Spectrum, SpectrumList):
        with pytest.raises(OtherProductError, match="its name is that of mwmVisit, its headers are those of mwmStar"):
            kind.read(wrong)
