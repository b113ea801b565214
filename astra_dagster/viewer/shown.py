"""What is to be shown, whether as a page or as a picture: spectra with their names, and the curves of each."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from astra_dagster.arrays import BitmaskArray, BoolArray, FloatArray
from astra_dagster.errors import AstraError
from astra_dagster.spectra.batch import SpectrumBatch

GAP = 20.0
"""Pixels further apart than so many typical steps are not joined by a line."""


@dataclass(frozen=True, eq=False)
class Shown:
    """The spectra of one file.

    Attributes
    ----------
    batch
        The spectra, with wavelengths.
    title
        What they are: product or task, and partition key.
    product
        SDSS name of the product, which tells the frame of the wavelengths.
    about
        What else to say of all of them: the parameters of the task, the path.

    Raises
    ------
    AstraError
        If they have no wavelengths, or fewer than two pixels.
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
        """Check that there is such a spectrum.

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
        """Name of a spectrum among those of its file."""
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
        In Angstrom.
    flux, error
        In the unit of the file. Of bad pixels too, as far as they are known; the error is not.
    bad
        Which must not be used.
    continuum, normalised, normalised_error
        What the flux was divided by and the result, None where nothing was divided.
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
        """Last pixels before a gap, which must not be joined to the next."""
        steps = np.diff(self.wavelength)
        return np.append(steps > GAP * np.median(steps), False)

    def good(self, values: FloatArray) -> FloatArray:
        """Values with NaN at bad pixels and at gaps, so that no line crosses them."""
        return np.where(self.bad | self.gaps, np.nan, values)

    def flags(self, pixels: BoolArray) -> list[str]:
        """What the file's own mask says of some pixels: ``bits 0, 12``."""
        if self.bitmask is None:
            return [""] * int(pixels.sum())
        values = [int(value) for value in self.bitmask[pixels]]
        return [_bits(value) for value in values]


def curve(batch: SpectrumBatch, row: int) -> Curve:
    """One spectrum as it is drawn; what was divided out is multiplied in again."""
    assert batch.wavelength is not None  # noqa: S101 (Shown sees to it)
    wavelength = np.broadcast_to(batch.wavelength, batch.flux.shape)[row]
    flux, bad = batch.flux[row], batch.bad[row]
    with np.errstate(divide="ignore"):
        error = np.where(bad, np.nan, 1 / np.sqrt(batch.ivar[row]))
    if batch.continuum is None:
        bitmask = None if batch.bitmask is None else batch.bitmask[row]
        return Curve(wavelength, flux, error, bad, bitmask=bitmask)
    # Where nothing was fitted a task leaves flux 1 and some continuum, which are no data.
    continuum = np.where(bad & (flux == 1.0), np.nan, batch.continuum[row])
    return Curve(wavelength, flux * continuum, error * continuum, bad, continuum, flux, error)


def _bits(value: int) -> str:
    found = [str(bit) for bit in range(64) if value >> bit & 1]
    return f"bit{'s' * (len(found) > 1)} {', '.join(found)}" if found else "none"


def limits(values: FloatArray) -> tuple[float, float]:
    """Range of an axis that shows all values but the one in a thousand at each end, with some room."""
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, (0.1, 99.9)) if finite.size else (0.0, 1.0)
    room = 0.15 * (high - low or 1.0)
    return float(low - room), float(high + room)
