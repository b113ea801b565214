"""The job `clean`: what is no longer needed below the outputs folder, by what Dagster and a plan know of it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
from pydantic import Field

from astra_dagster import settings
from astra_dagster.cleanup import cleaning
from astra_dagster.cleanup.cleaning import KINDS, Found, Selection
from astra_dagster.cleanup.known_tasks import Family
from astra_dagster.cleanup.removal import Removal, remove
from astra_dagster.datamodel.releases import release
from astra_dagster.errors import (
    AstraError,
    ConfigurationError,
    InvalidKeyError,
    UnknownProductError,
    nearest,
    printable,
)
from astra_dagster.orchestration import records
from astra_dagster.orchestration.causes import PlainFailure, plain_failures
from astra_dagster.orchestration.internals import NOT_FINISHED_STATUSES
from astra_dagster.orchestration.partitions import registered
from astra_dagster.orchestration.records import table_name
from astra_dagster.orchestration.runs.jobs import update_job_name
from astra_dagster.orchestration.sources import make_planner
from astra_dagster.outputs.own_files import file_system_time
from astra_dagster.outputs.store import OutputStore
from astra_dagster.planning.status import ReasonKind, Status
from astra_dagster.presence import is_folder
from astra_dagster.tasks import registry
from astra_dagster.tasks.task import Task

LISTED = 100
"""Files left or not removed that the log spells out."""

WRITES_NO_OUTPUT = ("discover", "register", "clean", "check")
"""Jobs that write nothing below the outputs folder."""

_BEST = (Status.NO_INPUT, Status.UNREACHABLE, Status.TO_DO, Status.TO_RECORD, Status.COMPLETE)
"""What is said of an output that several tasks share: the last of these that one of their plans says."""


class CleanConfig(dg.Config):
    """What to look at, and whether to remove it."""

    tasks: list[str] = Field(default=[], description="Only these tasks; one that is not registered goes only so.")
    digests: list[str] = Field(
        default=[], description="Only these parameters digests; those in the latest records go only so."
    )
    older_days: float | None = Field(default=None, description="Only files not modified for so many days.")
    kinds: list[str] = Field(default=[], description="Only these kinds: " + ", ".join(KINDS))
    other_parameters: bool = Field(
        default=False, description="Remove outputs of other parameters too, unless the latest records carry them."
    )
    releases: list[str] = Field(default=[], description="Only files of partitions of these releases.")
    where: dict[str, Any] = Field(
        default={}, description='Only files of partitions with these parts of the key: {"mjd": "56000..56100"}.'
    )
    verify: bool = Field(default=False, description="Read all outputs; those that differ from their records go too.")
    remove: bool = Field(default=False, description="Remove what is listed; else it is only listed.")

    def selection(self, root: Path) -> Selection:
        """What is selected, after a look whether it exists.

        Raises
        ------
        AstraError
            If there is no such kind or task.
        """
        families = {task.family for task in registry.tasks().values()}
        for kind in self.kinds:
            if kind not in KINDS:
                raise AstraError(f"no kind {kind[:80]!r}", hint=nearest(kind, KINDS))
        for digest in self.digests:
            if not re.fullmatch("[0-9a-f]{12}", digest):
                raise AstraError(f"no parameters digest {digest[:80]!r}", hint="expected 12 hexadecimal digits")
        for name in self.tasks:
            if name not in families and not (name.isidentifier() and is_folder(root / name)):
                registry.find_task(name)
        if self.older_days is not None and not self.older_days >= 0:
            raise AstraError(f"older_days cannot be {self.older_days}", hint="expected 0 days or more")
        return Selection(
            self.tasks,
            self.digests,
            self.kinds,
            self.older_days,
            self.other_parameters,
            tuple(release(name).name for name in self.releases),
            self.where,
        )


def survey(instance: dg.DagsterInstance, root: Path, selection: Selection, *, verify: bool = False) -> Found:
    """Find what there is to clean below the outputs folder; change nothing.

    Parameters
    ----------
    verify
        Whether outputs are read and compared with their records, not only their sizes.

    Raises
    ------
    AstraError
        If a plan cannot be made, or tasks are left out because they are broken: their outputs are needed.
    """
    for error in registry.broken().values():
        raise ConfigurationError(f"clean needs all tasks: {error.message}", path=error.path, hint=error.hint)
    began = file_system_time(root)
    held = holding(instance)
    found: dict[str, list[Task]] = {}
    for task in registry.tasks().values():
        found.setdefault(task.family, []).append(task)
    families = {name: Family(tasks) for name, tasks in found.items()}
    for name, tasks in found.items():
        names = {name, *(task.name for task in tasks)}
        if not selection.tasks or not names.isdisjoint(selection.tasks):
            families[name] = _family(instance, root, tasks, selection, verify)
    if selection.releases or selection.where:
        families = _choose(families, selection)
    return cleaning.find(root, families, selection, began=began, held=held)


def _choose(families: Mapping[str, Family], selection: Selection) -> dict[str, Family]:
    """Choose keys of families by release and by parts; those whose keys have no such parts have none.

    Raises
    ------
    InvalidKeyError
        If none of the families has keys that could be chosen so.
    """
    chosen: dict[str, frozenset[str]] = {}
    refusal: InvalidKeyError | None = None
    for name, family in families.items():
        try:
            keys = family.tasks[0].domain.select([*set(family.places.values())], selection.releases, selection.where)
            chosen[name] = frozenset(keys)
        except UnknownProductError:  # the release lacks it
            pass
        except InvalidKeyError as error:
            refusal = error
    if refusal is not None and not any(chosen.values()):
        raise refusal
    return {name: replace(family, chosen=chosen.get(name, frozenset())) for name, family in families.items()}


def carry_out(instance: dg.DagsterInstance, root: Path, found: Found, own_run: str = "") -> Removal:
    """Remove what is not to be kept; where another run may be about to write, folders that are then empty stay."""
    held = holding(instance)  # runs may have come since the survey
    kept = [replace(item, kept=item.kept or held.get("") or held.get(item.family, "")) for item in found.candidates]
    under_way = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED])
    others = [run for run in instance.get_runs(under_way, limit=2) if run.run_id != own_run]
    removal = remove(root, kept, folders=not others)
    removal.left += [(new.path, new.kept) for old, new in zip(found.candidates, kept, strict=True) if new != old]
    return removal


def _family(
    instance: dg.DagsterInstance, root: Path, tasks: Sequence[Task], selection: Selection, verify: bool
) -> Family:
    keys = registered(instance, tasks[0].domain)
    latest = {}
    for task in tasks:
        recorded = instance.get_materialized_partitions(dg.AssetKey(task.name))
        latest[task.name] = records.task_records(instance, task, sorted(recorded))
    statuses: dict[str, dict[str, Status]] = {}
    altered: dict[str, set[str]] = {}
    planned = not selection.kinds or not cleaning.NEED_PLAN.isdisjoint(selection.kinds)
    for task in tasks:
        store = OutputStore(root, task, task.values())
        wanted = not selection.digests or store.digest in selection.digests
        if planned and wanted and is_folder(store.folder):
            # After a change of the code version all are to be made anew, for which there is no need of a plan.
            outdated = {
                key
                for key, record in latest[task.name].items()
                if record.digest == store.digest and record.code_version != task.version
            }
            planner = make_planner(instance, store.root, settings.sas_base_dir(), verify=verify)
            (of_keys,) = planner.plan_all([(store, [key for key in keys if key not in outdated], False)])
            plan = of_keys.partitions.values()
            altered.setdefault(store.digest, set()).update(
                one.key for one in plan if one.kind is ReasonKind.OUTPUT_ALTERED
            )
            # Of partitions whose output may be one to keep, or to remove.
            made = {
                one.key: one.status
                for one in plan
                if one.status in _BEST and one.kind not in (ReasonKind.NEVER_CAME, ReasonKind.TOO_FEW)
            }
            known = statuses.setdefault(store.digest, {})
            for key, status in {**dict.fromkeys(outdated, Status.TO_DO), **made}.items():
                known[key] = max(status, known.get(key, status), key=_BEST.index)
    return Family(tasks, frozenset(keys), latest, statuses, altered)


def holding(instance: dg.DagsterInstance) -> dict[str, str]:
    """Why outputs stay for now, by family: a run that may write into it is not finished; under "" into any."""
    holds: dict[str, str] = {}
    for run in instance.get_runs(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES)):
        for family in _written_by(run):
            holds.setdefault(family, f"the run {run.run_id[:8]} of {run.job_name} is not finished")
    return holds


def _written_by(run: dg.DagsterRun) -> set[str]:
    """Families into which a run may write, "" if that is not known."""
    tasks = registry.tasks()
    if run.asset_selection:
        names = {key.to_user_string() for key in run.asset_selection}
        return {task.family for task in tasks.values() if not names.isdisjoint({task.name, table_name(task)})}
    if run.job_name in WRITES_NO_OUTPUT:
        return set()
    for task in tasks.values():
        if run.job_name == update_job_name(task):
            ops = run.run_config.get("ops", {}) if isinstance(run.run_config, dict) else {}
            also = ops.get(f"{update_job_name(task)}_partitions", {}).get("config", {}).get("also", [])
            wanted = [task, *(tasks[name] for name in also if name in tasks)]
            return {other.family for one in wanted for other in one.chain}
    return {""}


class Row(NamedTuple):
    """Candidates of one kind that share a folder and a fate."""

    kind: str
    task: str
    digest: str
    recorded: int | None
    files: int
    size: int
    stays: str


def rows(found: Found) -> list[Row]:
    """Candidates counted by kind, task, digest, and why they stay; `recorded` is how many records have the digest."""
    sizes: dict[tuple[str, str, str, str], list[int]] = {}
    for item in found.candidates:
        sizes.setdefault((item.kind, item.family, item.digest, item.kept), []).append(item.size)
    return [Row(*row[:3], found.recorded.get(row[1:3]), len(each), sum(each), row[3]) for row, each in sizes.items()]


def table(found: Found) -> list[str]:
    """The same as lines of text, with a sum below."""
    cells = [["kind", "task", "digest", "recorded", "files", "size", ""]]
    for row in rows(found):
        recorded = "?" if row.recorded is None else str(row.recorded)
        fate = f"stays: {row.stays}" if row.stays else "to remove"
        cells.append([row.kind, row.task, row.digest, recorded, str(row.files), size_text(row.size), fate])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    formats = [f"{{:{'<' if i in (0, 1, 2, 6) else '>'}{width}}}" for i, width in enumerate(widths)]
    lines = ["  ".join(f.format(cell) for f, cell in zip(formats, line, strict=True)).rstrip() for line in cells]
    go = [candidate.size for candidate in found.candidates if not candidate.kept]
    return [*lines, f"{len(go)} to remove, {size_text(sum(go))}"]


def size_text(size: float) -> str:
    """A size in bytes, for people."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"


@dg.op(description="List what is no longer needed below the outputs folder, and remove it if that is asked for.")
def clean_outputs(context: dg.OpExecutionContext, config: CleanConfig) -> None:
    """One table, logged and kept with the run."""
    root = settings.outputs_dir()
    with plain_failures():
        found = survey(context.instance, root, config.selection(root), verify=config.verify)
        context.log.info("\n".join(table(found)))
        for path, reason in found.problems[:LISTED]:
            context.log.warning(f"{printable(path)}: {reason}")
        removal = carry_out(context.instance, root, found, context.run_id) if config.remove else Removal()
    for path, reason in removal.left[:LISTED]:
        context.log.warning(f"left {printable(path)}: {reason}")
    numbers = ("recorded", "files", "size")
    schema = [dg.TableColumn(name, "int" if name in numbers else "string") for name in Row._fields]
    made = [dg.TableRecord(row._asdict()) for row in rows(found)]
    context.add_output_metadata(
        {
            "found": dg.MetadataValue.table(made, schema=dg.TableSchema(schema)),
            "removed": len(removal.removed),
            "removed_bytes": sum(item.size for item in removal.removed),
        }
    )
    if removal.failed or (found.problems and config.remove):
        told = [f"{printable(path)}: {reason}" for path, reason in (*removal.failed, *found.problems)]
        raise PlainFailure(f"{len(told)} could not be removed\n" + "\n".join(told[:LISTED]))


@dg.job(name="clean", description="List, and if asked remove, what is no longer needed below the outputs folder.")
def clean_job() -> None:
    """One op, so that it can be launched and scheduled."""
    clean_outputs()
