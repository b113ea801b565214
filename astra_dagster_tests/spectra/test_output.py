"""FITS files that tasks write: byte by byte the same, valid to astropy, and read back by everything."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.io.votable.ucd import parse_ucd
from astropy.table import Table
from astropy.units import Unit
from hypothesis import given
from hypothesis import strategies as st

from astra_dagster.errors import InputMissingError, SpectrumFileError
from astra_dagster.fits import writer as encode
from astra_dagster.fits.reader import FitsFile
from astra_dagster.spectra.batch import FLUX_UNIT, SpectrumBatch
from astra_dagster.spectra.output import (
    WORDS,
    describe_cards,
    encode_spectra,
    is_output,
    make_pairs,
    read_output,
    read_pairs,
)
from astra_dagster_tests.spectra.outputs import a_batch, write, write_by_pixel

TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=300)
VALUES = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**63), st.floats(allow_nan=False, allow_infinity=False), st.none(), TEXT
)


def valid(contents: bytes) -> fits.HDUList:
    """Contents as astropy reads them, after the strictest of its checks."""
    assert len(contents) % 2880 == 0
    hdus = fits.open(io.BytesIO(contents), checksum=True)
    hdus.verify("exception")
    for hdu in hdus:
        assert hdu.verify_checksum() == 1
        assert hdu.verify_datasum() == 1
        assert "DATE" not in hdu.header
    return hdus


@given(VALUES, TEXT)
def test_cards_say_to_astropy_what_they_were_given(value: object, comment: str) -> None:
    with valid(encode.make_primary([("NAME", value, comment), ("AFTER", 1, "")])) as hdus:
        read = hdus[0].header["NAME"]
        assert hdus[0].header["AFTER"] == 1
    if value is None:
        assert read is None
    elif isinstance(value, str):
        assert read.rstrip() == value.rstrip()
    else:
        assert read == value
        assert isinstance(read, bool) == isinstance(value, bool)


@given(value=VALUES)
def test_cards_say_to_us_what_they_were_given(tmp_path: Path, value: object) -> None:
    path = tmp_path / "card.fits"
    path.write_bytes(encode.make_primary([("NAME", value, "a comment")]))
    with FitsFile(path) as file:
        read = file.hdu(0).header.get("NAME")
    assert read == (value.rstrip() if isinstance(value, str) else value)


@pytest.mark.parametrize(
    "card", [("LOWER case", 1), ("TOOLONGNAME", 1), ("", 1), ("A", "\n"), ("A", "ü"), ("A", np.inf)]
)
def test_what_cannot_stand_in_a_header(card: tuple[str, object]) -> None:
    with pytest.raises(ValueError, match="no FITS"):
        encode.make_card(*card)


@given(
    values=st.dictionaries(
        st.from_regex(r"[a-z_]{1,30}", fullmatch=True),
        st.one_of(VALUES, st.lists(st.one_of(st.integers(), st.none(), TEXT), max_size=60)),
        max_size=12,
    )
)
def test_pairs_survive_the_way_to_a_header_and_back(tmp_path: Path, values: dict[str, object]) -> None:
    path = tmp_path / "pairs.fits"
    path.write_bytes(encode.make_primary(make_pairs("PAR", values, "parameter")))
    with FitsFile(path) as file:
        assert read_pairs(file.hdu(0).header, "PAR") == values


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("own", [False, True])
def test_a_batch_survives_the_way_to_a_file_and_back(n: int, own: bool, tmp_path: Path) -> None:
    batch = a_batch(n, own)
    path = write(tmp_path / "out.fits", batch)
    valid(path.read_bytes()).close()
    again = read_output(path)
    for name in ("flux", "ivar", "bad", "wavelength", "continuum"):
        np.testing.assert_array_equal(getattr(again, name), getattr(batch, name))
        assert getattr(again, name).dtype == getattr(batch, name).dtype
    assert (again.unit, again.chips, again.continuum_unit) == (batch.unit, batch.chips, batch.continuum_unit)
    assert again.meta == {"object": ("it's",) * n, "ra": (None,) * n, "fibre": tuple(range(n)), "q": (1.5,) * n}
    assert encode_spectra(batch) == encode_spectra(a_batch(n, own))


@pytest.mark.parametrize(("n", "largest"), [(1, 1 << 14), (3, 1 << 30), (2, 1 << 40)])
def test_the_mask_of_the_survey_goes_with_it(n: int, largest: int, tmp_path: Path) -> None:
    plain = a_batch(n, own=False)
    bitmask = np.arange(plain.flux.size).reshape(plain.flux.shape)
    bitmask[0, 3] = largest
    batch = replace(plain, bitmask=bitmask, mask_name="SPPIXMASK", reject=("NOSKY", "BRIGHTSKY"))
    path = write(tmp_path / "out.fits", batch)
    with valid(path.read_bytes()) as hdus:
        column = hdus["SPECTRUM"].data["bitmask"]
        np.testing.assert_array_equal(column, bitmask)
        assert column.dtype.itemsize == (8 if largest > 1 << 31 else 4)
        assert hdus["SPECTRUM"].header["PIXMASK"] == "SPPIXMASK"
    again = read_output(path)
    np.testing.assert_array_equal(again.bitmask, bitmask)
    assert again.bitmask.dtype == np.int64
    assert (again.mask_name, again.reject) == ("SPPIXMASK", ("NOSKY", "BRIGHTSKY"))
    np.testing.assert_array_equal(again.flagged(["NOSKY"]), (bitmask >> 22 & 1) == 1)
    without = read_output(write(tmp_path / "plain.fits", plain))
    assert (without.bitmask, without.mask_name, without.reject) == (None, "", ())


@pytest.mark.parametrize("n", [1, 3])
def test_astropy_reads_it_as_a_table_without_a_warning(n: int, tmp_path: Path) -> None:
    batch = a_batch(n, own=False)
    table = Table.read(write(tmp_path / "out.fits", batch))
    assert table.colnames == ["wavelength", "flux", "ivar", "mask"]
    assert table["wavelength"].unit == Unit("Angstrom")
    assert len(table) == n
    np.testing.assert_array_equal(table["flux"], batch.flux)
    np.testing.assert_array_equal(table["mask"], batch.bad)
    np.testing.assert_array_equal(table["wavelength"], np.broadcast_to(batch.wavelength, batch.flux.shape))
    with fits.open(tmp_path / "out.fits") as hdus:
        assert Unit(hdus["CONTINUUM"].header["BUNIT"], format="fits") == Unit(FLUX_UNIT)
        assert hdus["CONTINUUM"].data.shape == batch.flux.shape
        assert hdus["SPECTRUM"].header["VACUUM"] is True
    for ucd in WORDS.values():
        parse_ucd(ucd, check_controlled_vocabulary=True)


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("own", [False, True])
def test_the_layout_of_earlier_versions_is_read(n: int, own: bool, tmp_path: Path) -> None:
    batch = a_batch(n, own)
    again = read_output(write_by_pixel(tmp_path / "earlier.fits", batch))
    for name in ("flux", "ivar", "bad", "wavelength", "continuum"):
        np.testing.assert_array_equal(getattr(again, name), getattr(batch, name))
    assert (again.chips, again.meta["fibre"]) == (batch.chips, batch.meta["fibre"])


def cards_of(**meta: object) -> dict[str, object]:
    n = max((len(values) for values in meta.values()), default=1)
    batch = SpectrumBatch(flux=np.ones((n, 3)), ivar=np.ones((n, 3)), wavelength=np.arange(1.0, 4.0), meta=meta)
    return {keyword: value for keyword, value, _ in describe_cards(batch)}


def test_cards_say_who_it_is_and_how_it_moves() -> None:
    assert cards_of() == {}
    who = {"object": ("2M1", "2M1"), "ra": (12.5, 12.5), "dec": (-3.0, -3.0)}
    assert cards_of(**who, frame=("SOURCE",) * 2, snr=(50.5, None), v_helio=(299.792458, 300.0)) == {
        "OBJECT": "2M1",
        "RA": 12.5,
        "DEC": -3.0,
        "SNR": 50.5,
        "SPECSYS": "SOURCE",
        "SSYSSRC": "BARYCENT",
        "ZSOURCE": 0.001,
        "V_RAD": 299.792458,
    }
    assert cards_of(frame=("HELIOCEN",), z=(0.5,), **{"class": ("QSO",)}) == {
        "SPECSYS": "HELIOCEN",
        "SSYSSRC": "HELIOCEN",
        "ZSOURCE": 0.5,
    }
    odd = {"object": ("ü",), "ra": (float("nan"),), "dec": ("x",), "snr": (True,), "v_helio": (999999.0,)}
    assert cards_of(**odd, frame=("TOPOCENT",)) == {"SPECSYS": "TOPOCENT"}
    assert cards_of(object=("a", "b"), frame=("SOURCE", "TOPOCENT")) == {}


def test_specutils_reads_it_and_does_not_take_the_continuum_for_the_flux(tmp_path: Path) -> None:
    import subprocess
    import sys

    batch = a_batch(1, own=True)
    path = write(tmp_path / "out.fits", batch)
    plain = "from specutils import Spectrum; s = Spectrum.read({!r}); print(s.flux.unit, s.flux[0].value)"
    without = subprocess.run(
        [sys.executable, "-c", plain.format(str(path))], capture_output=True, text=True, check=False
    )
    assert "Could not identify column containing the flux" in without.stderr
    with_us = subprocess.run(
        [sys.executable, "-c", "import astra_dagster.spectra.loaders;" + plain.format(str(path))],
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(with_us.stdout) == batch.flux[0, 0]


def test_what_is_no_output(tmp_path: Path, synthetic: Path) -> None:
    visit = next(synthetic.rglob("apVisit*.fits"))
    assert not is_output(visit)
    with pytest.raises(SpectrumFileError, match="ORIGIN"):
        read_output(visit)
    with pytest.raises(InputMissingError):
        read_output(tmp_path / "none.fits")
    assert not is_output(tmp_path / "none.fits")
    path = write(tmp_path / "out.fits", a_batch(1, own=False))
    assert is_output(path)
    whole = path.read_bytes()
    with fits.open(path) as hdus:
        needed = hdus[2]._data_offset + hdus[2].data.nbytes
    for place in (*range(2880, needed, 997), needed - 1):
        path.write_bytes(whole[:place])
        with pytest.raises(SpectrumFileError):
            read_output(path)
