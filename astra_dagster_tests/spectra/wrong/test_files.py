"""Files that are not what they should be, for every reader: an error that says what is wrong, or a valid batch."""

import errno
import itertools
import os
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from astra_dagster.datamodel.products import product as find_product
from astra_dagster.errors import InputMissingError, SpectrumFileError, UnknownProductError
from astra_dagster.spectra.products.ap_star import AP_STAR
from astra_dagster.spectra.products.ap_visit import AP_VISIT
from astra_dagster.spectra.products.astra import ASTRA
from astra_dagster.spectra.products.mwm import MWM
from astra_dagster.spectra.products.spec import SPEC
from astra_dagster.spectra.readers import READERS, read_spectra, reader
from astra_dagster_tests.mirrors import find_some
from astra_dagster_tests.spectra.synthetic import WRITERS, compressed
from astra_dagster_tests.spectra.wrong.files import ALIKE, OPTIONS, check_valid, refused


def test_every_product_has_its_reader() -> None:
    families = {*AP_VISIT, *AP_STAR, *SPEC, *MWM, *ASTRA}
    assert {product for product, _ in WRITERS.values()} | families == set(READERS)
    for name, item in READERS.items():
        assert reader(name) is item
        assert reader(find_product(name).name) is item
    assert reader("ap_visit") is READERS["apVisit"]
    assert [name for name, item in READERS.items() if item.several] == [
        *AP_STAR,
        "spPlate",
        "mwmStar",
        "mwmVisit",
        *ASTRA,
    ]
    for name in ("apField", "no such product"):
        with pytest.raises(UnknownProductError):
            reader(name)


@pytest.mark.parametrize("options", OPTIONS)
def test_files_as_they_should_be(options: dict[str, bool], path: Path, product: str) -> None:
    batch = read_spectra(str(path), product, **options)
    check_valid(batch)
    assert (batch.wavelength is None) == ("wavelength" in options)
    assert (batch.bitmask is None) == ("bitmask" not in options or product in ("aspcapStar", *ASTRA))
    assert READERS[product].several or len(batch) == 1


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".zip"])
def test_compressed_files(suffix: str, path: Path, product: str) -> None:
    ours, expected = read_spectra(compressed(path, suffix), product), read_spectra(path, product)
    np.testing.assert_array_equal(ours.flux, expected.flux)
    np.testing.assert_array_equal(ours.ivar, expected.ivar)
    assert ours.meta == expected.meta


@pytest.mark.parametrize(
    ("contents", "match"),
    [
        (b"", "incomplete: the file is empty"),
        (b"x", "not a FITS file: it does not begin with SIMPLE"),
        (b"x" * 100_000, "not a FITS file"),
        (b"\0" * 5760, "not a FITS file"),
        (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "not a FITS file"),
        (b"SIMPLE  =                    T", "HDU 0 is incomplete"),
        (b"SIMPLE  =                    T".ljust(2880), "HDU 0 is incomplete: its header does not end"),
        (b"SIMPLE  =                    T".ljust(80) + b"END".ljust(2800), "HDU 0 has no whole number BITPIX"),
    ],
)
def test_no_fits_files(contents: bytes, match: str, path: Path, product: str) -> None:
    path.write_bytes(contents)
    refused(path, product, match)


def test_a_folder(path: Path, product: str) -> None:
    path.unlink()
    path.mkdir()
    refused(path, product, "a folder, not a file")


def test_a_missing_file_is_no_broken_file(path: Path, product: str) -> None:
    path.unlink()
    for missing in (path, path.parent / "nowhere" / path.name, path.with_name(path.name + ".gz")):
        with pytest.raises(InputMissingError, match="not there") as error:
            read_spectra(missing, product)
        assert str(missing) in str(error.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read(path: Path, product: str) -> None:
    path.chmod(0)
    refused(path, product, "permission denied")


def test_a_system_that_refuses_a_file(path: Path, product: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", Mock(side_effect=PermissionError(errno.EACCES, "Permission denied")))
        refused(path, product, r"permission denied \(file .*\); ask its owner")


@pytest.mark.parametrize("reads", range(4))
def test_a_disk_that_fails(reads: int, path: Path, product: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many reads that went well."""
    pread, done = os.pread, itertools.count()

    def failing(descriptor: int, size: int, offset: int) -> bytes:
        if next(done) >= reads:
            raise OSError(errno.EIO, "Input/output error")
        return pread(descriptor, size, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", failing)
        with pytest.raises(SpectrumFileError, match=r"cannot be read: .*Input/output error") as error:
            read_spectra(path, product)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("other", ["apVisit", "apStar", "aspcapStar", "spec", "mwmStar"])
def test_a_file_of_another_product(other: str, path: Path, product: str) -> None:
    if other == product or any({other, product} <= products for products in ALIKE):
        check_valid(read_spectra(path, other))
    else:
        refused(path, other, "HDU [0-4]")


@pytest.mark.parametrize("other", ["apVisit", "apStar", "aspcapStar", "spec", "mwmStar"])
def test_a_real_file_of_another_product(other: str, real_mirrors: list[Path]) -> None:
    for product, paths in find_some(real_mirrors).items():
        for path in paths:
            if product == other:
                check_valid(read_spectra(path, product))
            else:
                refused(path, other, "HDU [0-4]")
