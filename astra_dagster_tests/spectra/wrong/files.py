"""Kinds of files, and what a reader must do with one that is not what it should be."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from astra_dagster.errors import SpectrumFileError
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.spectra.products.spec import SPEC
from astra_dagster.spectra.readers import read_spectra
from astra_dagster_tests.spectra.synthetic import WRITERS

KINDS = list(WRITERS)

TABLES = [kind for kind in KINDS if kind.startswith(("spec", "mwm", "astra"))]

PRIMARY: Mapping[str, Callable[[Any], tuple[Any, Any]]] = {
    "spSpec": lambda hdus: (hdus[0].data[0], hdus[0].data[2]),
    "spPlate": lambda hdus: (hdus[0].data, hdus[1].data),
}
"""Products whose flux is in the first HDU: function to their flux, and their error or inverse variance."""

IMAGES = [kind for kind in KINDS if kind.startswith("ap") and kind not in ("apVisit", "apVisit, DR19")]

MODELS = [kind for kind in KINDS if kind.startswith("astra")]
"""Kinds of files that have models alone, without errors and mask."""

ALIKE = (set(SPEC),)
"""Products that are alike on disk, and of which one is read where another is asked for."""

NEEDED = {"apVisit": 4, "apStar": 3, "aspcapStar": 3, "spec": 1, "spSpec": 0, "spPlate": 5, "mwm": 4, "astra": 4}
"""Last HDU that a reader cannot do without."""

OPTIONS = ({}, {"bitmask": True}, {"wavelength": False, "bitmask": True})


def family(product: str) -> str:
    return next(name for name in NEEDED if product.startswith(name))


def arrays_of(path: Path, product: str) -> dict[int, tuple[str, ...]]:
    """HDUs after the first that hold what the reader decodes, and for tables the columns; see `PRIMARY` for others."""
    if family(product) == "spec":
        return {1: ("flux", "ivar", "loglam")}
    if family(product) in ("mwm", "astra"):
        names = {"mwm": ("flux", "ivar"), "astra": ("model_flux",)}[family(product)]
        with fits.open(path) as hdus:
            return {i: names for i in range(1, 5) if len(hdus[i].data)}
    return {} if product in PRIMARY else dict.fromkeys(range(1, NEEDED[product] + 1), ())


def check_valid(batch: SpectrumBatch) -> None:
    """What every analysis may rely on."""
    shape = batch.flux.shape
    assert len(shape) == 2
    assert batch.flux.dtype == batch.ivar.dtype == batch.error.dtype == np.float64
    assert batch.ivar.shape == batch.error.shape == batch.bad.shape == shape
    assert batch.bad.dtype == bool
    assert np.isfinite(batch.ivar).all()
    np.testing.assert_array_equal(batch.ivar > 0, ~batch.bad & ~np.isnan(batch.error))  # models have no errors
    assert np.isfinite(batch.flux[~batch.bad]).all()
    if batch.wavelength is not None:
        assert batch.wavelength.shape in (shape, shape[1:])
        assert np.isfinite(batch.wavelength).all()
        assert (batch.wavelength > 0).all()
        assert (np.diff(batch.wavelength) > 0).all()
    if batch.bitmask is not None:
        assert batch.bitmask.shape == shape
        assert batch.bitmask.dtype == np.int64
    assert [start for _, start, _ in batch.chips] == sorted(start for _, start, _ in batch.chips)
    assert all(0 <= start < stop <= shape[1] for _, start, stop in batch.chips)
    for values in batch.meta.values():
        assert len(values) == shape[0]
        assert {type(value) for value in values} <= {str, int, float, bool, type(None)}
        assert all(np.isfinite(value) for value in values if type(value) is float)


def survives(path: Path, product: str, **options: bool) -> bool:
    """Whether the file can be read; what it cannot be read for must be an error of ours that names the file."""
    try:
        batch = read_spectra(path, product, **options)
    except SpectrumFileError as error:
        problem = str(error)
    else:
        check_valid(batch)
        return True
    assert str(path) in problem
    return False


def refused(path: Path, product: str, match: str) -> None:
    for options in OPTIONS:
        with pytest.raises(SpectrumFileError, match=match) as error:
            read_spectra(path, product, **options)
        assert str(path) in str(error.value)


def holds_no_data(path: Path, product: str) -> None:
    """A file without a good pixel is read as one with them, and is valid."""
    for options in OPTIONS:
        batch = read_spectra(path, product, **options)
        check_valid(batch)
        assert batch.bad.all()
        assert (batch.ivar == 0).all()


def refused_with_wavelength(path: Path, product: str, match: str) -> None:
    """As `refused`, for what is wrong with the wavelengths perhaps, which a reader need not read."""
    with pytest.raises(SpectrumFileError, match=match) as error:
        read_spectra(path, product)
    assert str(path) in str(error.value)
    for options in OPTIONS:
        survives(path, product, **options)


def rewritten(path: Path, index: int, change: Callable[[Any], Any]) -> None:
    """Write the file anew with another array in an HDU, its cards kept."""
    with fits.open(path, memmap=False) as hdus:
        made = fits.ImageHDU(change(hdus[index].data))
        kept = [hdu.copy() for hdu in hdus[1:index]], [hdu.copy() for hdu in hdus[index + 1 :]]
    fits.HDUList([fits.PrimaryHDU(), *kept[0], made, *kept[1]]).writeto(path, overwrite=True)


@functools.cache
def layout(path: Path) -> tuple[tuple[int, int, int], ...]:
    """Where the header and the data of each HDU begin, and the data end."""
    with fits.open(path, memmap=False) as hdus:
        places = [(hdu.fileinfo()["hdrLoc"], hdu.fileinfo()["datLoc"], hdu.size) for hdu in hdus]
    return tuple((header, data, data + size) for header, data, size in places)


@contextlib.contextmanager
def changed(path: Path, changes: Mapping[int, bytes]) -> Iterator[None]:
    """Change bytes of a file for a while."""
    with path.open("r+b", buffering=0) as stream:
        kept = {place: os.pread(stream.fileno(), len(new), place) for place, new in changes.items()}
        for place, new in changes.items():
            os.pwrite(stream.fileno(), new, place)
        try:
            yield
        finally:
            for place, old in reversed(kept.items()):
                os.pwrite(stream.fileno(), old, place)
