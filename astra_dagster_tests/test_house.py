"""The house keeps its own rules."""

from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_ci_runs_the_test_command_of_the_readme() -> None:
    readme, script = ((ROOT / name).read_text() for name in ("README.md", ".ci/run"))
    (command,) = [line for line in readme.splitlines() if line.endswith("/pytest")]
    assert command in script.splitlines()


def test_only_orchestration_and_the_edge_import_dagster() -> None:
    edge = {"definitions.py"}
    for path in (ROOT / "astra_dagster").rglob("*.py"):
        if not {"orchestration", "cli"} & set(path.parts) and path.name not in edge:
            assert "import dagster" not in path.read_text(), path
            assert "from dagster" not in path.read_text(), path
