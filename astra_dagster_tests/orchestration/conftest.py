"""Fixtures of the tests of several tasks."""

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from astra_dagster import settings
from astra_dagster.demo import write_spec
from astra_dagster.orchestration.runs import materialise
from astra_dagster.planning import planner
from astra_dagster.tasks import registry
from astra_dagster.tasks.task import Task
from astra_dagster_tests.orchestration.chain import SPEC, TASKS


@pytest.fixture(autouse=True)
def no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have runs draw nothing, which takes half of their time, but for modules with PICTURES = True."""
    if not getattr(request.module, "PICTURES", False):
        monkeypatch.setattr(materialise, "make_preview_metadata", lambda store, work, root: {})


@pytest.fixture(params=[planner.WINDOW, 4], ids=["at once", "in windows"])
def windows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have runs take all partitions at once, and so many at a time as a run over an archive does."""
    monkeypatch.setattr(planner, "WINDOW", request.param)
    monkeypatch.setattr(planner, "STEP", request.param)
    monkeypatch.setattr(materialise, "WINDOW", request.param)


@pytest.fixture
def tasks(instance: dg.DagsterInstance, mirror: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Task]]:
    """A user's package beside the configuration file; six spectra of one plate besides those of the mirror."""
    folder = settings.dagster_home()
    (folder / "my_tasks").mkdir()
    (folder / "my_tasks" / "__init__.py").write_text("")
    (folder / "my_tasks" / "lines.py").write_text(textwrap.dedent(TASKS))
    (folder / "astra.toml").write_text('packages = ["my_tasks"]\n')
    for fibre in range(1, 7):
        write_spec(SPEC.data_id("DR17", run2d="v5_13_2", plate=4000, mjd=55500, fibre=fibre), mirror)
    yield dict(registry.tasks())
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_tasks"]:
        del sys.modules[name]
