"""The template: it works as it is written, is written whole or not at all, and replaces nothing."""

import importlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner, Result

from astra_dagster.cli import main
from astra_dagster.cli.new import FILES
from astra_dagster.tasks import registry
from astra_dagster_tests.documented import ROOT


def run(folder: object) -> Result:
    return CliRunner().invoke(main, ["new", str(folder)])


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_template_is_a_package_whose_task_is_registered(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("first_tasks")
    assert result.exit_code == 0, result.output
    written = sorted(str(path.relative_to(here)) for path in here.rglob("*") if path.is_file())
    assert written == sorted(line.split()[1] for line in result.output.splitlines() if line.startswith("wrote "))
    assert len(written) == 6
    assert f"  export ASTRA_CONFIG={here}/first_tasks/astra.toml\n  astra-dagster plan my_visit_snr\n" in result.output
    assert "PACKAGE" not in "".join((here / path).read_text() for path in written)

    monkeypatch.setenv("ASTRA_CONFIG", str(here / "first_tasks" / "astra.toml"))
    task = registry.tasks()["my_visit_snr"]
    assert task.description == "Mean signal-to-noise ratio of an apVisit spectrum."
    assert task.values().as_dict() == {"fudge_factor": 1.0}


def test_its_package_is_found_from_the_folder_above(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the project's folder, which has the name of its package, could be imported in its place."""
    assert run("these_tasks").exit_code == 0
    package = here / "these_tasks" / "these_tasks"
    (package / "more.py").write_text("from these_tasks.snr import my_visit_snr\n")
    monkeypatch.setenv("ASTRA_CONFIG", str(here / "these_tasks" / "astra.toml"))
    code = "import sys; from astra_dagster.tasks import registry; task = registry.find_task('my_visit_snr'); "
    code += "print(task.module, sys.modules['these_tasks'].__file__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["these_tasks.snr", str(package / "__init__.py")], done.stderr


@pytest.mark.parametrize("command", [["-m", "pytest"], ["-c", "import pytest; raise SystemExit(pytest.main())"]])
def test_its_test_passes(command: list[str], here: Path) -> None:
    assert run("my_tasks").exit_code == 0
    done = subprocess.run(
        [sys.executable, *command], cwd=here / "my_tasks", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_what_it_says_to_install_has_what_the_test_needs(here: Path) -> None:
    result = run("my_tasks")
    assert f"  pip install -e '{here}/my_tasks[test]'\n  pytest {here}/my_tasks\n" in result.output
    project = tomllib.loads((here / "my_tasks" / "pyproject.toml").read_text())
    assert project["project"]["name"] == "my_tasks"
    assert project["project"]["optional-dependencies"]["test"] == ["pytest>=8"]
    assert project["tool"]["setuptools"]["packages"]["find"]["include"] == ["my_tasks*"]


@pytest.mark.parametrize("folder", [Path("my_tasks"), ROOT])
def test_dg_finds_what_it_loads(folder: Path, here: Path) -> None:
    """What `dg` asks of a project, which is not installed for the tests: it brings thirty packages."""
    assert run("my_tasks").exit_code == 0
    project = tomllib.loads((folder / "pyproject.toml").read_text())["tool"]["dg"]
    assert project["directory_type"] == "project"
    loaded = importlib.import_module(project["project"].pop("code_location_target_module"))
    assert [value for value in vars(loaded).values() if isinstance(value, dg.Definitions)] == [loaded.defs]
    declared = project["project"].pop("defs_module", f"{project['project']['root_module']}.defs")
    assert (folder / declared.replace(".", "/") / "__init__.py").is_file()
    assert [*project["project"]] == ["root_module"]


def test_it_is_in_good_style(here: Path) -> None:
    ruff = Path(sys.executable).with_name("ruff")
    if not ruff.exists():
        pytest.skip("ruff is not installed")
    assert run("my_tasks").exit_code == 0
    for command in (["check", "--select", "E,F,W,I,UP,B,N"], ["format", "--check"]):
        done = subprocess.run(
            [str(ruff), command[0], "--isolated", "--no-cache", "--line-length", "120", *command[1:], "."],
            cwd=here / "my_tasks",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My-Tasks", "cannot be the name of a package"),
        ("2nd", "cannot be the name of a package"),
        ("class", "cannot be the name of a package"),
        ("a b", "cannot be the name of a package"),
        ("größe", "cannot be the name of a package"),
        ("..", "cannot be the name of a package"),
        ("numpy", "there is a package numpy already"),
        ("astra_dagster", "there is a package astra_dagster already"),
        ("json", "there is a package json already"),
        ("tests", "cannot be the name of a package"),
    ],
)
def test_names_that_python_could_not_import_are_refused(name: str, message: str, here: Path) -> None:
    result = run(name)
    assert result.exit_code == 1
    assert message in result.output
    assert result.output.count("\n") == 1
    assert list(here.iterdir()) == []


def test_what_is_there_is_left_alone(here: Path) -> None:
    (here / "full").mkdir()
    (here / "full" / "work.py").write_text("x = 1\n")
    (here / "file").write_text("precious\n")
    (here / "empty").mkdir()
    (here / "link").symlink_to("empty")
    (here / "broken").symlink_to("nowhere")
    for name in ("full", "file", "link", "broken"):
        result = run(name)
        assert result.exit_code == 1
        assert "there is something already" in result.output
    assert (here / "full" / "work.py").read_text() == "x = 1\n"
    assert (here / "file").read_text() == "precious\n"
    assert run("empty").exit_code == 0
    assert (here / "empty" / "empty" / "snr.py").is_file()
    assert run("empty").exit_code == 1
    (here / "mine").mkdir()
    os.chdir(here / "mine")
    assert "the current folder cannot be replaced" in run(".").output
    assert run("deeper/still/tasks_of_mine").exit_code == 0


def test_all_or_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.write_text

    def full(path: Path, text: str, **keywords: str) -> int:
        if path.name == "test_snr.py":
            raise OSError(28, "No space left on device")
        return real(path, text, **keywords)

    monkeypatch.setattr(Path, "write_text", full)
    result = run("my_tasks")
    assert result.exit_code == 1
    assert "the package cannot be written: the disk at " in result.output
    assert "takes no more: No space left on device" in result.output
    assert list(here.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_line(here: Path) -> None:
    (here / "file").write_text("")
    result = run("file/my_tasks")
    assert result.exit_code == 1
    assert result.output.startswith("Error: the package cannot be written: ")
    assert result.output.count("\n") == 1


def test_a_configuration_that_is_no_longer_read_is_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "home").mkdir()
    (here / "home" / "astra.toml").write_text('products = ["mwmStar"]\n')
    monkeypatch.setenv("DAGSTER_HOME", str(here / "home"))
    assert f"{here}/home/astra.toml is no longer read" in run("my_tasks").output
    monkeypatch.setenv("ASTRA_CONFIG", str(here / "home" / "astra.toml"))
    assert "no longer read" in run("other_tasks").output
    monkeypatch.delenv("DAGSTER_HOME")
    monkeypatch.setenv("ASTRA_CONFIG", str(here / "nowhere.toml"))
    assert "no longer read" not in run("third_tasks").output


def test_a_package_without_tasks_says_what_is_missing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("empty_tasks").exit_code == 0
    (here / "empty_tasks" / "empty_tasks" / "snr.py").write_text("")
    monkeypatch.setenv("ASTRA_CONFIG", str(here / "empty_tasks" / "astra.toml"))
    assert "make one with @spectrum_task" in str(registry.broken()["empty_tasks"])


def test_every_file_of_the_template_is_text_that_ends_in_a_newline() -> None:
    for name, text in FILES.items():
        assert text.endswith("\n"), name
        assert text.isascii(), name
