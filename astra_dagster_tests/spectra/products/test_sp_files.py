"""The readers of spPlate and spSpec files, compared with specutils' own, and with headers of real files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from specutils import Spectrum

from astra_dagster import product, read_spectra
from astra_dagster.arrays import AnyArray
from astra_dagster.errors import IdentityError, OtherProductError, SpectrumFileError
from astra_dagster.fits.reader import FitsFile
from astra_dagster.spectra import loaders  # noqa: F401  (registers them)
from astra_dagster.spectra.identity import check_identity
from astra_dagster.spectra.products.sp_plate import read_grid
from astra_dagster_tests.spectra.synthetic import write_sp_plate, write_sp_spec, write_spec


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    return write_sp_plate(tmp_path / "spPlate-0266-51602.fits")


@pytest.fixture
def single(tmp_path: Path) -> Path:
    return write_sp_spec(tmp_path / "spSpec-51609-0292-084.fit")


@pytest.mark.parametrize("run2d", ["26", "v5_13_2"])
def test_each_fibre_of_a_plate_is_a_row(run2d: str, tmp_path: Path) -> None:
    path = write_sp_plate(tmp_path / "spPlate-0266-51602.fits", run2d, fibres=4)
    batch = read_spectra(path, bitmask=True)
    np.testing.assert_array_equal(batch.flux, fits.getdata(path, 0))
    np.testing.assert_array_equal(batch.ivar, fits.getdata(path, 1))
    first = fits.getheader(path)["COEFF0"]
    np.testing.assert_allclose(np.log10(batch.wavelength), first + 1e-4 * np.arange(batch.flux.shape[1]), atol=1e-12)
    np.testing.assert_array_equal(batch.bad, batch.ivar == 0)
    np.testing.assert_array_equal(batch.bitmask, fits.getdata(path, 2))
    assert batch.meta["fibre"] == (1, 2, 3, 4)
    assert batch.meta["objtype"] == ("GALAXY", "SKY", "QSO", "GALAXY")
    assert batch.meta["object"][0] == "SDSS J094200.00-003000.0"
    assert (batch.meta["plate"], batch.meta["mjd"]) == ((266,) * 4, (51602,) * 4)
    assert batch.meta["run2d"] == ((run2d if run2d.startswith("v") else None),) * 4
    assert (batch.unit, batch.mask_name) == ("1e-17 erg / (Angstrom s cm2)", "SPPIXMASK")


@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")  # they take PLATEID for a card of coordinates
def test_the_spectrum_of_one_fibre(single: Path) -> None:
    batch = read_spectra(single, bitmask=True)
    theirs = Spectrum.read(str(single), format="SDSS-I/II spSpec")
    np.testing.assert_array_equal(batch.flux[0], theirs.flux.value)
    np.testing.assert_array_equal(batch.error[0], theirs.uncertainty.array)
    # Theirs are one pixel further than the SDSS says; see the test with real files below.
    np.testing.assert_allclose(batch.wavelength[1:], theirs.spectral_axis.to_value("Angstrom")[:-1], rtol=1e-9)
    np.testing.assert_array_equal(batch.bad, batch.error == 0)
    np.testing.assert_array_equal(batch.bitmask[0], fits.getdata(single)[3])
    said = {name: values[0] for name, values in batch.meta.items()}
    assert said == {
        "frame": "HELIOCEN",
        "object": "SDSS J094651.36-010228.6",
        "plate": 292,
        "mjd": 51609,
        "fibre": 84,
        "ra": 146.714,
        "dec": -1.0413,
        "class": "GALAXY",
        "z": 0.0213,
        "zwarning": 0,
    }


def test_specutils_reads_them_with_our_readers(single: Path, plate: Path) -> None:
    for path in (plate, single):
        batch, spectrum = read_spectra(path), Spectrum.read(path)
        np.testing.assert_array_equal(spectrum.flux.value, batch.flux.squeeze())
        assert spectrum.meta["frame"] == batch.to_spectrum().meta["frame"]


def test_one_of_sdss5_is_a_spec_file_with_a_plug_map(tmp_path: Path) -> None:
    data_id = product("spSpec").data_id("DR20", field=112360, mjd=60000, catalogid=27021598150202075)
    path = write_sp_spec(data_id.path(tmp_path), sdss5=True)
    batch = read_spectra(path)
    check_identity(batch, data_id.product, data_id.key, path)
    said = {name: values[0] for name, values in batch.meta.items()}
    assert (said["field"], said["mjd"], said["sdss_id"]) == (112360, 60000, 114999999)
    assert (said["ra"], said["dec"], said["class"]) == (148.5, 2.5, None)
    full = write_spec(tmp_path / "x.fits", full=True)
    np.testing.assert_array_equal(batch.flux, read_spectra(full).flux)
    with pytest.raises(OtherProductError, match=r"of specFull, not of spSpec: HDU 2 \(plug map\) is no"):
        read_spectra(full, "spSpec")
    with pytest.raises(OtherProductError, match="a file of spSpec, not of spPlate: HDU 4"):
        read_spectra(path, "spPlate")


@pytest.mark.parametrize("reject", [("NOPLUG",), ("BRIGHTSKY", "NOSKY")])
def test_bits_that_are_rejected(reject: tuple[str, ...], plate: Path, single: Path) -> None:
    for path in (plate, single):
        before, batch = read_spectra(path, bitmask=True), read_spectra(path, reject=reject)
        np.testing.assert_array_equal(batch.bad, before.bad | before.flagged(reject))
        assert batch.bad.sum() > before.bad.sum()


def test_a_plate_at_the_place_of_another(plate: Path, tmp_path: Path) -> None:
    data_id = product("spPlate").data_id("DR17", run2d="v5_13_2", plate=267, mjd=51602)
    with pytest.raises(IdentityError, match=r"its header has plate 266 \(PLATEID\), and the path plate 0267"):
        check_identity(read_spectra(plate), data_id.product, data_id.key, plate)


@pytest.mark.parametrize(
    ("cards", "match"),
    [
        ({"COEFF0": None}, r"HDU 0 \(wavelength\) has no numbers COEFF0 and COEFF1"),
        ({"COEFF1": 2e-4}, r"has wavelengths at steps of 0.0002 in log10, not 0.0001"),
        ({"COEFF0": 4.5}, "not between 2500 and 12000 Angstrom"),
    ],
)
def test_wavelengths_that_are_wrong(cards: dict[str, float | None], match: str, plate: Path, single: Path) -> None:
    for path, name in ((plate, "spPlate"), (single, "spSpec")):
        with fits.open(path, mode="update") as hdus:
            for card, value in cards.items():
                hdus[0].header[card] = value
        with pytest.raises(SpectrumFileError, match=match):
            read_spectra(path, name)


@pytest.mark.parametrize(
    ("index", "change", "match"),
    [
        (1, lambda data: data[:, 1:], r"HDU 1 \(inverse variance\) has shape \(3, 4599\), not \(3, 4600\)"),
        (1, lambda data: data.astype("i4"), r"HDU 1 \(inverse variance\) holds numbers of type int32"),
        (2, lambda data: data[:2], r"HDU 2 \(mask\) has shape \(2, 4600\)"),
        (2, lambda data: data.astype("f4"), r"HDU 2 \(mask\) holds numbers of type float32"),
        (0, lambda data: data[0], r"HDU 0 \(flux\) has shape \(4600,\)"),
    ],
)
def test_arrays_that_are_wrong(index: int, change: Callable[[AnyArray], AnyArray], match: str, plate: Path) -> None:
    with fits.open(plate, memmap=False) as hdus:
        hdus[index].data = change(hdus[index].data)
        hdus.writeto(plate, overwrite=True)
    with pytest.raises(SpectrumFileError, match=match):
        read_spectra(plate, "spPlate", bitmask=True)


def test_a_plug_map_of_other_fibres(plate: Path) -> None:
    with fits.open(plate, memmap=False) as hdus:
        hdus[5].data = hdus[5].data[:2]
        hdus.writeto(plate, overwrite=True)
    with pytest.raises(SpectrumFileError, match=r"HDU 5 \(plug map\) has 2 rows, not 3"):
        read_spectra(plate)


def test_the_grid_of_a_plate_is_that_of_its_spec_files(real_mirrors: list[Path]) -> None:
    """Their header is that of the spPlate file; their pixels may begin later."""
    paths = [path for root in real_mirrors for path in root.rglob("spec-*.fits")]
    for path in paths:
        loglam = fits.getdata(path, 1)["loglam"].astype(float)
        with FitsFile(path) as file:
            grid = np.log10(read_grid(file, loglam.size + 100))
        first = round((loglam[0] - grid[0]) / 1e-4)
        assert 0 <= first < 100
        np.testing.assert_allclose(loglam, grid[first : first + loglam.size], atol=5e-7)
