"""The decorator that makes a task from a function."""

import inspect
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from astra_dagster.datamodel.products import product
from astra_dagster.errors import DeclarationError, nearest
from astra_dagster.resources import Resources
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.tasks.calling import DATA_IDS, one_by_one, repeat_until
from astra_dagster.tasks.columns import Column
from astra_dagster.tasks.inputs.common_files import CommonFile
from astra_dagster.tasks.inputs.forms import find_form
from astra_dagster.tasks.inputs.requirement import Requirement
from astra_dagster.tasks.parameters import NoParameters, Parameters, descriptions
from astra_dagster.tasks.task import Output, Task, requirement_of


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
    options: Sequence[str] = (),
    stages: int = 1,
    until: Callable[[Any, Any], Any] | None = None,
    setup: Callable[..., Any] | None = None,
    batch_size: int | None = None,
    files: Mapping[str, str] | None = None,
    resources: Mapping[str, Any] | None = None,
) -> Callable[[Callable[..., Any]], Task]:
    """Make a task from a function; use as a decorator.

    The function receives its requirements and its parameters, ``f(spectra, parameters)``, and returns a mapping from
    column names to one value for each spectrum: numbers, texts, arrays of one shape, or quantities with a unit. None,
    NaN and masked values are missing; a spectrum that has `failed` has that mark in place of a value. A function that
    returns a `SpectrumBatch` makes FITS files; its return annotation or `output` must say so. A function with an
    argument `data_ids` receives the data ID of each spectrum.

    Parameters
    ----------
    requires
        A product, a task, one that shares parameters (`Task.sharing`), a requirement of many partitions (`grouped`,
        `matching`), or a tuple of these with the same partitions, and of files that the partitions have in common
        (`file`). Of a product without a reader the function receives the path; annotated as `Path`, `Table` or
        `HDUList`, an argument is that, reader or not.
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
    options
        Names of parameters with which the files are read, ``["instrument"]`` for mwm files: options of the reader, see
        `read_spectra`. Of a parameter that is None the reader has its default.
    stages
        Number of stages of a task that refines its own result: stage k receives the result of stage k - 1 as an
        argument before the parameters, and the first stage None. Earlier stages have the same parameters, and are
        assets ``<task>_stage1``, ...
    until
        Function ``until(before, now)`` of the results of two stages in a row, which returns True for each spectrum
        whose result is final. The task is then one asset, `stages` is the most there may be, and each spectrum goes
        through as many as it needs.
    setup
        Function that is called once in each worker, to load a model or to open a device: ``setup(*files, parameters)``,
        with the files in common. The function receives what it returns before the parameters, in place of the files.
    batch_size
        Largest number of spectra for which the function is called at a time; the spectra of one file stay together.
        With 1 it is called for each file by itself. By default the runner chooses.
    files
        Suffixes of files that the function makes besides, ``{"plot": "png"}``. It returns, as for a column, the
        contents of each as bytes, a figure of matplotlib, or None; the results then hold the names of the files.
    resources
        What a worker needs: ``memory``, as "8GB"; ``walltime`` of a job of Slurm, as "04:00:00"; a number of ``gpus``.
        Fewer workers are started where there is not enough for all; see `astra_dagster.resources`.

    Returns
    -------
    Callable
        A decorator that turns the function into a `Task`.
    """
    required: tuple[Any, ...] = tuple(requires) if isinstance(requires, (tuple, list)) else (requires,)
    needed = Resources.read(resources or {})

    def decorate(function: Callable[..., Any]) -> Task:
        made: Task | None = None
        of_all = [item for item in required if isinstance(item, CommonFile)]
        given = required if setup is None else [item for item in required if not isinstance(item, CommonFile)]
        placed = enumerate(given if setup is None else of_all)
        receiver, module = setup or function, function.__module__
        common = {i: item.received_by(receiver, i, module) for i, item in placed if isinstance(item, CommonFile)}
        found = {i: _with_form(item, function, i) for i, item in enumerate(given) if not isinstance(item, CommonFile)}
        opened = {i for i in range(len(given)) if i not in found or found[i].form}
        made_by_setup = set() if setup is None else {len(given)}
        inner = opened | {place + (stages > 1) for place in made_by_setup}  # a stage gets one more
        own = name or function.__name__
        kind = output or ("fits" if _returns_spectra(function) else "json")
        promised = {n: c if isinstance(c, Column) else Column(c) for n, c in (columns or {}).items()}
        if promised:
            promised.update({n: Column(f"Name of a file, {n}.{suffix}.") for n, suffix in (files or {}).items()})
        last = 1 if until is not None else stages
        for stage in range(1, last + 1):
            body = one_by_one(function, inner) if each else function
            if until is not None:
                body = repeat_until(body, until, stages, len(given), opened | made_by_setup)
            elif stages > 1 and made is None:
                body = _first_stage(body, len(given))
            made = Task(
                name=own if stage == last else f"{own}_stage{stage}",
                requires=(*found.values(), *(() if made is None else (made.sharing(),))),
                common=common,
                parameters=parameters,
                version=version,
                function=body,
                columns=promised,
                output=kind,
                wavelength=wavelength,
                bitmask=bitmask,
                options=tuple(options),
                description=inspect.getdoc(function) or "",
                module=module,
                setup=setup,
                batch_size=batch_size,
                files=files or {},
                resources=needed,
                takes_data_ids=DATA_IDS in inspect.signature(function).parameters,
            )
        assert made is not None  # noqa: S101 (there is at least one stage)
        _check_options(made)
        return made

    if stages < 1:
        raise ValueError("a task has at least one stage")
    if until is not None and stages == 1:
        raise ValueError("until needs stages=, the most stages that there may be, of at least 2")
    return decorate


def tasks_over(names: Iterable[str], ending: str, function: Callable[..., Any], **options: Any) -> Iterator[Task]:
    """Make a task of each of these products from one function: ``spec_snr`` and ``spec_lite_snr`` with the ending snr.

    Parameters
    ----------
    options
        As of `spectrum_task`.
    """
    for item in map(product, names):
        yield spectrum_task(item, name=f"{item.asset_name}_{ending}", **options)(function)


def _check_options(task: Task) -> None:
    """Check that the options of a task are parameters of it, and options of a reader of its files."""
    for name in task.options:
        known = {each for item in task.requires if item.reader is not None for each in item.reader.options}
        if name not in known:
            hint = nearest(name, known) if known else None
            raise DeclarationError(f"no reader of the files of {task.name} has an option {name!r}", hint=hint)
        if name not in descriptions(task.parameters):
            hint = f"add it to the class of its parameters, {name}: str | None = None"
            raise DeclarationError(f"{task.name} has no parameter for its option {name!r}", hint=hint)


def _with_form(item: object, function: Callable[..., Any], place: int) -> Requirement:
    """Make the requirement of an argument; the files of a product may be received in the form that is annotated."""
    requirement = requirement_of(item)
    return requirement if requirement.task is not None else replace(requirement, form=find_form(function, place))


def _first_stage(function: Callable[..., Any], inputs: int) -> Callable[..., Any]:
    def first(*arguments: object, **named: object) -> object:
        return function(*arguments[:inputs], None, *arguments[inputs:], **named)

    return first


def _returns_spectra(function: Callable[..., Any]) -> bool:
    try:
        return typing.get_type_hints(function).get("return") is SpectrumBatch
    except (NameError, TypeError):
        return False
