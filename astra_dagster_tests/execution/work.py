"""Work of the S/N task on the visits of a mirror, and doing it in this process."""

import contextlib
import pickle
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from astra_dagster import DataID, product
from astra_dagster.errors import UnknownProductError
from astra_dagster.execution import runner
from astra_dagster.execution.runner import Outcome
from astra_dagster.execution.workers import Workers
from astra_dagster.outputs.store import InputFiles, OutputStore, PartitionWork
from astra_dagster.tasks.snr import SNRParameters, ap_visit_snr
from astra_dagster.tasks.task import Task
from astra_dagster_tests.archive.found import find_files


def taking(chunks: Iterable[list[int]]) -> Callable[[int], list[int]]:
    """What hands out these chunks, one after another, and then none."""
    rest = iter(chunks)
    return lambda _: next(rest, [])


def work_on(root: Path, release: str = "DR17") -> list[PartitionWork]:
    return [work_of(f.data_id, f.path, f.version) for f in find_files(product("apVisit"), release, root)[0]]


def find_work(task: Task, root: Path, *releases: str, name: str = "") -> list[PartitionWork]:
    """Work on all files of the task's product, or of a product that is like it, in releases of a mirror."""
    item, found = product(name or task.domain.name), []
    for release in releases:
        with contextlib.suppress(UnknownProductError):  # the release does not have it
            found += find_files(item, release, root)[0]
    return [work_of(file.data_id, file.path, file.version) for file in found]


def work_of(data_id: DataID, path: Path, version: str) -> PartitionWork:
    return PartitionWork(data_id, (InputFiles(data_id.product.name, data_id.relative_path, version, (str(path),)),))


def run(store: OutputStore, work: list[PartitionWork]) -> list[Outcome]:
    return [outcome for chunk in runner.run([(store, work)]) for outcome in chunk]


def run_elsewhere(
    store: OutputStore, work: list[PartitionWork], monkeypatch: pytest.MonkeyPatch, forget: Callable[[], None]
) -> list[Outcome]:
    """Do work as a worker would, which is sent everything, and remembers nothing; but in this process."""

    def spread(
        workers: Workers, function: Callable[[list[Any]], Any], take: Callable[[int], list[Any]], *_: object
    ) -> Iterator[tuple[list[Any], Any]]:
        sent = cloudpickle.dumps((function, chunk := take(1)))
        forget()
        there, given = cloudpickle.loads(sent)
        yield chunk, pickle.loads(pickle.dumps(there(given)))

    with monkeypatch.context() as patch:
        patch.setattr(runner, "spread", spread)
        runs = runner.run([(store, work)], Workers("processes", 1))
        return [outcome for chunk in runs for outcome in chunk]


def make_store(tmp_path: Path, task: Task = ap_visit_snr, factor: float = 1.0) -> OutputStore:
    return OutputStore(tmp_path / "out", task, SNRParameters(fudge_factor=factor))
