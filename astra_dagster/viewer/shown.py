"""The spectra that a page or a picture shows: their names, and the curves that are drawn."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from astra_dagster.arrays import BitmaskArray, BoolArray, FloatArray
from astra_dagster.errors import AstraError
from astra_dagster.spectra.batch import SpectrumBatch

GAP = 20.0
"""Number of typical steps in wavelength beyond which two neighbouring pixels are not joined by a line."""


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
    """

    wavelength: FloatArray
    flux: FloatArray
    error: FloatArray
    bad: BoolArray
    continuum: FloatArray | None = None
    normalised: FloatArray | None = None
    normalised_error: FloatArray | None = None
    bitmask: BitmaskArray | None = None

    @property
    def gaps(self) -> BoolArray:
        """True for the last pixel before a gap, which must not be joined to the next."""
        steps = np.diff(self.wavelength)
        return np.append(steps > GAP * np.median(steps), False)

    def mask_bad(self, values: FloatArray) -> FloatArray:
        """Return values with NaN at bad pixels and at gaps, so that no line crosses them."""
        return np.where(self.bad | self.gaps, np.nan, values)

    def describe_flags(self, pixels: BoolArray) -> list[str]:
        """Say for each of some pixels which bits of the file's own mask are set: ``bits 0, 12``."""
        if self.bitmask is None:
            return [""] * int(pixels.sum())
        values = [int(value) for value in self.bitmask[pixels]]
        return [_bits(value) for value in values]


def make_curve(batch: SpectrumBatch, row: int) -> Curve:
    """Make the curve of one spectrum; normalised flux is multiplied with its continuum."""
    assert batch.wavelength is not None  # noqa: S101 (ShownSpectra checks it)
    wavelength = np.broadcast_to(batch.wavelength, batch.flux.shape)[row]
    flux, bad = batch.flux[row], batch.bad[row]
    with np.errstate(divide="ignore"):
        error = np.where(bad, np.nan, 1 / np.sqrt(batch.ivar[row]))
    if batch.continuum is None:
        bitmask = None if batch.bitmask is None else batch.bitmask[row]
        return Curve(wavelength, flux, error, bad, bitmask=bitmask)
    # Where nothing was fitted a task writes flux 1 and some continuum, which are no data.
    continuum = np.where(bad & (flux == 1.0), np.nan, batch.continuum[row])
    return Curve(wavelength, flux * continuum, error * continuum, bad, continuum, flux, error)


def _bits(value: int) -> str:
    found = [str(bit) for bit in range(64) if value >> bit & 1]
    return f"bit{'s' * (len(found) > 1)} {', '.join(found)}" if found else "none"


def find_limits(values: FloatArray) -> tuple[float, float]:
    """Return the range of an axis that shows all values but one in a thousand at each end, with some margin."""
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, (0.1, 99.9)) if finite.size else (0.0, 1.0)
    room = 0.15 * (high - low or 1.0)
    return float(low - room), float(high + room)
