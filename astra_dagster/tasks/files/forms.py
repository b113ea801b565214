"""The forms in which a function receives a file: as a path, or opened. The annotation of its argument says which.

What makes spectra of files, the readers of products, is not here.
"""

import inspect
import io
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from astra_dagster.errors import InputMissingError, SpectrumFileError, describe
from astra_dagster.files import open_file


class Form(StrEnum):
    """A form in which a function receives a file; the value is the annotation."""

    PATH = "Path"
    TABLE = "Table"
    """A table of astropy."""
    HDUS = "HDUList"
    """The HDUs of a FITS file, as astropy has them, in memory."""
    ARRAY = "ndarray"
    """The array of a ``.npy`` file, read-only."""
    ARRAYS = "Mapping"
    """The arrays of an ``.npz`` file by name, read-only."""


_NAMES = {**{form.value: form for form in Form}, "NDArray": Form.ARRAY, "dict": Form.ARRAYS}
_ANY = frozenset({"", "Any", "object"})
"""Annotations that say nothing."""


def find_form(function: Callable[..., Any], place: int) -> Form | None:
    """Return the form that the annotation of an argument names; None if it names none.

    ``list[Path]``, for an argument that receives many files, names the same form as ``Path``.
    """
    return _NAMES.get(_annotation(function, place))


def find_form_of_file(function: Callable[..., Any], place: int) -> Form:
    """Return the form that the annotation of an argument names which can be nothing but a file: by default a path.

    Raises
    ------
    ValueError
        If the annotation names something else.
    """
    name = _annotation(function, place)
    if name not in _ANY and name not in _NAMES:
        raise ValueError(f"a file is received as {', '.join(Form)}, and argument {place + 1} is annotated as {name}")
    return _NAMES.get(name, Form.PATH)


def _annotation(function: Callable[..., Any], place: int) -> str:
    arguments = list(inspect.signature(function).parameters.values())
    given = arguments[place].annotation if place < len(arguments) else inspect.Parameter.empty
    return "" if given is inspect.Parameter.empty else _name(given)


def _name(annotation: object) -> str:
    """Return the last name of an annotation, without modules and what is in brackets; of a list, that of its members.

    Names are compared, and not types, so that astropy need not be imported, nor what an annotation in quotes names.
    """
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__qualname__", str(annotation))
    text = str(annotation) if getattr(annotation, "__args__", None) else text
    inner = re.fullmatch(r"(?:\w+\.)*(?:list|Sequence)\[(.*)\]", text)
    return (inner[1] if inner else text).partition("[")[0].rpartition(".")[2].strip()


def open_as(form: Form, path: Path) -> Any:
    """Open a file in a form.

    Raises
    ------
    InputMissingError
        If there is no such file.
    SpectrumFileError
        If it cannot be read in this form.
    """
    if form is Form.PATH:
        return path
    try:
        return _OPENERS[form](path)
    except FileNotFoundError as error:
        raise InputMissingError("the file is not there", path=path) from error
    except MemoryError:
        raise
    except Exception as error:  # astropy and NumPy raise what they like over a damaged file
        raise SpectrumFileError(f"cannot be read as {form}: {describe(error)}", path=path) from error


def _open_table(path: Path) -> Any:
    from astropy.table import Table  # slow to import

    open_file(path).close()
    return Table.read(path)


def _open_hdus(path: Path) -> Any:
    from astropy.io import fits  # slow to import

    with open_file(path) as stream:
        return fits.open(io.BytesIO(stream.read()))


def _open_array(path: Path) -> Any:
    with open_file(path) as stream:
        return _freeze(np.load(stream, allow_pickle=False))


def _open_arrays(path: Path) -> Mapping[str, Any]:
    with open_file(path) as stream, np.load(stream, allow_pickle=False) as arrays:
        return MappingProxyType({name: _freeze(arrays[name]) for name in arrays.files})


def _freeze(array: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    array.flags.writeable = False
    return array


_OPENERS: Mapping[Form, Callable[[Path], Any]] = {
    Form.TABLE: _open_table,
    Form.HDUS: _open_hdus,
    Form.ARRAY: _open_array,
    Form.ARRAYS: _open_arrays,
}
