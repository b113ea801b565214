"""What takes long to make, and is only read: it is made once for all workers of a run of the tests."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def made_once(factory: "pytest.TempPathFactory", name: str, make: Callable[[Path], object]) -> Path:
    """Path of a folder below which `make` makes something, unless another worker has done so."""
    base = factory.getbasetemp()
    top = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = top / f"once-{name}"
    with (top / f"once-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder / ".done"
        if not done.exists():
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


def whole_run() -> int:
    """ID of the process that ends when all workers have."""
    return os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
