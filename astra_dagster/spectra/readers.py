"""The table of readers: which function reads the files of which product."""

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from astra_dagster import settings
from astra_dagster.archive.reductions import add_reductions
from astra_dagster.datamodel.products import Product, product, releases
from astra_dagster.errors import (
    AstraError,
    CutShortError,
    InputMissingError,
    OtherProductError,
    ReaderError,
    SpectrumFileError,
    UnknownFileError,
    UnknownProductError,
    UnreachableError,
    nearest,
)
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.spectra.output import is_output
from astra_dagster.spectra.products.ap_star import is_ap_star, is_aspcap_star, read_ap_star, read_aspcap_star
from astra_dagster.spectra.products.ap_visit import is_ap_visit, read_ap_visit
from astra_dagster.spectra.products.astra import ASTRA, is_astra, read_astra
from astra_dagster.spectra.products.mwm import find_instruments, is_mwm, read_mwm
from astra_dagster.spectra.products.sp_plate import is_sp_plate, read_sp_plate
from astra_dagster.spectra.products.sp_spec import is_sp_spec, read_sp_spec
from astra_dagster.spectra.products.spec import COMBINED, is_spec, read_spec
from astra_dagster.spectra.recognition import Recognise, Recognition, find_other, recognise_file

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
    """The function that reads the files of a product, and how they are recognised.

    Attributes
    ----------
    function
        Reads a file.
    recognise
        Whether the headers of an open file are those of the product.
    several
        Whether a file may hold several spectra.
    instruments
        Names of the spectrographs of which a file has spectra, for a function that reads those of one `instrument`.
    verified
        Against what the function was checked: "real files of DR13 and DR17", say. A text that does not begin with
        "real files" names a document, and the function is unverified on a real file.
    """

    function: "ReadFunction | AddedReader"
    recognise: Recognise
    several: bool = False
    instruments: Callable[[Path], tuple[str, ...]] | None = None
    verified: str = "its author"

    @property
    def options(self) -> tuple[str, ...]:
        """Names of what the function can be told beside whether wavelengths and the mask are wanted."""
        given = self.function.function if isinstance(self.function, AddedReader) else self.function
        found = inspect.signature(given).parameters.values()
        return tuple(
            each.name
            for each in found
            if each.kind in (each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD)
            and each.default is not each.empty
            and each.name not in ("wavelength", "bitmask", *getattr(given, "keywords", ()))
        )


_DR19 = "the data model of DR19"


def _make_mwm_reader(*, star: bool) -> Reader:
    read, test = partial(read_mwm, star=star), partial(is_mwm, star=star)
    return Reader(read, test, several=True, instruments=find_instruments, verified=_DR19)


def _make_astra_reader(pipeline: str, star: bool) -> Reader:
    read, test = partial(read_astra, pipeline=pipeline, star=star), partial(is_astra, pipeline=pipeline, star=star)
    return Reader(read, test, several=True, verified=_DR19)


def _make_spec_reader(verified: str, *, sdss5: bool, lite: bool) -> Reader:
    return Reader(read_spec, partial(is_spec, sdss5=sdss5, lite=lite), verified=verified)


READERS: Mapping[str, Reader] = {
    "apVisit": Reader(read_ap_visit, is_ap_visit, verified="real files of DR13 and DR17"),
    "apStar": Reader(read_ap_star, is_ap_star, several=True, verified="real files of DR13 and DR17"),
    "apVisit-1m": Reader(read_ap_visit, partial(is_ap_visit, one_metre=True), verified="the data model of DR17"),
    "apStar-1m": Reader(
        read_ap_star, partial(is_ap_star, one_metre=True), several=True, verified="the data model of DR17"
    ),
    "aspcapStar": Reader(read_aspcap_star, is_aspcap_star, verified="real files of DR13"),
    "spec": _make_spec_reader("real files of DR12 and DR17", sdss5=False, lite=False),
    "spec-lite": _make_spec_reader("real files of DR14 and DR17", sdss5=False, lite=True),
    "specLite": _make_spec_reader(_DR19, sdss5=True, lite=True),
    "specFull": _make_spec_reader(_DR19, sdss5=True, lite=False),
    **{name: _make_spec_reader(_DR19, sdss5=True, lite=name.startswith("specLite")) for name in COMBINED},
    "spSpec": Reader(read_sp_spec, is_sp_spec, verified="the data model of DR7, and of DR20"),
    "spPlate": Reader(read_sp_plate, is_sp_plate, several=True, verified="the data model of DR7, and of DR17"),
    "mwmStar": _make_mwm_reader(star=True),
    "mwmVisit": _make_mwm_reader(star=False),
    **{name: _make_astra_reader(pipeline, star) for name, (pipeline, star) in ASTRA.items()},
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
    found = function.function if isinstance(function, AddedReader) else getattr(function, "func", function)
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
    return Reader(added, _tell_nothing, added.several) if added is not None else READERS.get(name)


def _tell_nothing(file: object) -> bool:
    """The headers of a file for which a user has a reader: its name alone tells what it is."""
    return False


def _list_tests() -> dict[str, Recognise]:
    return {name: item.recognise for name, item in READERS.items()} | dict.fromkeys(_ADDED, _tell_nothing)


def recognise(path: str | Path) -> Recognition:
    """Find out by name and headers of which product with a reader a file may be."""
    return recognise_file(Path(path), _list_tests())


def reader(name: str | Product) -> Reader:
    """Return the reader of a product.

    Raises
    ------
    UnknownProductError
        If there is no such product, or no reader for it.
    """
    item = _find_product(name)
    found = find_reader(item.name)
    if found is None:
        hint = f'{nearest(item.name, [*READERS, *_ADDED])}; or add one with register_reader("{item.name}", ...)'
        raise UnknownProductError(f"no reader for {item.name}", hint=hint)
    return found


def read_spectra(path: str | Path, product: str | Product | None = None, **options: Any) -> SpectrumBatch:
    """Read the spectra of one file.

    Parameters
    ----------
    path
        The file; it may be compressed with gzip, bzip2 or zip.
    product
        Product of the file, ``ap_visit`` or its name: one of `READERS`, "apVisit", "spec-lite", "mwmStar" or
        "astraStarASPCAP", say, one with a reader of yours (`register_reader`), or our name of it. By default the name
        of the file and its headers tell.
    options
        ``wavelength=False`` to leave the wavelengths out, ``bitmask=True`` to keep the file's own mask,
        ``reject=("BADPIX", "SIG_SKYLINE")`` to say which bits of it make pixels bad (by default those that the survey
        rejects, with ``reject=()`` none; `astra_dagster.spectra.pixel_flags` names them), and for mwm files
        ``instrument="BOSS"`` or ``"APOGEE"``, or several, the first of which the file has spectra. A task hands over
        parameters that its ``options`` name.

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
    OtherProductError
        If the file is of another product, or its name says another one than its headers.
    UnknownFileError
        If no product is given, and neither name nor headers tell it.
    SpectrumFileError
        If the file does not agree with its data model; the message names file, HDU and what was expected.
    """
    path = Path(path)
    wanted = _choose_product(path) if product is None else product
    read = reader(wanted).function
    try:
        return read(path, **options)
    except (CutShortError, UnreachableError):
        raise
    except InputMissingError as error:
        _add_reductions(error, path, _find_product(wanted))
        raise
    except SpectrumFileError as error:
        name = _find_product(wanted).name
        other = find_other(path, name, _list_tests())
        if other is None:
            raise
        hint = f"read it as {other}, or move it to where files of {other} are"
        raise OtherProductError(f"a file of {other}, not of {name}: {error.message}", path=path, hint=hint) from error


def read_all(path: str | Path, product: str | Product | None = None, **options: Any) -> list[SpectrumBatch]:
    """Read all spectra of one file as `read_spectra` does: a batch of them, or one of each spectrograph."""
    path = Path(path)
    wanted = _choose_product(path) if product is None else product
    find = reader(wanted).instruments
    names: tuple[str, ...] = ()
    if find is not None and "instrument" not in options:
        with contextlib.suppress(AstraError):  # which the reader tells
            names = find(path)
    chosen = [{"instrument": name} for name in names] or [{}]
    return [read_spectra(path, wanted, **options, **some) for some in chosen]


def _add_reductions(error: InputMissingError, path: Path, item: Product) -> None:
    """Add to an error which other reductions the mirror has of the file that a path leads to."""
    for name in releases():
        with contextlib.suppress(AstraError):
            root = settings.sas_base_dir()
            values = item.parse_path(path.absolute(), name, root).values
            add_reductions(error, item, [name], {part: text for part, text in values.items() if part != "release"})
            return


def _choose_product(path: Path) -> str:
    try:
        return recognise(path).choose()
    except UnknownFileError as error:
        if is_output(path):
            error.hint = "a task wrote it: astra_dagster.spectra.read_output reads it"
        raise


def _find_product(name: str | Product) -> Product:
    return name if isinstance(name, Product) else product(name)
