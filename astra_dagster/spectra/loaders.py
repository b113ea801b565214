"""Spectra as specutils has them: batches become `specutils.Spectrum`, and our readers loaders of its registry.

Importing this module imports specutils, which takes more than a second, and registers the loaders; no other module
imports specutils. All loaders but one are for use by name, ``Spectrum.read(path, format="astra apVisit")``: which one
specutils picks by itself for an SDSS file stays as it is. That one, "astra", is for the files of spectra that our own
tasks write, and is picked for them.
"""

import os
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from astropy import units as u
from astropy.nddata import InverseVariance
from specutils import Spectrum, SpectrumList
from specutils.io.registers import data_loader

from astra_dagster.arrays import FloatArray
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.spectra.readers import read_spectra

PRODUCTS = ("apVisit", "apStar", "aspcapStar", "spec", "mwmStar", "mwmVisit")
"""Products that have a loader, named "astra" and the product."""

OWN = "astra"
"""The loader of the files that our own tasks write."""

PRIORITY = 100
"""Priority of that loader. Those of specutils have up to 20, and one of them takes any FITS file with a table."""


def to_spectrum(batch: SpectrumBatch, row: int | None = None) -> Spectrum:
    """Make a `specutils.Spectrum` of a batch, or of one of its rows. Its arrays are copies, which may be changed.

    Parameters
    ----------
    batch
        The spectra.
    row
        One of them, with flux of shape (pixels,). By default all: of shape (pixels,) for a batch of one, else
        (n, pixels), which takes a shared wavelength grid.

    Returns
    -------
    Spectrum
        Flux in the unit of the batch, wavelength in Angstrom, inverse variance that is 0 for bad pixels, and a mask
        that is True for them. Its `meta` has what that of the batch has, plain values for one spectrum and lists for
        several; and where the batch has them `continuum`, a quantity, and `bitmask`, an array.

    Raises
    ------
    ValueError
        If the spectra have wavelength grids of their own and `row` is not given, or there is no wavelength.
    IndexError
        If there is no such row.
    """
    if row is None and len(batch) == 1:
        row = 0
    if row is not None and not -len(batch) <= row < len(batch):
        raise IndexError(f"there is no row {row}, there are {len(batch)} spectra")
    rows = slice(None) if row is None else row
    meta: dict[str, Any] = {name: list(values) if row is None else values[row] for name, values in batch.meta.items()}
    if batch.continuum is not None:
        meta["continuum"] = u.Quantity(batch.continuum[rows], _unit(batch.continuum_unit))
    if batch.bitmask is not None:
        meta["bitmask"] = batch.bitmask[rows].copy()
    unit = _unit(batch.unit)
    return Spectrum(
        flux=u.Quantity(batch.flux[rows], unit),
        spectral_axis=u.Quantity(_grid(batch, row), u.AA),
        spectral_axis_index=1 if row is None else 0,
        uncertainty=InverseVariance(batch.ivar[rows], unit=unit**-2),
        mask=batch.bad[rows].copy(),
        meta=meta,
    )


_unit = lru_cache(maxsize=16)(u.Unit)  # parsing one takes as long as reading a file


def _grid(batch: SpectrumBatch, row: int | None) -> FloatArray:
    grid = batch.wavelength
    if grid is None:
        raise ValueError("the spectra have no wavelength; do not leave it out when they are read")
    if grid.ndim == 1:
        return grid
    if row is None:
        raise ValueError(f"the {len(batch)} spectra have wavelength grids of their own; choose one with row=")
    own: FloatArray = grid[row]
    return own


def _path(source: Any) -> Path:
    """Path of what specutils hands over: that, or the file that it opened to find its format."""
    name = source if isinstance(source, (str, os.PathLike)) else getattr(source, "name", None)
    if not isinstance(name, (str, os.PathLike)):
        raise TypeError(f"a path is expected, not {type(source).__name__}")
    return Path(name)


def _register(label: str, read: Callable[..., SpectrumBatch], identify: Callable[..., bool], priority: int) -> None:
    """Add a loader of a file's spectra as one `Spectrum`, and one of a list of them."""

    def load(source: Any, row: int | None = None, **options: Any) -> Spectrum:
        """Load the spectra of a file with the reader that astra_dagster has for it.

        Parameters
        ----------
        source
            Path of the file.
        row
            One of its spectra. By default all, with flux of shape (n, pixels), or (pixels,) if there is but one.
        options
            Of the reader: ``bitmask=True`` to have the file's own mask in `meta`, and for mwm files
            ``instrument="BOSS"`` or ``"APOGEE"``.
        """
        return to_spectrum(read(_path(source), **options), row)

    def load_list(source: Any, **options: Any) -> SpectrumList:
        """Load each spectrum of a file with the reader that astra_dagster has for it; no row is left out.

        Parameters
        ----------
        source
            Path of the file.
        options
            Of the reader: ``bitmask=True`` to have the file's own mask in `meta`, and for mwm files
            ``instrument="BOSS"`` or ``"APOGEE"``.
        """
        batch = read(_path(source), **options)
        return SpectrumList([to_spectrum(batch, row) for row in range(len(batch))])

    # `force` is for notebooks that reload modules: a second registration is an error otherwise.
    add = partial(data_loader, label, identifier=identify, priority=priority, force=True)
    add(dtype=Spectrum, autogenerate_spectrumlist=False)(load)
    add(dtype=SpectrumList)(load_list)


def _by_name_only(*args: Any, **kwargs: Any) -> bool:
    return False


def _is_own(origin: str, path: str | None, opened: Any, *args: Any, **kwargs: Any) -> bool:
    """Whether a file is one of our own; errors count as no, as for every identifier of specutils."""
    if origin != "read":
        return False
    from astra_dagster.spectra.output import is_output

    return is_output(_path(opened if path is None else path))


def _read_own(path: Path, **options: Any) -> SpectrumBatch:
    from astra_dagster.spectra.output import read_output

    return read_output(path, **options)


for _product in PRODUCTS:
    _register(f"{OWN} {_product}", partial(read_spectra, product=_product), _by_name_only, priority=0)
_register(OWN, _read_own, _is_own, PRIORITY)
