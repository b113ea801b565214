"""What imports what within the package.

As a command it prints the table of folders: ``python -m astra_dagster_tests.import_graph``.
"""

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import astra_dagster

ROOT = Path(astra_dagster.__file__).parent
Graph = Mapping[str, frozenset[str]]

LAYERS: tuple[frozenset[str], ...] = tuple(
    frozenset(layer.split())
    for layer in (
        "errors arrays at_hand",
        "files presence configuration",
        "resources",
        "settings",
        "datamodel fits",
        "archive analysis",
        "spectra",
        "viewer tasks",
        "outputs",
        "planning",
        "execution tables cleanup",
        "comparison",
        "checks night",
        "orchestration",
        "results",
        "definitions demo",
        "cli",
    )
)
"""Folders and files of the package, the lowest first: each imports what is in lower layers, and in its own folder."""


def import_graph() -> Graph:
    """The modules of the package, without its name, and the modules that each imports, wherever it does so."""
    paths = {_module_of(path): path for path in ROOT.rglob("*.py")}
    return {
        name: frozenset(_imports(path, name if path.name == "__init__.py" else name.rpartition(".")[0], paths)) - {name}
        for name, path in paths.items()
    }


def circle(graph: Graph) -> list[str]:
    """Modules that import each other in a circle, if any do."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def folder(module: str) -> str:
    """The folder of the package, or the file at its top, that a module belongs to."""
    return module.split(".")[0]


def layer(module: str) -> int:
    """Number of the layer that a module is in."""
    return next(i for i, names in enumerate(LAYERS) if folder(module) in names)


def folders(graph: Graph) -> dict[str, set[str]]:
    """The folders, and the other folders that each imports."""
    found: dict[str, set[str]] = {}
    for module, imported in graph.items():
        found.setdefault(folder(module), set()).update({folder(item) for item in imported} - {folder(module)})
    return found


def _module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _imports(path: Path, package: str, known: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [item.name for item in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            names = [f"{node.module}.{item.name}" for item in node.names]
        else:
            continue
        for name in names:
            own = name.removeprefix("astra_dagster.")
            if own == name:
                continue
            yield own if own in known else own.rpartition(".")[0] or "__init__"


if __name__ == "__main__":
    graph = import_graph()
    table = folders(graph)
    for name in sorted(table, key=lambda name: (-layer(name) if name[0] != "_" else -99, name)):
        print(f"{name:14} -> {' '.join(sorted(table[name])) or '-'}")
    print(f"files in a circle: {' -> '.join(circle(graph)) or 'none'}")
