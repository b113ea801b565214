"""Spectra of specutils as its own loaders make them and as ours do, side by side."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import InverseVariance, StdDevUncertainty
from specutils import Spectrum

import astra_dagster.spectra.loaders  # noqa: F401 (registers the formats of ours)
from astra_dagster.spectra.batch import FLUX_UNIT
from astra_dagster_tests.mirrors import skip_without

Files = dict[str, list[Path]]


class RealFiles(Files):
    """Files by product. A test that needs others is skipped."""

    def __missing__(self, product: str) -> list[Path]:
        skip_without(product)
        return []


PATTERNS = {"apVisit": "a?Visit-*.fits", "apStar": "a?Star-*.fits", "spec": "spec-*.fits"}


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
