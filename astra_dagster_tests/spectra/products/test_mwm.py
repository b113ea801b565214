"""The reader of mwmStar and mwmVisit files: against astropy, on files that follow the data model."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from astra_dagster.errors import SpectrumFileError
from astra_dagster.spectra.batch import FLUX_UNIT
from astra_dagster.spectra.products.mwm import TABLES, read_mwm
from astra_dagster_tests.spectra.synthetic import SPECTROGRAPHS, write_mwm

COLUMNS = ("sdss_id", "telescope", "mjd", "min_mjd", "max_mjd", "snr", "v_rad", "in_stack")


def check_against_astropy(path: Path, instrument: str) -> None:
    spectra = read_mwm(path, bitmask=True, instrument=instrument)
    with fits.open(path, memmap=False) as hdus:
        tables = [hdus[i].data for i in TABLES[instrument] if len(hdus[i].data)]
    flux, ivar, flags = (np.concatenate([table[name] for table in tables]) for name in ("flux", "ivar", "pixel_flags"))
    first, step, pixels = SPECTROGRAPHS[instrument]
    assert spectra.flux.shape == flux.shape == (sum(len(table) for table in tables), pixels)
    assert spectra.unit == FLUX_UNIT
    np.testing.assert_array_equal(spectra.flux, flux)
    np.testing.assert_array_equal(spectra.wavelength, 10 ** (first + step * np.arange(pixels)))
    np.testing.assert_array_equal(spectra.bitmask, flags)
    bad = ~((ivar > 0) & np.isfinite(ivar) & np.isfinite(flux))
    np.testing.assert_array_equal(spectra.bad, bad)
    np.testing.assert_array_equal(spectra.ivar, np.where(bad, 0, ivar.astype(float)))
    assert spectra.bitmask.dtype == np.int64
    assert {array.dtype for array in (spectra.flux, spectra.ivar, spectra.wavelength)} == {np.dtype(float)}
    assert [name for name, _, _ in spectra.chips] == (["all"] if instrument == "BOSS" else ["blue", "green", "red"])
    if "wavelength" in tables[0].names:
        np.testing.assert_allclose(spectra.wavelength, tables[0]["wavelength"][0], rtol=1e-7)

    assert spectra.meta["instrument"] == (instrument,) * len(flux)
    for name in COLUMNS:
        if name not in tables[0].names:
            assert name not in spectra.meta
            continue
        expected = np.concatenate([table[name] for table in tables]).tolist()
        assert list(spectra.meta[name]) == [None if value != value else value for value in expected]
    objects = [table["obj"] for table in tables if "obj" in table.names]
    assert list(spectra.meta["object"]) == (np.concatenate(objects).tolist() if objects else [None] * len(flux))
    values = {type(value) for values in spectra.meta.values() for value in values}
    assert values <= {str, int, float, bool, type(None)}


@pytest.mark.parametrize("star", [True, False])
@pytest.mark.parametrize("flags", ["E", "J", "K"])
@pytest.mark.parametrize("rows", [(1, 0, 0, 0), (0, 0, 0, 2), (0, 0, 3, 2), (2, 1, 0, 0), (1, 2, 3, 4)])
def test_files(star: bool, flags: str, rows: tuple[int, ...], tmp_path: Path) -> None:
    path = write_mwm(tmp_path / "mwm.fits", rows, star=star, flags=flags)
    there = [name for name, indices in TABLES.items() if any(rows[i - 1] for i in indices)]
    for instrument in there:
        check_against_astropy(path, instrument)
    if len(there) == 1:
        spectra = read_mwm(path)
        assert spectra.meta["instrument"] == (there[0],) * sum(rows)
        assert spectra.meta == read_mwm(path, instrument=there[0].lower()).meta


def test_options(tmp_path: Path) -> None:
    path = write_mwm(tmp_path / "mwmStar.fits", (0, 0, 1, 1))
    plain, full = read_mwm(path), read_mwm(path, wavelength=False, bitmask=True)
    assert plain.bitmask is None
    assert full.wavelength is None
    np.testing.assert_array_equal(plain.bad, full.bad)
    assert plain.meta == full.meta


def test_which_instrument(tmp_path: Path) -> None:
    both = write_mwm(tmp_path / "both.fits", (1, 0, 0, 1))
    with pytest.raises(SpectrumFileError, match=r"has spectra of both BOSS and APOGEE .*; choose one with instrument="):
        read_mwm(both)
    with pytest.raises(SpectrumFileError, match=r"has no MANGA spectra .*; instruments are BOSS and APOGEE"):
        read_mwm(both, instrument="MaNGA")
    none = write_mwm(tmp_path / "none.fits", (0, 0, 0, 0))
    with pytest.raises(SpectrumFileError, match="has no spectra") as error:
        read_mwm(none)
    assert "choose" not in str(error.value)
    one = write_mwm(tmp_path / "one.fits", (1, 0, 0, 0))
    with pytest.raises(SpectrumFileError, match="has no APOGEE spectra"):
        read_mwm(one, instrument="APOGEE")


def test_one_bad_telescope_spoils_not_the_other(tmp_path: Path) -> None:
    path = write_mwm(tmp_path / "mwmVisit.fits", (0, 0, 1, 2), star=False)
    with fits.open(path, mode="update", memmap=False) as hdus:
        hdus[3].data["ivar"][:] = 0
    spectra = read_mwm(path)
    assert spectra.bad.all(axis=1).tolist() == [True, False, False]
    with fits.open(path, mode="update", memmap=False) as hdus:
        hdus[4].data["ivar"][:] = np.nan
    assert read_mwm(path).bad.all()


def test_a_table_without_name(tmp_path: Path) -> None:
    path = write_mwm(tmp_path / "mwmStar.fits", (0, 0, 1, 0))
    fits.delval(path, "EXTNAME", ext=3)
    assert read_mwm(path).meta["instrument"] == ("APOGEE",)


@pytest.mark.parametrize(
    ("card", "value"),
    [
        ("CRVAL", 0.0),
        ("CRVAL", 4.5),
        ("CRVAL", "x"),
        ("CDELT", 0.0),
        ("CDELT", -6e-6),
        ("CDELT", 6e-86),
        ("CDELT", 6e-5),
    ],
)
@pytest.mark.parametrize("star", [True, False])
def test_grids(card: str, value: object, star: bool, tmp_path: Path) -> None:
    path = write_mwm(tmp_path / "mwm.fits", (0, 0, 0, 1), star=star)
    fits.setval(path, card, value=value, ext=4)
    with pytest.raises(SpectrumFileError, match=r"HDU 4 \(APOGEE/LCO spectra\) has (the grid|no usable number)"):
        read_mwm(path)


def test_a_wavelength_column_of_another_grid(tmp_path: Path) -> None:
    path = write_mwm(tmp_path / "mwmStar.fits", (0, 0, 1, 0))
    for wrong in (np.nan, np.inf, 5000):
        with fits.open(path, mode="update", memmap=False) as hdus:
            hdus[3].data["wavelength"][0, 7] = wrong
        with pytest.raises(SpectrumFileError, match="wavelengths that are not those of its header"):
            read_mwm(path)


def test_flags_that_are_no_integers(tmp_path: Path) -> None:
    path = write_mwm(tmp_path / "mwmStar.fits", (0, 0, 1, 0))
    with fits.open(path, mode="update", memmap=False) as hdus:
        hdus[3].data["pixel_flags"][0, :4] = np.nan, np.inf, -np.inf, 3
    assert read_mwm(path, bitmask=True).bitmask[0, :4].tolist() == [0, 0, 0, 3]


def test_spectra_without_pixels(tmp_path: Path) -> None:
    path = write_mwm(tmp_path / "mwmStar.fits", (0, 0, 1, 0))
    with fits.open(path, memmap=False) as hdus:
        table = fits.BinTableHDU.from_columns(
            [fits.Column("sdss_id", "K", array=[1]), fits.Column("flux", "0E"), fits.Column("ivar", "0E")]
        )
        table.header.update(CRVAL=4.179, CDELT=6e-6)
        hdus[3] = table
        hdus.writeto(path, overwrite=True)
    with pytest.raises(SpectrumFileError, match=r"HDU 3 \(APOGEE spectra\) has a column flux of shape \(0,\)"):
        read_mwm(path)
