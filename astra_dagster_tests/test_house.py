"""The house keeps its own rules."""

import ast
from pathlib import Path

import pytest

from astra_dagster_tests.import_graph import circle, folder, import_graph, layer

ROOT = Path(__file__).parents[1]
ROOM = 15
"""Files that a folder may hold, besides ``__init__.py``."""


def test_ci_runs_the_test_command_of_the_readme() -> None:
    readme, script = ((ROOT / name).read_text() for name in ("README.md", ".ci/run"))
    (command,) = [line for line in readme.splitlines() if line.endswith("/pytest")]
    assert command in script.splitlines()


def test_only_orchestration_and_the_edge_import_dagster() -> None:
    edge = {"definitions", "orchestration", "cli"}
    for path in (ROOT / "astra_dagster").rglob("*.py"):
        if path.relative_to(ROOT / "astra_dagster").with_suffix("").parts[0] in edge:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [item.name for item in node.names] if isinstance(node, ast.Import) else []
            assert not any(name.split(".")[0] == "dagster" for name in names), path


def test_no_file_imports_itself_by_a_detour() -> None:
    assert circle(import_graph()) == []


def test_a_circle_is_found() -> None:
    assert set(circle({"a": frozenset("b"), "b": frozenset("c"), "c": frozenset("a")})) == {"a", "b", "c"}


def test_arrows_point_one_way() -> None:
    for module, imported in import_graph().items():
        if module not in {"__init__", "__main__"}:  # the public names, and the command
            for item in imported - {"__init__"}:
                assert folder(item) == folder(module) or layer(item) < layer(module), f"{module} imports {item}"


@pytest.mark.parametrize("room", sorted({path.parent for path in (ROOT / "astra_dagster").rglob("*.py")}), ids=str)
def test_a_room_is_no_hall(room: Path) -> None:
    assert len([path for path in room.glob("*.py") if path.name != "__init__.py"]) <= ROOM
