"""Which tasks there are: the package's, those of the user's own packages, all that they require, and declared ones.

A package or a declaration that cannot be used is left out, and the rest is there all the same: `broken` says why.
"""

import importlib
import pkgutil
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from astra_dagster import settings
from astra_dagster.datamodel.products import products
from astra_dagster.errors import ConfigurationError, UnknownTaskError, describe, nearest
from astra_dagster.tasks import importing
from astra_dagster.tasks.declared import TYPE, Declared, read_declared
from astra_dagster.tasks.groups import Domain
from astra_dagster.tasks.task import Task, all_tasks

BUILT_IN = ("astra_dagster.tasks.snr", "astra_dagster.tasks.continuum")


@dataclass(frozen=True)
class _Loaded:
    """All that the configuration leads to."""

    coded: Mapping[str, Task]
    declared: Mapping[str, Declared] = field(default_factory=dict)
    broken: Mapping[str, ConfigurationError] = field(default_factory=dict)


def tasks() -> Mapping[str, Task]:
    """All tasks by name, what is required first.

    The configuration lists packages or modules with tasks, ``packages = ["my_tasks"]``, and names the package or folder
    where variants are declared in YAML, ``defs = "defs"``; they are looked for where Python looks, and in the folder of
    the configuration file.

    Raises
    ------
    ConfigurationError
        If the configuration itself cannot be read.
    """
    found = _load()
    return {**found.coded, **{name: item.task for name, item in found.declared.items()}}


def declared() -> Mapping[str, Declared]:
    """Those of all tasks that are declared in YAML, by name, with file and line."""
    return _load().declared


def broken() -> Mapping[str, ConfigurationError]:
    """Packages and declarations that are left out, by name, and why.

    It is that a package cannot be imported, holds no task, or one of a name that there is already; or that a
    declaration makes no sense. Of two with one name the first one stays.
    """
    return _load().broken


def declarations() -> ModuleType | None:
    """Package or folder, as a module, that variants are declared in; None if the configuration names none.

    Raises
    ------
    ConfigurationError
        If there is no such package.
    """
    name = settings.config().defs
    if name is None:
        return None
    _look_beside_the_configuration()
    module = next(_modules(name, "defs"))
    if not hasattr(module, "__path__"):
        raise settings.config_error(
            f"defs: {name} is a module and no folder", hint="it is the folder of the defs.yaml files"
        )
    return module


def _load() -> _Loaded:
    coded = all_tasks([task for name in BUILT_IN for task in _tasks_of(importlib.import_module(name))])
    wrong: dict[str, ConfigurationError] = {}
    named = list(dict.fromkeys(settings.config().packages))
    if named:
        _look_beside_the_configuration()
    for name in named:
        try:
            coded = _joined(coded, name, [task for module in _modules(name, "packages") for task in _tasks_of(module)])
        except ConfigurationError as error:
            wrong[name] = error
    importing.look_beside(named)
    try:
        module = declarations()
    except ConfigurationError as error:
        return _Loaded(coded, {}, {**wrong, "defs": error})
    if module is None:
        return _Loaded(coded, {}, wrong)
    folder = Path(next(iter(module.__path__)))
    found = read_declared(folder, tuple(coded.values()), frozenset({*coded, *_assets(coded)}))
    if not found.variants and not found.broken:
        wrong["defs"] = settings.config_error(f"defs: no defs.yaml declares an {TYPE}", path=folder)
    return _Loaded(coded, found.variants, {**wrong, **found.broken})


def _joined(known: Mapping[str, Task], package: str, own: Sequence[Task]) -> dict[str, Task]:
    """The tasks that are known, and those of a package.

    Raises
    ------
    ConfigurationError
        If the package has none, or one of a name that there is.
    """
    where = f"packages: package {package}"
    if not own:
        raise settings.config_error(f"{where} has no task", hint="make one with @spectrum_task")
    try:
        found = all_tasks([*known.values(), *own])
    except ValueError as error:
        raise settings.config_error(f"{where} is left out: {error}", hint="give one of them another name") from error
    assets = _assets(found)
    for name in found:
        if name in assets:
            raise settings.config_error(
                f"{where} is left out: a task cannot be named {name}: an asset is", hint="give it another name"
            )
    return found


def _assets(names: Iterable[str]) -> set[str]:
    return {item.asset_name for item in products().values()} | {f"{name}_table" for name in names}


def _look_beside_the_configuration() -> None:
    path = settings.config_path()
    if path is not None:
        importing.look_in([path.parent])


def find_task(name: str) -> Task:
    """Look a task up by name.

    Raises
    ------
    UnknownTaskError
        If there is none; the message lists the nearest names, and what is left out.
    ConfigurationError
        If it is declared in a way that makes no sense.
    """
    found = _load()
    known = {**found.coded, **{one: item.task for one, item in found.declared.items()}}
    if name in known:
        return known[name]
    if name in found.broken:
        raise found.broken[name]
    where = settings.config_path()
    listed = f"packages of tasks are listed in {where}" if where else "no configuration lists packages of tasks"
    left_out = [f"left out: {error}" for error in found.broken.values()]
    hint = "; ".join([nearest(name, known), *(left_out or [listed])])
    raise UnknownTaskError(f"no task {name[:80]!r}", hint=hint)


def groups() -> list[Domain]:
    """Groups of files that are partitions of some task."""
    return list(dict.fromkeys(task.domain for task in tasks().values() if task.domain != task.domain.product))


def _modules(name: str, key: str) -> Iterator[ModuleType]:
    """A module, and if it is a package all modules in it; `key` is that of the configuration."""
    try:
        module = importlib.import_module(name)
        yield module
        for item in pkgutil.walk_packages(getattr(module, "__path__", []), f"{name}."):
            yield importlib.import_module(item.name)
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        missing = isinstance(error, ModuleNotFoundError) and error.name == name
        own = [f for f in traceback.extract_tb(error.__traceback__)[1:] if "importlib" not in f.filename]
        place = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
        raise settings.config_error(
            f"{key}: package {name} cannot be imported: {describe(error)}{place}",
            path=own[-1].filename if own else None,
            hint="it must be what `import` finds, or lie beside the configuration file" if missing else None,
        ) from error


def _tasks_of(module: ModuleType) -> list[Task]:
    return [value for value in vars(module).values() if isinstance(value, Task)]
