"""Outputs, and tables of them, for the tests of checks."""

from collections.abc import Callable
from pathlib import Path

from astra_dagster import product
from astra_dagster.checks.check import Finding, Verdict
from astra_dagster.checks.sample import OutputSample
from astra_dagster.execution import runner
from astra_dagster.outputs.record import record_of
from astra_dagster.outputs.store import InputFiles, OutputStore, PartitionWork
from astra_dagster.tasks.task import Task
from astra_dagster_tests.archive.found import find_files

VISIT = "DR17/apo25m/120+12/5226/56000/002"
OTHER = "DR17/apo25m/120+12/5226/56000/003"
STAR = "DR17/apo25m/120+12/-/2M00012723+6258059"


def newest(
    task: Task,
    root: Path,
    outputs: Path,
    *releases: str,
    sample: int = 50,
    spoil: Callable = lambda store: None,
    **values: object,
) -> OutputSample:
    """Run a task on all files of some releases, do something to its outputs, and read what the checks look at."""
    store = OutputStore(outputs, task, task.values(values))
    name = task.domain.name
    files = [file for release in releases or ("DR17",) for file in find_files(product(name), release, root)[0]]
    work = [
        PartitionWork(file.data_id, (InputFiles(name, file.data_id.relative_path, file.version, (file.location,)),))
        for file in files
    ]
    done = [outcome for chunk in runner.run([(store, work)]) for outcome in chunk]
    assert all(outcome.written for outcome in done), done
    records = {o.work.data_id.key: record_of(store, o.work, o.written) for o in done}
    spoil(store)
    return OutputSample.read(store, records, root, sample)


def named(verdict: Verdict) -> list[str]:
    """Keys that a verdict names."""
    return list(dict.fromkeys(finding.key for finding in verdict.findings))


def only(verdict: Verdict) -> Finding:
    """The finding of a verdict that has just one."""
    (found,) = verdict.findings
    return found


def visit_path(root: Path, key: str = VISIT) -> Path:
    return product("apVisit").parse_key(key).path(root)
