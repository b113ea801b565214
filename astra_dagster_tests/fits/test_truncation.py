"""A file that is still being written is told from one that is not what it should be."""

import gzip
from pathlib import Path

import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from astra_dagster import files
from astra_dagster.errors import InputMissingError
from astra_dagster.fits.truncation import is_cut_short

VISIT = "dr17/apogee/spectro/redux/dr17/visit/apo25m/120+12/5226/56000/apVisit-dr17-5226-56000-001.fits"


def test_files_of_a_mirror_are_whole(synthetic: Path) -> None:
    files = list(synthetic.rglob("*.fits"))
    assert len(files) > 20
    assert not any(map(is_cut_short, files))


def test_real_files_are_whole(real_mirrors: list[Path]) -> None:
    assert not any(is_cut_short(path) for root in real_mirrors for path in root.rglob("*.fits"))


@given(missing=st.floats(0, 1, exclude_min=True))
def test_a_file_of_any_length_is_cut_short(synthetic: Path, tmp_path: Path, missing: float) -> None:
    whole = (synthetic / VISIT).read_bytes()
    with fits.open(synthetic / VISIT) as hdus:
        ends = {hdu.fileinfo()["datLoc"] + -(-hdu.size // 2880) * 2880 for hdu in hdus}
    assert len(whole) in ends
    length = len(whole) - max(1, round(missing * len(whole)))
    (tmp_path / "x.fits").write_bytes(whole[:length])
    assert is_cut_short(tmp_path / "x.fits") == (length not in ends)


def test_what_is_no_fits_file_is_not_cut_short(tmp_path: Path, synthetic: Path) -> None:
    path = tmp_path / "x.fits"
    for contents in (b"x", b"no FITS file" * 1000, b"SIMPLE  = T".ljust(80) + b"END".ljust(2800)):
        path.write_bytes(contents)
        assert not is_cut_short(path)
    path.write_bytes(b"")
    assert is_cut_short(path)
    packed = tmp_path / "x.fits.gz"
    packed.write_bytes(gzip.compress((synthetic / VISIT).read_bytes(), 1)[:1000])
    assert not is_cut_short(packed)
    with pytest.raises(InputMissingError):
        is_cut_short(tmp_path / "none.fits")


def test_a_file_is_opened_once(synthetic: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, real = [], files.open_descriptor
    monkeypatch.setattr(files, "open_descriptor", lambda path: opened.append(path) or real(path))
    assert not is_cut_short(synthetic / VISIT)
    assert opened == [synthetic / VISIT]
