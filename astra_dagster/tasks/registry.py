"""Which tasks there are: those of the package, those of the user's own packages, and all that they require."""

import importlib
import pkgutil
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

from astra_dagster import settings
from astra_dagster.datamodel.products import products
from astra_dagster.errors import ConfigurationError, UnknownTaskError, nearest
from astra_dagster.tasks.partitions import Group
from astra_dagster.tasks.task import Task, all_tasks

BUILT_IN = ("astra_dagster.tasks.snr", "astra_dagster.tasks.continuum")


def tasks() -> Mapping[str, Task]:
    """All tasks by name, what is required first.

    The configuration lists packages or modules with tasks, ``packages = ["my_tasks"]``; they are looked for where
    Python looks, and in the folder of the configuration file.

    Raises
    ------
    ConfigurationError
        If a package cannot be imported, holds no task, or two tasks have one name.
    """
    named = settings.config().get("packages", [])
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise ConfigurationError('packages must be a list of names, for example packages = ["my_tasks"]')
    found = [task for name in BUILT_IN for task in _tasks_of(importlib.import_module(name))]
    folder = settings.config_path()
    if named and folder is not None and str(folder.parent) not in sys.path:
        sys.path.append(str(folder.parent))
    for name in named:
        own = [task for module in _modules(name) for task in _tasks_of(module)]
        if not own:
            raise ConfigurationError(f"package {name} has no task", hint="make one with @spectrum_task")
        found += own
    try:
        known = all_tasks(found)
    except ValueError as error:
        raise ConfigurationError(str(error), hint="give one of them another name") from error
    assets = {item.asset_name for item in products().values()} | {f"{name}_table" for name in known}
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


def groups() -> list[Group]:
    """Groups of files that are partitions of some task."""
    return list(dict.fromkeys(task.domain for task in tasks().values() if isinstance(task.domain, Group)))


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
            hint="packages lists what `import` finds, or what lies beside the configuration file" if missing else None,
        ) from error


def _tasks_of(module: ModuleType) -> list[Task]:
    return [value for value in vars(module).values() if isinstance(value, Task)]
