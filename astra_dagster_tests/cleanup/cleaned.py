"""An outputs folder to clean, and what is known of it."""

import os
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from astra_dagster.cleanup import cleaning
from astra_dagster.cleanup.cleaning import Found, Selection
from astra_dagster.cleanup.known_tasks import Family
from astra_dagster.cleanup.removal import Removal, remove
from astra_dagster.outputs.record import record_of
from astra_dagster.outputs.store import OutputStore, PartitionWork
from astra_dagster.planning.status import Status
from astra_dagster.tasks.snr import SNRParameters, ap_visit_snr
from astra_dagster.tasks.task import Task
from astra_dagster_tests.execution.work import run, work_on

NAME = "ap_visit_snr"
TODAY = ap_visit_snr.digest(ap_visit_snr.values())
DAY = 86400


class Older(SNRParameters):
    """What today's parameters were like once."""

    smoothing: int = 3


@dataclass
class Place:
    """An outputs folder where one task is done on twelve visits, and what is known of it."""

    root: Path
    store: OutputStore
    work: list[PartitionWork]
    family: Family
    held: dict[str, str] = field(default_factory=dict)

    @property
    def keys(self) -> list[str]:
        return [work.data_id.key for work in self.work]

    def path(self, i: int) -> Path:
        return self.store.path(self.work[i].data_id)

    def put(self, i: int, status: Status) -> None:
        statuses = {**self.family.statuses[self.store.digest], self.keys[i]: status}
        self.family = replace(self.family, statuses={self.store.digest: statuses})

    def unwanted(self, i: int) -> None:
        """Lose the record of a partition, and have it made anew by the next run."""
        self.forget(i)
        self.put(i, Status.TO_DO)

    def forget(self, i: int) -> None:
        """Lose the record of a partition."""
        records = {key: record for key, record in self.family.records[NAME].items() if key != self.keys[i]}
        self.family = replace(self.family, records={NAME: records})

    def find(self, **selection: object) -> Found:
        """What there is to clean, by a look that was begun after all that was written here."""
        began = time.time_ns() + 10**9
        return cleaning.find(self.root, {NAME: self.family}, Selection(**selection), began=began, held=self.held)

    def kinds(self, **selection: object) -> dict[str, int]:
        """Number of candidates by kind; in brackets those that stay."""
        found = self.find(**selection)
        assert found.problems == []
        return dict(Counter(f"({c.kind})" if c.kept else c.kind for c in found.candidates))

    def clean(self, **selection: object) -> Removal:
        return remove(self.root, self.find(**selection).candidates)

    def other(self, task: Task = ap_visit_snr, **values: object) -> OutputStore:
        """Two outputs of other parameters, or of another task."""
        store = OutputStore(self.root, task, task.values(values))
        assert all(outcome.written for outcome in run(store, self.work[:2]))
        return store


def make_place(synthetic: Path, tmp_path: Path) -> Place:
    """A copy of what is made once."""
    done = synthetic.with_name(f"{synthetic.name}-done")
    work = work_on(synthetic)
    if not done.exists():
        assert all(outcome.written for outcome in run(OutputStore(done, ap_visit_snr, ap_visit_snr.values()), work))
    root = Path(shutil.copytree(done, tmp_path / "outputs"))
    store = OutputStore(root, ap_visit_snr, ap_visit_snr.values())
    records = {}
    for item in work:
        written = store.find(item)
        assert written is not None
        records[item.data_id.key] = record_of(store, item, written)
    statuses = {store.digest: dict.fromkeys(records, Status.COMPLETE)}
    return Place(root, store, work, Family([ap_visit_snr], frozenset(records), {NAME: records}, statuses))


def tree(root: Path) -> dict[str, bytes | str | None]:
    """Everything below a folder: contents of files, targets of links, None for folders."""
    found: dict[str, bytes | str | None] = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = str(path.readlink())
        else:
            found[name] = path.read_bytes() if path.is_file() else None
    return found


def age(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)
