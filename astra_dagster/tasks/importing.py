"""Where modules are found that Python does not find by itself: beside the configuration, and beside a task's package.

What is added to ``sys.path`` while Dagster loads the definitions is gone afterwards, for Dagster puts the path back. A
finder stays, in the process that loads and in the run's own; and its folders go to the workers with the work. It is
asked last, so that what is installed comes first.
"""

import sys
from collections.abc import Iterable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType


class _Finder(MetaPathFinder):
    """Finds what lies in some folders, the first first."""

    folders: tuple[str, ...] = ()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return PathFinder.find_spec(fullname, self.folders, target) if path is None and self.folders else None


finder = _Finder()


def look_in(folders: Iterable[str | Path]) -> None:
    """Look for modules in these folders from now on, the first first, and before those of earlier."""
    new = [str(folder) for folder in folders]
    finder.folders = tuple(dict.fromkeys([*new, *finder.folders]))
    if finder not in sys.meta_path:
        sys.meta_path.append(finder)


def look_beside(modules: Iterable[str]) -> None:
    """Look from now on where the packages of these modules lie, if that is not where packages are installed."""
    tops = (sys.modules.get(name.partition(".")[0]) for name in modules)
    places = [Path(place).absolute().parent for top in tops if top is not None for place in _places(top)]
    look_in(place for place in places if place.name not in ("site-packages", "dist-packages"))


def _places(module: ModuleType) -> list[str]:
    found = getattr(module, "__path__", None) or [getattr(module, "__file__", None)]
    return [place for place in found if place]
