"""Readers of users' own, for products that have none; and against what ours are verified."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import StdDevUncertainty
from specutils import Spectrum

from astra_dagster import SpectrumBatch, product, read_spectra, register_reader, spectrum_task
from astra_dagster.errors import ReaderError, SpectrumFileError, UnknownProductError
from astra_dagster.outputs.store import InputFiles, OutputStore, PartitionWork
from astra_dagster.spectra import readers
from astra_dagster.spectra.readers import READERS, find_reader, reader
from astra_dagster.tasks import registry
from astra_dagster_tests.execution.work import run_elsewhere


@pytest.fixture(autouse=True)
def nothing_added(monkeypatch: pytest.MonkeyPatch) -> None:
    """No reader is added, and none stays."""
    monkeypatch.setattr(readers, "_ADDED", {})


def read_table(path: Path) -> SpectrumBatch:
    """One spectrum in three columns of text."""
    wavelength, flux, error = np.loadtxt(path, unpack=True)
    return SpectrumBatch(flux, 1 / error**2, wavelength, unit="Jy")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Such a file."""
    np.savetxt(tmp_path / "a.txt", np.transpose([[4000.0, 4001.0, 4002.0], [1.0, 2.0, 3.0], [0.5, 0.5, 0.5]]))
    return tmp_path / "a.txt"


def test_a_reader_makes_a_product_readable(text: Path) -> None:
    with pytest.raises(UnknownProductError, match=r'no reader for apField; .*register_reader\("apField", ...\)'):
        read_spectra(text, "apField")
    register_reader("ap_field", read_table)
    assert read_spectra(text, "apField").flux.tolist() == [[1, 2, 3]]
    assert reader("ap_field").several is False
    assert find_reader("apPlateSum") is None


def test_a_product_has_one_reader() -> None:
    register_reader("apField", read_table)
    register_reader("apField", read_table)  # a module that is imported again
    for name in ("apField", "apVisit"):
        with pytest.raises(ReaderError, match=f"{name} has a reader already, astra_dagster.*read_"):
            register_reader(name, lambda path: read_table(path))


def test_an_unknown_product_is_told_with_the_nearest() -> None:
    with pytest.raises(UnknownProductError, match=r"no product 'apFeild'; did you mean .*apField"):
        register_reader("apFeild", read_table)


def test_a_reader_is_told_what_is_needed_if_it_asks(text: Path) -> None:
    asked: list[Any] = []

    def read(path: Path, wavelength: bool, row: int = 0) -> SpectrumBatch:
        asked.append((wavelength, row))
        return read_table(path)

    register_reader("apField", read)
    read_spectra(text, "apField", wavelength=False, bitmask=True)
    read_spectra(text, "apField", row=2)
    assert asked == [(False, 0), (True, 2)]
    with pytest.raises(TypeError, match="reject"):
        read_spectra(text, "apField", reject=())


def test_what_a_reader_returns_is_checked(text: Path) -> None:
    made: Any = None
    register_reader("apField", lambda path: made)
    with pytest.raises(SpectrumFileError, match=r"the reader of apField returned NoneType .*a.txt"):
        read_spectra(text, "apField")
    made = SpectrumBatch(np.ones((2, 3)), np.ones((2, 3)))
    with pytest.raises(SpectrumFileError, match=r"the reader of apField returned 2 spectra.*several=True"):
        read_spectra(text, "apField")
    register_reader("apPlateSum", lambda path: made, several=True)
    assert len(read_spectra(text, "apPlateSum")) == 2


def test_a_reader_may_use_specutils(text: Path) -> None:
    def read(path: Path) -> Spectrum:
        frequency = u.Quantity([3.0, 2.0, 1.0], "PHz")
        uncertainty = StdDevUncertainty([0.5, 0.0, 2.0])
        return Spectrum(
            flux=u.Quantity([1.0, 2.0, np.nan], "Jy"),
            spectral_axis=frequency,
            uncertainty=uncertainty,
            mask=np.array([True, False, False]),
        )

    register_reader("apField", read)
    found = read_spectra(text, "apField")
    assert found.wavelength is not None
    np.testing.assert_allclose(found.wavelength, 2997.92458 / np.array([3.0, 2.0, 1.0]))
    np.testing.assert_array_equal(found.flux, [[1, 2, np.nan]])
    assert found.bad.all(), "masked, without uncertainty, without flux"
    assert (found.ivar == 0).all()
    assert found.unit == "Jy"
    with pytest.raises(ValueError, match="no uncertainty"):
        SpectrumBatch.from_spectrum(Spectrum(flux=u.Quantity([1.0], "Jy"), spectral_axis=u.Quantity([1.0], "um")))


def test_spectra_survive_the_way_to_specutils_and_back() -> None:
    flux, ivar = np.array([[1.0, 2.0, 3.0]] * 2), np.array([[1.0, 0.0, 4.0]] * 2)
    batch = SpectrumBatch(flux, ivar, np.array([1.0, 2.0, 3.0]), unit="Jy")
    back = SpectrumBatch.from_spectrum(batch.to_spectrum())
    for name in ("flux", "ivar", "bad", "wavelength"):
        np.testing.assert_array_equal(getattr(back, name), getattr(batch, name))


def test_workers_know_the_reader(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register_reader("apField", read_table)

    @spectrum_task(requires=product("apField"), version="1", name="total")
    def total(spectra: SpectrumBatch, parameters: Any) -> Any:
        return {"flux": spectra.flux.sum(axis=1)}

    data_id = product("apField").data_id("DR17", telescope="apo25m", field="120+12")
    work = PartitionWork(data_id, (InputFiles("apField", data_id.relative_path, "1", (str(text),)),))
    store = OutputStore(tmp_path / "out", total, total.values())
    (outcome,) = run_elsewhere(store, [work], monkeypatch, forget=readers._ADDED.clear)
    assert outcome.written is not None, outcome.error
    assert outcome.written.results == {"flux": 6.0}


def test_a_package_may_hold_nothing_but_readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "only_readers.py").write_text(
        "from astra_dagster import register_reader\n\n\ndef read(path): ...\n\n\nregister_reader('apField', read)\n"
    )
    (tmp_path / "astra.toml").write_text('packages = ["only_readers"]\n')
    monkeypatch.setenv("ASTRA_CONFIG", str(tmp_path / "astra.toml"))
    assert "ap_visit_snr" in registry.tasks()
    assert registry.broken() == {}
    assert find_reader("apField") is not None


def test_a_reader_says_against_what_it_was_verified() -> None:
    for item in READERS.values():
        assert re.match(r"(real files|the data model) of DR\d+", item.verified)
