"""A daemon whose runs are in this process, and a file for it to find."""

from pathlib import Path

import dagster as dg
import pytest

from astra_dagster_tests.orchestration.watch.arrivals import FOLDER, NAME, Daemon, make_anonymous


@pytest.fixture
def daemon(instance: dg.DagsterInstance) -> Daemon:
    return Daemon(instance)


@pytest.fixture
def whole(synthetic: Path) -> bytes:
    """Contents of an apVisit file, which can lie in any place of one."""
    return make_anonymous((synthetic / FOLDER / NAME.format(1)).read_bytes())
