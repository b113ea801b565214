"""The house keeps its own rules."""

import ast
import re
from importlib.metadata import requires
from pathlib import Path

import dagster
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from astra_dagster.orchestration import internals
from astra_dagster_tests.import_graph import circle, folder, import_graph, layer

ROOT = Path(__file__).parents[1]
TESTS = sorted((ROOT / "astra_dagster_tests").rglob("test_*.py"))
ROOM = 14
"""Files that a folder may hold, besides ``__init__.py``."""


def test_ci_runs_the_test_command_of_the_readme() -> None:
    readme, script = ((ROOT / name).read_text() for name in ("README.md", ".ci/run"))
    (command,) = [line for line in readme.splitlines() if line.endswith("/pytest")]
    assert command in script.splitlines()


def test_everything_required_has_a_lowest_version_and_one_to_install() -> None:
    """`.ci/release` tests both."""
    lines = (ROOT / ".ci" / "constraints.txt").read_text().splitlines()
    pinned: dict[str, list[str]] = {}
    for line in lines:
        name, _, version = line.partition(" ")[0].partition("==")
        pinned.setdefault(name, []).append(version)
    wanted = [Requirement(text) for text in requires("astra-dagster") or ()]
    assert len(wanted) > 30
    for one in wanted:
        assert any(bound.operator == ">=" for bound in one.specifier), f"{one} has no lower bound"
        assert all(map(one.specifier.contains, pinned[canonicalize_name(one.name)])), f"{one} has no version to install"


@pytest.mark.parametrize(
    ("library", "edge"),
    [("dagster", {"definitions", "orchestration", "cli"}), ("click", {"definitions", "cli"})],
)
def test_only_the_edge_imports_a_library_of_the_edge(library: str, edge: set[str]) -> None:
    for path in (ROOT / "astra_dagster").rglob("*.py"):
        if path.relative_to(ROOT / "astra_dagster").with_suffix("").parts[0] in edge:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [item.name for item in node.names] if isinstance(node, ast.Import) else []
            assert not any(name.split(".")[0] == library for name in names), path


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


def test_names_of_the_inside_of_dagster_are_in_one_place() -> None:
    package = ROOT / "astra_dagster"
    places: dict[str, list[str]] = {}
    for path in package.rglob("*.py"):
        lines = path.read_text().splitlines()
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                ("dagster._", "dagster_shared.", "dagster_postgres.")
            ):
                where = path.relative_to(package / "orchestration").as_posix()
                places.setdefault(where, []).extend(item.name for item in node.names)
                if where != "internals.py" and (node.module or "").startswith("dagster._"):
                    assert "  # " in lines[node.lineno - 1], f"{where}: what is {ast.unparse(node)} for?"
    assert set(places) == {"internals.py", "storage/batches.py", "storage/postgresql.py", "storage/sqlite.py"}
    assert set(places["internals.py"]) == set(internals.__all__)
    assert not set(internals.__all__) & set(dir(dagster)), "dagster exports them by now: take them from there"
    listed = (package / "orchestration" / "internals.py").read_text().partition("__all__")[2].splitlines()
    for name in internals.__all__:
        assert any(re.match(rf' +"{name}",  # ', line) for line in listed), f"what is {name} for?"


def test_helpers_of_tests_are_in_modules_of_their_own() -> None:
    for path in (ROOT / "astra_dagster_tests").rglob("*.py"):
        assert not re.search(r"(?:from|import) astra_dagster_tests[\w.]*\.test_\w+", path.read_text()), path


def test_a_file_of_tests_is_about_one_subject() -> None:
    assert [path for path in TESTS if path.read_text().count("\n") > 400] == []
