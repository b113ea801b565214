"""Import tasks: a finder of modules that are not installed, and a task as a worker has it.

Modules are found beside the configuration file, and beside the package of a task. Dagster restores ``sys.path`` after
it has loaded the definitions, so an addition to it would be lost. A finder stays in the process, and its folders are
sent to the workers with their work. Installed modules come first, and so does what lies in the current folder; but not
a mere folder there, which Python would take for a package without files of its own: in the folder above a project, that
is the project's, which has the name of the package in it.
"""

import importlib
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from astra_dagster.errors import ConfigurationError


class _Finder(MetaPathFinder):
    """A finder of modules in a list of folders, in order."""

    folders: tuple[str, ...] = ()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        found = PathFinder.find_spec(fullname, self.folders, target) if path is None and self.folders else None
        if found is None:
            return None
        others = (one.find_spec(fullname, path, target) for one in sys.meta_path if one is not self)
        other = next((spec for spec in others if spec is not None), None)
        return found if other is None or (_is_folder(other) and not _is_folder(found)) else None


def _is_folder(spec: ModuleSpec) -> bool:
    """Whether a package is a folder without ``__init__.py``."""
    return spec.origin is None and spec.submodule_search_locations is not None


finder = _Finder()


def look_in(folders: Iterable[str | Path]) -> None:
    """Look for modules in these folders from now on, in order, before the folders of earlier calls."""
    new = [str(folder) for folder in folders]
    finder.folders = tuple(dict.fromkeys([*new, *finder.folders]))
    if finder not in sys.meta_path:
        sys.meta_path.insert(0, finder)


def look_beside(modules: Iterable[str]) -> None:
    """Look for modules in the folders that contain the packages of these modules, unless these are installed."""
    tops = (sys.modules.get(name.partition(".")[0]) for name in modules)
    places = [Path(place).absolute().parent for top in tops if top is not None for place in _places(top)]
    look_in(place for place in places if place.name not in ("site-packages", "dist-packages"))


def _places(module: ModuleType) -> list[str]:
    found = getattr(module, "__path__", None) or [getattr(module, "__file__", None)]
    return [place for place in found if place]


Place = tuple[str, str, int, str]
"""The module of a task, the name there of one with it in its chain, its number in that, and its code version."""


def find_place(task: Any) -> Place | None:
    """Return where a worker finds a task but for its parameters; None if that is nowhere."""
    required = _without_parameters(task.requires)
    for name, value in vars(sys.modules.get(task.module, task)).items() if task.module != "__main__" else ():
        for i, item in enumerate(value.chain if isinstance(value, type(task)) else ()):
            same = (item.family, item.version) == (task.family, task.version) and item.function is task.function
            same = same and item.common == task.common and item.setup is task.setup
            if same and _without_parameters(item.requires) == required:
                return task.module, name, i, task.version
    return None


def _without_parameters(requires: Iterable[Any]) -> list[object]:
    return [(item.task and item.task.family, replace(item, task=None)) for item in requires]


def import_task(place: Place, *values: Any) -> Any:
    """Return a task of a module, with the values that it has in the run.

    Parameters
    ----------
    place
        Where to find it.
    values
        Its name, defaults, releases, and the tasks that it requires.

    Raises
    ------
    ConfigurationError
        If the module has the task at another code version.
    """
    module, attribute, number, version = place
    name, defaults, releases, upstream = values
    found = getattr(importlib.import_module(module), attribute).chain[number]
    if found.version != version:
        raise ConfigurationError(
            f"a worker has {name} at code version {found.version}, and the run at {version}",
            path=sys.modules[module].__file__,
            hint="start the workers again: what they have imported stays as it was",
        )
    if (found.name, found.defaults, found.releases, found.upstream) == values:
        return found
    rest = iter(upstream)
    requires = tuple(item if item.task is None else replace(item, task=next(rest)) for item in found.requires)
    return replace(found, name=name, defaults=defaults, releases=releases, requires=requires)
