"""The reader of spec files: against astropy, on real and synthetic files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from astra_dagster.checks.output_checks import SNR_RELATIVE
from astra_dagster.errors import SpectrumFileError
from astra_dagster.spectra.batch import FLUX_UNIT
from astra_dagster.spectra.products.spec import read_spec
from astra_dagster_tests.mirrors import find_real, skip_without
from astra_dagster_tests.spectra.synthetic import write_spec

DETAILS = {
    "run2d": "RUN2D",
    "catalogid": "CATALOGID",
    "sdss_id": "SDSS_ID",
    "ra": "PLUG_RA",
    "dec": "PLUG_DEC",
    "class": "CLASS",
    "subclass": "SUBCLASS",
    "z": "Z",
    "snr": "SN_MEDIAN_ALL",
    "zwarning": "ZWARNING",
}
CARDS = {"plate": "PLATEID", "field": "FIELDID", "mjd": "MJD", "fibre": "FIBERID"}


def check_against_astropy(path: Path) -> None:
    spectrum = read_spec(path, bitmask=True)
    with fits.open(path, memmap=False) as hdus:
        header, table, row = hdus[0].header, hdus[1].data, hdus[2].data[0]
        has = {name for name in DETAILS.values() if name in hdus[2].columns.names}
    assert spectrum.flux.shape == (1, len(table))
    assert spectrum.unit == FLUX_UNIT
    assert spectrum.chips == (("all", 0, len(table)),)
    np.testing.assert_array_equal(spectrum.flux[0], table["flux"])
    np.testing.assert_array_equal(spectrum.wavelength[0], 10 ** table["loglam"].astype(float))
    np.testing.assert_array_equal(spectrum.bitmask[0], table["and_mask"])
    ivar = table["ivar"].astype(float)
    bad = ~((ivar > 0) & np.isfinite(ivar) & np.isfinite(table["flux"]))
    np.testing.assert_array_equal(spectrum.bad[0], bad)
    np.testing.assert_array_equal(spectrum.ivar[0], np.where(bad, 0, ivar))
    np.testing.assert_array_equal(spectrum.error[0, ~bad], 1 / np.sqrt(ivar[~bad]))
    assert np.isinf(spectrum.error[0, bad]).all()
    assert np.all(np.diff(spectrum.wavelength) > 0)
    assert spectrum.bitmask.dtype == np.int64
    assert {array.dtype for array in (spectrum.flux, spectrum.ivar, spectrum.wavelength)} == {np.dtype(float)}

    meta: dict[str, Any] = {name: values[0] for name, values in spectrum.meta.items()}
    assert meta.keys() == DETAILS.keys() | CARDS.keys() | {"frame", "object"}
    assert meta["frame"] == "HELIOCEN"
    for name, column in DETAILS.items():
        value = row[column] if column in has else None
        assert meta[name] == (value.strip() if isinstance(value, str) else value), name
    for name, card in CARDS.items():
        assert meta[name] == (header.get(card) or None), name
    assert {type(value) for value in meta.values()} <= {str, int, float, type(None)}


def test_real_files(real_mirrors: list[Path]) -> None:
    for path in find_real(real_mirrors, "spec"):
        check_against_astropy(path)
        spectrum = read_spec(path)
        ratio = (spectrum.flux * np.sqrt(spectrum.ivar))[~spectrum.bad]
        snr = np.median(ratio) if len(ratio) else 0.0  # of a fibre that saw nothing
        # The pipeline leaves some good pixels out.
        assert snr == pytest.approx(spectrum.meta["snr"][0], rel=SNR_RELATIVE["spec"])
        # Both spectrographs from the blue to the red, in pixels of 69 km/s.
        np.testing.assert_allclose(np.diff(np.log10(spectrum.wavelength[0])), 1e-4, atol=1e-6)
        assert spectrum.wavelength[0, 0] < 4000 < 9000 < spectrum.wavelength[0, -1]


def test_real_legacy_files_have_their_run_in_the_second_table(real_mirrors: list[Path]) -> None:
    legacy = [path for path in find_real(real_mirrors, "spec") if "RUN2D" not in fits.getheader(path)]
    if not legacy:
        skip_without("spec of SDSS-I/II, whose header has no RUN2D")
    for path in legacy:
        meta = read_spec(path).meta
        assert meta["run2d"][0] in ("26", "103", "104")
        # The header has where the telescope pointed to.
        assert fits.getheader(path)["RA"] != pytest.approx(meta["ra"][0], abs=1e-3)


def test_synthetic_files(synthetic: Path) -> None:
    paths = sorted(synthetic.rglob("spec*.fits"))
    assert len(paths) == 5
    for path in paths:
        spectrum = read_spec(path)
        with fits.open(path, memmap=False) as hdus:
            np.testing.assert_array_equal(spectrum.flux[0], hdus[1].data["flux"])
            assert spectrum.meta["run2d"] == (hdus[2].data["RUN2D"][0],)
            row = hdus[2].data[0]
            assert spectrum.meta["class"] == (row["CLASS"],) == ("STAR",)
            assert (spectrum.meta["ra"], spectrum.meta["snr"]) == ((row["PLUG_RA"],), (row["SN_MEDIAN_ALL"],))


@pytest.mark.parametrize(("run2d", "pixels"), [("26", 3842), ("v5_13_2", 4625), ("v6_0_4", 4648), ("v6_2_1", 4648)])
def test_files_of_all_surveys(run2d: str, pixels: int, tmp_path: Path) -> None:
    path = write_spec(tmp_path / "spec.fits", run2d)
    check_against_astropy(path)
    spectrum = read_spec(path)
    assert spectrum.flux.shape == (1, pixels)
    assert spectrum.meta["run2d"] == (run2d,)
    assert spectrum.meta["ra"] == (148.965814255,)
    modern = run2d.startswith("v6")
    assert spectrum.meta["catalogid"] == ((27021598150202075 if modern else None),)
    assert spectrum.meta["field"] == ((112360 if modern else None),)
    assert spectrum.meta["plate"] == ((None if modern else 266),)


def test_options(tmp_path: Path) -> None:
    path = write_spec(tmp_path / "spec.fits")
    plain, full = read_spec(path), read_spec(path, wavelength=False, bitmask=True)
    assert plain.bitmask is None
    assert full.wavelength is None
    np.testing.assert_array_equal(plain.bad, full.bad)
    assert plain.meta == full.meta


def test_the_mask_rejects_nothing(tmp_path: Path) -> None:
    spectrum = read_spec(write_spec(tmp_path / "spec.fits"), bitmask=True)
    flagged = spectrum.bitmask != 0
    assert 0.3 < flagged.mean() < 0.5
    assert spectrum.bad[flagged].mean() < 0.05


def test_odd_inverse_variances(tmp_path: Path) -> None:
    path = write_spec(tmp_path / "spec.fits")
    with fits.open(path, mode="update", memmap=False) as hdus:
        table = hdus[1].data
        table["IVAR"][:] = 1
        table["IVAR"][[1, 2, 3, 4]] = 0, -1, np.nan, np.inf
        table["FLUX"][[5, 6]] = np.nan, -np.inf
    spectrum = read_spec(path)
    assert np.flatnonzero(spectrum.bad).tolist() == [1, 2, 3, 4, 5, 6]
    assert np.flatnonzero(spectrum.ivar == 0).tolist() == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("keep", [2, 1])
def test_a_spectrum_without_its_row_is_a_spectrum(keep: int, tmp_path: Path) -> None:
    """Without the pipeline's table, or with that of another spectrum's lines in its place."""
    path = write_spec(tmp_path / "spec.fits")
    with fits.open(path, memmap=False) as hdus:
        lines = [fits.BinTableHDU.from_columns([fits.Column("LINEZ", "E", array=np.zeros(3))])] if keep == 1 else []
        fits.HDUList([*hdus[:2], *lines]).writeto(path, overwrite=True)
    spectrum = read_spec(path)
    assert spectrum.meta["run2d"] == ("v6_1_3",)
    assert spectrum.meta["ra"] == (148.965814255,)  # of the header
    assert spectrum.meta["z"] == spectrum.meta["catalogid"] == (None,)


@pytest.mark.parametrize(
    ("row", "loglam"), [(-1, np.nan), (-1, np.inf), (-1, 1000.0), (-1, 0.0), (0, np.nan), (0, -np.inf), (9, np.nan)]
)
def test_wavelengths_that_are_none(row: int, loglam: float, tmp_path: Path) -> None:
    path = write_spec(tmp_path / "spec.fits")
    with fits.open(path, mode="update", memmap=False) as hdus:
        hdus[1].data["LOGLAM"][row] = loglam
    for wavelength in (True, False):
        with pytest.raises(
            SpectrumFileError, match=r"HDU 1 \(coadded spectrum\) has wavelengths that are not at equal"
        ):
            read_spec(path, wavelength=wavelength)


@pytest.mark.parametrize("rows", [0, 1])
def test_a_spectrum_of_no_length(rows: int, tmp_path: Path) -> None:
    path = write_spec(tmp_path / "spec.fits")
    with fits.open(path, memmap=False) as hdus:
        hdus[1] = fits.BinTableHDU(hdus[1].data[:rows])
        hdus.writeto(path, overwrite=True)
    for wavelength in (True, False):
        with pytest.raises(SpectrumFileError, match=rf"HDU 1 \(coadded spectrum\) has {rows} rows"):
            read_spec(path, wavelength=wavelength)
