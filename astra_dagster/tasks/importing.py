"""A finder of modules that are not installed: beside the configuration file, and beside the package of a task.

Dagster restores ``sys.path`` after it has loaded the definitions, so an addition to it would be lost. A finder stays in
the process, and its folders are sent to the workers with their work. Python asks it last: installed modules come first.
"""

import sys
from collections.abc import Iterable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType


class _Finder(MetaPathFinder):
    """A finder of modules in a list of folders, in order."""

    folders: tuple[str, ...] = ()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return PathFinder.find_spec(fullname, self.folders, target) if path is None and self.folders else None


finder = _Finder()


def look_in(folders: Iterable[str | Path]) -> None:
    """Look for modules in these folders from now on, in order, before the folders of earlier calls."""
    new = [str(folder) for folder in folders]
    finder.folders = tuple(dict.fromkeys([*new, *finder.folders]))
    if finder not in sys.meta_path:
        sys.meta_path.append(finder)


def look_beside(modules: Iterable[str]) -> None:
    """Look for modules in the folders that contain the packages of these modules, unless these are installed."""
    tops = (sys.modules.get(name.partition(".")[0]) for name in modules)
    places = [Path(place).absolute().parent for top in tops if top is not None for place in _places(top)]
    look_in(place for place in places if place.name not in ("site-packages", "dist-packages"))


def _places(module: ModuleType) -> list[str]:
    found = getattr(module, "__path__", None) or [getattr(module, "__file__", None)]
    return [place for place in found if place]
