"""The folder of declarations, as Dagster loads it: components in YAML, and whatever else is defined there.

Dagster loads all of a folder or nothing. If something in it is broken, it is loaded here part by part.
"""

import importlib
from collections.abc import Collection
from pathlib import Path
from types import ModuleType

import dagster as dg

from astra_dagster.errors import AstraError, ConfigurationError, describe
from astra_dagster.orchestration.causes import list_causes
from astra_dagster.orchestration.component import task_definitions
from astra_dagster.orchestration.loading.broken import broken_assets
from astra_dagster.tasks import registry


def declared_definitions() -> dg.Definitions:
    """All components and definitions of the folder that the configuration names: none if it names none.

    What cannot be loaded of it is an asset that says why, but for the declarations that `registry.broken` tells of.
    """
    broken = registry.broken()
    module = registry.declarations() if "defs" not in broken else None
    if module is None:
        return dg.Definitions()
    folder = Path(next(iter(module.__path__)))
    root = next((parent for parent in folder.parents if (parent / "pyproject.toml").is_file()), folder.parent)
    found = _load(module.__name__, folder, root, {Path(error.path) for error in broken.values() if error.path})
    made = {key.to_user_string() for key in found.resolve_all_asset_keys()}
    unseen = {
        name: ConfigurationError(
            f"{item}: {name} is declared where Dagster does not look",
            path=item.path,
            hint="a folder with a defs.yaml has no others below it: move one",
        )
        for name, item in registry.declared().items()
        if name not in made and name not in broken
    }
    return dg.Definitions.merge(found, broken_assets(unseen))


def _load(name: str, folder: Path, root: Path, broken: Collection[Path]) -> dg.Definitions:
    """What Dagster finds in a folder; if it cannot load all of it, what it finds in each part.

    Parameters
    ----------
    name
        Of the folder as a package.
    root
        Of the project.
    broken
        Files with a declaration that makes no sense. Dagster cannot load them; the others in them are there all the
        same.
    """
    module = ModuleType(name)
    module.__file__, module.__path__ = None, [str(folder)]
    try:
        return dg.ComponentTree.from_module(defs_module=module, project_root=root).build_defs()
    except Exception as error:  # what others have defined may raise anything
        here = next((folder / file for file in ("defs.yaml", "defs.yml") if (folder / file).is_file()), None)
        if here is not None:
            mine = [item.task for item in registry.declared().values() if item.path == here]
            told = {} if here in broken else {f"{name}.defs": _cause(error, here)}
            return dg.Definitions.merge(*map(task_definitions, mine), broken_assets(told))
        parts = [_load(f"{name}.{path.name}", path, root, broken) for path in sorted(folder.iterdir()) if path.is_dir()]
        return dg.Definitions.merge(*parts, *(_load_file(name, path) for path in sorted(folder.glob("*.py"))))


def _load_file(package: str, path: Path) -> dg.Definitions:
    """What a file of Python defines, if Dagster cannot load the folder that it is in."""
    name = f"{package}.{path.stem}"
    try:
        module = importlib.import_module(package if path.stem == "__init__" else name)
        whole = [value for value in vars(module).values() if isinstance(value, dg.Definitions)]
        return dg.Definitions.merge(*whole) if whole else dg.load_definitions_from_module(module)
    except Exception as error:
        return broken_assets({name: _cause(error, path)})


def _cause(error: Exception, path: Path) -> AstraError:
    """What stands behind an error of what others have defined, in one line."""
    first = list_causes(error)[-1]
    return first if isinstance(first, AstraError) else ConfigurationError(describe(first), path=path)
