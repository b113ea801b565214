"""The task: parameters, a requirement, a function and an output. Knows nothing of Dagster."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy.typing as npt

from astra_dagster.datamodel.products import Product
from astra_dagster.errors import UnknownTaskError, nearest
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.tasks.parameters import Parameters

Columns = Mapping[str, npt.ArrayLike]


@dataclass(frozen=True)
class Task:
    """An analysis of one product, file by file.

    Attributes
    ----------
    name
        Name of its asset: ``ap_visit_snr``.
    requires
        The product that it analyses.
    parameters
        Class of its parameters.
    version
        Code version; change it when the same input and parameters give other results.
    function
        From a batch of n spectra and parameters to columns of n values each, or to a batch of n spectra, whose
        metadata then hold the columns.
    columns
        Description of each column that the function returns.
    output
        "json" for columns alone, "fits" for spectra.
    wavelength
        Whether the function looks at wavelengths; reading goes faster without.
    description
        What the task does, for people.
    """

    name: str
    requires: Product
    parameters: type[Parameters]
    version: str
    function: Callable[[SpectrumBatch, Any], Columns | SpectrumBatch]
    columns: Mapping[str, str]
    output: Literal["json", "fits"] = "json"
    wavelength: bool = True
    description: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", self.version):
            raise ValueError(f"version of {self.name} must be letters, digits, _ or -, not {self.version!r}")


def find_task(name: str, tasks: Mapping[str, Task]) -> Task:
    """Look a task up by name.

    Raises
    ------
    UnknownTaskError
        If there is none; the message lists the nearest names.
    """
    try:
        return tasks[name]
    except KeyError:
        raise UnknownTaskError(f"no task {name[:80]!r}", hint=nearest(name, tasks)) from None
