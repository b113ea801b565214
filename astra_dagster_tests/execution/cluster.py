"""Dask clusters that are there already: in this process, or in others and in another folder, as on other machines."""

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

DASK = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None, reason="Dask is not installed: pip install 'astra-dagster[dask]'"
)
"""Mark of tests that need Dask."""

SCRIPT = """
import signal
import distributed

if __name__ == "__main__":
    cluster = distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0")
    print(cluster.scheduler_address, flush=True)
    signal.pause()
"""


@contextmanager
def cluster_here() -> Iterator[Any]:
    """A cluster of one worker in this process."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, processes=False, dashboard_address=":0") as started:  # type: ignore[no-untyped-call]
        yield started


@contextmanager
def dask_cluster(folder: Path) -> Iterator[str]:
    """Address of its scheduler; afterwards the cluster goes away, without a word."""
    folder.mkdir()
    (folder / "cluster.py").write_text(SCRIPT)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ASTRA_", "DAGSTER_", "SAS_", "TREE_"))}
    with subprocess.Popen(
        [sys.executable, "cluster.py"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as cluster:
        try:
            assert cluster.stdout is not None
            yield cluster.stdout.readline().strip()
        finally:
            os.killpg(cluster.pid, signal.SIGKILL)
