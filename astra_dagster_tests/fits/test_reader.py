"""The structure of FITS files: every value as astropy has it."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from astra_dagster.errors import InputMissingError, SpectrumFileError
from astra_dagster.fits.header import CARD, Header
from astra_dagster.fits.model import Model
from astra_dagster.fits.reader import FitsFile
from astra_dagster_tests.fits.unchecked import ALL, read_image, read_table
from astra_dagster_tests.spectra.synthetic import WRITERS, compressed

REAL = {"apVisit": 36, "apStar": 8, "spec": 2}
"""How many real files there are of each product."""


def check_header(header: Header, expected: fits.Header) -> None:
    for keyword in {card.keyword for card in expected.cards} - {"COMMENT", "HISTORY", ""}:
        try:
            value = expected[keyword]
        except fits.VerifyError:  # a card that is not legal
            value = None
        value = None if isinstance(value, fits.card.Undefined) else value
        ours = header.get(keyword)
        assert keyword in header
        assert (ours, type(ours)) == (value, type(value)), keyword


def check_table(file: FitsFile, index: int, expected: fits.FITS_rec) -> None:
    # Where names differ by nothing but case, both mean the first.
    columns = {}
    for column in expected.columns:
        columns.setdefault(column.name.lower(), column)
    assert list(file.hdu(index).columns()) == list(columns)
    ours = read_table(file, index, list(columns), "")
    for name, column in columns.items():
        if column.format.lstrip("0123456789")[0] in "PQ":
            continue
        values, theirs = ours[name], expected[column.name]
        if "X" in column.format:
            values = np.unpackbits(values, axis=-1)[:, : theirs.shape[-1]].astype(bool)
        if theirs.dtype.kind == "U":
            # astropy keeps blanks in front, and splits text where TDIM says so.
            width = theirs.dtype.itemsize // 4
            whole = ["".join(text.ljust(width) for text in row.ravel()).strip() for row in theirs[:, None]]
            assert values.tolist() == whole, name
        else:
            np.testing.assert_array_equal(values.reshape(theirs.shape), theirs, err_msg=name)
        assert values.dtype.kind == theirs.dtype.kind or column.bzero == -128  # signed bytes are integers to us


def check_file(path: Path) -> None:
    with fits.open(path, memmap=False) as expected, FitsFile(path) as file:
        assert len(file.hdus()) == len(expected)
        for index, (hdu, ours) in enumerate(zip(expected, file.hdus(), strict=True)):
            place = hdu.fileinfo()
            padded = -(-ours.size // 2880) * 2880
            assert (ours.index, ours.offset, padded) == (index, place["datLoc"], place["datSpan"])
            assert ours.name == (hdu.name if index else "")
            check_header(ours.header, fits.Header.fromstring(ours.header.raw))
            if isinstance(hdu, fits.BinTableHDU):
                assert ours.kind == "table"
                check_table(file, index, hdu.data)
            elif hdu.data is not None:
                assert ours.kind == "image"
                np.testing.assert_array_equal(read_image(file, index, "", ALL), hdu.data)


@pytest.mark.parametrize(("product", "count"), REAL.items())
def test_real_files(product: str, count: int, real: Path) -> None:
    paths = sorted(real.rglob(f"{product}-*.fits"))
    assert len(paths) == count
    for path in paths:
        check_file(path)


@pytest.mark.parametrize("kind", WRITERS)
def test_synthetic_files(kind: str, tmp_path: Path) -> None:
    check_file(WRITERS[kind][1](tmp_path))


def test_the_demo_mirror(synthetic: Path) -> None:
    for path in synthetic.rglob("*.fits"):
        check_file(path)


# Images


def blocks(count: int, byte: bytes = b"\0") -> bytes:
    return byte * (2880 * count)


def opened(hdus: list[Any], path: Path) -> FitsFile:
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path, overwrite=True)
    return FitsFile(path)


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


def renamed(path: Path, prefix: str) -> None:
    """Give the cards whose names begin with Z the names that mean something; astropy would act on them."""
    contents = path.read_bytes()
    for name in ("SCAL", "ZERO"):
        assert f"Z{name}".encode() in contents
        contents = contents.replace(f"Z{name}".encode(), f"{prefix}{name}".encode())
    path.write_bytes(contents)


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


@pytest.mark.parametrize("odd", [0.0, 1e300, "1E9999", "NAN", True])
def test_odd_scales_raise_no_warnings(odd: object, tmp_path: Path) -> None:
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


# Tables

COLUMNS = {
    "byte": ("B", np.array([0, 7, 255], "u1")),
    "short": ("I", np.array([-32768, 7, 32767], "i2")),
    "int": ("J", np.array([-(2**31), 7, 2**31 - 1], "i4")),
    "long": ("K", np.array([-(2**63), 27021598150202075, 2**63 - 1], "i8")),
    "float": ("E", np.array([np.nan, 1.5, -np.inf], "f4")),
    "double": ("D", np.array([np.nan, 1 / 3, 1e300])),
    "complex": ("C", np.array([1 + 2j, 0, -1j], "c8")),
    "double complex": ("M", np.array([1 + 2j, 0, -1j], "c16")),
    "logical": ("L", np.array([True, False, True])),
    "text": ("9A", np.array(["2M0000", "", "  padded "])),
    "letter": ("A", np.array(["a", "", "c"])),
    "bits": ("11X", np.arange(33).reshape(3, 11) % 3 == 0),
    "one bit": ("X", np.array([[True], [False], [True]])),
    "five": ("5E", np.arange(15, dtype="f4").reshape(3, 5)),
    "none": ("0E", None),
    "flags": ("3L", np.arange(9).reshape(3, 3) % 2 == 0),
}


def test_columns(tmp_path: Path) -> None:
    columns = [fits.Column(name, code, array=array) for name, (code, array) in COLUMNS.items()]
    columns += [
        fits.Column("unsigned byte", "B", bzero=-128, array=np.array([-128, 0, 127], "i1")),
        fits.Column("unsigned short", "I", bzero=2**15, array=np.array([0, 7, 65535], "u2")),
        fits.Column("unsigned int", "J", bzero=2**31, array=np.array([0, 7, 2**32 - 1], "u4")),
        fits.Column("unsigned long", "K", bzero=2**63, array=np.array([0, 7, 2**64 - 1], "u8")),
        fits.Column("matrix", "6J", dim="(3,2)", array=np.arange(18).reshape(3, 2, 3)),
        fits.Column("varying", "PE()", array=np.array([[1.0], [2.0, 3.0], [4.0]], dtype=object)),
        fits.Column("Capital", "J", array=[1, 2, 3]),
    ]
    path = tmp_path / "table.fits"
    with opened([fits.BinTableHDU.from_columns(columns)], path) as file:
        found = read_table(file, 1, [column.name.lower() for column in columns], "", ["absent", "capital"])
        for name, (code, array) in COLUMNS.items():
            if code not in ("11X", "X", "0E", "9A"):
                np.testing.assert_array_equal(found[name], array)
        assert found["none"].shape == (3, 0)
        assert found["unsigned long"].tolist() == [0, 7, 2**64 - 1]
        assert found["unsigned byte"].tolist() == [-128, 0, 127]
        assert found["text"].tolist() == ["2M0000", "", "padded"]
        assert found["capital"].tolist() == [1, 2, 3]
        assert found["varying"].dtype.kind not in "fiuc"  # a place in the heap is no number
        assert "absent" not in found
        assert read_table(file, 1, [], "", ["absent"]) == {}
        with fits.open(path) as expected:
            check_table(file, 1, expected[1].data)


def test_scaled_columns(tmp_path: Path) -> None:
    path = tmp_path / "scaled.fits"
    columns = [fits.Column(code, code, array=np.arange(-2, 3)) for code in ("I", "J", "K", "E", "D")]
    columns.append(fits.Column("2I", "2I", array=np.arange(10).reshape(5, 2)))
    table = fits.BinTableHDU.from_columns(columns)
    for number in range(1, len(columns) + 1):
        table.header.update({f"ZSCAL{number}": 0.1, f"ZZERO{number}": 100.5})
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)
    renamed(path, "T")
    with FitsFile(path) as file, fits.open(path) as expected:
        for name, values in read_table(file, 1, [column.name.lower() for column in columns], "").items():
            array = np.arange(10).reshape(5, 2) if name == "2i" else np.arange(-2, 3)
            np.testing.assert_allclose(values, array * 0.1 + 100.5, rtol=1e-12)
            assert values.dtype == np.float64
            if name != "k":  # astropy 8.0.2 raises UnboundLocalError for it
                np.testing.assert_allclose(values, expected[1].data[name.upper()], rtol=1e-6)


def test_a_table_without_rows(tmp_path: Path) -> None:
    table = fits.BinTableHDU.from_columns([fits.Column("a", "3E"), fits.Column("b", "8A")], nrows=0)
    with opened([table], tmp_path / "empty.fits") as file:
        found = read_table(file, 1, ["a", "b"], "")
        assert found["a"].shape == (0, 3)
        assert found["b"].shape == (0,)


def test_text_of_no_length(tmp_path: Path) -> None:
    columns = [fits.Column("flux", "E", array=np.ones(2)), fits.Column("text", "4A", array=["a", "b"])]
    path = tmp_path / "text.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns)]).writeto(path)
    changed_card(path, "TFORM2  = '4A      '", "TFORM2  = '0A      '")  # astropy cannot write it
    with FitsFile(path) as file:
        found = read_table(file, 1, ["flux", "text"], "")
    assert found["flux"].tolist() == [1, 1]
    assert found["text"].tolist() == ["", ""]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("TFORM1  = 'E       '", "TFORM1  = '999999999D'"),  # wider than any row
        ("TFORM1  = 'E       '", "TFORM1  = '99999999E'"),
        ("TFORM1  = 'E       '", "TFORM1  = '9999D   '"),
        ("TFORM1  = 'E       '", "TFORM1  = '?       '"),
        ("TFORM1  = 'E       '", "TFORM1  =          1"),
        ("TTYPE1  = 'flux    '", "TTYPE1  = 'flax    '"),
        ("NAXIS1  =                    8", "NAXIS1  =                    0"),
        ("NAXIS1  =                    8", "NAXIS1  =           9999999999"),
        ("NAXIS1  =                    8", "NAXIS1  =                   -8"),
        ("NAXIS2  =                    3", "NAXIS2  =  9999999999999999999"),
        ("NAXIS   =                    2", "NAXIS   =                    1"),
        ("NAXIS   =                    2", "NAXIS   =                  999"),
        ("NAXIS   =                    2", "NAXIS   =                  2.0"),
        ("BITPIX  =                    8", "BITPIX  =                    9"),
        ("PCOUNT  =                    0", "PCOUNT  =                   -1"),
        ("GCOUNT  =                    1", "GCOUNT  =                    7"),
        ("TFIELDS =                    2", "TFIELDS =                    0"),
        ("TFIELDS =                    2", "TFIELDS =           'many    '"),
        ("'BINTABLE'", "'IMAGE   '"),
    ],
)
@pytest.mark.parametrize("rows", [0, 3])
def test_impossible_tables(old: str, new: str, rows: int, tmp_path: Path) -> None:
    path = tmp_path / "bad.fits"
    columns = [fits.Column("flux", "E", array=np.ones(3)[:rows]), fits.Column("mask", "J", array=np.ones(3)[:rows])]
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns)]).writeto(path)
    changed_card(path, old.replace("3", str(rows)) if "NAXIS2" in old else old, new)
    with FitsFile(path) as file, pytest.raises(SpectrumFileError, match="HDU 1 "):
        read_table(file, 1, ["flux"], "spectrum")


def changed_card(path: Path, old: str, new: str) -> None:
    """Overwrite a card of an extension."""
    contents = bytearray(path.read_bytes())
    place = contents.index(old.encode(), contents.index(b"XTENSION"))
    length = max(len(old), len(new))
    assert not contents[place + len(old) : place + length].strip()
    contents[place : place + length] = new.ljust(length).encode()
    path.write_bytes(contents)


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
    with FitsFile(path) as file, pytest.raises(SpectrumFileError, match=r"HDU 1 "):
        read_image(file, 1, "flux", "f")


def test_more_axes_than_an_array_can_have(tmp_path: Path) -> None:
    cards = ["XTENSION= 'IMAGE   '", "BITPIX  =                    8", "NAXIS   =                  100"]
    cards += [f"NAXIS{i:<3}=                    1" for i in range(1, 101)] + ["END"]
    path = tmp_path / "axes.fits"
    fits.PrimaryHDU().writeto(path)
    raw = "".join(card.ljust(CARD) for card in cards)
    path.write_bytes(path.read_bytes() + raw.ljust(-(-len(raw) // 2880) * 2880).encode() + blocks(1))
    with (
        FitsFile(path) as file,
        pytest.raises(SpectrumFileError, match=r"HDU 1 \(cube\) has shape of 100 axes"),
    ):
        file.image(1, "cube", Model(ALL, ((1,),)))


def test_columns_of_the_same_name(tmp_path: Path) -> None:
    columns = [fits.Column(name, "E", array=np.full(2, i)) for i, name in enumerate(("flux", "other", "third"))]
    path = tmp_path / "twice.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns)]).writeto(path)
    changed_card(path, "TTYPE2  = 'other   '", "TTYPE2  = 'FLUX    '")
    with FitsFile(path) as file:
        assert read_table(file, 1, ["flux"], "")["flux"].tolist() == [0, 0]
        assert read_table(file, 1, ["third"], "")["third"].tolist() == [2, 2]


# Files


@pytest.mark.parametrize(
    "more",
    [
        b"\0",
        b" " * 100,
        blocks(1),
        blocks(7),
        blocks(3, b" "),
        b"special record" + blocks(2, b"x"),
        b"SIMPLE  =" + blocks(1),
    ],
    ids=len,
)
def test_what_follows_the_last_hdu_is_ignored(more: bytes, tmp_path: Path) -> None:
    path = WRITERS["aspcapStar"][1](tmp_path)
    path.write_bytes(path.read_bytes() + more)
    with FitsFile(path) as file:
        assert len(file.hdus()) == 5
        assert len(file.hdus()) == 5
        with pytest.raises(SpectrumFileError, match="HDU 5 is missing: the file has 5 HDUs"):
            file.hdu(5)


def test_a_header_cut_short_is_not_the_end_of_the_file(tmp_path: Path) -> None:
    path = WRITERS["aspcapStar"][1](tmp_path)
    with fits.open(path) as hdus:
        start = hdus[4].fileinfo()["hdrLoc"]
    contents = path.read_bytes()
    for cut in (9, 80, 2000, 2879):
        path.write_bytes(contents[: start + cut])
        with FitsFile(path) as file, pytest.raises(SpectrumFileError, match=r"HDU 4 is cut short.*; fetch it again$"):
            file.hdus()


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
    with pytest.raises(SpectrumFileError, match="not a FITS file: it is empty"):
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
