"""What every contender does to a file, with the functions of this package and nothing around them.

It is also a contender: ``python benchmarks/plain.py`` does it in a loop on a process pool and records nothing. This is
the floor of the other benchmarks, for less than read, compute and write cannot be done.
"""

import argparse
import functools
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import night
from threadpoolctl import threadpool_limits

from astra_dagster.archive.discovery import file_version
from astra_dagster.datamodel.products import DataID
from astra_dagster.execution.runner import CHUNK
from astra_dagster.outputs.store import InputFiles, OutputStore, PartitionWork
from astra_dagster.spectra.batch import stack
from astra_dagster.spectra.readers import reader
from astra_dagster.tasks.calling import call_task
from astra_dagster.tasks.continuum import ap_visit_continuum
from astra_dagster.tasks.snr import ap_visit_snr
from astra_dagster.tasks.task import Task

TASKS: dict[str, Task] = {task.name: task for task in (ap_visit_snr, ap_visit_continuum)}


def stores_of(outputs: Path, names: Sequence[str]) -> list[OutputStore]:
    """Output stores of tasks, their folders made."""
    stores = [OutputStore(outputs, TASKS[name], TASKS[name].values()) for name in names]
    for store in stores:
        store.prepare()
    return stores


def work_of(data_id: DataID, sas: Path) -> PartitionWork:
    """One partition, as a run would give it to a worker."""
    path = data_id.path(sas)
    status = path.stat()
    version = file_version(status.st_size, status.st_mtime_ns)
    return PartitionWork(data_id, (InputFiles(data_id.product.name, data_id.relative_path, version, (str(path),)),))


def do(stores: Sequence[OutputStore], data_ids: Sequence[DataID], sas: Path) -> int:
    """Read some files, each once; compute and write the outputs of each task; return how many files these were."""
    works = [work_of(data_id, sas) for data_id in data_ids]
    wavelength = any(store.task.wavelength for store in stores)
    bitmask = any(store.task.bitmask for store in stores)
    read = functools.partial(reader("apVisit").function, wavelength=wavelength, bitmask=bitmask)
    with threadpool_limits(1):
        spectra = stack([read(work.path) for work in works])
        for store in stores:
            columns, made = call_task(store.task, [spectra], store.parameters)
            for i, work in enumerate(works):
                results = {name: values[i] for name, values in columns.items()}
                store.write(work, results, None if made is None else made[i : i + 1])
    return len(works)


def arguments_of(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options that contenders share."""
    parser.add_argument("tasks", nargs="+", choices=list(TASKS))
    parser.add_argument("--sas", type=Path, required=True)
    parser.add_argument("--outputs", type=Path, required=True)
    parser.add_argument("--files", type=int, required=True)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    return parser.parse_args()


def main() -> None:
    """Do the whole night."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--not-flushed", action="store_true", help="do not wait for the disk")
    arguments = arguments_of(parser)
    if arguments.not_flushed:
        os.fsync = lambda descriptor: None
    todo = night.data_ids(arguments.files)
    stores = stores_of(arguments.outputs, arguments.tasks)
    size = min(CHUNK, max(1, -(-len(todo) // (4 * arguments.workers))))
    chunks = [todo[i : i + size] for i in range(0, len(todo), size)]
    one = functools.partial(do, stores, sas=arguments.sas)
    with ProcessPoolExecutor(arguments.workers, multiprocessing.get_context("fork")) as pool:
        done = sum(pool.map(one, chunks))
    print(f"{done} files")


if __name__ == "__main__":
    main()
