"""Every difference of our spectra from those of the loaders of specutils, with the reason."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from specutils import Spectrum, SpectrumList

from astra_dagster.errors import SpectrumFileError
from astra_dagster.spectra.batch import FLUX_UNIT
from astra_dagster_tests.spectra.loaded import forward, inverse_variance, ours, theirs


@dataclass(frozen=True)
class Difference:
    """Where a loader of specutils 2.4 and ours disagree.

    `check` asserts it of one file and says how many pixels, rows or files it concerns. Of one that is `rare` most real
    files have none.
    """

    loader: str
    product: str
    what: str
    why_ours: str
    check: Callable[[Path], int]
    rare: bool = False


def decreasing(path: Path) -> int:
    assert np.all(np.diff(theirs(path, "APOGEE apVisit").spectral_axis) < 0)
    assert np.all(np.diff(ours(path, "apVisit").spectral_axis) > 0)
    return 1


def without_mask(loader: str, product: str) -> Callable[[Path], int]:
    def check(path: Path) -> int:
        mine = ours(path, product, **({"row": 0} if product == "apStar" else {}))
        assert theirs(path, loader).mask is None
        return int(mine.mask.sum())

    return check


def weight_of_bad_pixels(loader: str, product: str) -> Callable[[Path], int]:
    def check(path: Path) -> int:
        mine = ours(path, product, **({"row": 0} if product == "apStar" else {}))
        weight = inverse_variance(theirs(path, loader))[mine.mask]
        assert np.all(mine.uncertainty.array[mine.mask] == 0)
        assert np.all(mine.uncertainty.array[~mine.mask] > 0)
        return int(np.sum(weight != 0))

    return check


def good_pixels_masked(loader: str, product: str, **options: Any) -> Callable[[Path], int]:
    def check(path: Path) -> int:
        other, mine = theirs(path, loader, **options), ours(path, product)
        return int(np.sum(other.mask[forward(other)] & ~np.atleast_2d(mine.mask)[0]))

    return check


def bad_pixels_unmasked(loader: str, product: str) -> Callable[[Path], int]:
    def check(path: Path) -> int:
        other, mine = theirs(path, loader), ours(path, product)
        return int(np.sum(~other.mask[forward(other)] & np.atleast_2d(mine.mask)[0]))

    return check


def three_chips(path: Path) -> int:
    assert [len(part.flux) for part in theirs(path, "SDSS-V apVisit", SpectrumList)] == [
        len(ours(path, "apVisit").flux) // 3
    ] * 3
    assert len(ours(path, "apVisit", SpectrumList)) == 1
    return 1


def first_row_only(path: Path) -> int:
    mine = ours(path, "apStar")
    assert theirs(path, "APOGEE apStar").shape == mine.shape[1:]
    assert len(theirs(path, "APOGEE apStar", SpectrumList)) == 1
    assert len(ours(path, "apStar", SpectrumList)) == len(mine.meta["row"]) == len(mine.flux)
    return len(mine.flux) - 1


def last_visits_lost(path: Path) -> int:
    mine = ours(path, "apStar", SpectrumList)
    visits = fits.getval(path, "NVISITS")
    assert len(mine) == visits + 2 or len(mine) == 2
    if visits == 1:
        with pytest.raises(ValueError, match="Only 1 visit"):
            theirs(path, "SDSS-V apStar", SpectrumList)
        return len(mine)
    other = theirs(path, "SDSS-V apStar", SpectrumList)
    assert [spectrum.meta["row"] for spectrum in mine[len(other) :]] == [f"visit {visits - 1}", f"visit {visits}"]
    return len(mine) - len(other)


def one_dimensional(path: Path) -> int:
    with pytest.raises(IndexError):
        theirs(path, "APOGEE apStar")
    assert ours(path, "apStar").shape == (8575,)
    assert ours(path, "apStar").meta["row"] == "combined, pixel weights"
    assert len(ours(path, "apStar", SpectrumList)) == 1
    return 1


def single_precision(path: Path) -> int:
    loglam = fits.getdata(path, 1)["loglam"]
    exact = 10 ** loglam.astype(float)
    np.testing.assert_allclose(ours(path, "spec").spectral_axis.value, exact, rtol=1e-15)
    axis = theirs(path, "SDSS-III/IV spec").spectral_axis
    assert axis.dtype == np.float32
    return int(np.sum(np.abs(axis.value / exact - 1) > 1e-9))


def unit_warning(path: Path) -> int:
    with pytest.warns(u.UnitsWarning, match="multiple slashes"):
        Spectrum.read(path, format="SDSS-III/IV spec")
    assert ours(path, "spec").unit == u.Unit(FLUX_UNIT)
    return 1


def big_endian(path: Path) -> int:
    kept = theirs(path, "SDSS-III/IV spec").flux.dtype
    assert (kept.kind, kept.itemsize, kept.isnative) == ("f", 4, sys.byteorder == "big")
    return 1


def arbitrary_unit(path: Path) -> int:
    other, mine = theirs(path, "APOGEE aspcapStar"), ours(path, "aspcapStar")
    assert not other.unit.is_equivalent(u.one)
    assert other.unit.to_string() == "arbitrary units"
    assert mine.unit == mine.uncertainty.unit == u.one
    return 1


def first_table_only(path: Path) -> int:
    mine = ours(path, "mwmStar", SpectrumList, instrument="APOGEE")
    with pytest.warns(UserWarning, match="HDU not specified"):
        other = Spectrum.read(path, format="SDSS-V mwm")
    assert other.shape == (4648,)
    assert [spectrum.meta["telescope"] for spectrum in mine] == ["apo25m", "lco25m"]
    with pytest.raises(SpectrumFileError, match="both BOSS and APOGEE"):
        ours(path, "mwmStar")
    return len(mine)


def single_precision_column(path: Path) -> int:
    exact = 10 ** (4.179 + 6e-6 * np.arange(8575))
    axis = theirs(path, "SDSS-V mwm", hdu=3).spectral_axis.value
    np.testing.assert_allclose(ours(path, "mwmStar", instrument="APOGEE").spectral_axis.value, exact, rtol=1e-14)
    return int(np.sum(np.abs(axis / exact - 1) > 1e-9))


def flags_as_mask(path: Path) -> int:
    other, mine = theirs(path, "SDSS-V mwm", hdu=1), ours(path, "mwmVisit", bitmask=True)
    np.testing.assert_array_equal(mine.meta["bitmask"] != 0, other.mask)
    assert np.any(~other.mask & mine.mask)
    return int(np.sum(other.mask & ~mine.mask))


def header_in_meta(path: Path) -> int:
    assert isinstance(theirs(path, "APOGEE apVisit").meta["header"], fits.Header)
    assert all(isinstance(value, (int, float, str, type(None))) for value in ours(path, "apVisit").meta.values())
    return 1


DIFFERENCES = (
    Difference(
        "APOGEE apVisit",
        "apVisit",
        "wavelength decreases: pixels in the order of the file",
        "increasing wavelengths are what np.interp, np.searchsorted and our own analyses take",
        decreasing,
    ),
    Difference(
        "APOGEE apVisit",
        "apVisit",
        "no mask, though the file has one",
        "bad are pixels with bits 0-7 and 14 of the file's mask, and those without a usable error",
        without_mask("APOGEE apVisit", "apVisit"),
    ),
    Difference(
        "APOGEE apVisit",
        "apVisit",
        "bad pixels keep their error: those of 1e10 have a weight of 1e-20, flagged ones that of a good pixel",
        "a weight of exactly 0, so that a fit that knows nothing of masks is not misled",
        weight_of_bad_pixels("APOGEE apVisit", "apVisit"),
    ),
    Difference(
        "APOGEE apVisit",
        "apVisit",
        "the whole header in meta",
        "what analyses ask for, by one name for all products; a header is of the file, not of one of its rows",
        header_in_meta,
    ),
    Difference(
        "SDSS-V apVisit",
        "apVisit",
        "mask != 0: good pixels are masked",
        "bits 8-13 are warnings (sky lines, persistence), not reasons to reject a pixel",
        good_pixels_masked("SDSS-V apVisit", "apVisit"),
    ),
    Difference(
        "SDSS-V apVisit",
        "apVisit",
        "pixels of a huge error without a flag are not masked",
        "they hold no data; many files have none, others up to 41",
        bad_pixels_unmasked("SDSS-V apVisit", "apVisit"),
        rare=True,
    ),
    Difference(
        "SDSS-V apVisit",
        "apVisit",
        "a list of three spectra, one a chip",
        "a list has one spectrum an observation, whatever the product",
        three_chips,
    ),
    Difference(
        "APOGEE apStar",
        "apStar",
        "the first row alone, in lists too",
        "the visits are in the file to be used",
        first_row_only,
    ),
    Difference(
        "APOGEE apStar",
        "apStar",
        "no mask, not even where the flux is NaN",
        "as for apVisit",
        without_mask("APOGEE apStar", "apStar"),
    ),
    Difference(
        "APOGEE apStar",
        "apStar",
        "bad pixels have weights, some NaN",
        "as for apVisit; a NaN spoils every sum",
        weight_of_bad_pixels("APOGEE apStar", "apStar"),
    ),
    Difference(
        "APOGEE apStar",
        "apStar of one visit",
        "an array of one dimension, as before DR17: an IndexError",
        "it is a spectrum",
        one_dimensional,
    ),
    Difference(
        "SDSS-V apStar",
        "apStar",
        "a list of the first NVISITS rows, an error for one visit",
        "two rows are combinations, so that the last two visits are lost",
        last_visits_lost,
    ),
    Difference(
        "SDSS-V apStar",
        "apStar",
        "mask != 0: good pixels are masked (of the first row)",
        "as for apVisit",
        good_pixels_masked("SDSS-V apStar", "apStar"),
    ),
    Difference(
        "SDSS-V apStar",
        "apStar",
        "pixels without a usable error are not masked (of the first row)",
        "their flux and error are NaN",
        bad_pixels_unmasked("SDSS-V apStar", "apStar"),
    ),
    Difference(
        "APOGEE aspcapStar",
        "aspcapStar",
        "a unit 'arbitrary units' that converts to nothing",
        "flux over continuum is a plain number",
        arbitrary_unit,
    ),
    Difference(
        "APOGEE aspcapStar",
        "aspcapStar",
        "no mask",
        "gaps have flux 0, and errors of 0 or 10",
        without_mask("APOGEE aspcapStar", "aspcapStar"),
    ),
    Difference(
        "APOGEE aspcapStar",
        "aspcapStar",
        "bad pixels have weights, infinite where the error is 0",
        "a gap must not outweigh the spectrum",
        weight_of_bad_pixels("APOGEE aspcapStar", "aspcapStar"),
    ),
    Difference(
        "SDSS-III/IV spec",
        "spec",
        "mask is and_mask != 0: good pixels are masked",
        "most of its bits are warnings; what the pipeline rejects has an inverse variance of 0",
        good_pixels_masked("SDSS-III/IV spec", "spec"),
    ),
    Difference(
        "SDSS-III/IV spec",
        "spec",
        "pixels of inverse variance 0 are not masked",
        "they hold no data",
        bad_pixels_unmasked("SDSS-III/IV spec", "spec"),
    ),
    Difference(
        "SDSS-V spec",
        "spec",
        "mask is or_mask != 0: most of a spectrum can be masked",
        "as for and_mask",
        good_pixels_masked("SDSS-V spec", "spec", hdu=1),
    ),
    Difference(
        "SDSS-III/IV spec",
        "spec",
        "wavelength computed in single precision, wrong by up to 1e-7 (30 m/s)",
        "loglam to double precision first, then the power",
        single_precision,
    ),
    Difference(
        "SDSS-III/IV spec",
        "spec",
        "a warning on BUNIT, an error where warnings are errors",
        "the unit is that of the data model",
        unit_warning,
    ),
    Difference(
        "SDSS-III/IV spec",
        "spec",
        "flux in single precision and the byte order of the file",
        "compiled code takes native numbers, sums over many pixels take double precision",
        big_endian,
    ),
    Difference(
        "SDSS-V mwm",
        "mwmStar",
        "the first table with spectra, with a warning",
        "both telescopes of the spectrograph that is asked for; an error that says so if none is",
        first_table_only,
    ),
    Difference(
        "SDSS-V mwm",
        "mwmStar",
        "wavelength from a column in single precision",
        "the grid of the header is the same and exact",
        single_precision_column,
    ),
    Difference(
        "SDSS-V mwm",
        "mwmVisit",
        "mask is pixel_flags != 0: good pixels are masked, and pixels of inverse variance 0 are not",
        "as for apVisit and spec",
        flags_as_mask,
    ),
)
