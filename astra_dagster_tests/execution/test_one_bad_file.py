"""Whatever happens while one file is worked on is its own failure: the others are done, and what and where is said."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from astra_dagster import product
from astra_dagster.demo import write_ap_star, write_ap_visit
from astra_dagster.errors import Fault, OutOfMemoryError, SpectrumFileError, TaskError
from astra_dagster.execution import runner
from astra_dagster.execution.runner import Outcome
from astra_dagster.execution.workers import Workers
from astra_dagster.fits.reader import LARGEST
from astra_dagster.outputs.store import Failure, InputFiles, OutputStore, PartitionWork
from astra_dagster.spectra import readers
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.tasks.columns import Column
from astra_dagster.tasks.snr import SNRParameters, ap_visit_snr
from astra_dagster.tasks.task import Task
from astra_dagster_tests.execution.spoilt import bomb, fifo, sparse

VISITS = product("apVisit")


class Speechless(Exception):
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise AttributeError("message")


def visits(root: Path, count: int) -> list[PartitionWork]:
    """So many undithered visits, on fibres from 1."""
    works = []
    for fibre in range(1, count + 1):
        values = {"telescope": "apo25m", "field": "120+12", "plate": 5226, "mjd": 56000, "fibre": fibre}
        data_id = VISITS.data_id("DR17", **values)
        works.append(work_of(data_id, write_ap_visit(data_id, root, dithered=False)))
    return works


def work_of(data_id: Any, path: Path) -> PartitionWork:
    return PartitionWork(data_id, (InputFiles("apVisit", data_id.relative_path, "1", (str(path),)),))


def run(store: OutputStore, works: list[PartitionWork], workers: Workers = runner.IN_PROCESS) -> dict[str, Outcome]:
    return {o.work.data_id.key[-3:]: o for chunk in runner.run([(store, works)], workers) for o in chunk}


def picky(spectra: SpectrumBatch, _: SNRParameters) -> dict[str, Any]:
    """A function that does not like certain fibres."""
    fibres = set(spectra.meta["fibre"])
    if 11 in fibres:
        return picky(spectra, _)
    if 12 in fibres:
        raise Speechless
    if 13 in fibres:
        raise MemoryError
    if 14 in fibres:
        raise ValueError("a line\nand another, " + "very " * 1000 + "long")
    return {"n": np.array([np.inf if fibre == 15 else fibre for fibre in spectra.meta["fibre"]])}


FILES: dict[int, tuple[Callable[[Path], Path], str]] = {
    2: (sparse, "HDU 1 has 805306368 bytes, where at most 268435456 are expected"),
    4: (fifo, "a FIFO, not a file"),
    5: (bomb(".gz"), f"unpacks to more than {LARGEST} bytes, which no such file has"),
    6: (bomb(".bz2"), f"unpacks to more than {LARGEST} bytes, which no such file has"),
}


def test_twenty_files_of_which_half_are_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    works = visits(tmp_path / "sas", 20)
    for fibre, (spoil, _) in FILES.items():
        works[fibre - 1] = work_of(works[fibre - 1].data_id, spoil(works[fibre - 1].path))
    raised = {8: MemoryError(), 9: np.linalg.LinAlgError("SVD did not converge"), 10: Speechless()}
    read = readers.READERS["apVisit"].function

    def reading(path: Path, **options: Any) -> SpectrumBatch:
        error = raised.get(int(path.stem[-3:])) if path.suffix == ".fits" else None
        if error is not None:
            raise error
        return read(path, **options)

    monkeypatch.setattr(runner, "read_spectra", lambda path, _, **options: reading(path, **options))
    task = replace(ap_visit_snr, name="picky", function=picky, columns={"n": Column(finite=True)})
    store = OutputStore(tmp_path / "out", task, SNRParameters())
    outcomes = run(store, works)
    reasons = {
        **{fibre: (SpectrumFileError, Fault.FILE, match) for fibre, (_, match) in FILES.items()},
        8: (OutOfMemoryError, Fault.MACHINE, "there is not enough memory for it"),
        9: (SpectrumFileError, Fault.FILE, "cannot be read: LinAlgError: SVD did not converge"),
        10: (SpectrumFileError, Fault.FILE, "cannot be read: Speechless"),
        11: (TaskError, Fault.TASK, "picky failed: RecursionError: maximum recursion depth exceeded"),
        12: (TaskError, Fault.TASK, "picky failed: Speechless"),
        13: (OutOfMemoryError, Fault.MACHINE, "there is not enough memory for it"),
        14: (TaskError, Fault.TASK, "picky failed: ValueError: a line and another, very very"),
        15: (TaskError, Fault.TASK, "column n is not finite"),
    }
    assert {int(fibre) for fibre, outcome in outcomes.items() if outcome.error} == set(reasons)
    for fibre, (kind, fault, match) in reasons.items():
        work, error = works[fibre - 1], outcomes[f"{fibre:03}"].error
        assert type(error) is kind
        assert error.fault == fault
        assert (error.key, error.path) == (work.data_id.key, str(work.path))
        with pytest.raises(kind, match=match):
            raise error
        assert len(str(error)) < 1000
        assert store.failure(work) == Failure(error.without_key(), error.fault)
    for work in (works[0], works[19]):
        assert json.loads(store.path(work.data_id).read_text())["results"] == {"n": int(work.data_id.key[-3:])}
    # The others are not marked, whether or not they were done together with the bad ones.
    assert sum(store.failure(work) is not None for work in works) == len(reasons)


def unwritable(spectra: SpectrumBatch, _: SNRParameters) -> SpectrumBatch:
    """Spectra of which one says something that cannot be written."""
    about = tuple(object() if fibre == 2 else fibre for fibre in spectra.meta["fibre"])
    return replace(spectra, meta={"fibre": about}, error=None)


def test_what_cannot_be_written_costs_itself(tmp_path: Path) -> None:
    task = Task("unwritable", (VISITS,), SNRParameters, "1", unwritable, output="fits")
    outcomes = run(OutputStore(tmp_path / "out", task, SNRParameters()), visits(tmp_path / "sas", 3))
    assert [fibre for fibre, outcome in outcomes.items() if outcome.error] == ["002"]
    assert type(outcomes["002"].error) is TaskError
    assert "what unwritable made cannot be written: TypeError" in str(outcomes["002"].error)


class Lost(Mapping[str, Any]):
    """Columns that cannot be had."""

    def __getitem__(self, name: str) -> Any:
        raise RuntimeError("lost")

    def __iter__(self) -> Iterator[str]:
        return iter("n")

    def __len__(self) -> int:
        return 1


def odd(spectra: SpectrumBatch, _: SNRParameters) -> Any:
    """Something odd for the second."""
    return Lost() if 2 in spectra.meta["fibre"] else {"n": np.ones(len(spectra))}


def test_what_a_function_returns_may_raise_as_well(tmp_path: Path) -> None:
    task = replace(ap_visit_snr, name="odd", function=odd, columns={"n": Column()})
    outcomes = run(OutputStore(tmp_path / "out", task, SNRParameters()), visits(tmp_path / "sas", 3))
    assert [fibre for fibre, outcome in outcomes.items() if outcome.error] == ["002"]
    assert "odd failed: RuntimeError: lost" in str(outcomes["002"].error)


def test_interrupts_are_no_failures(tmp_path: Path) -> None:
    works = visits(tmp_path / "sas", 2)
    for stop in (KeyboardInterrupt, SystemExit):

        def stopped(*_: Any, stop: type[BaseException] = stop) -> None:
            raise stop

        store = OutputStore(tmp_path / "out", replace(ap_visit_snr, function=stopped), SNRParameters())
        with pytest.raises(stop):
            run(store, works)
        assert not any(map(store.failure, works))


def test_in_processes_as_well(tmp_path: Path) -> None:
    works = visits(tmp_path / "sas", 8)
    for fibre in (2, 4):
        works[fibre - 1] = work_of(works[fibre - 1].data_id, FILES[fibre][0](works[fibre - 1].path))
    store = OutputStore(tmp_path / "out", ap_visit_snr, SNRParameters())
    outcomes = run(store, works, Workers("processes", 1))
    assert {fibre: type(outcome.error) for fibre, outcome in outcomes.items() if outcome.error} == {
        "002": SpectrumFileError,
        "004": SpectrumFileError,
    }


def test_memory_that_does_for_each_but_not_for_all(tmp_path: Path) -> None:
    """In a process that may have little more than it has: one by one all are done but the largest."""
    for i, count in enumerate([30, 30, 30, 30, 300]):
        data_id = product("apStar").data_id("DR17", telescope="apo25m", field="120+12", obj=f"2M0000000{i}+0000000")
        write_ap_star(data_id, tmp_path / "sas", count)
    script = f"""
import resource
from dataclasses import replace
from pathlib import Path
import numpy as np
from astra_dagster import product
from astra_dagster_tests.archive.found import find_files
from astra_dagster.execution import runner
from astra_dagster.tasks.columns import Column
from astra_dagster.tasks.snr import ap_star_snr
from astra_dagster.outputs.store import InputFiles, OutputStore, PartitionWork
files, most = find_files(product("apStar"), "DR17", Path({str(tmp_path / "sas")!r}))[0], []
chunk = [(0, PartitionWork(file.data_id, (InputFiles("apStar", "x", "1", (file.location,)),))) for file in files]
def middle(spectra, parameters):
    wide = np.tile(spectra.flux, (1, 8))
    most.append(len(spectra))
    return {{"n": wide.sum(axis=1)}}
task = replace(ap_star_snr, name="middle", function=middle, columns={{"n": Column()}})
store = OutputStore(Path({str(tmp_path / "out")!r}), task, task.parameters())
runner._run_chunk([store], chunk[:1])  # what is imported on the way is there
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 70_000_000,) * 2)
print([type(result).__name__ for result in runner._run_chunk([store], chunk)], max(most))
"""
    at_once = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # what is free is given back to the system
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=at_once)
    assert done.stdout == str(["StoredOutput"] * 4 + ["OutOfMemoryError"]) + " 32\n", done.stderr
