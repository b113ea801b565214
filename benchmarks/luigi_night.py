"""The same tasks on Luigi, with its local scheduler: ``python benchmarks/luigi_night.py``, a contender of the others.

A task a file, as Luigi means it: it requires its input file, and it is done when its output is there. Or, with
``--batch``, one task an analysis over all files, which computes as many together as our runs do. Outputs are written
through Luigi's own targets, whole or not at all but not flushed to the disk; with ``--flushed`` as we write them.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO
from unittest import mock

import luigi
import night
import plain

from astra_dagster.datamodel.products import DataID, product
from astra_dagster.execution.runner import CHUNK
from astra_dagster.outputs.store import OutputStore

SAS = Path()
STORES: dict[str, OutputStore] = {}


class VisitFile(luigi.ExternalTask):
    """One apVisit file, which somebody else makes."""

    key = luigi.Parameter()

    def output(self) -> luigi.LocalTarget:
        """The file."""
        return luigi.LocalTarget(str(_data_id(self.key).path(SAS)))


class Analysis(luigi.Task):
    """One task over one file."""

    name = luigi.Parameter()
    key = luigi.Parameter()

    def requires(self) -> VisitFile:
        """Its file."""
        return VisitFile(key=self.key)

    def output(self) -> luigi.LocalTarget:
        """Its output, where our own lies."""
        return luigi.LocalTarget(str(STORES[self.name].path(_data_id(self.key))))

    def run(self) -> None:
        """Read, compute, write."""
        plain.do([STORES[self.name]], [_data_id(self.key)], SAS)


class Batch(luigi.Task):
    """One task over all files."""

    name = luigi.Parameter()
    files = luigi.IntParameter()

    def output(self) -> list[luigi.LocalTarget]:
        """Output of every file."""
        store = STORES[self.name]
        return [luigi.LocalTarget(str(store.path(data_id))) for data_id in night.data_ids(self.files)]

    def run(self) -> None:
        """Read, compute, write, some files at a time."""
        todo = night.data_ids(self.files)
        for i in range(0, len(todo), CHUNK):
            plain.do([STORES[self.name]], todo[i : i + CHUNK], SAS)


class Night(luigi.WrapperTask):
    """Everything: done when all of it is, which Luigi finds out without scheduling any of it."""

    names = luigi.ListParameter()
    files = luigi.IntParameter()
    batch = luigi.BoolParameter()

    def requires(self) -> Iterator[luigi.Task]:
        """All of it."""
        return everything(self.names, self.files, self.batch)


def everything(names: Sequence[str], files: int, batch: bool) -> Iterator[luigi.Task]:
    """A task a file and analysis, or a task an analysis."""
    for name in names:
        if batch:
            yield Batch(name=name, files=files)
        else:
            yield from (Analysis(name=name, key=data_id.key) for data_id in night.data_ids(files))


def main() -> None:
    """Have Luigi do the whole night."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", action="store_true")
    parser.add_argument(
        "--each", action="store_true", help="give Luigi the tasks one by one, without one that wraps them"
    )
    parser.add_argument("--flushed", action="store_true")
    arguments = plain.arguments_of(parser)
    global SAS
    SAS = arguments.sas
    STORES.update((store.task.name, store) for store in plain.stores_of(arguments.outputs, arguments.tasks))
    given = (arguments.tasks, arguments.files, arguments.batch)
    wanted = list(everything(*given)) if arguments.each else [Night(*given)]
    written = (
        nullcontext() if arguments.flushed else mock.patch("astra_dagster.outputs.store.replacing", _through_target)
    )
    with written:
        done = luigi.build(wanted, local_scheduler=True, workers=arguments.workers, log_level="WARNING")
    if not done:
        sys.exit("Luigi failed")


def _data_id(key: str) -> DataID:
    data_id: DataID = product("apVisit").parse_key(key)
    return data_id


@contextmanager
def _through_target(path: Path, _key: str | None = None) -> Iterator[BinaryIO]:
    """Luigi's way to write a file: to another, which then takes its place."""
    with luigi.LocalTarget(str(path), format=luigi.format.Nop).open("w") as stream:
        yield stream


if __name__ == "__main__":
    main()
