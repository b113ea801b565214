"""The structure of FITS files: every value as astropy has it."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from astra_dagster.errors import CutShortError, InputMissingError, SpectrumFileError
from astra_dagster.fits.header import CARD
from astra_dagster.fits.reader import FitsFile
from astra_dagster_tests.fits.agreement import check_file
from astra_dagster_tests.fits.damage import blocks, changed_card, opened, renamed
from astra_dagster_tests.fits.unchecked import read_image, read_table
from astra_dagster_tests.mirrors import NAMES, find_real
from astra_dagster_tests.spectra.synthetic import WRITERS, compressed


@pytest.mark.parametrize("product", NAMES)
def test_real_files(product: str, real_mirrors: list[Path]) -> None:
    for path in find_real(real_mirrors, product):
        check_file(path)


@pytest.mark.parametrize("kind", WRITERS)
def test_synthetic_files(kind: str, tmp_path: Path) -> None:
    check_file(WRITERS[kind][1](tmp_path))


def test_the_demo_mirror(synthetic: Path) -> None:
    for path in synthetic.rglob("*.fits"):
        check_file(path)


@pytest.mark.parametrize("code", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 4)])
def test_images(code: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    dtype = np.dtype(code)
    if dtype.kind == "f":
        array = np.random.default_rng(1).normal(0, 1e5, shape).astype(code)
        array.flat[:3] = np.nan, np.inf, -np.inf
    else:
        limits = np.iinfo(dtype)
        array = np.random.default_rng(1).integers(limits.min, limits.max, shape, dtype)
        array.flat[:2] = limits.min, limits.max
    with opened([fits.ImageHDU(array)], tmp_path / "image.fits") as file:
        found = read_image(file, 1, "", dtype.kind)
        np.testing.assert_array_equal(found, array)
        assert found.dtype.kind == dtype.kind
        assert found.dtype.itemsize == dtype.itemsize
        with pytest.raises(SpectrumFileError, match=r"HDU 1 \(thing\) holds numbers of type"):
            read_image(file, 1, "thing", "f" if dtype.kind != "f" else "iu")


@pytest.mark.parametrize("code", ["i2", "i4", "f4", "f8"])
def test_scaled_images(code: str, tmp_path: Path) -> None:
    array, path = np.arange(12, dtype=code).reshape(3, 4), tmp_path / "scaled.fits"
    image = fits.ImageHDU(array)
    image.header.update(ZSCALE=0.1, ZZERO=100.5)
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(path)
    renamed(path, "B")
    with FitsFile(path) as file, fits.open(path) as expected:
        found = read_image(file, 1, "")
        np.testing.assert_allclose(found, expected[1].data, rtol=1e-6)  # astropy's are of single precision
        np.testing.assert_allclose(found, array.astype(float) * 0.1 + 100.5, rtol=1e-12)
        assert found.dtype == np.float64


def check_odd_scales(odd: object, tmp_path: Path) -> None:
    path = tmp_path / "odd.fits"
    image, table = fits.ImageHDU(np.full((2, 3), 1e30)), fits.BinTableHDU.from_columns([fits.Column("a", "E")], nrows=2)
    image.header.update(ZSCALE=odd, ZZERO=odd)
    table.header.update(ZSCAL1=odd, ZZERO1=odd)
    fits.HDUList([fits.PrimaryHDU(), image, table]).writeto(path)
    renamed(path, "T")
    path.write_bytes(path.read_bytes().replace(b"TSCALE", b"BSCALE").replace(b"TZERO ", b"BZERO "))
    with FitsFile(path) as file:
        assert "BSCALE" in file.hdu(1).header
        assert "TZERO1" in file.hdu(2).header
        assert read_image(file, 1, "").shape == (2, 3)
        assert read_table(file, 2, ["a"], "")["a"].shape == (2,)


def test_a_large_scale_raises_no_warning(tmp_path: Path) -> None:
    check_odd_scales(1e300, tmp_path)


@pytest.mark.parametrize("odd", [0.0, "1E9999", "NAN", "1.o", True])
def test_a_scale_that_is_no_number_is_not_taken_for_one(odd: object, tmp_path: Path) -> None:
    with pytest.raises(SpectrumFileError, match=r"HDU 1 has no usable number in its card BSCALE .*fetch it again"):
        check_odd_scales(odd, tmp_path)
    with (
        FitsFile(tmp_path / "odd.fits") as file,
        pytest.raises(SpectrumFileError, match=r"HDU 2 has no usable number in its card TSCAL1"),
    ):
        read_table(file, 2, ["a"], "")


def test_no_image(tmp_path: Path) -> None:
    table = fits.BinTableHDU.from_columns([fits.Column("a", "E", array=[1.0])])
    ascii_table = fits.TableHDU.from_columns([fits.Column("a", "F10.3", array=np.ones(2))])
    empty = fits.ImageHDU(np.zeros((2, 0), "f4"))
    with opened([table, fits.ImageHDU(), ascii_table, empty], tmp_path / "other.fits") as file:
        for index in range(5):
            with pytest.raises(SpectrumFileError, match=rf"HDU {index} \(flux\) holds no image"):
                read_image(file, index, "flux")
        assert [hdu.kind for hdu in file.hdus()] == ["image", "table", "image", "other", "image"]
        for index in (0, 2, 3, 4):
            with pytest.raises(SpectrumFileError, match=rf"HDU {index} \(row\) holds no binary table"):
                read_table(file, index, ["a"], "row")
        with pytest.raises(SpectrumFileError, match=r"HDU 1 \(row\) has no column b, c"):
            read_table(file, 1, ["a", "b", "c"], "row")
        with pytest.raises(SpectrumFileError, match=r"HDU 5 \(sky\) is missing: the file has 5 HDUs"):
            read_image(file, 5, "sky")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("NAXIS1  =                    4", "NAXIS1  =                   -4"),
        ("NAXIS1  =                    4", "NAXIS1  =               -99999"),
        ("NAXIS1  =                    4", "NAXIS1  =                    0"),
        ("NAXIS1  =                    4", "NAXIS1  =  9999999999999999999"),
        ("NAXIS   =                    2", "NAXIS   =                   -1"),
        ("NAXIS   =                    2", "NAXIS   =                    3"),
        ("NAXIS   =                    2", "NAXIS   =                    0"),
        ("BITPIX  =                  -32", "BITPIX  =                  -16"),
        ("BITPIX  =                  -32", "BITPIX  =                   32"),
        ("GCOUNT  =                    1", "GCOUNT  =                    2"),
    ],
)
def test_impossible_images(old: str, new: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.ones((3, 4), "f4"))]).writeto(path)
    changed_card(path, old, new)
    with pytest.raises(SpectrumFileError, match=r"HDU [12] "), FitsFile(path) as file:
        read_image(file, 1, "flux", "f")


def test_more_axes_than_an_array_can_have(tmp_path: Path) -> None:
    cards = ["XTENSION= 'IMAGE   '", "BITPIX  =                    8", "NAXIS   =                  100"]
    cards += [f"NAXIS{i:<3}=                    1" for i in range(1, 101)] + ["END"]
    path = tmp_path / "axes.fits"
    fits.PrimaryHDU().writeto(path)
    raw = "".join(card.ljust(CARD) for card in cards)
    path.write_bytes(path.read_bytes() + raw.ljust(-(-len(raw) // 2880) * 2880).encode() + blocks(1))
    with pytest.raises(SpectrumFileError, match=r"HDU 1 has an impossible BITPIX 8 or NAXIS 100"):
        FitsFile(path)


@pytest.mark.parametrize(
    "more",
    [
        b"\0",
        b" " * 100,
        blocks(1),
        blocks(7),
        blocks(3, b" "),
    ],
    ids=len,
)
def test_padding_after_the_last_hdu_is_ignored(more: bytes, tmp_path: Path) -> None:
    path = WRITERS["aspcapStar"][1](tmp_path)
    path.write_bytes(path.read_bytes() + more)
    with FitsFile(path) as file:
        assert len(file.hdus()) == 5
        assert len(file.hdus()) == 5
        with pytest.raises(SpectrumFileError, match="HDU 5 is missing: the file has 5 HDUs"):
            file.hdu(5)


@pytest.mark.parametrize("more", [b"special record" + blocks(2, b"x"), b"SIMPLE  =" + blocks(1), blocks(10)], ids=len)
def test_a_file_that_does_not_end_with_its_last_hdu_is_refused(more: bytes, tmp_path: Path) -> None:
    path = WRITERS["aspcapStar"][1](tmp_path)
    path.write_bytes(path.read_bytes() + more)
    with pytest.raises(SpectrumFileError, match=r"HDU 5 does not begin at byte .*; fetch it again"):
        FitsFile(path)


def test_a_header_cut_short_is_not_the_end_of_the_file(tmp_path: Path) -> None:
    path = WRITERS["aspcapStar"][1](tmp_path)
    with fits.open(path) as hdus:
        start = hdus[4].fileinfo()["hdrLoc"]
    contents = path.read_bytes()
    for cut in (9, 80, 2000, 2879):
        path.write_bytes(contents[: start + cut])
        with pytest.raises(CutShortError, match=r"HDU 4 is incomplete.*; fetch it again$"):
            FitsFile(path)


def test_long_headers(tmp_path: Path) -> None:
    for cards in (34, 35, 36, 179, 180, 181, 1000):  # around one block, and what is read at once
        image = fits.ImageHDU(np.arange(5.0))
        image.header.update({f"KEY{i}": i for i in range(cards)})
        path = tmp_path / f"{cards}.fits"
        with opened([image, fits.ImageHDU(np.ones(3))], path) as file:
            assert file.hdu(1).header.integer(f"KEY{cards - 1}") == cards - 1
            np.testing.assert_array_equal(read_image(file, 1, ""), np.arange(5.0))
            np.testing.assert_array_equal(read_image(file, 2, ""), np.ones(3))
        check_file(path)


def test_the_end_of_a_header_is_a_card(tmp_path: Path) -> None:
    image = fits.ImageHDU(np.arange(5.0))
    image.header.add_history("x" * 69 + "END")
    image.header.append(("", ""), end=True)
    image.header.append(("", ""), end=True)
    image.header.append(("AFTER", 7), end=True)
    with opened([image], tmp_path / "end.fits") as file:
        assert b"xEND" + b" " * 80 in file.hdu(1).header.raw
        assert file.hdu(1).header.integer("AFTER") == 7
        np.testing.assert_array_equal(read_image(file, 1, ""), np.arange(5.0))


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".zip"])
def test_compressed_files(suffix: str, tmp_path: Path) -> None:
    path = compressed(WRITERS["spec, SDSS-V"][1](tmp_path), suffix)
    check_file(path)
    whole = path.read_bytes()
    for contents in (b"", whole[: len(whole) // 2], b"x" * 1000, whole[:20] + b"\xff" * 200 + whole[220:]):
        path.write_bytes(contents)
        with pytest.raises(SpectrumFileError) as error, FitsFile(path) as file:
            read_table(file, 1, ["flux"], "")
        assert str(path) in str(error.value)
    path.unlink()
    with pytest.raises(InputMissingError):
        FitsFile(path)
    path.mkdir()
    with pytest.raises(SpectrumFileError, match="a folder"):
        FitsFile(path)


def test_an_empty_archive(tmp_path: Path) -> None:
    path = tmp_path / "spec.fits.zip"
    with zipfile.ZipFile(path, "w"):
        pass
    with pytest.raises(SpectrumFileError, match="not a FITS file"):
        FitsFile(path)


def test_tile_compressed_files_say_how_to_read_them(tmp_path: Path) -> None:
    path = tmp_path / "apVisit.fits.fz"
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(np.ones((8, 8), "i2"))]).writeto(path)
    with pytest.raises(SpectrumFileError, match=r"compressed with fpack \(file .*\); unpack it with funpack"):
        FitsFile(path)
    # One that is not called so has tables where images are expected.
    path = path.rename(tmp_path / "apVisit.fits")
    with FitsFile(path) as file, pytest.raises(SpectrumFileError, match=r"HDU 1 \(flux\) holds no image"):
        read_image(file, 1, "flux")


def test_closing_twice(tmp_path: Path) -> None:
    file = FitsFile(WRITERS["aspcapStar"][1](tmp_path))
    before = len(list(Path("/proc/self/fd").iterdir()))
    file.close()
    file.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before - 1
