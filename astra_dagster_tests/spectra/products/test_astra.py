"""The reader of astraStar and astraVisit files: against astropy, on files that follow the data model."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from specutils import Spectrum

from astra_dagster.errors import OtherProductError, SpectrumFileError, UnknownFlagError
from astra_dagster.spectra.batch import FLUX_UNIT, SpectrumBatch, stack
from astra_dagster.spectra.products.astra import ASTRA
from astra_dagster.spectra.readers import read_spectra
from astra_dagster_tests.spectra.loaded import complete, theirs
from astra_dagster_tests.spectra.synthetic import MARKERS, SPECTROGRAPHS, write_aspcap_star, write_astra


@pytest.mark.parametrize("rows", [(1, 0), (0, 2), (2, 3)])
@pytest.mark.parametrize("name", ASTRA)
def test_files(name: str, rows: tuple[int, int], tmp_path: Path) -> None:
    pipeline, star = ASTRA[name]
    instrument, _, normalised = MARKERS[pipeline]
    path = write_astra(tmp_path / f"{name}-0.6.0-103020000.fits", pipeline, rows, star=star)
    spectra = read_spectra(path)
    with fits.open(path, memmap=False) as hdus:
        tables = [hdu.data for hdu in hdus[1:] if len(hdu.data)]
        models = {
            each: np.concatenate([table[each] for table in tables]).astype(float)
            for each in tables[0].names
            if each == "continuum" or "model_flux" in each
        }
    assert spectra.models.keys() == models.keys()
    for each, expected in models.items():
        np.testing.assert_array_equal(spectra.models[each], expected)
        assert not spectra.models[each].flags.writeable
    scale = models["continuum"] if normalised else 1
    np.testing.assert_array_equal(spectra.flux, models["model_flux"] * scale)
    assert 12 <= spectra.flux.min() < spectra.flux.max() <= 40, "the continuum is in the flux"
    assert spectra.unit == FLUX_UNIT
    first, step, pixels = SPECTROGRAPHS[instrument]
    np.testing.assert_array_equal(spectra.wavelength, 10 ** (first + step * np.arange(pixels)))
    assert not spectra.bad.any()
    assert not spectra.ivar.any()
    assert np.isnan(spectra.error).all()
    count = sum(rows)
    assert spectra.meta["frame"] == ("SOURCE",) * count
    assert spectra.meta["instrument"] == (instrument,) * count
    assert spectra.meta["sdss_id"] == (103020000,) * count
    assert spectra.meta["telescope"] == ("apo25m",) * rows[0] + ("lco25m",) * rows[1]
    assert spectra.meta["teff"] == (*range(4500, 4500 + rows[0]), *range(4500, 4500 + rows[1]))
    assert spectra.meta["object"] == (("2M12283021-6635525" if instrument == "APOGEE" else None),) * count


def test_names_in_upper_case(tmp_path: Path) -> None:
    path = write_astra(tmp_path / "x.fits", "ASPCAP", upper=True)
    assert set(read_spectra(path).models) == {"model_flux", "model_flux_nd_h", "continuum"}


@pytest.mark.parametrize("name", ["astraStarASPCAP", "astraStarThePayne", "astraStarSnowWhite"])
def test_specutils_reads_the_same(name: str, tmp_path: Path) -> None:
    path = complete(write_astra(tmp_path / f"{name}-0.6.0-103020000.fits", ASTRA[name][0], (1, 0)))
    mine, other = Spectrum.read(path), theirs(path, "SDSS-V astra")
    np.testing.assert_allclose(mine.flux.value, other.flux.value, rtol=1e-6)
    np.testing.assert_allclose(mine.spectral_axis.value, other.spectral_axis.value, rtol=1e-7)
    assert mine.unit == other.unit
    assert not mine.mask.any()
    assert "model_flux" in mine.meta["models"]


def test_models_of_some_of_the_spectra(tmp_path: Path) -> None:
    path = write_astra(tmp_path / "x.fits", "Slam", (2, 1), star=False)
    spectra = read_spectra(path)
    np.testing.assert_array_equal(spectra[[2, 0]].models["continuum"], spectra.models["continuum"][[2, 0]])
    np.testing.assert_array_equal(stack([spectra[0], spectra[1]]).models["model_flux"], spectra.flux[:2])
    assert spectra.to_spectrum(1).meta["models"]["model_flux"].shape == (4648,)


def test_models_have_the_shape_of_the_flux() -> None:
    with pytest.raises(ValueError, match=r"model sky has shape \(1, 2\), flux has \(1, 3\)"):
        SpectrumBatch(np.ones(3), np.ones(3), models={"sky": np.ones(2)})
    one = SpectrumBatch(np.ones(3), np.ones(3), models={"model": np.arange(3)})
    assert one.models["model"].tolist() == [[0, 1, 2]]
    assert stack([one, SpectrumBatch(np.ones(3), np.ones(3))]).models == {}


def test_the_model_beside_an_aspcap_star_spectrum(tmp_path: Path) -> None:
    path = write_aspcap_star(tmp_path / "aspcapStar.fits")
    np.testing.assert_array_equal(read_spectra(path).models["model_flux"][0], fits.getdata(path, 3))


def test_a_model_that_is_not_a_number_is_bad(tmp_path: Path) -> None:
    path = write_astra(tmp_path / "x.fits", "ASPCAP", (0, 1))
    with fits.open(path, mode="update", memmap=False) as hdus:
        hdus[4].data["model_flux"][0, 3], hdus[4].data["continuum"][0, 5] = np.nan, np.inf
    assert np.flatnonzero(read_spectra(path).bad[0]).tolist() == [3, 5]


def test_files_without_spectra(tmp_path: Path) -> None:
    path = write_astra(tmp_path / "astraStarASPCAP-0.6.0-103020000.fits", "ASPCAP", (0, 0))
    with pytest.raises(SpectrumFileError, match=r"has no APOGEE spectra, which ASPCAP takes \(file .*astraStarASPCAP"):
        read_spectra(path)


def test_files_of_another_pipeline_or_of_visits(tmp_path: Path) -> None:
    path = write_astra(tmp_path / "astraStarThePayne-0.6.0-103020000.fits", "ASPCAP")
    with pytest.raises(
        OtherProductError, match=r"its name is that of astraStarThePayne, its headers are those of .*CAP"
    ):
        read_spectra(path)
    with pytest.raises(
        OtherProductError, match=r"a file of astraStarASPCAP, not of astraStarThePayne: HDU 3 .*no column"
    ):
        read_spectra(path, "astraStarThePayne")
    path = write_astra(tmp_path / "x.fits", "Slam", star=False)
    with pytest.raises(OtherProductError, match=r"a file of astraVisitSlam, not of astraStarSlam: HDU 1 .* wavelength"):
        read_spectra(path, "astraStarSlam")
    path = write_astra(tmp_path / "y.fits", "Slam")
    with pytest.raises(OtherProductError, match=r"a file of astraStarSlam, not of astraVisitSlam: HDU 1 .* wavelength"):
        read_spectra(path, "astraVisitSlam")


@pytest.mark.parametrize(("card", "value"), [("CRVAL", 4.0), ("CDELT", 6e-5), ("CRVAL", None)])
def test_grids(card: str, value: float | None, tmp_path: Path) -> None:
    path = write_astra(tmp_path / "x.fits", "ThePayne", (0, 1), star=False)
    if value is None:
        fits.delval(path, card, ext=4)
    else:
        fits.setval(path, card, value=value, ext=4)
    with pytest.raises(SpectrumFileError, match=r"HDU 4 \(APOGEE/LCO model spectra\) has the grid"):
        read_spectra(path)
    path = write_astra(tmp_path / "y.fits", "ThePayne", (0, 1))
    with fits.open(path, mode="update", memmap=False) as hdus:
        hdus[4].data["wavelength"][0, 7] = 5000
    with pytest.raises(SpectrumFileError, match="has wavelengths that are not those of"):
        read_spectra(path)


def test_there_are_no_flags_to_reject(tmp_path: Path) -> None:
    path = write_astra(tmp_path / "x.fits", "ASPCAP")
    with pytest.raises(UnknownFlagError):
        read_spectra(path, reject=("BADPIX",))
