"""Data IDs from tables: those that discovery finds, whatever the table is like; and a reason for each bad row."""

import bz2
import gzip
import io
import lzma
import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table

from astra_dagster import DataID, product
from astra_dagster.datamodel.catalogue import keys_from_table
from astra_dagster.errors import CatalogueError, UnknownProductError, UnknownReleaseError
from astra_dagster_tests.archive.found import find_files
from astra_dagster_tests.mirrors import releases_with, skip_without

VISITS, STARS = product("apVisit"), product("apStar")
FIRST = "DR17/apo25m/120+12/5226/56000/001"


def read(path: Path, name: str = "apVisit", release: str | None = "DR17") -> tuple[list[str], list[str]]:
    """Keys, and what is said of rejected rows."""
    data_ids, rejected = keys_from_table(path, product(name), release)
    return [data_id.key for data_id in data_ids], [str(row) for row in rejected]


def written(path: Path, **columns: Any) -> Path:
    """A table in the format that its name says."""
    Table(columns).write(path)
    return path


def csv(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def zipped(contents: bytes) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as into:
        into.writestr("table", contents)
    return archive.getvalue()


def discovered(root: Path, name: str, release: str) -> list[DataID]:
    return [file.data_id for file in find_files(product(name), release, root)[0]]


def test_an_all_visit_gives_the_keys_that_discovery_finds(synthetic: Path, tmp_path: Path) -> None:
    files = discovered(synthetic, "apVisit", "DR17")[::-1]
    rows = [data_id.values for data_id in files]
    table = written(
        tmp_path / "allVisit.fits",
        APOGEE_ID=[f"2M{i:08d}+0000000 " for i in range(12)],
        TARGET_ID=["apo25m.120+12.2M0"] * 12,
        FILE=[data_id.relative_path.rpartition("/")[2] for data_id in files],
        FIBERID=np.array([int(row["fibre"]) for row in rows], "i2"),
        PLATE=[f"{row['plate']:>8} " for row in rows],
        MJD=np.array([int(row["mjd"]) for row in rows], "i4"),
        TELESCOPE=[f"{row['telescope']:8}" for row in rows],
        LOCATION_ID=np.full(12, 5226, "i2"),
        FIELD=[f"{row['field']:16}" for row in rows],
        TEFF=np.ones((12, 3)),
    )
    assert keys_from_table(table, VISITS, "DR17") == (files, [])


def test_all_visits_of_dr13_have_no_telescope_and_a_field_that_is_not_wanted(tmp_path: Path) -> None:
    table = csv(
        tmp_path / "allVisit.csv",
        "VISIT_ID,FIBERID,PLATE,MJD,LOCATION_ID,FIELD",
        "apogee.apo25m.s.r6.5633.55932.296,296,5633,55932,4424,N4147",
        "apogee.apo1m.s.r6.1.55932.VESTA,296,5633,55932,1,calibration",
        "apogee.n.s.r6.5633.55932.9,9,5633,55932,4424,N4147",
    )
    keys, rejected = read(table, release="DR13")
    assert keys == ["DR13/apo25m/-/5633/55932/296"]
    assert rejected[0] == "row 2: the 1-m telescope has no plates; what it saw is apVisit-1m"
    assert rejected[1].startswith("row 3: telescope cannot be 'n'; expected one of apo25m")


def test_stars_lie_in_numbered_folders_until_dr16(real_mirrors: list[Path], tmp_path: Path) -> None:
    stars = [star for root in real_mirrors for star in discovered(root, "apStar", "DR13")]
    if not stars:
        skip_without("apStar of DR13")
    ids = [*(star.values["obj"] for star in stars), "VESTA"]
    telescopes = [*(star.values["telescope"] for star in stars), "apo1m"]
    columns = {"APOGEE_ID": ids, "TELESCOPE": telescopes, "FIELD": [*["a"] * len(stars), "calibration"]}
    numbers = [*(int(star.values["field"]) for star in stars), 1]
    table = written(tmp_path / "allStar.fits", **columns, LOCATION_ID=numbers)
    star = "DR13/apo1m/calibration/-/VESTA"
    assert read(table, "apStar", "DR13") == ([*(data_id.key for data_id in stars), star], [])
    assert read(table, "apStar", "DR17")[0][0] == f"DR17/{telescopes[0]}/a/-/{ids[0]}"

    keys, rejected = read(written(tmp_path / "without.fits", **columns), "apStar", "DR13")
    assert keys == [star]
    assert rejected[0] == "row 1: field cannot be 'a'; before DR16 it is the number in LOCATION_ID"
    own = csv(tmp_path / "own.csv", "field,obj,telescope", "4462,2M1,apo25m")
    assert read(own, "apStar", "DR13") == (["DR13/apo25m/4462/-/2M1"], [])


def test_all_star_of_sdss_5(synthetic: Path, tmp_path: Path) -> None:
    columns = {"apogee_id": ["2M01183798+8403419", "2M0", "2M1"], "telescope": ["apo25m"] * 3, "field": ["a"] * 3}
    healpix = MaskedColumn([1013, 7, -1], mask=[False, True, False], dtype="i4")
    table = written(tmp_path / "allStar.fits", **columns, healpix=healpix)
    keys, rejected = read(table, "apStar", "DR19")
    assert keys == [data_id.key for data_id in discovered(synthetic, "apStar", "DR19")]
    assert rejected == ["row 2: no healpix", "row 3: healpix cannot be '-1'; expected a whole number"]


def test_sp_all(synthetic: Path, tmp_path: Path) -> None:
    files = discovered(synthetic, "spec", "DR17")
    columns: dict[str, list[Any]] = {
        name: [int(data_id.values[part]) for data_id in files]
        for name, part in (("PLATE", "plate"), ("MJD", "mjd"), ("FIBERID", "fibre"))
    }
    columns["RUN2D"] = [f"{data_id.values['run2d']:>7}  " for data_id in files]
    assert keys_from_table(written(tmp_path / "spAll.fits", **columns), product("spec"), "DR17") == (files, [])

    ids = np.array([27021597842063217, 4375786564, 4375786564], "i8")
    columns = {"FIELD": [15000] * 3, "MJD": [59146] * 3, "CATALOGID": ids, "RUN2D": ["v6_1_3", "v6_0_4", ""]}
    keys, rejected = read(written(tmp_path / "five.fits", **columns), "specLite", "DR19")
    assert keys == ["DR19/15000/59146/27021597842063217", "DR19/15000/59146/4375786564"]
    assert rejected == ["row 2: run2d is v6_0_4, and that of DR19 is v6_1_3"]


@pytest.mark.parametrize(
    "header",
    [
        "telescope,field,plate,mjd,fibre",
        "TELESCOPE,FIELD,PLATE,MJD,FIBERID",
        "Telescop,FieldID,PlateID,MJD5,Fiber",
        '"TELESCOPE" , "field_id" , "plate_id" , "Mjd" , "fibre_id"',
        "telescope\tfield\tplate\tmjd\tfiber",
        "telescope;field;plate;mjd;fiber",
        "telescope  field plate mjd  fiber ",
        "\ufefftelescope,field,plate,mjd,fiber",
        "# planned for tonight\n\ntelescope,field,plate,mjd,fiber",
    ],
)
def test_columns_under_any_name(header: str, tmp_path: Path) -> None:
    mark = next(mark for mark in ",\t; " if mark in header.splitlines()[-1])
    table = csv(tmp_path / "planned.csv", header, mark.join(["apo25m", "120+12", " 5226 ", "56000.0", "001"]))
    assert read(table) == ([FIRST], [])


PACKERS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zip": zipped}


@pytest.mark.parametrize(
    "name",
    ["a.fits", "a.ecsv", "a.csv", "a.vot", "a.parquet"]
    + [f"a.{kind}{suffix}" for kind in ("fits", "csv", "vot", "parquet") for suffix in PACKERS],
)
def test_formats_are_told_by_their_contents(name: str, tmp_path: Path) -> None:
    columns: dict[str, Any] = {"TELESCOPE": ["apo25m"] * 2, "FIELD": ["120+12"] * 2, "PLATE": ["5226", "N188"]}
    columns |= {"MJD": MaskedColumn([56000, 56001], mask=[False, True]), "FIBERID": [1, 2]}
    path = tmp_path / name
    packer = PACKERS.get(path.suffix)
    path = path if packer is None else path.with_suffix("")
    if path.suffix == ".parquet":
        mjds = [56000, None]
        pyarrow.parquet.write_table(pyarrow.table({**columns, "MJD": mjds}), path)
    else:
        Table(columns).write(path, **({"format": "votable"} if path.suffix == ".vot" else {}))
    if packer is not None:
        path.write_bytes(packer(path.read_bytes()))
    path = path.rename(tmp_path / "table")
    assert read(path) == ([FIRST], ["row 2: no mjd"])


def test_numbers_are_taken_as_they_are_written(tmp_path: Path) -> None:
    plates = np.array([5226, 5226, 5226, 5226, np.nan], "f4")
    columns = {"TELESCOPE": ["apo25m"] * 5, "FIELD": ["000+02", "0120", "1e5", "nan", "N188"], "PLATE": plates}
    keys, rejected = read(written(tmp_path / "a.fits", **columns, MJD=[56000] * 5, FIBERID=[1.0, 2.0, 3.0, 4.0, 5.0]))
    assert [key.split("/")[2] for key in keys] == ["000+02", "0120", "1e5"]
    assert rejected == ["row 4: no field", "row 5: no plate"]
    large = written(tmp_path / "b.fits", FIELD=[15000.0], MJD=[59146.0], CATALOGID=[27021597842063217.0])
    assert read(large, "specLite", "DR19")[1][0].startswith("row 1: catalogid cannot be '2.70215978420632e+16'")


def test_every_bad_row_is_told_and_stops_no_other(tmp_path: Path) -> None:
    good = ["telescope,field,plate,mjd,fiber,remark", *["apo25m,120+12,5226,56000,"] * 6]
    ends = ("", "1,", "301,", "1,", '2,"with, comma"', "3,,,", "3,,surplus")
    bad = ("apo25m,120+12,5226", "apo25m,../..,5226,56000,4,", "APO,120+12,5226,56000,4,", "apo25m,,5226,56000,,")
    lines = [*map("".join, zip(good, ends, strict=True)), *bad, "apo25m,120+12,5226,today,4,", f"{good[1]}5,café"]
    keys, rejected = read(csv(tmp_path / "planned.csv", *lines))
    assert [key[-3:] for key in keys] == ["001", "002", "003", "005"]
    assert rejected == [
        "row 2: fibre cannot be '301'; expected 1 to 300",
        "row 6: 7 values, and 6 columns",
        "row 7: 3 values, and 6 columns",
        "row 8: field cannot be '../..'; expected letters, digits and _ . + , : = ( ) -",
        "row 9: telescope cannot be 'APO'; expected one of apo25m, lco25m, apo1m",
        "row 10: no field, fibre",
        "row 11: mjd cannot be 'today'; expected a five-digit MJD",
    ]


def test_a_missing_column_is_one_error_that_says_what_there_is(tmp_path: Path) -> None:
    columns = {"APOGEE_ID": ["2M"], "FILE": ["apVisit-dr17-5226-56000-001.fits"], "PLATE": ["5226"], "MJD": [56000]}
    with pytest.raises(CatalogueError) as caught:
        read(written(tmp_path / "a.fits", **columns))
    text = str(caught.value)
    assert text.startswith("the table has no column telescope, field, fibre, which apVisit in DR17 needs")
    assert "it has APOGEE_ID, FILE, PLATE, MJD; add it, or a column path" in text
    assert str(tmp_path / "a.fits") in text
    with pytest.raises(CatalogueError, match=r"C19, \.\.\.; add it"):
        read(written(tmp_path / "b.fits", **{f"C{i}": [i] for i in range(300)}))


def test_paths_will_do(synthetic: Path, tmp_path: Path) -> None:
    files = discovered(synthetic, "apVisit", "DR17")
    paths = [data_id.relative_path for data_id in files]
    table = csv(tmp_path / "a.txt", "path", *paths, f"{paths[0]}.gz", paths[1].replace("-002", "-0x2"), paths[2][1:])
    data_ids, rejected = keys_from_table(table, VISITS, "DR17")
    assert data_ids == files
    assert [row.row for row in rejected] == [14, 15]
    assert "such a path looks like dr17/apogee" in rejected[0].reason
    assert keys_from_table(written(tmp_path / "a.fits", FILE=paths), VISITS, "DR17") == (files, [])


def test_a_column_of_releases(tmp_path: Path) -> None:
    other = ["DR71,apo25m,120+12,5226,56000,1", ",apo25m,120+12,5226,56000,2", "DR18,apo25m,120+12,5226,56000,1"]
    good = ["DR17,apo25m,120+12,5226,56000,1", "dr19,apo25m,200+45,3148,59162,5", "DR13,apo25m,,5564,55903,105"]
    table = csv(tmp_path / "a.csv", "release,telescope,field,plate,mjd,fiber", *good, *other)
    keys, rejected = read(table, release=None)
    assert keys == [FIRST, "DR19/apo25m/200+45/3148/59162/005", "DR13/apo25m/-/5564/55903/105"]
    assert [row[:22] for row in rejected] == ["row 4: no release 'DR7", "row 5: no release", "row 6: DR18 has no pro"]
    keys, rejected = read(table)
    assert keys == [FIRST, FIRST.replace("001", "002")]
    assert rejected[0] == "row 2: is of DR19, not of DR17"


def test_what_does_not_exist_or_is_no_table(tmp_path: Path) -> None:
    table = csv(tmp_path / "a.csv", "plate,mjd,fiber")
    for release, error in (("DR71", UnknownReleaseError), ("DR18", UnknownProductError), (None, CatalogueError)):
        with pytest.raises(error):
            read(table, release=release)
    assert read(table, release="DR10") == ([], [])
    fits.PrimaryHDU(np.ones((4, 4))).writeto(tmp_path / "image.fits")
    written(tmp_path / "rows.fits", PLATE=np.ones((2, 2)), MJD=[1, 2], FIBERID=[1, 2])
    whole = written(tmp_path / "whole.fits", PLATE=["5226"] * 2000, MJD=[56000] * 2000, FIBERID=[1] * 2000)
    (tmp_path / "cut.fits").write_bytes(whole.read_bytes()[:9000])
    (tmp_path / "cut.fits.gz").write_bytes(gzip.compress(whole.read_bytes())[:200])
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "broken.vot").write_text("<?xml version='1.0'?><VOTABLE>")
    names = ["image.fits", "rows.fits", "cut.fits", "cut.fits.gz", "binary.csv", "empty.csv", "broken.vot", "", "none"]
    for name in names:
        with pytest.raises(CatalogueError) as caught:
            read(tmp_path / name, release="DR10")
        assert caught.value.path == str(tmp_path / name)


def test_the_real_visits_from_their_headers(real_mirrors: list[Path], tmp_path: Path, extra_release: str) -> None:
    there = releases_with("apVisit")
    assert extra_release in there
    found = [(root, one) for name in there for root in real_mirrors for one in discovered(root, "apVisit", name)]
    if not found:
        skip_without("apVisit")
    files = [data_id for _, data_id in found]
    headers = [fits.getheader(data_id.path(root)) for root, data_id in found]
    cards = {"APOGEE_ID": "OBJID", "FIBERID": "FIBERID", "PLATE": "PLATE", "MJD": "MJD5", "TELESCOPE": "TELESCOP"}
    columns = {name: [header[card] for header in headers] for name, card in cards.items()}
    columns["RELEASE"] = [data_id.release for data_id in files]
    columns["FIELD"] = [data_id.values.get("field", "M67") for data_id in files]
    assert keys_from_table(written(tmp_path / "allVisit.fits", **columns), VISITS) == (files, [])


def _rows(path: Path) -> None:
    """A table of a few rows, of which the header says that it has as many as there is room for."""
    Table({"PLATE": [5226], "MJD": [56000], "FIBERID": [1]}).write(path, format="fits")
    contents = path.read_bytes()
    place = contents.index(b"NAXIS2  =                    1")
    path.write_bytes(contents[:place] + b"NAXIS2  =          30000000000" + contents[place + 30 :])
    os.truncate(path, 1 << 40)


def _cell(path: Path, width: int) -> None:
    """A table of one row, with a text that is not there."""
    columns = [fits.Column(name, "1A", array=["1"]) for name in ("PLATE", "MJD", "FIBERID")]
    fits.BinTableHDU.from_columns(columns).writeto(path)
    contents = path.read_bytes().replace(b"NAXIS1  =                    3", f"NAXIS1  = {width + 2:20}".encode())
    path.write_bytes(contents.replace(b"TFORM1  = '1A      '" + b" " * 10, f"TFORM1  = '{width}A'".ljust(30).encode()))
    os.truncate(path, path.stat().st_size + width)


def _endless(path: Path) -> None:
    contents = path.read_bytes()
    path.write_bytes(contents[:2880] + contents[2880:].replace(b"END" + b" " * 77, b" " * 80))
    os.truncate(path, 1 << 40)


def _votable(path: Path) -> None:
    """A table whose data are said to be elsewhere, without end."""
    made = Table({"PLATE": [5226], "MJD": [56000], "FIBERID": [1]})
    made.write(path, format="votable", tabledata_format="binary2")
    text = path.read_text()
    assert "<STREAM" in text
    path.write_text(text.replace("<STREAM", '<STREAM href="file:///dev/zero"'))


BOMBS: dict[str, tuple[Callable[[Path], object], str]] = {
    "FIFO": (os.mkfifo, "a FIFO, not a file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "a device, not a file"),
    "folder": (Path.mkdir, "a folder, not a file"),
    "gz": (lambda path: path.write_bytes(gzip.compress(bytes(1 << 27), 1)), "unpacks to more than"),
    "bz2": (lambda path: path.write_bytes(bz2.compress(bytes(1 << 27))), "unpacks to more than"),
    "xz": (lambda path: path.write_bytes(lzma.compress(bytes(1 << 27), preset=0)), "unpacks to more than"),
    "zip": (lambda path: path.write_bytes(zipped(bytes(1 << 27))), "unpacks to more than"),
    "text": (lambda path: (path.write_text("plate,mjd"), os.truncate(path, 1 << 40)), "has 1099511627776 bytes"),
    "rows": (_rows, "it has 30000000000 rows"),
    "header": (lambda path: (_cell(path, 100), _endless(path)), "a header that does not end"),
    "row": (lambda path: _cell(path, 1_000_000_000), "it has rows of 1000000002 bytes"),
    "cell": (lambda path: _cell(path, 900_000), "several values a row, or very long ones"),
    "VOTable": (_votable, "a VOTable whose data are elsewhere"),
}


@pytest.mark.parametrize("sort", BOMBS)
def test_what_would_take_all_memory_or_wait_for_ever(sort: str, tmp_path: Path) -> None:
    make, match = BOMBS[sort]
    make(tmp_path / "table")
    start = time.monotonic()
    with pytest.raises(CatalogueError, match=match) as caught:
        read(tmp_path / "table", release="DR10")
    assert time.monotonic() - start < 10
    assert caught.value.path == str(tmp_path / "table")
