"""The table of readers: which function reads the files of which product."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from astra_dagster.datamodel.products import product
from astra_dagster.errors import UnknownProductError, nearest
from astra_dagster.spectra.ap_star import read_ap_star, read_aspcap_star
from astra_dagster.spectra.ap_visit import read_ap_visit
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.spectra.mwm import read_mwm
from astra_dagster.spectra.spec import read_spec


class ReadFunction(Protocol):
    """The type of all functions that read a file."""

    def __call__(
        self, path: Path, *, wavelength: bool = True, bitmask: bool = False, reject: Iterable[str] = ...
    ) -> SpectrumBatch:
        """Read one file."""


@dataclass(frozen=True)
class Reader:
    """The function that reads the files of a product, and whether a file holds one spectrum or several."""

    function: ReadFunction
    several: bool = False


READERS: Mapping[str, Reader] = {
    "apVisit": Reader(read_ap_visit),
    "apStar": Reader(read_ap_star, several=True),
    "aspcapStar": Reader(read_aspcap_star),
    **dict.fromkeys(("spec", "spec-lite", "specLite", "specFull"), Reader(read_spec)),
    **dict.fromkeys(("mwmStar", "mwmVisit"), Reader(read_mwm, several=True)),
}
"""Readers by SDSS name of the product."""


def reader(name: str) -> Reader:
    """Return the reader of a product.

    Raises
    ------
    UnknownProductError
        If there is no such product, or no reader for it.
    """
    item = product(name)
    if item.name not in READERS:
        raise UnknownProductError(f"no reader for {item.name}", hint=nearest(item.name, READERS))
    return READERS[item.name]


def read_spectra(path: str | Path, product: str, **options: Any) -> SpectrumBatch:
    """Read the spectra of one file.

    Parameters
    ----------
    path
        The file; it may be compressed with gzip, bzip2 or zip.
    product
        Product of the file: "apVisit", "apStar", "aspcapStar", "spec", "spec-lite", "specLite", "specFull", "mwmStar"
        or "mwmVisit", or our name of it.
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
