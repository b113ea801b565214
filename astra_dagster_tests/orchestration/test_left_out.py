"""What of a package, a declaration or a table is broken is left out and says so; the rest is there."""

import dagster as dg
import pytest
from click.testing import CliRunner

from astra_dagster import settings
from astra_dagster.cli import main
from astra_dagster.definitions import build_definitions
from astra_dagster.tasks import registry
from astra_dagster.tasks.task import Task
from astra_dagster_tests.orchestration.chain import discover, update


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "package broken has no task"),
        (
            "import nothing_of_this_name\n",
            "ModuleNotFoundError: No module named 'nothing_of_this_name' (broken.py, line 1)",
        ),
        ("\n\n1 / 0\n", "ZeroDivisionError: division by zero (broken.py, line 3)"),
        ("x = (\n", "SyntaxError"),
        ("TASK(version=1)", "version of made must be letters"),
        ("TASK(name='ap_visit')", "a task cannot be named ap_visit: an asset is"),
        ("TASK(name='spec_snr_table')", "a task cannot be named spec_snr_table"),
        ("TASK(name='spec_snr')", "two tasks named spec_snr"),
        ("PARAMETERS(overwrite: bool = True)", "cannot have a parameter overwrite"),
        ("PARAMETERS(width = 1.0)", "P.width is no parameter without a type"),
        ("PARAMETERS(width: list = [1.0])", "use a tuple"),
    ],
)
def test_a_package_that_cannot_be_used_says_why_and_the_rest_is_there(
    text: str, message: str, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    head = "from astra_dagster import Parameters, spec, spectrum_task\n"
    body = "\n(lambda s, p: {{'n': [1.0] * len(s)}})"
    if text.startswith("TASK("):
        options = {"name": "'made'", "version": "'1'"} | dict([text[5:-1].split("=")])
        given = ", ".join(f"{name}={value}" for name, value in options.items())
        text = f"{head}made = spectrum_task(requires=spec, {given})" + body.strip().format()
    elif text.startswith("PARAMETERS("):
        text = f"{head}class P(Parameters):\n    {text[11:-1]}\n"
        text += "made = spectrum_task(requires=spec, version='1', name='made', parameters=P)" + body.strip().format()
    (settings.dagster_home() / "broken.py").write_text(text)
    good = f"{head}fine = spectrum_task(requires=spec, version='1', name='fine')(lambda s, p: {{}})\n"
    (settings.dagster_home() / "good.py").write_text(good)
    (settings.dagster_home() / "astra.toml").write_text('packages = ["broken", "good"]\n')
    try:
        discover(instance)
        others = CliRunner().invoke(main, ["plan", "fine"])
        result = CliRunner().invoke(main, ["plan", "made"])
        definitions = build_definitions()
        failed = launch_asset(instance, dg.AssetKey(["broken", "broken"]))
    finally:
        sys.modules.pop("broken", None)
        sys.modules.pop("good", None)
    assert others.exit_code == 0
    assert "3 no record" in others.stdout
    (line,) = others.stderr.splitlines()
    assert message in line
    assert line.startswith(f"left out: {settings.dagster_home() / 'astra.toml'}: packages: ")
    line = line.removeprefix("left out: ")

    assert result.exit_code == 1
    assert line in result.output
    assert result.output.count("\n") == 1

    spec = definitions.get_assets_def(dg.AssetKey(["broken", "broken"])).get_asset_spec()
    assert spec.group_name == "broken"
    assert line in spec.description
    assert not failed.success
    assert failed.failure_data_for_node("broken__broken").user_failure_data.description == line
    assert definitions.resolve_assets_def("fine")


def launch_asset(instance: dg.DagsterInstance, key: dg.AssetKey) -> dg.ExecuteInProcessResult:
    job = build_definitions().resolve_implicit_global_asset_job_def()
    return job.execute_in_process(instance=instance, asset_selection=[key], raise_on_error=False)


SAME = """
from astra_dagster import spec, spectrum_task

@spectrum_task(requires=spec, version="1")
def same(spectra, parameters):
    return {"n": [1.0] * len(spectra)}
"""


def test_of_two_packages_with_one_name_the_second_is_left_out(
    instance: dg.DagsterInstance, tasks: dict[str, Task]
) -> None:
    import sys

    for name in ("the_first", "the_second"):
        (settings.dagster_home() / f"{name}.py").write_text(SAME)
    (settings.dagster_home() / "astra.toml").write_text('packages = ["the_first", "the_second", "my_tasks"]\n')
    try:
        assert registry.find_task("same").module == "the_first"
        assert set(tasks) <= set(registry.tasks())
        (error,) = registry.broken().values()
    finally:
        for name in ("the_first", "the_second"):
            del sys.modules[name]
    words = "package the_second is left out: there are two tasks named same, in the_first and the_second"
    assert f"packages: {words}; give one of them another name" in str(error)


def test_nothing_is_cleaned_while_tasks_are_left_out(instance: dg.DagsterInstance, tasks: dict[str, Task]) -> None:
    """Of outputs of a task that is not known nobody can say whether they are needed."""
    discover(instance)
    assert update(instance, tasks["line_depth"]).success
    (settings.dagster_home() / "astra.toml").write_text('packages = ["my_tasks", "no_such_tasks"]\n')
    for words in ([], ["--yes"], ["--yes", "--task", "line_depth"]):
        result = CliRunner().invoke(main, ["clean", *words])
        assert result.exit_code == 1
        assert "clean needs all tasks: " in result.output
        assert "package no_such_tasks cannot be imported" in result.output
        assert result.output.count("\n") == 1
