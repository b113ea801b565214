"""The decorator that makes a task from a function."""

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.tasks.calling import one_by_one
from astra_dagster.tasks.columns import Column
from astra_dagster.tasks.parameters import NoParameters, Parameters
from astra_dagster.tasks.task import Output, Task


def spectrum_task(
    requires: Any,
    *,
    version: str,
    parameters: type[Parameters] = NoParameters,
    columns: Mapping[str, Column | str] | None = None,
    output: Output | None = None,
    name: str | None = None,
    each: bool = False,
    wavelength: bool = True,
    bitmask: bool = False,
    stages: int = 1,
) -> Callable[[Callable[..., Any]], Task]:
    """Make a task from a function; use as a decorator.

    The function receives its requirements and its parameters, ``f(spectra, parameters)``, and returns a mapping from
    column names to one value for each spectrum: numbers, texts, short rows of numbers, or quantities with a unit. A
    function that returns a `SpectrumBatch` makes FITS files; its return annotation or `output` must say so.

    Parameters
    ----------
    requires
        A product, a task, one that shares parameters (`Task.sharing`), a requirement of many partitions (`grouped`,
        `matching`), or a tuple of these with the same partitions.
    version
        Code version; change it when the same input and parameters give other results.
    parameters
        Class of the parameters.
    columns
        Description or `Column` of each column; if given, the function must return exactly these.
    output
        "fits" for spectra, "json" for columns alone; by default it follows from the return annotation.
    name
        Name of the task; by default that of the function.
    each
        Whether the function takes one spectrum at a time; it then returns one value for each column.
    wavelength
        Whether the function uses wavelengths; reading is faster without them.
    bitmask
        Whether the function uses the survey's own pixel mask: ``spectra.flagged(names)``, ``spectra.rejecting(names)``.
        Spectra that it makes of them then keep it in their FITS file.
    stages
        Number of stages of a task that refines its own result: stage k receives the result of stage k - 1 as an
        argument before the parameters, and the first stage None. Earlier stages have the same parameters, and are
        assets ``<task>_stage1``, ...

    Returns
    -------
    Callable
        A decorator that turns the function into a `Task`.
    """
    required: tuple[Any, ...] = tuple(requires) if isinstance(requires, (tuple, list)) else (requires,)

    def decorate(function: Callable[..., Any]) -> Task:
        made: Task | None = None
        own = name or function.__name__
        kind = output or ("fits" if _returns_spectra(function) else "json")
        for stage in range(1, stages + 1):
            body = one_by_one(function) if each else function
            if stages > 1 and made is None:
                body = _first_stage(body, len(required))
            given = required if made is None else (*required, made.sharing())
            made = Task(
                name=own if stage == stages else f"{own}_stage{stage}",
                requires=given,
                parameters=parameters,
                version=version,
                function=body,
                columns={n: c if isinstance(c, Column) else Column(c) for n, c in (columns or {}).items()},
                output=kind,
                wavelength=wavelength,
                bitmask=bitmask,
                description=inspect.getdoc(function) or "",
                module=function.__module__,
            )
        assert made is not None  # noqa: S101 (there is at least one stage)
        return made

    if stages < 1:
        raise ValueError("a task has at least one stage")
    return decorate


def _first_stage(function: Callable[..., Any], inputs: int) -> Callable[..., Any]:
    def first(*arguments: object) -> object:
        return function(*arguments[:inputs], None, *arguments[inputs:])

    return first


def _returns_spectra(function: Callable[..., Any]) -> bool:
    try:
        return typing.get_type_hints(function).get("return") is SpectrumBatch
    except (NameError, TypeError):
        return False
