"""A file of each kind, for a test to damage; and nothing stays open, whatever is wrong with it."""

import contextlib
import gc
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from astra_dagster_tests.spectra.synthetic import WRITERS
from astra_dagster_tests.spectra.wrong.files import KINDS


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of each kind; read only."""
    root = tmp_path_factory.mktemp("samples")
    return {kind: writer(root / str(i)) for i, (kind, (_, writer)) in enumerate(WRITERS.items())}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def product(kind: str) -> str:
    return WRITERS[kind][0]


@pytest.fixture
def path(kind: str, samples: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of a file of the kind, for a test to damage."""
    return Path(shutil.copy(samples[kind], tmp_path / samples[kind].name))


@pytest.fixture(autouse=True, scope="module")
def no_garbage_of_other_tests() -> Iterator[None]:
    """What earlier tests left is collected now or later, and not in a test that counts descriptors."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def no_descriptor_stays_open() -> Iterator[None]:
    before = open_descriptors()
    yield
    assert open_descriptors() - before == set()


def open_descriptors() -> set[tuple[str, str]]:
    """The number of each open descriptor, and what it leads to."""
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the descriptor of this folder, and what just closes
            found.add((link.name, str(link.readlink())))
    return found
