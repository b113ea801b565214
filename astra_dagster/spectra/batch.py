"""A batch of spectra: what every reader gives and every analysis takes."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SpectrumBatch:
    """Spectra of one product and shape, wavelength increasing; a single spectrum is a batch of one.

    Attributes
    ----------
    flux, error
        Flux density and its standard error as in the file, float64, shape (n, pixels), 1e-17 erg/s/cm2/Angstrom.
        Bad pixels keep the file's values.
    bad
        True where a pixel must not be used, shape (n, pixels).
    chips
        Name and pixel range (start, stop) of each detector chip, blue to red; one entry for a spectrum that has none.
    """

    flux: FloatArray
    error: FloatArray
    bad: BoolArray
    chips: tuple[tuple[str, int, int], ...]

    def __post_init__(self) -> None:
        shapes = {self.flux.shape, self.error.shape, self.bad.shape}
        if len(shapes) != 1 or self.flux.ndim != 2:
            raise ValueError(f"flux, error and bad must have one shape (n, pixels), not {shapes}")
        for field in fields(self):
            array = getattr(self, field.name)
            if isinstance(array, np.ndarray):
                array.flags.writeable = False

    def __len__(self) -> int:
        return int(self.flux.shape[0])

    @cached_property
    def ivar(self) -> FloatArray:
        """Inverse variance, 0 for bad pixels, shape (n, pixels)."""
        ivar = np.zeros_like(self.error)
        np.divide(1.0, np.square(self.error), out=ivar, where=~self.bad)
        ivar.flags.writeable = False
        return ivar

    def chip(self, name: str) -> slice:
        """Pixels of a chip.

        Raises
        ------
        KeyError
            If the spectra have no chip of that name.
        """
        for known, start, stop in self.chips:
            if known == name:
                return slice(start, stop)
        raise KeyError(name)


def stack(batches: Sequence[SpectrumBatch]) -> SpectrumBatch:
    """Join batches of the same chips into one, in order."""
    if len(batches) == 1:
        return batches[0]
    return SpectrumBatch(
        flux=np.concatenate([b.flux for b in batches]),
        error=np.concatenate([b.error for b in batches]),
        bad=np.concatenate([b.bad for b in batches]),
        chips=batches[0].chips,
    )
