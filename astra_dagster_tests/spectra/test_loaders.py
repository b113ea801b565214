"""Our spectra in specutils: against its own loaders, and every difference from them with the reason."""

import gzip
import importlib
import io
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits, registry
from astropy.table import Table
from specutils import Spectrum, SpectrumList
from specutils.io.registers import identify_spectrum_format

from astra_dagster.errors import InputMissingError, SpectrumFileError
from astra_dagster.spectra import loaders
from astra_dagster.spectra.batch import FLUX_UNIT, SpectrumBatch
from astra_dagster_tests.spectra.loaded import (
    Files,
    check_agreement,
    ours,
    theirs,
)

IDENTIFY = """
import sys, warnings
from pathlib import Path
import astra_dagster.spectra.readers
from astropy.io import registry
from astropy.io.registry.compat import default_registry
assert "specutils" not in sys.modules
from specutils import Spectrum, SpectrumList
from specutils.io.registers import identify_spectrum_format

KINDS = (Spectrum, SpectrumList)
foreign, ours = (Path(folder) for folder in sys.argv[1:])

def identify(folder):
    found = [identify_spectrum_format(path, kind) for path in sorted(folder.iterdir()) for kind in KINDS]
    return [{formats} if isinstance(formats, str) else set(formats) for formats in found]

def state():
    return identify(foreign), [registry.identify_format("write", kind, "new.fits", None, [], {}) for kind in KINDS]

warnings.simplefilter("ignore")
read = [Spectrum.read(path) for path in sorted(foreign.iterdir())]
readers, identifiers = dict(default_registry._readers), dict(default_registry._identifiers)
before, of_ours = state(), identify(ours)
astra_dagster.spectra.readers.read_spectra(next(ours.iterdir()), instrument="APOGEE").to_spectrum(0)
assert default_registry._readers == readers and default_registry._identifiers == identifiers
import astra_dagster.spectra.loaders
assert state() == before, (state(), before)
assert identify(ours) == [formats | {"astra"} for formats in of_ours]
assert any(len(formats) > 0 for formats in of_ours), "those of specutils are still there"
assert all(default_registry._readers[key] is value for key, value in readers.items())
assert all(default_registry._identifiers[key] is value for key, value in identifiers.items())
for path, old in zip(sorted(foreign.iterdir()), read):
    new = Spectrum.read(path)
    assert (new.flux == old.flux).all() and (new.spectral_axis == old.spectral_axis).all() and new.unit == old.unit
assert len(SpectrumList.read(next(ours.iterdir()))) == 3
"""


def test_the_import_adds_our_files_and_changes_nothing_else(synthetic_files: Files, tmp_path: Path) -> None:
    """In a fresh interpreter, where nothing but the module of loaders has registered any."""
    ours, foreign = tmp_path / "ours", tmp_path / "foreign"
    for folder in (ours, foreign):
        folder.mkdir()
    shutil.copy(synthetic_files["mwmStar"][0], ours)
    write_table(foreign / "spec-a-b-c.fits", "somebody")
    line = fits.PrimaryHDU(np.ones(5))
    line.header.update(CTYPE1="WAVE", CUNIT1="Angstrom", CRPIX1=1, CRVAL1=5000, CDELT1=1, BUNIT="Jy")
    line.writeto(foreign / "line.fits")
    command = [sys.executable, "-c", IDENTIFY, str(foreign), str(ours)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_other_module_knows_the_registry() -> None:
    package = Path(loaders.__file__).parents[1]
    named = re.compile(r"specutils\.io|data_loader|astropy\.io(\.| import )registry|default_loaders")
    using = {path.relative_to(package).as_posix() for path in package.rglob("*.py") if named.search(path.read_text())}
    assert using == {"spectra/loaders.py"}


def test_named_loaders_are_there_and_claim_no_file(synthetic_files: Files) -> None:
    names = {f"astra {product}" for product in loaders.PRODUCTS}
    for kind in (Spectrum, SpectrumList):
        assert names | {"astra"} <= set(registry.get_formats(kind, "Read")["Format"])
        for paths in synthetic_files.values():
            found = set(np.atleast_1d(identify_spectrum_format(paths[0], kind)))
            assert "astra" in found
            assert not names & found


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

    def test_others_are_not(self, path: Path) -> None:
        foreign = write_table(path.with_name("foreign.fits"), "somebody")
        assert identify_spectrum_format(foreign) == "tabular-fits"
        assert Spectrum.read(foreign).shape == (2, 5)
        text = path.with_name("text.fits")
        text.write_text("no FITS file")
        assert "astra" not in np.atleast_1d(identify_spectrum_format(text))

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
