"""Our spectra in specutils: against its own loaders, and every difference from them with the reason."""

import gzip
import importlib
import io
import json
import shutil
import subprocess
import sys
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits, registry
from astropy.nddata import InverseVariance, StdDevUncertainty
from astropy.table import Table
from specutils import Spectrum, SpectrumList
from specutils.io.registers import identify_spectrum_format

from astra_dagster.errors import InputMissingError, SpectrumFileError
from astra_dagster.spectra import loaders
from astra_dagster.spectra.batch import FLUX_UNIT, SpectrumBatch, stack
from astra_dagster.spectra.readers import read_spectra
from astra_dagster_tests.spectra.synthetic import write_ap_star, write_aspcap_star, write_mwm

Files = dict[str, list[Path]]

PATTERNS = {"apVisit": "a?Visit-*.fits", "apStar": "a?Star-*.fits", "spec": "spec-*.fits"}
REAL_NUMBERS = {"apVisit": 36, "apStar": 8, "spec": 2}


@pytest.fixture(scope="module")
def synthetic_files(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Files of the synthetic mirror with the cards that specutils needs, and small ones of the other products."""
    root = tmp_path_factory.mktemp("complete")
    for pattern in PATTERNS.values():
        for path in sorted(synthetic.rglob(pattern)):
            complete(Path(shutil.copy(path, root)))
    complete(write_ap_star(root / "apStar-r6-2M00000002+0000001.fits", 3))
    built = {
        "apStar of one visit": complete(write_ap_star(root / "one-visit.fits", 1)),
        "aspcapStar": write_aspcap_star(root / "aspcapStar.fits", gap_error=0),
        "mwmStar": complete(write_mwm(root / "mwmStar.fits", (0, 1, 1, 1))),
        "mwmVisit": complete(write_mwm(root / "mwmVisit.fits", (3, 0, 0, 0), star=False)),
    }
    files = {name: sorted(root.glob(pattern)) for name, pattern in PATTERNS.items()}
    return files | {name: [path] for name, path in built.items()}


@pytest.fixture
def real_files(real: Path) -> Files:
    files = {name: sorted(real.rglob(pattern)) for name, pattern in PATTERNS.items()}
    assert {name: len(paths) for name, paths in files.items()} == REAL_NUMBERS
    return files


@pytest.fixture(params=["synthetic", "real"])
def files(request: pytest.FixtureRequest) -> Files:
    return request.getfixturevalue(f"{request.param}_files")  # type: ignore[no-any-return]


def complete(path: Path) -> Path:
    """Add what specutils needs and real files have, where a synthetic one does not."""
    with fits.open(path, mode="update", memmap=False) as hdus:
        if isinstance(hdus[1], fits.BinTableHDU):
            hdus[0].header.setdefault("BUNIT", "1E-17 erg/cm^2/s/Ang")
            for hdu in hdus:
                hdu.add_datasum()
        else:
            hdus[1].header.setdefault("BUNIT", "Flux (10^-17 erg/s/cm^2/Ang)")
            for name, value in {"CRVAL1": 4.179, "CDELT1": 6e-6, "CRPIX1": 1, "CTYPE1": "LOG-LINEAR"}.items():
                hdus[1].header.setdefault(name, value)
    return path


def theirs(path: Path, loader: str, cls: type = Spectrum, **options: Any) -> Any:
    """What a loader of specutils gives, without its warning on the unit that spec files have."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'1E-17 erg/cm.2/s/Angstrom' contains multiple slashes", u.UnitsWarning)
        return cls.read(path, format=loader, **options)


def ours(path: Path, product: str, cls: type = Spectrum, **options: Any) -> Any:
    return cls.read(path, format=f"astra {product}", **options)


def forward(spectrum: Spectrum) -> slice:
    axis = spectrum.spectral_axis
    return slice(None, None, -1) if axis[0] > axis[-1] else slice(None)


def inverse_variance(spectrum: Spectrum) -> Any:
    """In double precision, wavelength increasing."""
    array = spectrum.uncertainty.array.astype(float)[..., forward(spectrum)]
    with np.errstate(divide="ignore"):
        return array**-2 if isinstance(spectrum.uncertainty, StdDevUncertainty) else array


def check_agreement(other: Spectrum, mine: Spectrum, tolerance: float = 0) -> None:
    """Flux, uncertainty of good pixels, wavelength and unit are equal; what is bad in ours has no weight."""
    order = forward(other)
    assert other.shape == mine.shape == mine.mask.shape
    assert mine.spectral_axis.unit == other.spectral_axis.unit == u.AA
    np.testing.assert_allclose(mine.spectral_axis.value, other.spectral_axis.value[order], rtol=tolerance, atol=0)
    np.testing.assert_array_equal(mine.flux.value, other.flux.value[..., order])
    assert isinstance(mine.uncertainty, InverseVariance)
    assert mine.uncertainty.unit == mine.flux.unit**-2
    good = ~mine.mask
    np.testing.assert_allclose(mine.uncertainty.array[good], inverse_variance(other)[good], rtol=1e-15)
    assert np.all(mine.uncertainty.array[~good] == 0)
    assert mine.flux.dtype == mine.spectral_axis.dtype == mine.uncertainty.array.dtype == np.dtype("=f8")
    if other.unit.is_equivalent(FLUX_UNIT):
        assert mine.unit == other.unit == u.Unit("1e-17 erg / (Angstrom s cm2)")
        deviation = isinstance(other.uncertainty, StdDevUncertainty)
        assert other.uncertainty.unit ** (-2 if deviation else 1) == mine.uncertainty.unit


@pytest.mark.parametrize("loader", ["APOGEE apVisit", "SDSS-V apVisit"])
def test_ap_visit_agrees(loader: str, files: Files) -> None:
    for path in files["apVisit"]:
        check_agreement(theirs(path, loader), ours(path, "apVisit"))


def test_ap_star_agrees_in_every_row(files: Files) -> None:
    for path in files["apStar"]:
        mine = ours(path, "apStar", SpectrumList)
        check_agreement(theirs(path, "APOGEE apStar"), mine[0], 1e-14)
        for row, spectrum in enumerate(mine):
            check_agreement(theirs(path, "SDSS-V apStar", idx=row), spectrum, 1e-14)
            assert spectrum.meta == ours(path, "apStar", row=row).meta


def test_aspcap_star_agrees(synthetic_files: Files) -> None:
    for path in synthetic_files["aspcapStar"]:
        check_agreement(theirs(path, "APOGEE aspcapStar"), ours(path, "aspcapStar"), 1e-14)


@pytest.mark.parametrize(("loader", "options"), [("SDSS-III/IV spec", {}), ("SDSS-V spec", {"hdu": 1})])
def test_spec_agrees(loader: str, options: dict[str, int], files: Files) -> None:
    for path in files["spec"]:
        check_agreement(theirs(path, loader, **options), ours(path, "spec"), 2e-7)


def test_mwm_agrees(synthetic_files: Files) -> None:
    path = synthetic_files["mwmVisit"][0]
    check_agreement(theirs(path, "SDSS-V mwm", hdu=1), ours(path, "mwmVisit"), 1e-14)
    path = synthetic_files["mwmStar"][0]
    check_agreement(theirs(path, "SDSS-V mwm", hdu=2), ours(path, "mwmStar", instrument="BOSS"), 1e-7)
    for row, hdu in enumerate((3, 4)):
        mine = ours(path, "mwmStar", instrument="APOGEE", row=row)
        check_agreement(theirs(path, "SDSS-V mwm", hdu=hdu), mine, 1e-7)


@dataclass(frozen=True)
class Difference:
    """Where a loader of specutils 2.4 and ours disagree.

    `check` asserts it of one file and says how many pixels, rows or files it concerns. `real` is their number in all
    the real files, None where none are of that kind.
    """

    loader: str
    product: str
    what: str
    why_ours: str
    check: Callable[[Path], int]
    real: int | None = None


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
        real=36,
    ),
    Difference(
        "APOGEE apVisit",
        "apVisit",
        "no mask, though the file has one",
        "bad are pixels with bits 0-7 and 14 of the file's mask, and those without a usable error",
        without_mask("APOGEE apVisit", "apVisit"),
        real=4055,
    ),
    Difference(
        "APOGEE apVisit",
        "apVisit",
        "bad pixels keep their error: those of 1e10 have a weight of 1e-20, flagged ones that of a good pixel",
        "a weight of exactly 0, so that a fit that knows nothing of masks is not misled",
        weight_of_bad_pixels("APOGEE apVisit", "apVisit"),
        real=4055,
    ),
    Difference(
        "APOGEE apVisit",
        "apVisit",
        "the whole header in meta",
        "what analyses ask for, by one name for all products; a header is of the file, not of one of its rows",
        header_in_meta,
        real=36,
    ),
    Difference(
        "SDSS-V apVisit",
        "apVisit",
        "mask != 0: good pixels are masked",
        "bits 8-13 are warnings (sky lines, persistence), not reasons to reject a pixel",
        good_pixels_masked("SDSS-V apVisit", "apVisit"),
        real=92644,
    ),
    Difference(
        "SDSS-V apVisit",
        "apVisit",
        "pixels of a huge error without a flag are not masked",
        "they hold no data; none in these real files, up to 41 in others",
        bad_pixels_unmasked("SDSS-V apVisit", "apVisit"),
        real=0,
    ),
    Difference(
        "SDSS-V apVisit",
        "apVisit",
        "a list of three spectra, one a chip",
        "a list has one spectrum an observation, whatever the product",
        three_chips,
        real=36,
    ),
    Difference(
        "APOGEE apStar",
        "apStar",
        "the first row alone, in lists too",
        "the visits are in the file to be used",
        first_row_only,
        real=33,
    ),
    Difference(
        "APOGEE apStar",
        "apStar",
        "no mask, not even where the flux is NaN",
        "as for apVisit",
        without_mask("APOGEE apStar", "apStar"),
        real=8078,
    ),
    Difference(
        "APOGEE apStar",
        "apStar",
        "bad pixels have weights, some NaN",
        "as for apVisit; a NaN spoils every sum",
        weight_of_bad_pixels("APOGEE apStar", "apStar"),
        real=8078,
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
        real=16,
    ),
    Difference(
        "SDSS-V apStar",
        "apStar",
        "mask != 0: good pixels are masked (of the first row)",
        "as for apVisit",
        good_pixels_masked("SDSS-V apStar", "apStar"),
        real=14873,
    ),
    Difference(
        "SDSS-V apStar",
        "apStar",
        "pixels without a usable error are not masked (of the first row)",
        "their flux and error are NaN",
        bad_pixels_unmasked("SDSS-V apStar", "apStar"),
        real=784,
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
        real=563,
    ),
    Difference(
        "SDSS-III/IV spec",
        "spec",
        "pixels of inverse variance 0 are not masked",
        "they hold no data",
        bad_pixels_unmasked("SDSS-III/IV spec", "spec"),
        real=12,
    ),
    Difference(
        "SDSS-V spec",
        "spec",
        "mask is or_mask != 0: most of a spectrum can be masked",
        "as for and_mask",
        good_pixels_masked("SDSS-V spec", "spec", hdu=1),
        real=4105,
    ),
    Difference(
        "SDSS-III/IV spec",
        "spec",
        "wavelength computed in single precision, wrong by up to 1e-7 (30 m/s)",
        "loglam to double precision first, then the power",
        single_precision,
        real=8268,
    ),
    Difference(
        "SDSS-III/IV spec",
        "spec",
        "a warning on BUNIT, an error where warnings are errors",
        "the unit is that of the data model",
        unit_warning,
        real=2,
    ),
    Difference(
        "SDSS-III/IV spec",
        "spec",
        "flux in single precision and the byte order of the file",
        "compiled code takes native numbers, sums over many pixels take double precision",
        big_endian,
        real=2,
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


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda item: f"{item.loader}: {item.what}")
def test_difference(difference: Difference, synthetic_files: Files) -> None:
    assert sum(difference.check(path) for path in synthetic_files[difference.product]) > 0


@pytest.mark.parametrize(
    "difference",
    [item for item in DIFFERENCES if item.real is not None],
    ids=lambda item: f"{item.loader}: {item.what}",
)
def test_difference_in_real_files(difference: Difference, real_files: Files) -> None:
    assert sum(difference.check(path) for path in real_files[difference.product]) == difference.real


IDENTIFY = """
import json, sys, warnings
from pathlib import Path
import astra_dagster.spectra.readers
from astropy.io import registry
from astropy.io.registry.compat import default_registry
assert "specutils" not in sys.modules
from specutils import Spectrum, SpectrumList
from specutils.io.registers import identify_spectrum_format

def state():
    kinds = (Spectrum, SpectrumList)
    return {
        "read": [identify_spectrum_format(path, kind) for path in sys.argv[1:] for kind in kinds],
        "write": [registry.identify_format("write", kind, "new.fits", None, [], {}) for kind in kinds],
    }

warnings.simplefilter("ignore")
readers = dict(default_registry._readers)
before = state()
import astra_dagster.spectra.loaders
after = state()
assert after == before, (before, after)
assert all(default_registry._readers[key] is value for key, value in readers.items())
print(json.dumps(before))
"""


def identified(paths: list[Path]) -> list[list[str] | str]:
    """Formats as a fresh interpreter finds them, after checking that they are the same with our loaders."""
    command = [sys.executable, "-c", IDENTIFY, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[list[str] | str] = json.loads(done.stdout)["read"]
    assert len(found) == 2 * len(paths)
    return found


def test_the_import_changes_no_identification(synthetic_files: Files) -> None:
    found = identified([paths[-1] for paths in synthetic_files.values()])
    assert any("SDSS-V mwm" in formats for formats in found)


def test_the_import_changes_no_identification_of_real_files(real_files: Files) -> None:
    found = identified([path for paths in real_files.values() for path in (paths[:1] + paths[-1:])])
    assert {"APOGEE apVisit", "APOGEE apStar", "SDSS-III/IV spec"} <= set(map(str, found))


def test_named_loaders_are_there_and_claim_no_file(synthetic_files: Files) -> None:
    names = {"astra", *(f"astra {product}" for product in loaders.PRODUCTS)}
    for kind in (Spectrum, SpectrumList):
        assert names <= set(registry.get_formats(kind, "Read")["Format"])
        for paths in synthetic_files.values():
            assert not names & set(np.atleast_1d(identify_spectrum_format(paths[0], kind)))


class TestToSpectrum:
    @pytest.fixture
    def batch(self) -> SpectrumBatch:
        flux = np.arange(12.0).reshape(3, 4)
        return SpectrumBatch(
            flux=flux,
            ivar=np.where(flux % 4 == 0, 0, 1 + flux),
            wavelength=np.linspace(5000, 5003, 4),
            unit=FLUX_UNIT,
            meta={"object": ("a", "b", None), "snr": (1.0, None, 3.0)},
            bitmask=np.arange(12).reshape(3, 4),
            continuum=flux + 100,
            continuum_unit="ct",
        )

    def test_all_rows(self, batch: SpectrumBatch) -> None:
        spectrum = batch.to_spectrum()
        assert spectrum.shape == (3, 4)
        assert spectrum.spectral_axis_index == 1
        np.testing.assert_array_equal(spectrum.flux, batch.flux * u.Unit(FLUX_UNIT))
        np.testing.assert_array_equal(spectrum.uncertainty.array, batch.ivar)
        np.testing.assert_array_equal(spectrum.mask, batch.bad)
        assert spectrum.mask[:, 0].all()
        assert not spectrum.mask[:, 1:].any()
        np.testing.assert_array_equal(spectrum.spectral_axis, batch.wavelength * u.AA)
        assert spectrum.meta["object"] == ["a", "b", None]
        assert spectrum.meta["snr"] == [1.0, None, 3.0]
        np.testing.assert_array_equal(spectrum.meta["continuum"], batch.continuum * u.ct)
        np.testing.assert_array_equal(spectrum.meta["bitmask"], batch.bitmask)

    @pytest.mark.parametrize("row", [0, 2, -1, np.int64(1)])
    def test_one_row(self, batch: SpectrumBatch, row: int) -> None:
        spectrum = batch.to_spectrum(row)
        assert spectrum.shape == spectrum.mask.shape == spectrum.uncertainty.array.shape == (4,)
        np.testing.assert_array_equal(spectrum.flux.value, batch.flux[row])
        assert spectrum.meta["object"] == batch.meta["object"][row]
        np.testing.assert_array_equal(spectrum.meta["continuum"], (batch.flux[row] + 100) * u.ct)
        np.testing.assert_array_equal(spectrum.meta["bitmask"], np.arange(4) + 4 * (row % 3))
        np.testing.assert_array_equal(spectrum.flux, batch[int(row)].to_spectrum().flux)

    def test_what_a_batch_lacks_is_not_in_meta(self) -> None:
        spectrum = SpectrumBatch([1.0, 2.0], [1.0, 0.0], [5000.0, 5001.0]).to_spectrum()
        assert spectrum.shape == (2,)
        assert spectrum.meta == {}
        assert spectrum.unit == spectrum.uncertainty.unit == u.one

    def test_more_spectra_than_pixels(self) -> None:
        for n in (4, 3, 5):
            spectrum = SpectrumBatch(np.ones((n, 4)), np.ones((n, 4)), np.arange(1.0, 5)).to_spectrum()
            assert (spectrum.shape, spectrum.spectral_axis_index) == ((n, 4), 1)

    def test_arrays_may_be_changed(self, batch: SpectrumBatch) -> None:
        before = batch.flux.copy(), batch.ivar.copy(), batch.bad.copy(), batch.continuum.copy()
        for row in (None, 1):
            spectrum = batch.to_spectrum(row)
            spectrum.flux[...] = 0 * spectrum.unit
            continuum = spectrum.meta["continuum"].value
            for array in (spectrum.data, spectrum.uncertainty.array, spectrum.mask, continuum):
                array[...] = 1
            assert np.all(spectrum.flux.value == 1)
        after = batch.flux, batch.ivar, batch.bad, batch.continuum
        assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))

    def test_grids_of_their_own_take_a_row(self, batch: SpectrumBatch) -> None:
        grids = np.linspace(5000, 5011, 12).reshape(3, 4)
        own = SpectrumBatch(batch.flux, batch.ivar, grids)
        with pytest.raises(ValueError, match="wavelength grids of their own; choose one with row="):
            own.to_spectrum()
        np.testing.assert_array_equal(own.to_spectrum(1).spectral_axis.value, grids[1])
        np.testing.assert_array_equal(own[2:].to_spectrum().spectral_axis.value, grids[2])

    def test_no_wavelength(self, batch: SpectrumBatch) -> None:
        for row in (None, 0):
            with pytest.raises(ValueError, match="have no wavelength"):
                SpectrumBatch(batch.flux, batch.ivar).to_spectrum(row)

    def test_no_such_row(self, batch: SpectrumBatch) -> None:
        for row in (3, -4):
            with pytest.raises(IndexError, match=f"no row {row}, there are 3 spectra"):
                batch.to_spectrum(row)

    def test_stacked_files(self, files: Files) -> None:
        batch = stack([read_spectra(path, "apStar") for path in files["apStar"]])
        spectrum = batch.to_spectrum()
        assert spectrum.shape == spectrum.mask.shape == spectrum.uncertainty.array.shape == (len(batch), 8575)
        assert len(spectrum.meta["object"]) == len(batch) > 8
        np.testing.assert_array_equal(spectrum[3].flux, batch.to_spectrum(3).flux)
        visits = stack([read_spectra(path, "apVisit") for path in files["apVisit"][:2]])
        assert visits.to_spectrum(1).shape == (12288,)


class TestReading:
    def test_paths_and_open_files(self, synthetic_files: Files) -> None:
        path = synthetic_files["apVisit"][0]
        with path.open("rb") as stream:
            for source in (path, str(path), stream):
                check_agreement(theirs(path, "APOGEE apVisit"), ours(source, "apVisit"))
                assert len(ours(source, "apVisit", SpectrumList)) == 1
        with path.open("rb") as stream, pytest.raises(TypeError, match="a path is expected, not BytesIO"):
            ours(io.BytesIO(stream.read()), "apVisit")

    def test_options_reach_the_reader(self, synthetic_files: Files) -> None:
        path = synthetic_files["apStar"][-1]
        rows = ours(path, "apStar", SpectrumList, bitmask=True)
        assert [spectrum.meta["bitmask"].shape for spectrum in rows] == [(8575,)] * len(rows)
        assert "bitmask" not in ours(path, "apStar").meta
        star = synthetic_files["mwmStar"][0]
        assert ours(star, "mwmStar", instrument="BOSS").shape == (4648,)
        assert ours(star, "mwmStar", instrument="APOGEE").shape == (2, 8575)
        assert ours(synthetic_files["mwmVisit"][0], "mwmVisit", row=2).meta["mjd"] == 58152
        with pytest.raises(IndexError, match="no row 9"):
            ours(path, "apStar", row=9)

    def test_errors_are_those_of_the_reader(self, synthetic_files: Files, tmp_path: Path) -> None:
        with pytest.raises(InputMissingError):
            ours(tmp_path / "apVisit.fits", "apVisit")
        with pytest.raises(SpectrumFileError, match="no image"):
            ours(synthetic_files["spec"][0], "apVisit")

    def test_a_reloaded_module_registers_anew(self) -> None:
        importlib.reload(loaders)

    @pytest.mark.parametrize(
        ("product", "row"), [("apVisit", None), ("apStar", 0), ("apStar", None), ("spec", None), ("mwmVisit", 1)]
    )
    def test_what_specutils_writes_reads_back(
        self, product: str, row: int | None, synthetic_files: Files, tmp_path: Path
    ) -> None:
        spectrum = ours(synthetic_files[product][-1], product, row=row)
        path = tmp_path / "spectrum.fits"
        with np.errstate(divide="ignore"):  # the writer takes the error of an inverse variance of 0, which is infinite
            spectrum.write(path, format="tabular-fits")
        again, table = Spectrum.read(path), Table.read(path)
        good = ~spectrum.mask
        for flux, error, mask, wavelength in (
            (again.flux, again.uncertainty.quantity, again.mask, again.spectral_axis),
            (*(table[name].T for name in ("flux", "uncertainty", "mask")), table["wavelength"]),
        ):
            np.testing.assert_array_equal(u.Quantity(wavelength), spectrum.spectral_axis)
            np.testing.assert_array_equal(np.asarray(flux), spectrum.flux.value)
            assert flux.unit == error.unit == spectrum.unit
            np.testing.assert_array_equal(np.asarray(mask), spectrum.mask)
            np.testing.assert_allclose(np.asarray(error)[good] ** -2, spectrum.uncertainty.array[good], rtol=1e-14)
            assert np.all(np.isinf(np.asarray(error)[~good]))


class TestOwnFiles:
    """Files of our own tasks, here with stand-ins for the functions that recognise and read them."""

    @pytest.fixture
    def path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        module = types.ModuleType("astra_dagster.spectra.output")
        module.is_output = lambda path: fits.getval(path, "ORIGIN") == "astra_dagster"
        module.read_output = read_table
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return write_table(tmp_path / "own.fits", "astra_dagster")

    def test_are_picked_over_every_other_format(self, path: Path) -> None:
        for kind in (Spectrum, SpectrumList):
            assert set(identify_spectrum_format(path, kind)) == {"tabular-fits", "astra"}
        for source in (path, str(path)):
            spectrum = Spectrum.read(source)
            assert (spectrum.shape, spectrum.meta["file"]) == ((2, 5), ["own.fits"] * 2)
            assert [item.shape for item in SpectrumList.read(source)] == [(5,), (5,)]
        with path.open("rb") as stream:
            assert Spectrum.read(stream).meta["file"] == ["own.fits"] * 2
        assert Spectrum.read(path, format="astra", row=1).meta["file"] == "own.fits"

    def test_compressed(self, path: Path) -> None:
        packed = path.with_name("own.fits.gz")
        packed.write_bytes(gzip.compress(path.read_bytes()))
        assert Spectrum.read(packed).meta["file"] == ["own.fits.gz"] * 2

    def test_others_are_not(self, path: Path, synthetic_files: Files) -> None:
        foreign = write_table(path.with_name("foreign.fits"), "somebody")
        assert identify_spectrum_format(foreign) == "tabular-fits"
        assert Spectrum.read(foreign).shape == (2, 5)
        text = path.with_name("text.fits")
        text.write_text("no FITS file")
        for other in (text, *(paths[0] for paths in synthetic_files.values())):
            assert "astra" not in np.atleast_1d(identify_spectrum_format(other))

    def test_nor_for_writing(self, path: Path) -> None:
        assert registry.identify_format("write", Spectrum, str(path), None, [], {}) == ["tabular-fits"]


def write_table(path: Path, origin: str) -> Path:
    unit = u.Unit(FLUX_UNIT)
    table = Table({"wavelength": np.linspace(5000, 5004, 5) * u.AA, "flux": np.ones((5, 2)) * unit})
    primary = fits.PrimaryHDU()
    primary.header["ORIGIN"] = origin
    fits.HDUList([primary, fits.table_to_hdu(table)]).writeto(path)
    return path


def read_table(path: Path) -> SpectrumBatch:
    table = Table.read(path, hdu=1)
    flux = np.array(table["flux"].T)
    return SpectrumBatch(flux, flux, np.array(table["wavelength"]), unit=FLUX_UNIT, meta={"file": (path.name,) * 2})
