"""A disk that takes no more: the work ends at once, what is done stands, and no file is blamed."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from astra_dagster.errors import DiskFullError, Fault, OutputError, make_write_error
from astra_dagster.execution import runner
from astra_dagster.execution.runner import IN_PROCESS, Outcome
from astra_dagster.execution.workers import Workers
from astra_dagster.outputs.atomic import replacing
from astra_dagster.outputs.store import OutputStore, PartitionWork
from astra_dagster_tests.disks import small_disk
from astra_dagster_tests.execution.cluster import DASK
from astra_dagster_tests.execution.work import make_store, work_on


def full_after(number: int, code: int) -> Callable[[int], None]:
    """What takes the place of `os.fsync` on a disk with room for so many files, not for the next, then for more."""
    done = []

    def fsync(_: int) -> None:
        done.append(1)
        if len(done) == number + 1:
            raise OSError(code, os.strerror(code))

    return fsync


def run_into(
    outcomes: list[Outcome], store: OutputStore, work: list[PartitionWork], workers: Workers = IN_PROCESS
) -> None:
    for chunk in runner.run([(store, work)], workers):
        outcomes += chunk


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_the_first_output_without_room_ends_it(
    code: int, synthetic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, work = make_store(tmp_path), work_on(synthetic)
    fsync = full_after(4, code)  # parameters.json and three outputs
    monkeypatch.setattr("os.fsync", fsync)
    outcomes: list[Outcome] = []
    with pytest.raises(DiskFullError, match=r"cannot be written: the disk at .* takes no more: .* MB free") as error:
        run_into(outcomes, store, work)
    assert error.value.fault is Fault.MACHINE
    assert error.value.key is None
    assert [outcome.written is not None for outcome in outcomes] == [True] * 3
    there = {path.name for path in store.root.rglob("*") if path.is_file()}
    assert there == {"parameters.json", *(store.path(one.work.data_id).name for one in outcomes)}
    assert all(store.failure(item) is None for item in work)
    monkeypatch.undo()
    assert sum(len(chunk) for chunk in runner.run([(store, work)])) == 12


def test_nothing_is_begun_once_the_disk_is_full(
    synthetic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    real = runner.OutputStore.write
    monkeypatch.setattr(runner.OutputStore, "write", lambda *given: written.append(1) or real(*given))
    monkeypatch.setattr("os.fsync", full_after(1, errno.ENOSPC))
    with pytest.raises(DiskFullError):
        list(runner.run([(make_store(tmp_path), work_on(synthetic))]))
    assert len(written) == 2  # a chunk, of twelve in six


@pytest.mark.parametrize("kind", ["in-process", "processes:2", pytest.param("dask:2", marks=DASK)])
def test_a_real_disk_that_fills_up(kind: str, synthetic: Path, tmp_path: Path) -> None:
    work = work_on(synthetic)
    with small_disk(tmp_path / "disk", "1m") as disk:
        store = make_store(disk.folder)
        store.prepare()
        disk.fill(leave=5 * 4096)
        outcomes: list[Outcome] = []
        with pytest.raises(DiskFullError, match=f"the disk at {disk.folder} takes no more: No space left on device"):
            run_into(outcomes, store, work, Workers.parse(kind))
        there = [path for path in store.root.rglob("*") if path.is_file() and path.name != "parameters.json"]
        assert {path.name for path in there} == {store.path(one.work.data_id).name for one in outcomes}
        assert len(there) <= 5
        disk.empty()
        assert sum(len(chunk) for chunk in runner.run([(store, work)])) == 12


def test_other_reasons_are_of_one_output(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(OutputError, match="the output cannot be written: ") as error,
        replacing(tmp_path / "file" / "a"),
    ):
        pass
    assert not isinstance(error.value, DiskFullError)
    told = str(make_write_error(OSError(errno.ENOSPC, "no room"), "the page", tmp_path / "none" / "a", hint="move it"))
    assert told.startswith("the page cannot be written: the disk at /")
    assert told.endswith(f"(file {tmp_path}/none/a); move it")
