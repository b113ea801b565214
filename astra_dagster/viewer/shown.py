"""The spectra that a page or a picture shows: their names, and the curves that are drawn."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from astra_dagster.arrays import BitmaskArray, BoolArray, FloatArray
from astra_dagster.errors import AstraError
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.spectra.pixel_flags import SKY, describe_bits, find_bits

GAP = 20.0
"""Number of typical steps in wavelength beyond which two neighbouring pixels are not joined by a line."""

NOISY = 10.0
"""Pixels whose error is so many times that of the median do not decide it either."""


@dataclass(frozen=True, eq=False)
class ShownSpectra:
    """The spectra of one file that are shown.

    Attributes
    ----------
    batch
        The spectra, with wavelengths.
    title
        Product or task, and partition key.
    product
        SDSS name of the product, from which the frame of the wavelengths follows.
    about
        Further facts about the file by name: the parameters of the task, the path.

    Raises
    ------
    AstraError
        If the spectra have no wavelengths, or fewer than two pixels.
    """

    batch: SpectrumBatch
    title: str = ""
    product: str = ""
    about: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.batch.wavelength is None or self.batch.flux.shape[1] < 2:
            raise AstraError(
                f"{self.title or 'this'} cannot be drawn", hint="spectra with wavelengths and two pixels can"
            )

    @property
    def unit(self) -> str:
        """Unit of the flux before anything was divided out, in brackets."""
        unit = self.batch.unit if self.batch.continuum is None else self.batch.continuum_unit
        return f" [{unit}]" if unit else ""

    def check_row(self, row: int) -> None:
        """Check that there is a spectrum of this number that has good pixels.

        Raises
        ------
        AstraError
            If there is none, or it has no good pixel.
        """
        last = len(self.batch) - 1
        if not 0 <= row <= last:
            raise AstraError(f"there is no spectrum {row} in {self.title}", hint=f"choose a row from 0 to {last}")
        if self.batch.bad[row].all():
            raise AstraError(f"spectrum {row} of {self.title} has no good pixel", hint="choose another row")

    def name(self, row: int) -> str:
        """Return the name of a spectrum among those of its file."""
        meta = {name: values[row] for name, values in self.batch.meta.items() if values[row] is not None}
        given = meta.get("row") or " ".join(str(meta[n]) for n in ("instrument", "telescope", "mjd") if n in meta)
        if len(self.batch) == 1 or not given:
            given = "spectrum" if len(self.batch) == 1 else f"spectrum {row}"
        snr = meta.get("snr")
        return f"{given}, S/N {snr:.0f}" if isinstance(snr, (int, float)) else str(given)


@dataclass(frozen=True, eq=False)
class Curve:
    """One spectrum as it is drawn: arrays of shape (pixels,), NaN where there is nothing to draw.

    Attributes
    ----------
    wavelength
        Wavelength in Angstrom.
    flux, error
        Flux and error in the unit of the file. Bad pixels have the flux of the file, if that is known, and no error.
    bad
        True for pixels that must not be used.
    continuum, normalised, normalised_error
        Continuum by which the flux was divided, and the result; None if it was not divided.
    bitmask
        The file's own mask, if it was read.
    mask_name
        Name by which SDSS calls that mask.
    """

    wavelength: FloatArray
    flux: FloatArray
    error: FloatArray
    bad: BoolArray
    continuum: FloatArray | None = None
    normalised: FloatArray | None = None
    normalised_error: FloatArray | None = None
    bitmask: BitmaskArray | None = None
    mask_name: str = ""

    @property
    def gaps(self) -> BoolArray:
        """True for the last pixel before a gap, which must not be joined to the next."""
        steps = np.diff(self.wavelength)
        return np.append(steps > GAP * np.median(steps), False)

    def mask_bad(self, values: FloatArray) -> FloatArray:
        """Return values with NaN at bad pixels and at gaps, so that no line crosses them."""
        return np.where(self.bad | self.gaps, np.nan, values)

    @property
    def has_data(self) -> BoolArray:
        """True for pixels that have a value, good or bad: files have NaN, or 0, where no detector is."""
        return np.asarray(np.isfinite(self.flux) & ~(self.bad & (self.flux == 0)))

    @property
    def steady(self) -> BoolArray:
        """True for the good pixels that decide how high a panel is: those without sky lines and with a usual error.

        Where these are less than half of the good ones, all good pixels decide.
        """
        good = ~self.bad & np.isfinite(self.flux)
        if not good.any():
            return good
        with np.errstate(invalid="ignore"):
            steady = good & (self.error <= NOISY * np.median(self.error[good]))
        if self.bitmask is not None:
            steady &= (self.bitmask & find_bits(self.mask_name, SKY.get(self.mask_name, ()))) == 0
        return steady if 2 * steady.sum() >= good.sum() else good

    def describe_flags(self, pixels: BoolArray) -> list[str]:
        """Say for each of some bad pixels which bits of the file's own mask are set: ``bad pixel, sky line``."""
        if self.bitmask is None:
            return ["why is not known"] * int(pixels.sum())
        none = "no usable flux and error"
        return [", ".join(describe_bits(self.mask_name, int(value))) or none for value in self.bitmask[pixels]]


def make_curve(batch: SpectrumBatch, row: int) -> Curve:
    """Make the curve of one spectrum; normalised flux is multiplied with its continuum."""
    assert batch.wavelength is not None  # noqa: S101 (ShownSpectra checks it)
    wavelength = np.broadcast_to(batch.wavelength, batch.flux.shape)[row]
    flux, bad = batch.flux[row], batch.bad[row]
    with np.errstate(divide="ignore"):
        error = np.where(bad | (batch.ivar[row] == 0), np.nan, 1 / np.sqrt(batch.ivar[row]))
    bitmask = None if batch.bitmask is None else batch.bitmask[row]
    if batch.continuum is None:
        return Curve(wavelength, flux, error, bad, bitmask=bitmask, mask_name=batch.mask_name)
    # Where nothing was fitted a task writes flux 1 and some continuum, which are no data.
    continuum = np.where(bad & (flux == 1.0), np.nan, batch.continuum[row])
    whole, whole_error = flux * continuum, error * continuum
    return Curve(wavelength, whole, whole_error, bad, continuum, flux, error, bitmask, batch.mask_name)


def find_limits(values: FloatArray) -> tuple[float, float]:
    """Return the range of an axis that shows all values but one in a thousand at each end, with some margin."""
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, (0.1, 99.9)) if finite.size else (0.0, 1.0)
    room = 0.15 * (high - low or 1.0)
    return float(low - room), float(high + room)
