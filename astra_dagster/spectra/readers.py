"""The table of readers: which function reads the files of which product."""

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from astra_dagster.datamodel.products import product
from astra_dagster.errors import ReaderError, SpectrumFileError, UnknownProductError, nearest
from astra_dagster.spectra.ap_star import read_ap_star, read_aspcap_star
from astra_dagster.spectra.ap_visit import read_ap_visit
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.spectra.mwm import read_mwm
from astra_dagster.spectra.spec import read_spec

if TYPE_CHECKING:
    from specutils import Spectrum


class ReadFunction(Protocol):
    """The type of all functions that read a file."""

    def __call__(
        self, path: Path, *, wavelength: bool = True, bitmask: bool = False, reject: Iterable[str] = ...
    ) -> SpectrumBatch:
        """Read one file."""


@dataclass(frozen=True)
class Reader:
    """The function that reads the files of a product, and whether a file holds one spectrum or several."""

    function: "ReadFunction | AddedReader"
    several: bool = False


READERS: Mapping[str, Reader] = {
    "apVisit": Reader(read_ap_visit),
    "apStar": Reader(read_ap_star, several=True),
    "aspcapStar": Reader(read_aspcap_star),
    **dict.fromkeys(("spec", "spec-lite", "specLite", "specFull"), Reader(read_spec)),
    **dict.fromkeys(("mwmStar", "mwmVisit"), Reader(read_mwm, several=True)),
}
"""Readers by SDSS name of the product."""


@dataclass(frozen=True)
class AddedReader:
    """A function of a user that reads the files of a product, called as ours are, and what it returns is checked.

    Attributes
    ----------
    product
        SDSS name of the product.
    """

    product: str
    function: "Callable[..., SpectrumBatch | Spectrum]"
    several: bool

    def __call__(
        self, path: Path, *, wavelength: bool = True, bitmask: bool = False, **options: object
    ) -> SpectrumBatch:
        """Read one file; the function gets `wavelength` and `bitmask` only if it has such arguments.

        Raises
        ------
        SpectrumFileError
            If the function returns no spectra, or another number of them than was announced.
        """
        takes = inspect.signature(self.function).parameters
        ours = {"wavelength": wavelength, "bitmask": bitmask}
        made = self.function(path, **{name: value for name, value in ours.items() if name in takes}, **options)
        batch = made if isinstance(made, SpectrumBatch) else _to_batch(made)
        if batch is None:
            raise SpectrumFileError(
                f"the reader of {self.product} returned {type(made).__name__}",
                path=path,
                hint="a SpectrumBatch is expected, or a Spectrum of specutils",
            )
        if len(batch) != 1 and not self.several:
            raise SpectrumFileError(
                f"the reader of {self.product} returned {len(batch)} spectra",
                path=path,
                hint=f'one is expected; for several write register_reader("{self.product}", ..., several=True)',
            )
        return batch

    @property
    def module(self) -> str:
        """Name of the module that defines the function."""
        return self.function.__module__


_ADDED: dict[str, AddedReader] = {}


def register_reader(
    product_name: str, function: "Callable[..., SpectrumBatch | Spectrum]", *, several: bool = False
) -> None:
    """Add a reader for a product that has none, so that tasks that require it receive spectra.

    Call it in a module of your package of tasks: whatever uses these tasks, workers too, then knows the reader.

    Parameters
    ----------
    product_name
        Product that the function reads, ``"apField"``, or our name of it.
    function
        Function from the path of a file to its spectra, a `SpectrumBatch` or a `Spectrum` of specutils. If it has
        arguments `wavelength` and `bitmask`, it is told whether a task uses these.
    several
        Whether a file may hold several spectra; a task then returns a list of values for each column.

    Raises
    ------
    UnknownProductError
        If there is no such product; the hint lists similar names.
    ReaderError
        If another function reads the product already.
    """
    name = product(product_name).name
    known = find_reader(name)
    if known is not None and _place(known.function) != _place(function):
        raise ReaderError(f"{name} has a reader already, {_place(known.function)}", hint="tasks go by what it returns")
    _ADDED[name] = AddedReader(name, function, several)


def added_readers() -> dict[str, AddedReader]:
    """Return the readers that users have registered, by SDSS name of the product."""
    return dict(_ADDED)


def add_readers(readers: Mapping[str, AddedReader]) -> None:
    """Add readers that were registered in another process."""
    _ADDED.update(readers)


def _place(function: Callable[..., Any]) -> str:
    found = function.function if isinstance(function, AddedReader) else function
    return f"{found.__module__}.{found.__qualname__}"


def _to_batch(spectrum: object) -> SpectrumBatch | None:
    """Convert a `Spectrum` of specutils; None if it is something else."""
    specutils = sys.modules.get("specutils")
    if specutils is None or not isinstance(spectrum, specutils.Spectrum):
        return None
    return SpectrumBatch.from_spectrum(spectrum)


def find_reader(name: str) -> Reader | None:
    """Return the reader of a product, by SDSS name; None if it has none."""
    added = _ADDED.get(name)
    return Reader(added, added.several) if added is not None else READERS.get(name)


def reader(name: str) -> Reader:
    """Return the reader of a product.

    Raises
    ------
    UnknownProductError
        If there is no such product, or no reader for it.
    """
    item = product(name)
    found = find_reader(item.name)
    if found is None:
        hint = f'{nearest(item.name, [*READERS, *_ADDED])}; or add one with register_reader("{item.name}", ...)'
        raise UnknownProductError(f"no reader for {item.name}", hint=hint)
    return found


def read_spectra(path: str | Path, product: str, **options: Any) -> SpectrumBatch:
    """Read the spectra of one file.

    Parameters
    ----------
    path
        The file; it may be compressed with gzip, bzip2 or zip.
    product
        Product of the file: "apVisit", "apStar", "aspcapStar", "spec", "spec-lite", "specLite", "specFull", "mwmStar"
        or "mwmVisit", one with a reader of yours (`register_reader`), or our name of it.
    options
        ``wavelength=False`` to leave the wavelengths out, ``bitmask=True`` to keep the file's own mask,
        ``reject=("BADPIX", "SIG_SKYLINE")`` to say which bits of it make pixels bad (by default those that the survey
        rejects, with ``reject=()`` none; `astra_dagster.spectra.pixel_flags` names them), and for mwm files
        ``instrument="BOSS"`` or ``"APOGEE"``.

    Returns
    -------
    SpectrumBatch
        The spectra of the file; the reader of the product says which pixels are bad, and what the rows are.

    Raises
    ------
    UnknownProductError
        If there is no reader for the product.
    UnknownFlagError
        If the file's mask has no bit of a name in `reject`.
    InputMissingError
        If there is no such file.
    SpectrumFileError
        If the file does not agree with its data model; the message names file, HDU and what was expected.
    """
    return reader(product).function(Path(path), **options)
