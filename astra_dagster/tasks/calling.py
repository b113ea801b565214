"""Call a task's function, and check that it returns values that can be stored."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from typing import Any, Protocol

import numpy as np

from astra_dagster.errors import AstraError, TaskError, describe_user_error
from astra_dagster.spectra.batch import SpectrumBatch, stack
from astra_dagster.spectra.output import to_json_value
from astra_dagster.tasks.columns import MAX_CELLS, Column
from astra_dagster.tasks.parameters import Parameters

logger = logging.getLogger(__name__)


class FunctionOfTask(Protocol):
    """The attributes of a task that are needed to call its function and check what that returns."""

    @property
    def name(self) -> str:
        """Name of the task, for messages."""

    @property
    def module(self) -> str:
        """Name of the module that defines the task."""

    @property
    def function(self) -> Callable[..., Any]:
        """Function from inputs and parameters to columns or spectra."""

    @property
    def columns(self) -> Mapping[str, Column]:
        """Columns that the task promises; empty if it promises none."""

    @property
    def output(self) -> str:
        """The type of output: "json" for columns alone, "fits" for spectra."""


def size_of(inputs: Sequence[Any]) -> int:
    """Return the number of spectra in the inputs of a task; 1 if every input is a list of many partitions."""
    return next((len(_first(item)) for item in inputs if item is not None and not isinstance(item, list)), 1)


def _first(item: SpectrumBatch | Mapping[str, Sized]) -> Sized:
    """Return an input whose length is its number of spectra: of a mapping of columns, the first column."""
    return next(iter(item.values()), ()) if isinstance(item, Mapping) else item


def call_task(task: FunctionOfTask, inputs: Sequence[Any], parameters: Parameters) -> tuple[dict[str, list[Any]], Any]:
    """Call a task's function, and return its columns as lists of Python values, and its spectra (None without any).

    NaN and infinity become None, so that every value can be written as JSON.

    Raises
    ------
    TaskError
        If the function raises, or does not return what the task promises.
    MemoryError
        If there is not enough memory; the caller may try again with fewer spectra.
    """
    count = size_of(inputs)
    try:
        returned = task.function(*inputs, parameters)
    except MemoryError:
        raise
    except Exception as error:  # the function is a user's and may raise anything
        logger.debug("%s failed", task.name, exc_info=True)
        raise TaskError(f"{task.name} failed: {describe_user_error(error, task.module)}") from error
    made = returned if isinstance(returned, SpectrumBatch) else None
    if (made is not None) != (task.output == "fits") or (made is None and not isinstance(returned, Mapping)):
        expected = "a mapping of columns" if task.output == "json" else "a SpectrumBatch"
        raise TaskError(
            f"{task.name} returned {type(returned).__name__}",
            hint=f'{expected} is expected; for spectra annotate the return type as SpectrumBatch, or set output="fits"',
        )
    if made is not None and (len(made) != count or made.wavelength is None):
        raise TaskError(f"{task.name} returned {len(made)} spectra for {count}, or some without wavelengths")
    columns = dict(returned) if made is None else _columns_of(task, made)
    if task.columns and set(columns) != set(task.columns):
        odd = ", ".join(sorted(set(columns) ^ set(task.columns)))
        raise TaskError(f"{task.name} and the columns that it promises differ in {odd}")
    if not columns and made is None:
        raise TaskError(f"{task.name} returned no columns")
    return {name: _values(task, name, columns[name], count) for name in task.columns or columns}, made


def call_find(find: Callable[..., Iterable[Any]], *arguments: object) -> list[Any]:
    """Call the function of a requirement that finds what belongs to a file.

    Raises
    ------
    TaskError
        If the function raises an error that is not ours.
    """
    try:
        return list(find(*arguments))
    except AstraError:
        raise
    except Exception as error:  # the function is a user's and may raise anything
        name = getattr(find, "__name__", "find")
        raise TaskError(f"{name} failed: {describe_user_error(error, find.__module__)}") from error


def _columns_of(task: FunctionOfTask, made: SpectrumBatch) -> dict[str, Any]:
    return {name: made.meta[name] for name in task.columns if name in made.meta}


def _values(task: FunctionOfTask, name: str, values: object, count: int) -> list[Any]:
    known = task.columns.get(name, Column())
    if not isinstance(name, str) or not name.isidentifier():
        raise TaskError(f"{task.name}: {name!r} cannot be a column", hint="names are letters, digits and _")
    unit = getattr(values, "unit", None)
    if unit is not None and hasattr(values, "to_value"):
        if not known.unit:
            raise TaskError(f"{task.name}: column {name} is in {unit}", hint=f"promise it: Column(..., unit='{unit}')")
        try:
            values = values.to_value(known.unit)
        except Exception as error:
            raise TaskError(f"{task.name}: column {name} is in {unit}, not in {known.unit}") from error
    if isinstance(values, (list, tuple)) and None in values and len(values) == count:
        return _fill_missing(task, name, values)
    try:
        array = np.asarray(values)
    except ValueError:  # rows of different lengths
        array = np.asarray(None)
    if count == 1 and array.ndim == 0 and array.dtype.kind in "biufU":
        array = array[None]
    fits = array.ndim in (1, 2) and len(array) == count and (array.ndim == 1 or array.shape[1] <= MAX_CELLS)
    if not fits or array.dtype.kind not in "biufU":
        raise TaskError(
            f"{task.name}: column {name} has shape {array.shape} and type {array.dtype}",
            hint=f"expected {count} numbers, texts, or rows of at most {MAX_CELLS} numbers, one a spectrum",
        )
    if known.finite and array.dtype.kind == "f" and not np.isfinite(array).all():
        raise TaskError(f"{task.name}: column {name} is not finite", hint="it is promised to be")
    return list(to_json_value(array.tolist()))


def _fill_missing(task: FunctionOfTask, name: str, values: Sequence[object]) -> list[Any]:
    """Return values of which some are missing, which are None."""
    if task.columns.get(name, Column()).finite:
        raise TaskError(f"{task.name}: column {name} is not finite", hint="it is promised to be")
    present = [value for value in values if value is not None]
    made = iter(_values(task, name, present, len(present)) if present else ())
    return [None if value is None else next(made) for value in values]


def one_by_one(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function of many spectra from a function of one."""

    def each(*arguments: Any) -> object:
        *inputs, parameters = arguments
        rows = [function(*(_row(item, i) for item in inputs), parameters) for i in range(size_of(inputs))]
        if rows and isinstance(rows[0], SpectrumBatch):
            return stack(rows)
        if any(not isinstance(row, Mapping) or set(row) != set(rows[0]) for row in rows):
            raise TypeError("a function of one spectrum must return the same columns for every one")
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}

    return each


def _row(item: SpectrumBatch | Mapping[str, Sequence[object]] | None, i: int) -> object:
    if item is None or isinstance(item, SpectrumBatch):
        return item if item is None else item[i]
    return {name: values[i] for name, values in item.items()}
