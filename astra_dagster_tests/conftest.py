"""Shared fixtures: a clean environment, a synthetic mirror, the real files where they are, a Dagster instance."""

import gc
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
from hypothesis import HealthCheck, settings

from astra_dagster.cli.init import SQLITE
from astra_dagster.demo import write_mirror
from astra_dagster.tasks import importing
from astra_dagster_tests import scripts, warm
from astra_dagster_tests.mirrors import find_mirrors
from astra_dagster_tests.once import made_once
from astra_dagster_tests.postgresql import server

for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        # So a shell, or nohup, starts what it runs in the background, and what is started here would inherit it.
        signal.signal(number, usual)

# Each of the hundreds of processes that are started here would translate the whole package again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

scripts.remember()

settings.register_profile(
    "default", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("default")


def pytest_xdist_auto_num_workers() -> int:
    """Two workers more than there are cores, for some tests wait for servers and daemons most of their time."""
    return (os.cpu_count() or 1) + 2


def pytest_collection_finish() -> None:
    """Have Python not look for garbage, again and again, among what was imported and collected."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have each worker begin with its share of the slow tests, so that none of them is left when all others are done.

    The first worker is given the first tests, the second those that follow, and so on; who has done its own takes from
    the end of another's.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    slow = [item for item in items if item.get_closest_marker("slow")]
    others = [item for item in items if not item.get_closest_marker("slow")]
    ordered: list[pytest.Item] = []
    for worker in range(workers):
        share = slow[worker::workers]
        rest = max((len(items) - len(ordered)) // (workers - worker) - len(share), 0)
        ordered += share + others[:rest]
        del others[:rest]
    items[:] = ordered


NO_COMPUTE_LOGS = """\
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
"""
"""Keeping what a step prints takes Dagster four processes a step."""

VARIABLES = (
    "SAS_BASE_DIR",
    "DAGSTER_HOME",
    "ASTRA_OUTPUTS",
    "ASTRA_CONFIG",
    "ASTRA_POSTGRES_URL",
    "ASTRA_SAS_URL",
    "TREE_DIR",
    "DAGSTER_EVENT_BATCH_SIZE",
)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine, and none of another test, reaches a test."""
    monkeypatch.setattr(importing.finder, "folders", ())
    unset(monkeypatch)


def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no setting in the environment."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that what a test leaves behind is undone as well
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic SAS mirror; read only."""
    return made_once(tmp_path_factory, "mirror", lambda folder: write_mirror(folder / "sas")) / "sas"


@pytest.fixture
def mirror(synthetic: Path, tmp_path: Path) -> Path:
    """A copy of the synthetic mirror that a test may damage."""
    return Path(shutil.copytree(synthetic, tmp_path / "sas"))


@pytest.fixture
def real_mirrors() -> list[Path]:
    """All mirrors of real SDSS files; see `mirrors` for which files of them."""
    return find_mirrors()


@pytest.fixture
def real(real_mirrors: list[Path]) -> Path:
    """One mirror of real SDSS files, the first."""
    return real_mirrors[0]


@pytest.fixture
def extra_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A configured release: apred r13 in the DR17 tree."""
    path = tmp_path / "astra.toml"
    path.write_text('[releases.APOGEE-r13]\ntree = "DR17"\napred = "r13"\n')
    monkeypatch.setenv("ASTRA_CONFIG", str(path))
    return "APOGEE-r13"


@pytest.fixture(scope="session")
def empty_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DAGSTER_HOME whose tables are there, which takes more time than most tests; read only."""
    home = tmp_path_factory.mktemp("home")
    (home / "dagster.yaml").write_text(f"{SQLITE}{NO_COMPUTE_LOGS}telemetry:\n  enabled: false\n")
    with pytest.MonkeyPatch.context() as monkeypatch:
        unset(monkeypatch)
        monkeypatch.setenv("DAGSTER_HOME", str(home))
        dg.DagsterInstance.get().dispose()
    return home


@pytest.fixture
def instance(
    empty_home: Path, mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance on disk, with SAS_BASE_DIR at the copied mirror and outputs beside."""
    monkeypatch.setenv("SAS_BASE_DIR", str(mirror))
    monkeypatch.setenv("DAGSTER_HOME", str(shutil.copytree(empty_home, tmp_path / "home")))
    monkeypatch.setenv("ASTRA_OUTPUTS", str(tmp_path / "outputs"))
    with dg.DagsterInstance.get() as made:
        yield made


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with astra-dagster and dagster, which start at once; not for tests of how a process starts."""
    return made_once(tmp_path_factory, "warm", warm.start_programs) / "bin"


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Callable[[], str]]:
    """URL of an empty database at each call; one server for all tests of a process."""
    with server() as database:
        yield database
