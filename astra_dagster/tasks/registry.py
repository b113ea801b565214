"""Which tasks there are: the package's, those of the user's own packages, all that they require, and declared ones."""

import importlib
import pkgutil
import traceback
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType

from astra_dagster import settings
from astra_dagster.datamodel.products import products
from astra_dagster.errors import ConfigurationError, UnknownTaskError, nearest
from astra_dagster.tasks import importing
from astra_dagster.tasks.declared import TYPE, Declared, read_declared
from astra_dagster.tasks.groups import Domain
from astra_dagster.tasks.task import Task, all_tasks

BUILT_IN = ("astra_dagster.tasks.snr", "astra_dagster.tasks.continuum")


def tasks() -> Mapping[str, Task]:
    """All tasks by name, what is required first.

    The configuration lists packages or modules with tasks, ``packages = ["my_tasks"]``, and names the package or folder
    where variants are declared in YAML, ``defs = "defs"``; they are looked for where Python looks, and in the folder of
    the configuration file.

    Raises
    ------
    ConfigurationError
        If a package cannot be imported, holds no task, two tasks have one name, or a declaration makes no sense.
    """
    known = _coded()
    return {**known, **{name: item.task for name, item in _declared(known).items()}}


def declared() -> Mapping[str, Declared]:
    """Those of all tasks that are declared in YAML, by name, with file and line.

    Raises
    ------
    ConfigurationError
        As `tasks`.
    """
    return _declared(_coded())


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
    module = next(_modules(name))
    if not hasattr(module, "__path__"):
        raise ConfigurationError(f"{name} is a module and no folder", hint="defs names the folder of defs.yaml files")
    return module


def _declared(known: Mapping[str, Task]) -> Mapping[str, Declared]:
    module = declarations()
    if module is None:
        return {}
    folder = Path(next(iter(module.__path__)))
    found = read_declared(folder, tuple(known.values()), frozenset({*known, *_assets(known)}))
    if not found:
        raise ConfigurationError(f"no defs.yaml declares an {TYPE}", path=folder)
    return found


def _assets(names: Iterable[str]) -> set[str]:
    return {item.asset_name for item in products().values()} | {f"{name}_table" for name in names}


def _look_beside_the_configuration() -> None:
    path = settings.config_path()
    if path is not None:
        importing.look_in([path.parent])


def _coded() -> dict[str, Task]:
    named = settings.config().packages
    found = [task for name in BUILT_IN for task in _tasks_of(importlib.import_module(name))]
    if named:
        _look_beside_the_configuration()
    for name in named:
        own = [task for module in _modules(name) for task in _tasks_of(module)]
        if not own:
            raise ConfigurationError(f"package {name} has no task", hint="make one with @spectrum_task")
        found += own
    importing.look_beside(named)
    try:
        known = all_tasks(found)
    except ValueError as error:
        raise ConfigurationError(str(error), hint="give one of them another name") from error
    assets = _assets(known)
    for name in known:
        if name in assets:
            raise ConfigurationError(f"a task cannot be named {name}: an asset is", hint="give it another name")
    return known


def find_task(name: str) -> Task:
    """Look a task up by name.

    Raises
    ------
    UnknownTaskError
        If there is none; the message lists the nearest names.
    """
    known = tasks()
    if name in known:
        return known[name]
    where = settings.config_path()
    listed = f"packages of tasks are listed in {where}" if where else "no configuration lists packages of tasks"
    raise UnknownTaskError(f"no task {name[:80]!r}", hint=f"{nearest(name, known)}; {listed}")


def groups() -> list[Domain]:
    """Groups of files that are partitions of some task."""
    return list(dict.fromkeys(task.domain for task in tasks().values() if task.domain != task.domain.product))


def _modules(name: str) -> Iterator[ModuleType]:
    """A module, and if it is a package all modules in it."""
    try:
        module = importlib.import_module(name)
        yield module
        for item in pkgutil.walk_packages(getattr(module, "__path__", []), f"{name}."):
            yield importlib.import_module(item.name)
    except Exception as error:  # a user's module may raise anything
        missing = isinstance(error, ModuleNotFoundError) and error.name == name
        own = [f for f in traceback.extract_tb(error.__traceback__)[1:] if "importlib" not in f.filename]
        place = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
        raise ConfigurationError(
            f"package {name} cannot be imported: {type(error).__name__}: {error}{place}",
            path=own[-1].filename if own else None,
            hint="it must be what `import` finds, or lie beside the configuration file" if missing else None,
        ) from error


def _tasks_of(module: ModuleType) -> list[Task]:
    return [value for value in vars(module).values() if isinstance(value, Task)]
