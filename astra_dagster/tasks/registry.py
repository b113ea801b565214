"""The registry of tasks: the built-in ones, those of users' packages, all that these require, and declared variants.

A package or a declaration that cannot be used is left out; `broken` says why. Tasks of one run get their parameters
here, so that a name means the same for all of them.
"""

import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from astra_dagster import settings
from astra_dagster.datamodel.products import products
from astra_dagster.errors import ConfigurationError, ParameterError, UnknownTaskError, describe, find_line, nearest
from astra_dagster.spectra.readers import added_readers
from astra_dagster.tasks import importing
from astra_dagster.tasks.declared import TYPE, Declared, read_declared
from astra_dagster.tasks.groups import Domain
from astra_dagster.tasks.task import Task, all_tasks

BUILT_IN = ("astra_dagster.tasks.snr", "astra_dagster.tasks.continuum")


@dataclass(frozen=True)
class _Loaded:
    """The tasks that the configuration leads to, and the errors of what is left out."""

    coded: Mapping[str, Task]
    declared: Mapping[str, Declared] = field(default_factory=dict)
    broken: Mapping[str, ConfigurationError] = field(default_factory=dict)


def tasks() -> Mapping[str, Task]:
    """Return all tasks by name; required tasks come before those that require them.

    The configuration lists packages or modules with tasks, ``packages = ["my_tasks"]``, and names the package or folder
    where variants are declared in YAML, ``defs = "defs"``. Both are searched for on Python's path and in the folder of
    the configuration file.

    Raises
    ------
    ConfigurationError
        If the configuration itself cannot be read.
    """
    found = _load()
    return all_tasks([*found.coded.values(), *(item.task for item in found.declared.values())])


def declared() -> Mapping[str, Declared]:
    """Return the variants that are declared in YAML, by name."""
    return _load().declared


def broken() -> Mapping[str, ConfigurationError]:
    """Return the errors of packages and declarations that are left out, by name.

    A package is left out if it cannot be imported, has no task, or has a task whose name is taken; a declaration if it
    is not valid. Of two with the same name the first is kept.
    """
    return _load().broken


def declarations() -> ModuleType | None:
    """Return the package or folder where variants are declared, as a module; None if the configuration names none.

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
    """Return the known tasks together with those of a package.

    Raises
    ------
    ConfigurationError
        If the package has neither a task nor a reader, or a task whose name is taken.
    """
    where = f"packages: package {package}"
    if not own and not _has_readers(package):
        raise settings.config_error(f"{where} has no task", hint="make one with @spectrum_task, or register a reader")
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


def _has_readers(package: str) -> bool:
    """Whether some module of a package has registered a reader."""
    return any(f"{item.module}.".startswith(f"{package}.") for item in added_readers().values())


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
        If there is none; the hint lists the nearest names and what is left out.
    ConfigurationError
        If its declaration is not valid.
    """
    found, known = _load(), tasks()
    if name in known:
        return known[name]
    if name in found.broken:
        raise found.broken[name]
    where = settings.config_path()
    listed = f"packages of tasks are listed in {where}" if where else "no configuration lists packages of tasks"
    left_out = [f"left out: {error}" for error in found.broken.values()]
    hint = "; ".join([nearest(name, known), *(left_out or [listed])])
    raise UnknownTaskError(f"no task {name[:80]!r}", hint=hint)


def set_together(tasks: Sequence[Task], values: Mapping[str, Any]) -> list[Task]:
    """Return tasks of one run with other parameters, for each of them as `Task.setting` does.

    Parameters
    ----------
    values
        Values by name. A name without that of a task is for each of these tasks that has such a parameter.

    Raises
    ------
    ParameterError
        If no task has such a parameter, or a value is not valid.
    """
    if len(tasks) == 1:
        return [tasks[0].setting(values)]
    given: dict[str, Any] = {}
    for name, value in values.items():
        having = [task for task in tasks if name in task.values().as_dict(all=True)]
        if "." not in name and not having:
            known = [other for task in tasks for other in task.values().as_dict(all=True)]
            told = " and ".join(task.name for task in tasks)
            raise ParameterError(f"no parameter {name!r} in {told}", hint=nearest(name, known))
        given.update({name: value} if "." in name else {f"{task.name}.{name}": value for task in having})
    chains = {task.name: {item.name for item in task.chain} for task in tasks}
    for name in given:
        of = name.rpartition(".")[0]
        if not any(of in names for names in chains.values()):
            known = [other for names in chains.values() for other in names]
            raise ParameterError(f"{' and '.join(chains)} require no task {of!r}", hint=nearest(of, known))
    return [
        task.setting({name: value for name, value in given.items() if name.rpartition(".")[0] in chains[task.name]})
        for task in tasks
    ]


def tell_kept(before: Sequence[Task], after: Sequence[Task]) -> list[str]:
    """Say which required tasks have a parameter that was set for another one alone, and keep their own value.

    Parameters
    ----------
    before, after
        Tasks as they are by default, and as `set_together` returns them.
    """
    defaults = {name: task.values().as_dict(all=True) for name, task in all_tasks(before).items()}
    chain = all_tasks(after)
    now = {name: task.values().as_dict(all=True) for name, task in chain.items()}
    lines = []
    for task in chain.values():
        for name in [name for name, value in now[task.name].items() if value != defaults[task.name][name]]:
            for other in task.chain[:-1]:
                value = now[other.name].get(name)
                if name in now[other.name] and value == defaults[other.name][name] != now[task.name][name]:
                    lines.append(
                        f"{name}={now[task.name][name]} is that of {task.name}; {other.name} keeps {name}={value}: "
                        f"--set {other.name}.{name}={now[task.name][name]}, or sharing"
                    )
    return lines


def groups() -> list[Domain]:
    """Return the groups that are the partitions of some task."""
    return list(dict.fromkeys(task.domain for task in tasks().values() if task.domain != task.domain.product))


def _modules(name: str, key: str) -> Iterator[ModuleType]:
    """Yield a module and, if it is a package, all modules in it; `key` is the key of the configuration."""
    try:
        module = importlib.import_module(name)
        yield module
        for item in pkgutil.walk_packages(getattr(module, "__path__", []), f"{name}."):
            yield importlib.import_module(item.name)
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        missing = isinstance(error, ModuleNotFoundError) and error.name == name
        path, line, _ = find_line(error, name) or ("", 0, "")
        place = f" ({Path(path).name}, line {line})" if path and not isinstance(error, SyntaxError) else ""
        raise settings.config_error(
            f"{key}: package {name} cannot be imported: {describe(error)}{place}",
            path=path or None,
            hint="it must be what `import` finds, or lie beside the configuration file" if missing else None,
        ) from error


def _tasks_of(module: ModuleType) -> list[Task]:
    return [value for value in vars(module).values() if isinstance(value, Task)]
