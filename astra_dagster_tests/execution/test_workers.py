"""Who does the work: the same bytes from all, what a lost worker costs, stopping, and what is under way at a time."""

import functools
import importlib
import importlib.util
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest

from astra_dagster import Parameters, product, spectrum_task
from astra_dagster.datamodel.products import DataID, Product
from astra_dagster.demo import write_ap_visit
from astra_dagster.errors import ConfigurationError, WorkerLostError
from astra_dagster.execution import dask, runner, workers
from astra_dagster.execution.runner import Outcome
from astra_dagster.execution.workers import AHEAD, FatalItem, InProcess, Workers, spread
from astra_dagster.outputs.store import OutputStore, PartitionWork
from astra_dagster.spectra.readers import read_spectra
from astra_dagster.tasks import importing
from astra_dagster.tasks.continuum import ap_visit_continuum
from astra_dagster.tasks.snr import ap_visit_snr
from astra_dagster.tasks.task import Task
from astra_dagster_tests.execution.cluster import DASK, cluster_here
from astra_dagster_tests.execution.deadly import Times, deadly, first_or_last, lost_when_done
from astra_dagster_tests.execution.work import taking, work_of

FILES = 40
KINDS = ["in-process", "processes:2", pytest.param("dask:2", marks=DASK)]


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> list[PartitionWork]:
    """Visits of one plate, 40 of them."""
    root = tmp_path_factory.mktemp("plate")
    ids = [
        product("apVisit").data_id("DR17", telescope="apo25m", field="f", plate=5226, mjd=56000, fibre=i + 1)
        for i in range(FILES)
    ]
    return [work_of(data_id, write_ap_visit(data_id, root), "1-2") for data_id in ids]


def store_of(root: Path, task: Task, **values: Any) -> OutputStore:
    return OutputStore(root, task, task.values(values))


def outcomes_of(jobs: list[tuple[OutputStore, list[PartitionWork]]], who: str) -> list[Outcome]:
    return [outcome for some in runner.run(jobs, Workers.parse(who)) for outcome in some]


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def fibre_of(work: PartitionWork) -> int:
    assert isinstance(work.data_id, DataID)
    return int(work.data_id.values["fibre"])


@DASK
def test_no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask, "PATIENCE", 0.5)
    nowhere = Workers("dask", None, "tcp://127.0.0.1:1")
    with pytest.raises(ConfigurationError, match=r"no Dask scheduler answers at tcp://127.0.0.1:1"):
        list(spread(nowhere, len, taking([[1]])))


@pytest.fixture(scope="module")
def expected(plate: list[PartitionWork], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    root = tmp_path_factory.mktemp("expected")
    for task in (ap_visit_snr, ap_visit_continuum, deadly):
        for work in plate:
            list(runner.run([(store_of(root, task), [work])]))
    return contents(root)


@pytest.mark.parametrize("who", KINDS)
def test_the_same_bytes_whoever_does_it(
    who: str, plate: list[PartitionWork], tmp_path: Path, expected: dict[str, bytes]
) -> None:
    jobs = [(store_of(tmp_path, task), plate) for task in (ap_visit_snr, ap_visit_continuum, deadly)]
    done = outcomes_of(jobs, who)
    assert len(done) == 3 * FILES
    assert all(outcome.written for outcome in done)
    assert contents(tmp_path) == expected


@pytest.mark.parametrize("who", KINDS[1:])
def test_a_worker_lost_once_costs_nothing(who: str, plate: list[PartitionWork], tmp_path: Path) -> None:
    once = tmp_path / "once"
    once.touch()
    store = store_of(tmp_path / "out", deadly, once=str(once))
    done = outcomes_of([(store, plate)], who)
    assert not once.exists()
    assert len(done) == FILES
    assert len({outcome.work.data_id.key for outcome in done if outcome.written}) == FILES
    again = store_of(tmp_path / "again", deadly, once=str(once))
    outcomes_of([(again, plate)], "in-process")
    assert contents(tmp_path / "out") == contents(tmp_path / "again")


@pytest.mark.parametrize("who", KINDS[1:])
def test_files_that_kill_their_workers_are_found_and_the_rest_is_done(
    who: str, plate: list[PartitionWork], tmp_path: Path
) -> None:
    store = store_of(tmp_path, deadly, fibres=(7, 33))
    done = outcomes_of([(store, plate)], who)
    assert len(done) == FILES
    lost = {fibre_of(outcome.work): outcome.error for outcome in done if outcome.error}
    assert sorted(lost) == [7, 33]
    for fibre, error in lost.items():
        assert isinstance(error, WorkerLostError)
        assert f"{fibre:03d}" in str(error)
        assert "ran out of memory" in str(error)
    assert {fibre_of(outcome.work) for outcome in done if outcome.written} == set(range(1, FILES + 1)) - {7, 33}
    assert all(path.name.endswith((".json", ".failed")) for path in tmp_path.rglob("*") if path.is_file())
    assert "died" in str(store.failure(plate[6]))


def test_a_worker_that_is_asked_to_end_while_it_starts_a_thread_leaves_nothing_half_written(
    plate: list[PartitionWork], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, fsync, writing = threading.Thread.start, os.fsync, threading.Event()

    def start_and_be_ended(thread: threading.Thread) -> None:
        start(thread)
        assert writing.wait(30)
        raise SystemExit

    def slow(descriptor: int) -> None:
        writing.set()
        time.sleep(0.5)
        fsync(descriptor)

    writers = functools.cache(runner._start_writers.__wrapped__)  # those of no other test
    monkeypatch.setattr(runner, "_start_writers", writers)
    monkeypatch.setattr(threading.Thread, "start", start_and_be_ended)
    monkeypatch.setattr(os, "fsync", slow)
    chunk = [(0, item) for item in plate[:8]]
    with pytest.raises(SystemExit):
        runner._run_pickled_chunk((), cloudpickle.dumps(([store_of(tmp_path, ap_visit_snr)], {})), chunk)
    assert [path.suffix for path in tmp_path.rglob("*") if path.is_file()] == [".json"]


@pytest.mark.parametrize("who", ["processes:1", pytest.param("dask:1", marks=DASK)])
def test_no_chunk_is_blamed_for_another(who: str, tmp_path: Path) -> None:
    function = functools.partial(first_or_last, Times(tmp_path))
    done = list(spread(Workers.parse(who), function, taking([[1], [2], [3]])))
    assert sorted(chunk for chunk, _ in done) == [[1], [2], [3]]
    assert [chunk for chunk, made in done if isinstance(made, FatalItem)] == [[3]]


def test_nothing_waits_for_a_chunk_that_is_lost_twice(tmp_path: Path) -> None:
    function = functools.partial(first_or_last, Times(tmp_path))
    done = list(spread(Workers("processes", 1), function, taking([[1], [3], *([i] for i in range(4, 24))])))
    assert len(done) == 22
    assert done.index(([3], FatalItem(3))) > done.index(([23], [23]))


@DASK
def test_what_was_done_and_is_lost_with_its_worker_is_done_again(tmp_path: Path) -> None:
    end = time.monotonic() + 60
    function = functools.partial(lost_when_done, Times(tmp_path))
    done = list(spread(Workers("dask", 1), function, taking([[1, 2]]), lambda: time.monotonic() > end))
    assert done == [([1, 2], [1, 2])]
    assert len(list(tmp_path.iterdir())) == 5  # made, died of being fetched, died of being made, made, fetched


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A Dask cluster of one worker in this process."""
    with cluster_here() as started:
        yield started


@DASK
def test_a_cluster_that_is_gone_when_it_is_given_more(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:

    def chunks() -> Iterator[list[int]]:
        yield [1]
        cluster.close()
        time.sleep(1)
        yield [2]

    monkeypatch.setattr(dask, "PATIENCE", 2.0)
    there = Workers("dask", None, cluster.scheduler_address)
    with pytest.raises(ConfigurationError, match="the Dask cluster is gone; start it again"):
        list(spread(there, len, taking(chunks())))


@DASK
def test_what_dask_does_not_wait_for_is_not_printed(cluster: Any, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        loop.create_future().set_exception(TimeoutError("Timeout"))  # nobody has it, so nobody asks what became of it

    with dask.open_dask(cluster.scheduler_address, 1) as there:
        loop = there._client.loop.asyncio_loop
        loop.call_soon_threadsafe(fail)
        assert there.submit(len, [1]).result() == 1
    assert [record.message for record in caplog.records if "never retrieved" in record.message] == []


@pytest.mark.parametrize("who", KINDS)
def test_told_to_stop_it_ends_what_is_under_way(
    who: str, plate: list[PartitionWork], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "GRACE", 1.5)
    store = store_of(tmp_path, deadly, seconds=0.2)
    stop = threading.Event()
    done = []
    for some in runner.run([(store, plate)], Workers.parse(who), stop.is_set):
        done += some
        stop.set()
    assert 0 < len(done) < FILES
    assert all(outcome.written and outcome.written.path.is_file() for outcome in done)
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_task_that_does_not_end_is_ended(
    plate: list[PartitionWork], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "GRACE", 0.5)
    store = store_of(tmp_path, deadly, seconds=600.0)
    start = time.monotonic()
    assert list(runner.run([(store, plate)], Workers("processes", 2), lambda: time.monotonic() > start + 1.5)) == []
    assert not list(tmp_path.rglob("*.tmp"))


def test_few_chunks_are_under_way() -> None:
    begun = 0

    def chunks() -> Iterator[list[int]]:
        nonlocal begun
        for i in range(200):
            begun += 1
            yield [i]

    done = 0
    for _, total in spread(Workers("processes", 2), sum, taking(chunks())):
        done += 1
        assert not isinstance(total, FatalItem)
        assert begun - done < AHEAD * 2 + 1
    assert done == 200


@DASK
def test_a_cluster_that_grows_gets_smaller_chunks(cluster: Any, plate: list[PartitionWork], tmp_path: Path) -> None:
    there = Workers("dask", None, cluster.scheduler_address)
    made = runner.run([(store_of(tmp_path, deadly), plate)], there)
    assert len(next(made)) == FILES // 8
    cluster.scale(FILES)
    cluster.wait_for_workers(FILES)
    rest = [len(outcomes) for outcomes in made]
    assert sum(rest) == FILES - FILES // 8
    assert min(rest) == 1


def test_each_file_is_read_once_for_all_tasks(
    plate: list[PartitionWork], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: dict[str, bytes]
) -> None:
    read: list[Path] = []

    def counting(path: Path, of: Product, **options: Any) -> Any:
        read.append(path)
        return read_spectra(path, of, **options)

    monkeypatch.setattr(runner, "read_spectra", counting)
    jobs = [(store_of(tmp_path, task), plate) for task in (ap_visit_snr, ap_visit_continuum)]
    assert sum(map(len, runner.run(jobs))) == 2 * FILES
    assert len(read) == len(set(read)) == FILES
    assert contents(tmp_path) == {name: data for name, data in expected.items() if not name.startswith("deadly")}


def test_an_exception_of_the_framework_itself_is_not_hidden() -> None:
    def broken(chunk: list[int]) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(spread(Workers("in-process", 1), broken, taking([[1]])))
    assert isinstance(InProcess().submit(broken, [1]).exception(), ZeroDivisionError)


class Sizes(Parameters):
    """A parameter."""

    size: int = 1


def test_tasks_go_to_other_processes_by_name_or_else_whole() -> None:
    for task in (ap_visit_snr, deadly, ap_visit_snr.chain[-1]):
        assert cloudpickle.loads(cloudpickle.dumps(task)) is task
    variant = ap_visit_snr.variant("half", fudge_factor=0.5)
    same = cloudpickle.loads(cloudpickle.dumps(variant))
    assert (same.name, same.family, same.defaults) == (variant.name, variant.family, variant.defaults)
    assert same.function is variant.function
    big = np.arange(10)

    @spectrum_task(requires=product("apVisit"), version="1", parameters=Sizes)
    def local(spectra, parameters):  # type: ignore[no-untyped-def]
        """Of no module."""
        return {"total": np.full(len(spectra), big.sum() * parameters.size)}

    copy = cloudpickle.loads(cloudpickle.dumps(local))
    assert copy is not local
    assert (copy.name, copy.version, copy.digest(copy.values())) == ("local", "1", local.digest(local.values()))


@pytest.fixture
def module(tmp_path: Path) -> Iterator[Path]:
    """Module of a user's that is found beside something."""
    path = tmp_path / "beside" / "task_of_mine.py"
    path.parent.mkdir()
    text = """
        from astra_dagster import product, spectrum_task

        @spectrum_task(requires=product("apVisit"), version="1")
        def mine(spectra, parameters):
            return {"n": [1.0] * len(spectra)}
    """
    path.write_text(textwrap.dedent(text))
    importing.look_in([path.parent])
    yield path
    sys.modules.pop("task_of_mine", None)


@pytest.mark.parametrize("who", KINDS[1:])
def test_workers_that_cannot_import_a_task_say_so_in_a_line(
    who: str, module: Path, plate: list[PartitionWork], tmp_path: Path
) -> None:
    store = store_of(tmp_path / "out", importlib.import_module("task_of_mine").mine)
    module.unlink()
    words = r"a worker on \S+ cannot import the tasks: ModuleNotFoundError: No module named 'task_of_mine'; .*/beside"
    with pytest.raises(ConfigurationError, match=words) as told:
        outcomes_of([(store, plate)], who)
    assert "\n" not in str(told.value)


def test_a_worker_that_has_another_version_of_a_task_does_not_work_on_it(module: Path) -> None:
    pickled = cloudpickle.dumps(importlib.import_module("task_of_mine").mine)
    module.write_text(module.read_text().replace('version="1"', 'version="22"'))
    del sys.modules["task_of_mine"]
    importlib.invalidate_caches()
    with pytest.raises(ConfigurationError, match=r"mine at code version 22, and the run at 1 .*; start the workers"):
        cloudpickle.loads(pickled)


def test_a_program_without_a_guard_is_not_run_again_by_its_workers(plate: list[PartitionWork], tmp_path: Path) -> None:
    script = f"""
        import pathlib, sys
        log = pathlib.Path({str(tmp_path / "log")!r})
        log.open("a").write("x")
        from astra_dagster.execution import runner
        from astra_dagster.execution.workers import Workers
        from astra_dagster_tests.execution.work import work_on
        import cloudpickle
        from astra_dagster import product, spectrum_task
        from astra_dagster.outputs.store import OutputStore

        @spectrum_task(requires=product("apVisit"), version="1")
        def mine(spectra, parameters):
            return {{"n": (~spectra.bad).sum(axis=1)}}

        work = cloudpickle.loads({cloudpickle.dumps(plate)!r})
        store = OutputStore(pathlib.Path({str(tmp_path / "out")!r}), mine, mine.values())
        done = [o for some in runner.run([(store, work)], Workers("processes", 2)) for o in some]
        assert len(done) == {FILES} and all(o.written for o in done), done[0].error
    """
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(script))
    subprocess.run([sys.executable, str(path)], check=True, env={**os.environ, "PYTHONPATH": str(Path.cwd())})
    assert (tmp_path / "log").read_text() == "x"
