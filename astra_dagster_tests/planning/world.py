"""A mirror, outputs and records where anything may happen, and runs that compute nothing: for plans without Dagster."""

import os
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from astra_dagster import Parameters, grouped, product, spectrum_task
from astra_dagster.archive.discovery import file_version
from astra_dagster.datamodel.products import DataID
from astra_dagster.errors import SpectrumFileError
from astra_dagster.outputs.record import record_of
from astra_dagster.outputs.store import OutputStore, PartitionWork, StoredOutput
from astra_dagster.planning.ledger import SourceRecord
from astra_dagster.planning.plan import Plan
from astra_dagster.planning.planner import Planner
from astra_dagster.planning.status import Status
from astra_dagster.tasks.task import Task
from astra_dagster_tests.planning.ledger import MemoryLedger

VISITS = product("apVisit")
BROKEN = SpectrumFileError("it is broken")


def key_of(number: int) -> str:
    """Key of a visit; all are in one folder."""
    return f"DR17/apo25m/120+12/5226/56000/{number + 1:03d}"


class OrderParameters(Parameters):
    """Parameters of both tasks."""

    order: int = 1


@spectrum_task(requires=VISITS, version="1", parameters=OrderParameters)
def level(spectra: object, parameters: OrderParameters) -> dict[str, float]:
    """Made from a file."""
    raise NotImplementedError


@spectrum_task(requires=level, version="1")
def slope(level: object, parameters: Parameters) -> dict[str, float]:
    """Made from what `level` made."""
    raise NotImplementedError


@spectrum_task(requires=grouped(level, by="field"), version="1")
def mean(levels: object, parameters: Parameters) -> dict[str, float]:
    """Made from all of a field."""
    raise NotImplementedError


@dataclass
class World:
    """What there is; the file of the first visit is always there.

    Attributes
    ----------
    order, version
        Parameter and code version of `level`.
    """

    folder: Path
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    order: int = 1
    version: str = "1"

    def __post_init__(self) -> None:
        self.put(0, 1)

    @property
    def sas(self) -> Path:
        """Top of the mirror."""
        return self.folder / "sas"

    @property
    def tasks(self) -> tuple[Task, Task, Task]:
        """The tasks of today: one over files, one over what it makes, one over fields of that."""
        first = replace(level, defaults={"order": self.order}, version=self.version)
        (one,), (many,) = slope.requires, mean.requires
        return (
            first,
            replace(slope, requires=(replace(one, task=first),)),
            replace(mean, requires=(replace(many, task=first),)),
        )

    def store(self, task: Task) -> OutputStore:
        """Outputs of a task of today."""
        return OutputStore(self.folder / "outputs", task, task.values())

    def file(self, number: int) -> Path:
        """Where the file of a visit is, if it is there."""
        return VISITS.parse_key(key_of(number)).path(self.sas)

    def put(self, number: int, date: int) -> None:
        """Have a file of some date there."""
        path = self.file(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"a file")
        os.utime(path, ns=(date, date))

    def register(self, *numbers: int) -> None:
        """Register visits, and the fields that they are in."""
        keys = [key_of(number) for number in numbers]
        self.ledger.register(VISITS, keys)
        self.ledger.register(self.tasks[2].domain, [self.tasks[2].domain.key_of(key) for key in keys])

    def planner(self, *, verify: bool = False) -> Planner:
        """A planner that has seen nothing."""
        return Planner(self.ledger, self.folder / "outputs", self.sas, verify=verify)

    def plan(
        self, task: Task, *, overwrite: bool = False, planner: Planner | None = None, verify: bool = False
    ) -> Plan:
        """Plan a task over all that is registered."""
        keys = self.ledger.keys.get(task.domain.asset_name, [])
        return (planner or self.planner(verify=verify)).plan(self.store(task), keys, overwrite)

    def run(self, task: Task, broken: Collection[str] = (), *, overwrite: bool = False) -> list[str]:
        """Do what is to do, and record it; returns the keys of what was computed, also of what failed."""
        plan = self.plan(task, overwrite=overwrite)
        for found in plan.inputs.get(VISITS, {}).values():
            if found.file is not None and found.version is not None:
                state = file_version(found.file.size, found.file.mtime_ns)
                seen = self.ledger.files.setdefault(VISITS.asset_name, {})
                seen[found.data_id.key] = SourceRecord(found.version, state)
        plan.store.prepare()
        for work, written in plan.to_record:
            self._record(plan.store, work, written)
        for work in plan.work(Status.TO_DO):
            if isinstance(work.data_id, DataID) and work.data_id.key in broken:
                plan.store.note_failure(work, BROKEN)
            else:
                plan.store.forget_failure(work.data_id)
                self._record(plan.store, work, plan.store.write(work, {"value": work.input_version}))
        return [work.data_id.key for work in plan.work(Status.TO_DO)]

    def _record(self, store: OutputStore, work: PartitionWork, written: StoredOutput) -> None:
        self.ledger.records.setdefault(store.task.name, {})[work.data_id.key] = record_of(store, work, written)
