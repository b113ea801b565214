"""The batch of spectra, which every reader returns and every analysis takes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from astra_dagster.arrays import AnyArray, BitmaskArray, BoolArray, FloatArray, IndexArray
from astra_dagster.at_hand import Drawable
from astra_dagster.errors import AnalysisError
from astra_dagster.spectra.pixel_flags import SKY, find_bits, order_names

if TYPE_CHECKING:
    from astropy.units import Unit
    from specutils import Spectrum

FLUX_UNIT = "1e-17 erg / (Angstrom s cm2)"
"""Unit of the flux in apVisit, apStar, spec and mwm files."""

HUGE_ERROR = 1e10
"""Pixels with this error, or a larger one, have no data, whatever their mask says."""

TINY_ERROR = 1e-150
"""Pixels with this error, or a smaller one, are bad, as their inverse variance is not a usable number."""

_MAYBE = ("error", "bitmask", "continuum")


@dataclass(frozen=True, eq=False, repr=False)
class SpectrumBatch(Drawable):
    """Spectra of one product that have the same number of pixels; a single spectrum is a batch of one.

    Arrays are read-only. One-dimensional flux, ivar, bad, error, bitmask and continuum are those of one spectrum.

    Attributes
    ----------
    flux
        Flux density in `unit`, float64, shape (n, pixels). Bad pixels keep the file's values.
    ivar
        Inverse variance of the flux, shape (n, pixels); 0 for bad pixels.
    wavelength
        Increasing vacuum wavelength in Angstrom, of shape (pixels,) where all share one grid, else (n, pixels). None
        if the reader was asked to leave it out.
    bad
        True where a pixel must not be used, shape (n, pixels); by default where `ivar` is not a positive number.
    error
        Standard error as in the file, bad pixels included, shape (n, pixels); by default from `ivar`, infinite at 0.
    unit
        Unit of the flux as astropy spells it; "" if the flux has no unit.
    chips
        Name and pixel range (start, stop) of each detector chip, blue to red; if there are none, one entry "all".
    meta
        What the file says of each spectrum: for each name a tuple of n numbers, texts or None; a task may store
        lists in it too. "frame" is the rest frame of the wavelengths, in the words of FITS: TOPOCENT (as observed),
        HELIOCEN, or SOURCE (of the object).
    bitmask
        The file's own mask, integers of shape (n, pixels); None unless it was asked for.
    mask_name
        Name by which SDSS calls that mask: "APOGEE_PIXMASK" or "SPPIXMASK"; "" if the file has none.
    reject
        Names of those bits of the mask for which pixels are bad, in the order of the bits.
    continuum, continuum_unit
        Continuum by which the flux was divided, shape (n, pixels), and its unit; None if it was not divided.
    models
        Model spectra and continua that the file has beside the flux, as they are there, by the file's names for them;
        each of shape (n, pixels). Empty if there are none.
    provenance
        How a task made them, if `Task.read` gave them: task, parameters, code version and inputs.

    Raises
    ------
    ValueError
        If the shapes do not fit together.
    """

    flux: FloatArray
    ivar: FloatArray
    wavelength: FloatArray | None = None
    bad: BoolArray = None  # type: ignore[assignment]  # always an array once made
    error: FloatArray = None  # type: ignore[assignment]  # likewise
    unit: str = ""
    chips: tuple[tuple[str, int, int], ...] = ()
    meta: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    bitmask: BitmaskArray | None = None
    continuum: FloatArray | None = None
    continuum_unit: str = ""
    mask_name: str = ""
    reject: tuple[str, ...] = ()
    models: Mapping[str, FloatArray] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = np.atleast_2d(self.flux).shape
        if cast("BoolArray | None", self.bad) is None:
            with np.errstate(invalid="ignore"):
                self._set("bad", ~(np.asarray(self.ivar) > 0) | ~np.isfinite(self.ivar))
        if cast("FloatArray | None", self.error) is None:
            with np.errstate(divide="ignore", invalid="ignore"):
                self._set("error", 1 / np.sqrt(np.asarray(self.ivar, float)))
        for name in ("flux", "ivar", "bad", "error", "bitmask", "continuum"):
            value = getattr(self, name)
            if value is not None:
                array = np.atleast_2d(value)
                self._check_shape(name, array, shape)
                self._set(name, array)
        models = {name: _freeze(np.atleast_2d(np.asarray(value, float))) for name, value in self.models.items()}
        for name, array in models.items():
            self._check_shape(f"model {name}", array, shape)
        object.__setattr__(self, "models", models)
        if self.wavelength is not None:
            array = np.asarray(self.wavelength, float)
            if array.shape not in ((shape[1],), shape):
                raise ValueError(f"wavelength has shape {array.shape}: {(shape[1],)} or {shape} is expected")
            self._set("wavelength", array)
        if any(len(values) != shape[0] for values in self.meta.values()):
            raise ValueError(f"each entry of meta must have {shape[0]} values, one a spectrum")
        if not self.chips:
            object.__setattr__(self, "chips", (("all", 0, shape[1]),))

    def _set(self, name: str, array: AnyArray) -> None:
        object.__setattr__(self, name, _freeze(array))

    @staticmethod
    def _check_shape(name: str, array: AnyArray, shape: tuple[int, ...]) -> None:
        if array.shape != shape or len(shape) != 2:
            raise ValueError(f"{name} has shape {array.shape}, flux has {shape}: (n, pixels) is expected")

    def __len__(self) -> int:
        return int(self.flux.shape[0])

    def __repr__(self) -> str:
        number, pixels = self.flux.shape
        grid = self.wavelength
        span = "" if grid is None or not grid.size else f", {np.nanmin(grid):.0f} to {np.nanmax(grid):.0f} Angstrom"
        return f"SpectrumBatch: {number} spectr{'um' if number == 1 else 'a'} of {pixels} pixels{span}"

    def __getitem__(self, rows: int | slice | Sequence[int] | IndexArray) -> "SpectrumBatch":
        """Return a batch of some of the spectra; a number selects one.

        Raises
        ------
        IndexError
            If there is no such spectrum.
        """
        picked = np.atleast_1d(np.arange(len(self))[rows])
        wanted = slice(picked[0], picked[0] + 1) if isinstance(rows, int) else rows
        changes: dict[str, Any] = {item.name: getattr(self, item.name) for item in fields(self)}
        for name in ("flux", "ivar", "bad", *_MAYBE):
            changes[name] = None if changes[name] is None else changes[name][wanted]
        if self.wavelength is not None and self.wavelength.ndim == 2:
            changes["wavelength"] = self.wavelength[wanted]
        changes["models"] = {name: array[wanted] for name, array in self.models.items()}
        changes["meta"] = {name: tuple(values[i] for i in picked) for name, values in self.meta.items()}
        return SpectrumBatch(**changes)

    def chip(self, name: str) -> slice:
        """Return the range of pixels of a chip.

        Raises
        ------
        KeyError
            If the spectra have no chip of that name.
        """
        for known, start, stop in self.chips:
            if known == name:
                return slice(start, stop)
        raise KeyError(f"there is no chip {name!r}, but {', '.join(known for known, _, _ in self.chips)}")

    def flagged(self, names: Iterable[str]) -> BoolArray:
        """Return where the file's own mask has any of some bits set, whatever `bad` says.

        Parameters
        ----------
        names
            Names of bits in upper or lower case; see `astra_dagster.spectra.pixel_flags`.

        Returns
        -------
        BoolArray
            True where a bit is set, shape (n, pixels).

        Raises
        ------
        UnknownFlagError
            If the mask has no bit of a name.
        AnalysisError
            If there are names, and the spectra were read without their mask.
        """
        bits = find_bits(self.mask_name, names)
        if not bits:
            return np.zeros(self.flux.shape, dtype=bool)
        if self.bitmask is None:
            hint = "read them with bitmask=True; a task declares it: @spectrum_task(..., bitmask=True)"
            raise AnalysisError("the spectra were read without their mask", hint=hint)
        return np.asarray((self.bitmask & bits) != 0)

    @property
    def sky(self) -> BoolArray:
        """True where the file's own mask says that a pixel shows the sky; nowhere if there is no mask."""
        names = SKY.get(self.mask_name, ()) if self.bitmask is not None else ()
        return np.asarray(self.flagged(names)) if names else np.zeros(self.flux.shape, dtype=bool)

    def rejecting(self, names: Iterable[str]) -> "SpectrumBatch":
        """Return the spectra as if they had been read with ``reject=names``: other bits of the mask make pixels bad.

        Pixels without usable flux and error stay bad, whatever the mask says. `bad` and `ivar` change, nothing else.
        Spectra that reject just these bits are returned as they are.

        Parameters
        ----------
        names
            Names of bits in upper or lower case; with none of them, nothing is bad for the mask alone.

        Raises
        ------
        UnknownFlagError
            If the mask has no bit of a name.
        AnalysisError
            If other bits are rejected so far, and the spectra were read without their mask.
        """
        wanted = order_names(self.mask_name, names)
        if wanted == self.reject:
            return self
        before, now = self.flagged(self.reject), self.flagged(wanted)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
            known = 1 / np.square(self.error)
        usable = (self.error > TINY_ERROR) & (self.error < HUGE_ERROR) & np.isfinite(self.flux)
        freed = before & ~now & usable
        bad = (self.bad & ~freed) | now
        ivar = np.where(bad, 0.0, np.where(freed, known, self.ivar))
        return replace(self, bad=bad, ivar=ivar, reject=wanted)

    def to_spectrum(self, row: int | None = None) -> "Spectrum":
        """Make a `specutils.Spectrum` of the spectra, or of one of them. Its arrays are copies, which may be changed.

        This imports specutils, which takes more than a second, and registers no loaders.

        Parameters
        ----------
        row
            Number of one spectrum, whose flux has shape (pixels,). By default all are converted: the flux of a batch of
            one has shape (pixels,), else (n, pixels), for which the spectra must share a wavelength grid.

        Returns
        -------
        Spectrum
            Flux in the unit of the batch, wavelength in Angstrom, inverse variance that is 0 for bad pixels, and a mask
            that is True for them. Its `meta` holds that of the batch, as plain values for one spectrum and lists for
            several; and, if the batch has them, `continuum` as a quantity, `bitmask` as an array, and `models` as a
            dictionary of arrays.

        Raises
        ------
        ValueError
            If each spectrum has its own wavelength grid and `row` is not given, or there is no wavelength.
        IndexError
            If there is no such row.
        """
        from astropy.nddata import InverseVariance
        from astropy.units import Quantity
        from specutils import Spectrum

        if row is None and len(self) == 1:
            row = 0
        if row is not None and not -len(self) <= row < len(self):
            raise IndexError(f"there is no row {row}, there are {len(self)} spectra")
        rows = slice(None) if row is None else row
        meta: dict[str, Any] = {name: list(all_) if row is None else all_[row] for name, all_ in self.meta.items()}
        if self.continuum is not None:
            meta["continuum"] = Quantity(self.continuum[rows], _parse_unit(self.continuum_unit))
        if self.bitmask is not None:
            meta["bitmask"] = self.bitmask[rows].copy()
        if self.models:
            meta["models"] = {name: array[rows].copy() for name, array in self.models.items()}
        unit = _parse_unit(self.unit)
        return Spectrum(
            flux=Quantity(self.flux[rows], unit),
            spectral_axis=Quantity(self._grid(row), "Angstrom"),
            spectral_axis_index=1 if row is None else 0,
            uncertainty=InverseVariance(self.ivar[rows], unit=unit**-2),
            mask=self.bad[rows].copy(),
            meta=meta,
        )

    @classmethod
    def from_spectrum(cls, spectrum: "Spectrum") -> "SpectrumBatch":
        """Make a batch of a `specutils.Spectrum`: of one spectrum, or of several on the same grid.

        Pixels are bad where its mask is set, or where the flux or its uncertainty is not usable.

        Raises
        ------
        ValueError
            If it has no uncertainty, or no axis of wavelengths or of what can be converted to them.
        """
        from astropy.nddata import InverseVariance
        from astropy.units import spectral

        if spectrum.uncertainty is None:
            raise ValueError("the spectrum has no uncertainty")
        grid = spectrum.spectral_axis.to("Angstrom", spectral()).value
        order = slice(None) if grid[0] < grid[-1] else slice(None, None, -1)
        flux = np.atleast_2d(np.asarray(spectrum.flux.value, float))[:, order]
        with np.errstate(divide="ignore", invalid="ignore"):
            ivar = np.atleast_2d(spectrum.uncertainty.represent_as(InverseVariance).array)[:, order]
        mask = False if spectrum.mask is None else np.atleast_2d(spectrum.mask)[:, order]
        bad = ~((ivar > 0) & np.isfinite(ivar) & np.isfinite(flux)) | mask
        return cls(flux, np.where(bad, 0.0, ivar), grid[order], bad, unit=spectrum.flux.unit.to_string())

    def _grid(self, row: int | None) -> FloatArray:
        if self.wavelength is None:
            raise ValueError("the spectra have no wavelength; do not leave it out when they are read")
        if self.wavelength.ndim == 1:
            return self.wavelength
        if row is None:
            raise ValueError(f"the {len(self)} spectra have wavelength grids of their own; choose one with row=")
        own: FloatArray = self.wavelength[row]
        return own


def _freeze(array: AnyArray) -> AnyArray:
    """Return a read-only view."""
    view = array.view()
    view.flags.writeable = False
    return view


@lru_cache(maxsize=16)  # parsing a unit takes as long as reading a file
def _parse_unit(text: str) -> "Unit":
    from astropy.units import Unit

    return Unit(text)


def stack(batches: Sequence[SpectrumBatch]) -> SpectrumBatch:
    """Join batches of the same number of pixels into one, in order.

    An array or a model that one of the batches lacks is left out; metadata that a batch lacks are None for its spectra.

    Raises
    ------
    ValueError
        If the batches differ in number of pixels, units or chips, or in the bits that make their pixels bad.
    """
    first = batches[0]
    if len(batches) == 1:
        return first
    same = ("unit", "chips", "continuum_unit", "mask_name", "reject")
    for name in same:
        if any(getattr(batch, name) != getattr(first, name) for batch in batches):
            raise ValueError(f"only spectra of the same {name} can be stacked")
    arrays: dict[str, Any] = {"wavelength": _join_wavelengths(batches)}
    for name in ("flux", "ivar", "bad", *_MAYBE):
        values = [getattr(batch, name) for batch in batches]
        if all(value is not None for value in values):
            arrays[name] = np.concatenate(values)
    common = [name for name in first.models if all(name in batch.models for batch in batches)]
    arrays["models"] = {name: np.concatenate([batch.models[name] for batch in batches]) for name in common}
    names = dict.fromkeys(name for batch in batches for name in batch.meta)
    meta = {
        name: tuple(chain.from_iterable(batch.meta.get(name, (None,) * len(batch)) for batch in batches))
        for name in names
    }
    return SpectrumBatch(**arrays, meta=meta, **{name: getattr(first, name) for name in same})


def _join_wavelengths(batches: Sequence[SpectrumBatch]) -> FloatArray | None:
    grids = [batch.wavelength for batch in batches]
    if any(grid is None for grid in grids):
        return None
    first = grids[0]
    if first is not None and first.ndim == 1 and all(g is first or np.array_equal(g, first) for g in grids):  # type: ignore[arg-type]
        return first
    return np.concatenate([np.broadcast_to(batch.wavelength, batch.flux.shape) for batch in batches])  # type: ignore[arg-type]
