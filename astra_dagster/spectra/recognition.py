"""Which product a file is of, by its name and by its headers.

The name is compared with the path templates of the SDSS tree. Headers are put to a small test that each reader brings:
a function from an open file to whether it has the HDUs of the product. It reads headers alone, and it is no check: what
is wrong with a file of the product is found by its reader.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from astra_dagster.datamodel.file_names import match_name
from astra_dagster.datamodel.products import products
from astra_dagster.errors import AstraError, OtherProductError, UnknownFileError
from astra_dagster.fits.hdu import HDU
from astra_dagster.fits.reader import FitsFile

Recognise = Callable[[FitsFile], bool]
"""Function from an open file to whether its headers are those of a product."""

_SHOWN = 5  # HDUs that an error names


@dataclass(frozen=True)
class Recognition:
    """What a file may be.

    Attributes
    ----------
    path
        The file.
    by_name, by_headers
        SDSS names of the products that its name fits, and of those that its headers fit.
    known
        SDSS names of the products that it was compared with.
    hdus
        What its HDUs hold, in words; empty if it cannot be read as FITS.
    problem
        Why it cannot be read, if so.
    """

    path: Path
    by_name: tuple[str, ...]
    by_headers: tuple[str, ...]
    known: tuple[str, ...]
    hdus: str = ""
    problem: AstraError | None = None

    @property
    def is_known(self) -> bool:
        """Whether its headers are those of a product, or its name is and it is so damaged that it has none."""
        return bool(self.by_headers or (self.by_name and self.problem))

    def choose(self) -> str:
        """Return the product of the file.

        Where its name tells nothing the headers decide; where these tell nothing, the reader of the product that the
        name tells will say what is wrong with them.

        Raises
        ------
        OtherProductError
            If the name is that of a product, and the headers are those of another one.
        UnknownFileError
            If neither is that of a product with a reader.
        """
        both = [name for name in self.by_headers if name in self.by_name]
        if self.by_name and self.by_headers and not both:
            raise OtherProductError(
                f"its name is that of {_join(self.by_name)}, its headers are those of {_join(self.by_headers)}",
                path=self.path,
                hint=f'give it its own name, or say what it is: read_spectra(path, "{self.by_headers[0]}")',
            )
        if found := both or self.by_headers or self.by_name:
            return found[0]
        if self.problem:
            raise self.problem
        name = match_name(self.path, products())
        told = f"is that of {_join(name)}, which has no reader" if name else "is that of no product"
        raise UnknownFileError(
            f"cannot be told what it is: its name {told}, and it has {self.hdus}",
            path=self.path,
            hint=f"known are {', '.join(self.known)}; others are read once register_reader gave them a reader",
        )


def recognise_file(path: Path, known: Mapping[str, Recognise]) -> Recognition:
    """Find out what a file may be.

    Parameters
    ----------
    known
        Test of the headers by SDSS name of the product.
    """
    by_name = match_name(path, known)
    try:
        with FitsFile(path) as file:
            by_headers = tuple(name for name, recognise in known.items() if _passes(file, recognise))
            return Recognition(path, by_name, by_headers, tuple(known), _describe(file))
    except AstraError as error:
        return Recognition(path, by_name, (), tuple(known), problem=error)


def find_other(path: Path, name: str, known: Mapping[str, Recognise]) -> str | None:
    """Return the product of a file whose headers are not those of the product `name`, but of another one; else None."""
    found = recognise_file(path, known).by_headers
    return None if name in found or not found else found[0]


def find_shape(file: FitsFile, kinds: str) -> tuple[int, ...] | None:
    """Return the shape that the first images after the primary HDU share; None if they are no such images.

    Parameters
    ----------
    kinds
        What the numbers of each image are: "f" floating, "i" whole.
    """
    images = file.hdus()[1 : len(kinds) + 1]
    shapes = {hdu.shape for hdu in images if hdu.kind == "image"}
    found = "".join("f" if hdu.sizes.bits < 0 else "i" for hdu in images)
    return shapes.pop() if found == kinds and len(shapes) == 1 else None


def _passes(file: FitsFile, recognise: Recognise) -> bool:
    with contextlib.suppress(AstraError):  # a damaged header
        return recognise(file)
    return False


def _join(names: tuple[str, ...]) -> str:
    return " or ".join(names)


def _describe(file: FitsFile) -> str:
    hdus = file.hdus()
    shown = ", ".join(map(_describe_hdu, hdus[:_SHOWN]))
    return shown if len(hdus) <= _SHOWN else f"{shown}, and {len(hdus) - _SHOWN} HDUs more"


def _describe_hdu(hdu: HDU) -> str:
    if hdu.kind == "table":
        return f"a table of {hdu.shape[0]} rows"
    return f"an image of shape {hdu.shape}" if hdu.shape else "a header"
