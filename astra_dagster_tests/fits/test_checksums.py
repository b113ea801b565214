"""CHECKSUM and DATASUM are verified for each HDU that is read, and agree with astropy's."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from astra_dagster.errors import SpectrumFileError
from astra_dagster.fits.reader import FitsFile
from astra_dagster.spectra.readers import read_spectra
from astra_dagster_tests.fits.unchecked import read_image, read_table
from astra_dagster_tests.spectra.synthetic import WRITERS


def places(path: Path) -> list[tuple[int, int, int]]:
    """Where the header and the data of each HDU begin, and the data end."""
    with FitsFile(path) as file:
        return [(hdu.offset - len(hdu.header.raw), hdu.offset, hdu.end) for hdu in file.hdus()]


def read_all(path: Path) -> None:
    with FitsFile(path) as file:
        read_image(file, 1)
        read_table(file, 2, ["a"], "")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "sums.fits"
    primary = fits.PrimaryHDU()
    primary.header["OBJID"] = "a star"
    rng = np.random.default_rng(1)
    table = fits.BinTableHDU.from_columns([fits.Column("a", "5E", array=rng.normal(size=(300, 5)))])
    hdus = fits.HDUList([primary, fits.ImageHDU(rng.normal(size=(7, 311)).astype("f4")), table])
    hdus.writeto(path, checksum=True)
    return path


def test_files_of_astropy_with_checksums_are_read(path: Path) -> None:
    read_all(path)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_any_changed_bit_is_seen(path: Path, index: int) -> None:
    whole = path.read_bytes()
    header, data, end = places(path)[index]
    rng = np.random.default_rng(index)
    for place in rng.integers(header, end if index else data, 60):
        contents = bytearray(whole)
        contents[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(contents)
        with pytest.raises(SpectrumFileError, match=r"fetch it again|has no|holds no|has shape"):
            read_all(path)


def test_one_of_the_two_is_enough(path: Path) -> None:
    for name in ("CHECKSUM", "DATASUM"):
        with fits.open(path, mode="update", memmap=False) as hdus:
            hdus[1].header.remove(name, ignore_missing=True)
            hdus[1].header["OTHER"] = name
        break
    read_image(FitsFile(path), 1)
    _, data, _ = places(path)[1]
    contents = bytearray(path.read_bytes())
    contents[data + 40] ^= 4
    path.write_bytes(contents)
    with FitsFile(path) as file, pytest.raises(SpectrumFileError, match="HDU 1 does not agree with the DATASUM"):
        read_image(file, 1)


def test_spectra_with_checksums(tmp_path: Path) -> None:
    for kind in ("apVisit", "spec, SDSS-V", "mwmStar"):
        product, writer = WRITERS[kind]
        path = writer(tmp_path / kind)
        with fits.open(path, memmap=False) as hdus:
            hdus.writeto(path, checksum=True, overwrite=True, output_verify="ignore")
        whole = read_spectra(path, product)
        contents = bytearray(path.read_bytes())
        with fits.open(path) as hdus:
            index = next(i for i, hdu in enumerate(hdus) if i and hdu.size)
            start = hdus[index].fileinfo()["datLoc"]
        contents[start + 1001] ^= 1
        path.write_bytes(contents)
        assert whole.flux.size
        with pytest.raises(SpectrumFileError, match=r"does not agree with the DATASUM in its header .*fetch it again"):
            read_spectra(path, product)
