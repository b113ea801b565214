"""Continuum fits: against the original method, spectrum by spectrum, and in every degenerate case."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astra_dagster.analysis.continuum import fit_continuum, normalise
from astra_dagster.analysis.regions import NAMED, named_regions, read_regions
from astra_dagster.errors import AnalysisError, ConfigurationError
from astra_dagster.spectra.batch import SpectrumBatch, stack
from astra_dagster.spectra.products.ap_star import log_grid
from astra_dagster.spectra.readers import read_spectra
from astra_dagster_tests.analysis.agreement import REGIONS, header_difference, largest_difference, spectra_of
from astra_dagster_tests.analysis.reference import pixels_in, sinusoidal_continuum
from astra_dagster_tests.mirrors import find_real

WINDOWS = Path(__file__).with_name("original_regions.txt")


@pytest.mark.parametrize("product", ["apStar", "apVisit"])
def test_agrees_with_the_original_on_every_real_file(product: str, real_mirrors: list[Path]) -> None:
    windows = read_regions(WINDOWS)
    assert len(windows) == 307
    for path in find_real(real_mirrors, product):
        assert largest_difference(read_spectra(path, product), windows) <= 1e-10, path.name


@pytest.mark.parametrize("product", ["apStar", "apVisit"])
def test_agrees_with_the_original_on_synthetic_files(product: str, synthetic: Path) -> None:
    windows = named_regions("apogee")
    assert max(largest_difference(batch, windows) for batch in spectra_of(synthetic, product)) <= 1e-10


@pytest.mark.parametrize("product", ["apStar", "apVisit"])
def test_signal_to_noise_agrees_with_every_header(product: str, real_mirrors: list[Path]) -> None:
    for path in find_real(real_mirrors, product):
        assert header_difference(read_spectra(path, product), product) <= 1e-3, path.name


@pytest.mark.parametrize("product", ["apStar", "apVisit"])
def test_one_spectrum_gives_the_same_bits_as_many(product: str, synthetic: Path) -> None:
    pixels = {"apStar": 8575, "apVisit": 12288}[product]
    batch = stack([b for b in spectra_of(synthetic, product) if b.flux.shape[1] == pixels])
    assert len(batch) > 10
    assert batch.wavelength.ndim == {"apStar": 1, "apVisit": 2}[product]

    def fit(spectra: SpectrumBatch):
        found = fit_continuum(
            spectra.wavelength, spectra.flux, spectra.ivar, regions=REGIONS, continuum_regions=named_regions("apogee")
        )
        return found, normalise(spectra.flux, spectra.ivar, spectra.bad, found)

    many, divided = fit(batch)
    for i in range(len(batch)):
        one, divided_one = fit(batch[i])
        np.testing.assert_array_equal(one.values[0], many.values[i])
        np.testing.assert_array_equal(one.condition[0], many.condition[i])
        for single, all_of_them in zip(divided_one, divided, strict=True):
            np.testing.assert_array_equal(single[0], all_of_them[i])


def test_a_grid_of_its_own_gives_the_same_numbers_as_a_shared_one(synthetic: Path) -> None:
    batch = stack(spectra_of(synthetic, "apStar"))
    own = np.broadcast_to(batch.wavelength, batch.flux.shape)
    fits = [
        fit_continuum(grid, batch.flux, batch.ivar, regions=REGIONS, continuum_regions=named_regions("apogee"))
        for grid in (batch.wavelength, own)
    ]
    np.testing.assert_allclose(fits[0].values, fits[1].values, rtol=1e-10)


def simple(n: int = 2, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Wavelength, flux and ivar of spectra that are sines and cosines of the fit."""
    wavelength = np.linspace(15100.0, 15800.0, 1200)
    angle = 2 * np.pi * wavelength / 1400
    rng = np.random.default_rng(3)
    flux = np.array([100 + (5 + i) * np.cos(angle) - 3 * np.sin(2 * angle) for i in range(n)])
    return wavelength, flux + noise * rng.normal(size=flux.shape), np.full(flux.shape, 4.0)


def test_recovers_what_it_can_represent() -> None:
    wavelength, flux, ivar = simple()
    fit = fit_continuum(wavelength, flux, ivar, regions=[(15100, 15800)], continuum_regions=[(15000, 16000)])
    np.testing.assert_allclose(fit.values, flux, rtol=1e-3)  # the ridge pulls a little
    normal, new_ivar, bad = normalise(flux, ivar, np.zeros(flux.shape, bool), fit)
    np.testing.assert_allclose(normal * fit.values, flux, rtol=1e-14)
    np.testing.assert_allclose(new_ivar, ivar * fit.values**2, rtol=1e-14)
    assert not bad.any()


@given(
    order=st.integers(1, 6),
    period=st.floats(300, 20000),
    start=st.floats(15050, 15500),
    width=st.floats(50, 400),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60)
def test_any_parameters_agree_with_the_original(
    order: int, period: float, start: float, width: float, seed: int
) -> None:
    wavelength, flux, ivar = simple(1, noise=2.0)
    ivar = ivar * np.random.default_rng(seed).uniform(0.5, 2, ivar.shape)
    windows, regions = [(15110.0, 15300.0), (15290.0, 15310.0), (15400.0, 15790.0)], [(start, start + width)]
    used = pixels_in(wavelength, windows)
    fit = fit_continuum(
        wavelength, flux, ivar, regions=regions, continuum_regions=windows, period=period, order=order, fill_value=7.0
    )
    expected = sinusoidal_continuum(wavelength, flux[0], ivar[0], used, regions, period, order, fill=7.0)
    if np.isnan(fit.condition[0, 0]):
        assert (fit.values == 7.0).all()
    else:
        # The ridge bounds the condition number; beyond that, rounding is amplified by it.
        np.testing.assert_allclose(fit.values[0], expected, rtol=1e-7)


def test_takes_in_the_first_continuum_pixel_beyond_a_region() -> None:
    """As the original does; without that pixel the two would differ in the third digit here."""
    wavelength, flux, ivar = simple(1)
    flux[0, 601] += 500.0
    end = float(wavelength[600] + 1e-3)
    fits = []
    for windows in ([(15000, 16000)], [(15000, end)]):
        found = fit_continuum(wavelength, flux, ivar, regions=[(15100, end)], continuum_regions=windows)
        fits.append(found.values[0, :601])
        expected = sinusoidal_continuum(wavelength, flux[0], ivar[0], pixels_in(wavelength, windows), [(15100, end)])
        np.testing.assert_allclose(found.values[0], expected, rtol=1e-10)
    assert np.max(np.abs(fits[0] / fits[1] - 1)) > 1e-3


def test_a_region_without_continuum_pixels_is_left_alone_and_its_pixels_are_bad() -> None:
    wavelength, flux, ivar = simple()
    regions = [(15100, 15400), (15500, 15700)]
    fit = fit_continuum(wavelength, flux, ivar, regions=regions, continuum_regions=[(15100, 15400)], fill_value=2.0)
    assert np.isfinite(fit.condition[:, 0]).all()
    assert np.isnan(fit.condition[:, 1]).all()
    inside = wavelength <= 15400
    assert fit.fitted[:, inside].all()
    assert not fit.fitted[:, ~inside].any()
    assert (fit.values[:, ~inside] == 2.0).all()
    normal, new_ivar, bad = normalise(flux, ivar, np.zeros(flux.shape, bool), fit)
    assert (normal[:, ~inside] == 1.0).all()
    assert (new_ivar[:, ~inside] == 0.0).all()
    assert bad[:, ~inside].all()
    assert not bad[:, inside].any()


def test_fewer_pixels_than_parameters_is_no_fit() -> None:
    wavelength, flux, ivar = simple()
    ivar[1] = 0.0
    ivar[1, 100:106] = 1.0  # six pixels for seven parameters; the other spectrum has them all
    fit = fit_continuum(wavelength, flux, ivar, regions=[(15100, 15800)], continuum_regions=[(15000, 16000)])
    assert fit.fitted[0].all()
    assert not fit.fitted[1].any()
    assert np.isnan(fit.condition[1, 0])
    ivar[1, 106] = 1.0
    again = fit_continuum(wavelength, flux, ivar, regions=[(15100, 15800)], continuum_regions=[(15000, 16000)])
    assert again.fitted[1].all()
    np.testing.assert_array_equal(again.values[0], fit.values[0])


@pytest.mark.parametrize("own", [False, True])
def test_no_weight_at_all_and_not_a_number_spoil_nothing_else(own: bool) -> None:
    wavelength, flux, ivar = simple(4, noise=1.0)
    grid = np.broadcast_to(wavelength, flux.shape) if own else wavelength
    keywords = {"regions": [(15100, 15800)], "continuum_regions": [(15000, 16000)]}
    clean = fit_continuum(grid, flux, ivar, **keywords)
    flux, ivar = flux.copy(), ivar.copy()
    ivar[1] = 0.0
    flux[2] = np.nan
    flux[3, ::7], ivar[3, ::5], ivar[3, 3::11], ivar[3, 4::11] = np.inf, np.nan, -1.0, np.inf
    fit = fit_continuum(grid, flux, ivar, **keywords)
    np.testing.assert_array_equal(fit.values[0], clean.values[0])
    assert not fit.fitted[1:3].any()
    assert (fit.values[1:3] == 1.0).all()
    np.testing.assert_allclose(fit.values[3], clean.values[3], rtol=0.01)
    normal, new_ivar, bad = normalise(flux, np.where(np.isfinite(ivar) & (ivar > 0), ivar, 0.0), ivar == 0, fit)
    assert np.isfinite(normal).all()
    assert np.isfinite(new_ivar).all()
    assert bad[1:3].all()
    assert (normal[3, ::7] == 1.0).all()
    assert (new_ivar[bad] == 0).all()


def test_a_continuum_that_is_not_positive_divides_nothing() -> None:
    wavelength, flux, ivar = simple()
    fit = fit_continuum(wavelength, flux - 200, ivar, regions=[(15100, 15800)], continuum_regions=[(15000, 16000)])
    normal, new_ivar, bad = normalise(flux - 200, ivar, np.zeros(flux.shape, bool), fit)
    assert (fit.values < 0).all()
    assert bad.all()
    assert (normal == 1).all()
    assert (new_ivar == 0).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"wavelength": np.linspace(15800, 15100, 1200)}, "do not increase"),
        ({"wavelength": np.full(1200, 15100.0)}, "do not increase"),
        ({"wavelength": np.full(1200, np.nan)}, "do not increase"),
        ({"wavelength": np.linspace(15100, 15800, 1199)}, "shapes"),
        ({"wavelength": np.ones((3, 1200))}, "shapes"),
        ({"ivar": np.ones((2, 3))}, "shapes"),
        ({"regions": []}, "no regions"),
        ({"continuum_regions": []}, "no continuum regions"),
        ({"regions": [(15800, 15100)]}, "from 15800 to 15100"),
        ({"continuum_regions": [(1, float("nan"))]}, "from 1 to nan"),
        ({"period": 0.0}, "period 0.0"),
        ({"period": float("nan")}, "period nan"),
        ({"order": -1}, "order -1"),
    ],
)
def test_what_cannot_be_fitted_is_refused(changes: dict[str, object], message: str) -> None:
    wavelength, flux, ivar = simple()
    arguments = {
        "wavelength": wavelength,
        "flux": flux,
        "ivar": ivar,
        "regions": [(15100, 15800)],
        "continuum_regions": [(15000, 16000)],
    }
    with pytest.raises(AnalysisError, match=message):
        fit_continuum(**{**arguments, **changes})


def test_the_tables_of_the_package() -> None:
    for name in NAMED:
        regions = named_regions(name)
        assert len(regions) > 50
        assert all(start < end for start, end in regions)
    grid = log_grid()
    assert len(pixels_in(grid, named_regions("apogee"))) == 532
    with pytest.raises(ConfigurationError, match="apogee and optical"):
        named_regions("infrared")


@pytest.mark.parametrize("text", ["", "1 2 3\n", "1\n2\n", "a b\n", "2 1\n", "1 nan\n", "1 2\n3\n"])
def test_a_file_that_is_no_table_of_regions(text: str, tmp_path: Path) -> None:
    path = tmp_path / "regions.txt"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="not a table of continuum regions"):
        read_regions(path)
    path.unlink()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_regions(path)
    path.write_text("# start end\n15100 15200.5\n\n15300 15301 \n")
    assert read_regions(path) == ((15100.0, 15200.5), (15300.0, 15301.0))
