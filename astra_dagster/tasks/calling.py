"""Call a task's function, and check that it returns values that can be stored."""

import logging
from collections.abc import Callable, Container, Iterable, Mapping, Sequence, Sized
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from astra_dagster.arrays import IndexArray
from astra_dagster.errors import AstraError, TaskError, describe_user_error
from astra_dagster.spectra.batch import SpectrumBatch, stack
from astra_dagster.spectra.output import to_json_value
from astra_dagster.tasks.columns import FAILURE, MAX_CELLS, Column, Failed
from astra_dagster.tasks.groups import PartitionID
from astra_dagster.tasks.inputs.contents import read_contents
from astra_dagster.tasks.parameters import Parameters

logger = logging.getLogger(__name__)

DATA_IDS = "data_ids"
"""Name of the argument by which a function asks for the data IDs of the spectra."""


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

    @property
    def opened(self) -> frozenset[int]:
        """Places of the arguments that do not hold something of each spectrum: files, and what the setup returned."""

    @property
    def files(self) -> Mapping[str, str]:
        """Suffixes of the files that the function makes besides, by the names of their columns."""

    @property
    def takes_data_ids(self) -> bool:
        """Whether the function has an argument for the data IDs of the spectra."""


def size_of(inputs: Sequence[Any], opened: Container[int] = ()) -> int:
    """Return the number of spectra in the inputs of a task; 1 if every input is a list of many partitions, or a file.

    Parameters
    ----------
    opened
        Places of the inputs that are files.
    """
    counted = (item for i, item in enumerate(inputs) if i not in opened and item is not None)
    return next((len(_first(item)) for item in counted if not isinstance(item, (list, Path))), 1)


def _first(item: SpectrumBatch | Mapping[str, Sized]) -> Sized:
    """Return an input whose length is its number of spectra: of a mapping of columns, the first column."""
    return next(iter(item.values()), ()) if isinstance(item, Mapping) else item


def call_function(name: str, module: str, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Call a function of a user, and return what it returns.

    Parameters
    ----------
    name, module
        What failed if it raises, for the message, and the module in whose package the line is that the message names.

    Raises
    ------
    TaskError
        If the function raises; the message says where.
    MemoryError
        If there is not enough memory.
    """
    try:
        return function(*arguments, **named)
    except MemoryError:
        raise
    except Exception as error:  # the function is a user's and may raise anything
        logger.debug("%s failed", name, exc_info=True)
        raise TaskError(f"{name} failed: {describe_user_error(error, module)}") from error


def call_task(
    task: FunctionOfTask, inputs: Sequence[Any], parameters: Parameters, data_ids: Sequence[PartitionID] = ()
) -> tuple[dict[str, list[Any]], Any]:
    """Call a task's function, and return its columns as lists of Python values, and its spectra (None without any).

    NaN and infinity become None, so that every value can be written as JSON. All values of a spectrum that the function
    has marked as failed are that mark, `Failed`; files are bytes.

    Parameters
    ----------
    data_ids
        Data ID of each spectrum, for a function that has an argument of this name.

    Raises
    ------
    TaskError
        If the function raises, or does not return what the task promises.
    MemoryError
        If there is not enough memory; the caller may try again with fewer spectra.
    """
    count = size_of(inputs, task.opened)
    named = {DATA_IDS: tuple(data_ids)} if task.takes_data_ids else {}
    returned = call_function(task.name, task.module, task.function, *inputs, parameters, **named)
    if isinstance(returned, Failed):
        raise TaskError(returned.reason)
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
    marked = _find_marked(columns if made is None else made.meta, count)
    if FAILURE in task.columns:
        columns.setdefault(FAILURE, [None] * count)
    if task.columns and set(columns) != set(task.columns):
        odd = ", ".join(sorted(set(columns) ^ set(task.columns)))
        raise TaskError(f"{task.name} and the columns that it promises differ in {odd}")
    if not columns and made is None:
        raise TaskError(f"{task.name} returned no columns")
    if made is not None and marked:
        made = replace(made, meta={name: tuple(map(_without_mark, values)) for name, values in made.meta.items()})
    return {name: _mark(task, name, columns[name], count, marked) for name in task.columns or columns}, made


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


def _find_marked(columns: Mapping[str, object], count: int) -> dict[int, Failed]:
    """Return the marks of the spectra that have failed, by number; a mark alone stands for all of them."""
    found: dict[int, Failed] = {}
    for values in columns.values():
        if isinstance(values, Failed):
            found.update(dict.fromkeys(range(count), values))
        elif isinstance(values, (list, tuple)) or (isinstance(values, np.ndarray) and values.dtype.kind == "O"):
            found.update((i, value) for i, value in enumerate(values) if isinstance(value, Failed))
    return found


def _without_mark(value: object) -> object:
    return None if isinstance(value, Failed) else value


def _mark(task: FunctionOfTask, name: str, values: Any, count: int, marked: Mapping[int, Failed]) -> list[Any]:
    """Return a column as a list of Python values, with marks for the spectra that have failed."""
    if not marked:
        return _values(task, name, values, count)
    rows = [i for i in range(count) if i not in marked]
    if not isinstance(values, Failed) and len(values) != count:
        raise TaskError(f"{task.name}: column {name} has {len(values)} values for {count} spectra")
    kept = values[rows] if isinstance(values, np.ndarray) else [values[i] for i in rows]
    made = iter(_values(task, name, kept, len(rows)) if rows else ())
    return [marked[i] if i in marked else next(made) for i in range(count)]


def _columns_of(task: FunctionOfTask, made: SpectrumBatch) -> dict[str, Any]:
    return {name: made.meta[name] for name in (*task.columns, *task.files) if name in made.meta}


def _values(task: FunctionOfTask, name: str, values: object, count: int) -> list[Any]:
    known = task.columns.get(name, Column())
    if name in task.files:
        return read_contents(task.name, name, task.files[name], values, count)
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
    if isinstance(values, np.ndarray) and values.dtype.kind == "O" and values.ndim == 1:
        values = list(values)
    if isinstance(values, (list, tuple)) and len(values) == count and any(value is None for value in values):
        return _fill_missing(task, name, values)
    mask = np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else False
    try:
        array = np.asarray(values)
    except ValueError:  # rows of different lengths
        array = np.asarray(None)
    if count == 1 and array.ndim == 0 and array.dtype.kind in "biufU":
        array = array[None]
    fits = array.ndim > 0 and len(array) == count and array.size <= count * MAX_CELLS
    if not fits or array.dtype.kind not in "biufU":
        raise TaskError(
            f"{task.name}: column {name} has shape {array.shape} and type {array.dtype}",
            hint=f"expected {count} numbers, texts, or arrays of at most {MAX_CELLS} numbers, one a spectrum",
        )
    if known.finite and (np.any(mask) or (array.dtype.kind == "f" and not np.isfinite(array).all())):
        raise TaskError(f"{task.name}: column {name} is not finite", hint="it is promised to be")
    return list(to_json_value((np.ma.array(array, mask=mask) if np.any(mask) else array).tolist()))


def _fill_missing(task: FunctionOfTask, name: str, values: Sequence[object]) -> list[Any]:
    """Return values of which some are missing, which are None."""
    if task.columns.get(name, Column()).finite:
        raise TaskError(f"{task.name}: column {name} is not finite", hint="it is promised to be")
    present = [value for value in values if value is not None]
    made = iter(_values(task, name, present, len(present)) if present else ())
    return [None if value is None else next(made) for value in values]


def one_by_one(function: Callable[..., Any], opened: Container[int] = ()) -> Callable[..., Any]:
    """Make a function of many spectra from a function of one; what is at the places `opened`, it receives each time."""

    def each(*arguments: Any, data_ids: Sequence[PartitionID] | None = None) -> object:
        *inputs, parameters = arguments
        rows = [
            function(
                *(item if place in opened else _row(item, i) for place, item in enumerate(inputs)),
                parameters,
                **({} if data_ids is None else {DATA_IDS: data_ids[i : i + 1]}),
            )
            for i in range(size_of(inputs, opened))
        ]
        made = [row for row in rows if not isinstance(row, Failed)]
        if not made or (len(made) < len(rows) and isinstance(made[0], SpectrumBatch)):
            return next(row for row in rows if isinstance(row, Failed))
        if isinstance(made[0], SpectrumBatch):
            return stack(rows)
        if any(not isinstance(row, Mapping) or set(row) != set(made[0]) for row in made):
            raise TypeError("a function of one spectrum must return the same columns for every one")
        if len(made) < len(rows):
            return {name: [row if isinstance(row, Failed) else row[name] for row in rows] for name in made[0]}
        return {name: _join_values([row[name] for row in rows]) for name in made[0]}

    return each


def repeat_until(
    function: Callable[..., Any],
    until: Callable[[Any, Any], Any],
    stages: int,
    place: int,
    opened: Container[int] = (),
) -> Callable[..., Any]:
    """Make a function that calls another again and again, for the spectra whose results are not final yet.

    Parameters
    ----------
    function
        Takes what it returned a stage before, at first None, as the argument at `place`.
    until
        Takes what two stages in a row returned, and returns True for each spectrum whose result is final.
    stages
        Most stages; then what there is is final.
    opened
        Places of the arguments that are not of each spectrum, not counting the one at `place`.
    """

    def repeat(*arguments: Any, data_ids: Sequence[PartitionID] | None = None) -> object:
        *inputs, parameters = arguments
        left: IndexArray = np.arange(size_of(inputs, opened))
        before: Any = None
        ended: list[tuple[IndexArray, Any]] = []
        for stage in range(stages):
            some = [item if i in opened else _take(item, left) for i, item in enumerate(inputs)]
            named = {} if data_ids is None else {DATA_IDS: tuple(data_ids[i] for i in left)}
            now = function(*some[:place], before, *some[place:], parameters, **named)
            if isinstance(now, Failed):
                return now
            marked = _find_marked(now.meta if isinstance(now, SpectrumBatch) else now, len(left))
            final = np.array([i in marked or stage == stages - 1 for i in range(len(left))], bool)
            if before is not None and not final.all():
                rest = np.flatnonzero(~final)
                final[rest] = until(_take(before, rest), _take(now, rest))
            ended.append((left[final], _take(now, np.flatnonzero(final))))
            left, before = left[~final], _take(now, np.flatnonzero(~final))
            if not len(left):
                break
        order = np.argsort(np.concatenate([rows for rows, _ in ended]))
        return _take(join_results([made for rows, made in ended if len(rows)]), order)

    return repeat


def _take(item: Any, rows: IndexArray) -> Any:
    """Return some spectra of an input or a result."""
    if isinstance(item, SpectrumBatch):
        return item[rows]
    if isinstance(item, Mapping):
        return {
            name: values[rows] if isinstance(values, np.ndarray) else [values[i] for i in rows]
            for name, values in item.items()
        }
    return item


def join_results(parts: Sequence[Any]) -> Any:
    """Join spectra or columns, each with those of the same names."""
    if isinstance(parts[0], SpectrumBatch):
        return stack(parts)
    found = {}
    for name in parts[0]:
        columns = [part[name] for part in parts]
        arrays = all(isinstance(values, np.ndarray) for values in columns)
        masked = any(isinstance(values, np.ma.MaskedArray) for values in columns)
        join = np.ma.concatenate if masked else np.concatenate
        found[name] = join(columns) if arrays else [value for values in columns for value in values]
    return found


def _join_values(values: Sequence[Any]) -> Any:
    """Return values of single spectra as an array if they are numbers, texts or arrays; NumPy would cut bytes short."""
    return np.array(values) if isinstance(values[0], (int, float, str, np.ndarray, np.generic)) else list(values)


def _row(item: SpectrumBatch | Mapping[str, Sequence[object]] | Path | None, i: int) -> object:
    if item is None or isinstance(item, (SpectrumBatch, Path)):
        return item[i] if isinstance(item, SpectrumBatch) else item
    return {name: values[i] for name, values in item.items()}
