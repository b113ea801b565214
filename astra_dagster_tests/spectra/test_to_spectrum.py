"""A batch as a Spectrum of specutils."""

import numpy as np
import pytest
from astropy import units as u

from astra_dagster.spectra.batch import FLUX_UNIT, SpectrumBatch, stack
from astra_dagster.spectra.readers import read_spectra
from astra_dagster_tests.spectra.loaded import Files


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
