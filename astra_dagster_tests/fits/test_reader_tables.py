"""Tables as our own reader of FITS files has them, against astropy."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from astra_dagster.errors import SpectrumFileError
from astra_dagster.fits.reader import FitsFile
from astra_dagster_tests.fits.agreement import check_table
from astra_dagster_tests.fits.damage import changed_card, opened, renamed
from astra_dagster_tests.fits.unchecked import read_image, read_table

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
    columns.append(fits.Column("more", "E", array=np.ones(2)))
    path = tmp_path / "text.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns)]).writeto(path)
    changed_card(path, "TFORM2  = '4A      '", "TFORM2  = '0A      '")  # astropy cannot write it
    changed_card(path, "TFORM3  = 'E       '", "TFORM3  = 'D       '")
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
    with pytest.raises(SpectrumFileError, match=r"HDU [12] "), FitsFile(path) as file:
        read_table(file, 1, ["flux"], "spectrum")


@pytest.mark.parametrize(
    ("new", "problem"),
    [
        ("TTYPE2  = 'FLUX    '", "has two columns flux"),
        ("TTYPE2  = '        '", "has no name TTYPE2 of a column"),
        ("TTYPE3  = 'other   '", "has the card TTYPE3 twice"),
        ("TTYPE0  = 'other   '", "has no name TTYPE2 of a column"),
        ("TTYPE2  = 'oth\x15r   '", "has a header with bytes that are no text"),
    ],
)
def test_columns_whose_names_are_damaged(new: str, problem: str, tmp_path: Path) -> None:
    columns = [fits.Column(name, "E", array=np.full(2, i)) for i, name in enumerate(("flux", "other", "third"))]
    path = tmp_path / "twice.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns)]).writeto(path)
    changed_card(path, "TTYPE2  = 'other   '", new)
    with FitsFile(path) as file, pytest.raises(SpectrumFileError, match=problem):
        read_table(file, 1, ["flux"], "")


@pytest.mark.parametrize("code", ["D", "I", "2E", "A", "L"])
def test_a_format_of_another_width_is_refused(code: str, tmp_path: Path) -> None:
    columns = [fits.Column(name, "E", array=np.ones(2)) for name in ("flux", "ivar")]
    path = tmp_path / "width.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns)]).writeto(path)
    changed_card(path, "TFORM1  = 'E       '", f"TFORM1  = '{code:8}'")
    with FitsFile(path) as file, pytest.raises(SpectrumFileError, match="has rows of 8 bytes, but its columns have"):
        read_table(file, 1, ["ivar"], "")


def test_a_table_of_which_a_row_is_lost_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lost.fits"
    fits.HDUList(
        [fits.PrimaryHDU(), fits.BinTableHDU.from_columns([fits.Column("flux", "E", array=np.ones(5))])]
    ).writeto(path)
    changed_card(path, "NAXIS2  =                    5", "NAXIS2  =                    4")
    with FitsFile(path) as file, pytest.raises(SpectrumFileError, match="has data beyond the end"):
        read_table(file, 1, ["flux"], "")


def test_null_values(tmp_path: Path) -> None:
    """Of numbers that are scaled to real ones NaN, else a masked array; of a column that is needed an error."""
    columns = [
        fits.Column("number", "J", array=np.array([1, -9, 3])),
        fits.Column("scaled", "J", array=np.array([1, -9, 3])),
        fits.Column("all", "J", array=np.array([1, 2, 3])),
    ]
    table = fits.BinTableHDU.from_columns(columns)
    table.header.update(TNULL1=-9, TNULL2=-9, TNULL3=-9, ZSCAL2=0.5, ZZERO2=0.0)
    path = tmp_path / "null.fits"
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)
    renamed(path, "T")
    with FitsFile(path) as file:
        found = read_table(file, 1, ["scaled", "all"], "", ["number"])
        np.testing.assert_array_equal(found["scaled"], [0.5, np.nan, 1.5])
        np.testing.assert_array_equal(found["number"].mask, [False, True, False])
        np.testing.assert_array_equal(found["all"], [1, 2, 3])
        with pytest.raises(SpectrumFileError, match="has rows in which the column number is null"):
            read_table(file, 1, ["number"], "")


def test_blank_pixels(tmp_path: Path) -> None:
    image = fits.ImageHDU(np.array([[1, -9, 3]], "i2"))
    image.header.update(ZSCALE=0.5, ZZERO=0.0)
    whole = fits.ImageHDU(np.array([[1, -9, 3]], "i2"))
    path = tmp_path / "blank.fits"
    fits.HDUList([fits.PrimaryHDU(), image, whole]).writeto(path)
    renamed(path, "B")
    contents = path.read_bytes()
    end = b"END".ljust(80)
    first = contents.index(end, 2880)
    for place in (first, contents.index(end, first + 80)):
        contents = contents[:place] + f"BLANK   = {-9:20}".ljust(80).encode() + end + contents[place + 160 :]
    path.write_bytes(contents)
    with FitsFile(path) as file:
        np.testing.assert_array_equal(read_image(file, 1), [[0.5, np.nan, 1.5]])
        with pytest.raises(SpectrumFileError, match="HDU 2 has pixels that are blank"):
            read_image(file, 2)
