"""Files that many partitions of a task have in common: a list of lines, a grid of models, a catalogue of a release."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from astra_dagster.datamodel.products import Product
from astra_dagster.tasks.files.forms import Form, find_form_of_file


@dataclass(frozen=True)
class CommonFile:
    """A file that a task requires for many partitions. Make one with `file`.

    Attributes
    ----------
    of
        Path, or the product of which each partition requires one file.
    form
        How the function receives it.
    text
        The path as it was given; empty for a product.
    """

    of: Path | Product
    form: Form = Form.PATH
    text: str = ""

    def received_by(self, function: Callable[..., Any], place: int, module: str) -> "CommonFile":
        """Return the file for a function: in the form that the argument's annotation names, and with its whole path.

        Parameters
        ----------
        place
            Place of the argument.
        module
            Name of the module that declares the task.

        Raises
        ------
        ValueError
            If the annotation names no form of a file.
        """
        form = find_form_of_file(function, place)
        if isinstance(self.of, Product):
            return replace(self, form=form)
        place_of_module = getattr(sys.modules.get(module), "__file__", None)
        folder = Path(place_of_module).absolute().parent if place_of_module else Path.cwd()
        return replace(self, form=form, of=folder / self.of.expanduser())


def file(of: str | os.PathLike[str] | Product) -> CommonFile:
    """Require one file for many partitions; each worker opens it once.

    ``requires=(ap_visit, file("lines.csv"))`` hands the function a list of lines, and
    ``requires=(ap_visit, file(product("allStar")))`` the catalogue of the partition's release. The function receives a
    `Path`, or what the annotation of the argument says: `Table` or `HDUList` of astropy, `numpy.ndarray` for a ``.npy``
    file, or `Mapping` for the arrays of an ``.npz`` file by name. Files are shared by all partitions that a worker
    does: do not change them.

    Parameters
    ----------
    of
        A path, absolute or relative to the folder of the module that declares the task; or a product whose files are
        told apart by the release, or by fewer parts than the partitions have, as a field or a plate.
    """
    return CommonFile(of) if isinstance(of, Product) else CommonFile(Path(of), text=os.fspath(of))
