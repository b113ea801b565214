"""Records: the one place that reads and writes Dagster's materialisation events by partition.

Writing uses internals of Dagster, its events and its storage, because these alone take per-partition metadata and data
versions in batches. The tests of this module fail loudly when Dagster changes it.
"""

import logging
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np

from astra_dagster.archive.discovery import HASHED
from astra_dagster.datamodel.products import DataID, Product
from astra_dagster.orchestration.internals import (
    CODE_VERSION_TAG,
    DATA_VERSION_TAG,
    RUNLESS_JOB_NAME,
    RUNLESS_RUN_ID,
    AssetMaterializationPlannedData,
    AssetObservationData,
    StepMaterializationData,
    get_input_data_version_tag,
    get_input_event_pointer_tag,
)
from astra_dagster.orchestration.partitions import chunks, registered, select_registered
from astra_dagster.outputs.record import Record, record_of
from astra_dagster.outputs.store import OutputStore, PartitionWork, StoredOutput
from astra_dagster.planning.ledger import Selection, SourceRecord
from astra_dagster.tasks.groups import Domain
from astra_dagster.tasks.inputs.requirement import Requirement
from astra_dagster.tasks.task import Task

FILE_TAG = "astra/file"
"""Tag of a source record: size and modification time of the file."""

BATCH = 1000
"""Events stored together."""

LISTED = 100
"""Most members of a group that a record spells out; its output has all."""

LONGEST = 64
"""Number of values that a result may have to be in its record."""

LOOK_UP = 10_000
"""Partitions asked for in one query: SQLite limits the number of variables."""

AT_ONCE = 300_000
"""Most partitions of a task whose records are asked for in one query, which is faster, and held in memory."""


_warned: set[str] = set()


def warn_if_slow(context: dg.OpExecutionContext) -> None:
    """Say in the log of a run, once, that its records are written one by one, and what to do about it."""
    from astra_dagster.orchestration.storage.batches import BatchedEventLogStorage  # what it imports takes its time

    storage = context.instance.event_log_storage
    if isinstance(storage, BatchedEventLogStorage) or not storage.is_persistent or context.run_id in _warned:
        return
    _warned.add(context.run_id)
    context.log.warning(
        "Records go through Dagster's own storage, which commits each of them by itself: a large run takes many times "
        "as long. `astra-dagster init` writes a dagster.yaml that has them written in batches, into the same database."
    )


@dataclass(frozen=True)
class DagsterLedger:
    """What planning asks of the records, from a Dagster instance; see `planning.ledger.Ledger`."""

    instance: dg.DagsterInstance

    def registered(self, domain: Domain, selection: Selection) -> Iterator[Sequence[str]]:
        """Registered partition keys that are selected, in Dagster's order."""
        yield from chunks(select_registered(self.instance, domain, selection), LOOK_UP)

    def recorded(self, task: Task, keys: Sequence[str]) -> dict[str, Record]:
        """Latest record of each of these partitions of a task, by key."""
        return task_records(self.instance, task, keys)

    def seen(self, product: Product, keys: Sequence[str]) -> dict[str, SourceRecord]:
        """Latest record of each of these files, by key."""
        return source_records(self.instance, product, keys)


def source_records(instance: dg.DagsterInstance, product: Product, keys: Sequence[str]) -> dict[str, SourceRecord]:
    """Latest record of each file, by partition key; files never recorded are missing."""
    versions = _latest_versions(instance, product.asset_name, keys)
    hashed = [key for key, version in versions.items() if version.startswith(HASHED)]
    files = _file_tags(instance, product, hashed) if hashed else {}
    return {key: SourceRecord(version, files.get(key, version)) for key, version in versions.items()}


def task_records(instance: dg.DagsterInstance, task: Task, keys: Sequence[str]) -> dict[str, Record]:
    """Latest record of each partition of a task, by key; partitions without one are missing."""
    versions = _latest_versions(instance, task.name, keys)
    parsed = {key: Record.parse(version) for key, version in versions.items()}
    return {key: record for key, record in parsed.items() if record is not None}


def record_texts(
    instance: dg.DagsterInstance, task: Task, keys: Sequence[str], *, every: bool
) -> Iterator[tuple[str, str]]:
    """Yield each of these partitions of a task that has a record, with the text of the latest.

    Parameters
    ----------
    every
        Whether these are all registered ones: then the query need not name them, and takes half as long.
    """
    if every and len(keys) <= AT_ONCE:
        found = _query_versions(instance, task.name, None)
        yield from ((key, found[key]) for key in keys if key in found)
    else:
        for chunk in chunks(keys, LOOK_UP):
            yield from _query_versions(instance, task.name, chunk).items()


def latest(instance: dg.DagsterInstance, task: Task) -> Iterator[tuple[str, str]]:
    """Yield registered keys of a task with the text of their latest record; those without a record are left out."""
    yield from record_texts(instance, task, registered(instance, task.domain), every=True)


def event_pointers(instance: dg.DagsterInstance, asset: dg.AssetKey, keys: Sequence[str]) -> dict[str, int]:
    """Storage id of the latest record of each partition of an asset, by partition key."""
    pointers: dict[str, int] = {}
    for chunk in chunks(keys, LOOK_UP):
        pointers.update(
            instance.event_log_storage.get_latest_storage_id_by_partition(
                asset, dg.DagsterEventType.ASSET_MATERIALIZATION, set(chunk)
            )
        )
    return pointers


def pointers_of(instance: dg.DagsterInstance, task: Task, keys: Sequence[str]) -> dict[str, dict[str, int]]:
    """Storage ids of the latest records of what these partitions require one to one, by asset and partition key."""
    assets = [asset_key(item) for item in task.requires if item.one_to_one]
    return {asset.to_user_string(): event_pointers(instance, asset, keys) for asset in assets}


def parameters_of(store: OutputStore) -> dg.MetadataValue[Any]:
    """Parameters as a record shows them."""
    return dg.MetadataValue.json(store.parameters.as_dict(all=True))


def asset_key(item: Product | Requirement) -> dg.AssetKey:
    """Asset of a product, or of a requirement."""
    return dg.AssetKey(item.asset_name)


def table_name(task: Task) -> str:
    """Return the name of the asset of a task's table."""
    return f"{task.name}_table"


def source_materialisation(
    product: Product, key: str, version: str, file: str, metadata: Mapping[str, dg.MetadataValue]
) -> dg.AssetMaterialization:
    """Record of a file as it is now."""
    return dg.AssetMaterialization(
        asset_key=asset_key(product),
        partition=key,
        metadata=metadata,
        tags={DATA_VERSION_TAG: version, FILE_TAG: file},
    )


def task_materialisation(
    store: OutputStore,
    work: PartitionWork,
    written: StoredOutput,
    pointers: Mapping[str, Mapping[str, int]],
    parameters: dg.MetadataValue[Any],
    more: Mapping[str, Any],
) -> dg.AssetMaterialization:
    """Record of an output, with `more` metadata and the provenance that Dagster's own staleness marks go by.

    `pointers` and `parameters`, from `pointers_of` and `parameters_of`, are the same for all outputs of a batch.
    """
    task = store.task
    tags = {DATA_VERSION_TAG: str(record_of(store, work, written)), CODE_VERSION_TAG: task.version}
    for requirement, given in zip(task.requires, work.given, strict=True):
        source = asset_key(requirement)
        tags[get_input_data_version_tag(source)] = given.version
        pointer = pointers.get(source.to_user_string(), {}).get(work.data_id.key)
        if pointer is not None:
            tags[get_input_event_pointer_tag(source)] = str(pointer)
    for file, given in zip(task.common.values(), work.common, strict=True):
        if isinstance(file.of, Product):
            tags[get_input_data_version_tag(asset_key(file.of))] = given.version
    results = {name: value for name, value in written.results.items() if value is not None}
    if store.several and results:  # of several spectra the first stands for the file
        results = {"spectra": max(map(len, results.values()), default=0), **{n: v[0] for n, v in results.items()}}
        results = {name: value for name, value in results.items() if value is not None}
    told, arrays, who = _sort_results(task, results)
    return dg.AssetMaterialization(
        asset_key=dg.AssetKey(task.name),
        partition=work.data_id.key,
        metadata={
            **told,
            **more,
            **arrays,
            **who,
            **{name: dg.MetadataValue.path(str(path)) for name, path in _files_of(store, written, results).items()},
            "output": dg.MetadataValue.path(str(written.path)),
            **_input_of(work),
            **({} if written.seconds is None else {"seconds": round(written.seconds, 6)}),
            "parameters": parameters,
        },
        tags=tags,
    )


def _files_of(store: OutputStore, written: StoredOutput, results: Mapping[str, Any]) -> dict[str, Path]:
    """Return the paths of the files that a task made besides its output; of several spectra, those of the first."""
    return {name: written.path.with_name(results[name]) for name in store.task.files if results.get(name)}


def _sort_results(task: Task, results: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return the single numbers and texts, the arrays, and what says who the object is, each as a record holds it."""
    who = {name: value for name, value in results.items() if name in task.columns and task.columns[name].identity}
    arrays = {name: _shorten(value) for name, value in results.items() if name not in who and isinstance(value, list)}
    told = {name: _shorten(value) for name, value in results.items() if name not in who and name not in arrays}
    return told, arrays, who


def _shorten(value: Any) -> Any:
    """Return a result as a record shows it: numbers with four digits, and of long arrays their shape alone.

    The output has every digit, and all values, which would burden the database.
    """
    if isinstance(value, list):
        if (size := np.size(value)) > LONGEST:
            return f"array of shape {np.shape(value)}, {size} values"
        return [_shorten(one) for one in value]
    if isinstance(value, float) and math.isfinite(value) and value:
        return round(value, max(0, 3 - math.floor(math.log10(abs(value)))))
    return value


def _input_of(work: PartitionWork) -> dict[str, dg.MetadataValue]:
    """The file or the files that an output was made from, here, and a single one on the Science Archive Server."""
    found: dict[str, dg.MetadataValue] = {"input": dg.MetadataValue.path(work.location)} if work.location else {}
    if work.common:
        found["common files"] = dg.MetadataValue.json({one.locations[0]: one.version for one in work.common})
    made_from = [f"{key}, version {version}" for given in work.given for key, version in given.members]
    if made_from:
        more = [f"and {len(made_from) - LISTED} more"] if len(made_from) > LISTED else []
        found["made_from"] = dg.MetadataValue.json([*made_from[:LISTED], *more])
    if isinstance(work.data_id, DataID) and not work.data_id.software:
        found["sas"] = dg.MetadataValue.url(work.data_id.url)
    return found


def write(context: dg.OpExecutionContext, materialisations: Sequence[dg.AssetMaterialization]) -> None:
    """Write records, in batches; none at all is no event."""
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION
    for chunk in chunks(materialisations, BATCH):
        _store(context, kind, [(StepMaterializationData(made), f"{made.partition} materialised.") for made in chunk])


def write_planned(context: dg.OpExecutionContext, task: Task, keys: Sequence[str]) -> None:
    """Say that this run meant to materialise these partitions: where it fails, Dagster shows them as failed.

    Dagster does so itself for a run over a range of partitions, and cannot for one without.
    """
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    asset = dg.AssetKey(task.name)
    for chunk in chunks(keys, BATCH):
        planned = [AssetMaterializationPlannedData(asset, partition=key) for key in chunk]
        _store(context, kind, [(data, f"{data.partition} to be materialised.") for data in planned])


def _store(
    context: dg.OpExecutionContext,
    kind: dg.DagsterEventType,
    events: Sequence[tuple[StepMaterializationData | AssetMaterializationPlannedData, str]],
) -> None:
    """Store events of a step of a run as Dagster would, but past its log, which takes as long as all the rest."""
    step_context = context.get_step_execution_context()
    step, job, run_id = step_context.step, step_context.job_name, context.run_id
    entries = [
        dg.EventLogEntry(  # type: ignore[no-untyped-call]
            error_info=None,
            level=logging.DEBUG,
            user_message="",
            run_id=run_id,
            timestamp=time.time(),
            step_key=step.key,
            job_name=job,
            dagster_event=dg.DagsterEvent(
                event_type_value=kind.value,
                job_name=job,
                step_handle=step.handle,
                node_handle=step.node_handle,
                step_kind_value=step.kind.value,
                event_specific_data=data,
                message=message,
                pid=os.getpid(),
            ),
        )
        for data, message in events
    ]
    context.instance.event_log_storage.store_event_batch(entries)


def write_gone(instance: dg.DagsterInstance, product: Product, keys: Sequence[str]) -> None:
    """Record that files are gone, as observations: what was recorded of them, and of what was made of them, stays."""
    for chunk in chunks(keys, BATCH):
        entries = []
        for key in chunk:
            seen = dg.AssetObservation(asset_key(product), partition=key, description="the file is gone")
            event = dg.DagsterEvent(
                event_type_value=dg.DagsterEventType.ASSET_OBSERVATION.value,
                job_name=RUNLESS_JOB_NAME,
                event_specific_data=AssetObservationData(seen),
                message=f"{key} is gone.",
            )
            entry = dg.EventLogEntry(  # type: ignore[no-untyped-call]
                error_info=None,
                level=logging.INFO,
                user_message="",
                run_id=RUNLESS_RUN_ID,
                timestamp=time.time(),
                job_name=RUNLESS_JOB_NAME,
                dagster_event=event,
            )
            entries.append(entry)
        instance.event_log_storage.store_event_batch(entries)


def _file_tags(instance: dg.DagsterInstance, product: Product, keys: Sequence[str]) -> dict[str, str]:
    """State of the file in each latest record, which unlike the data version is not in Dagster's index."""
    files: dict[str, str] = {}
    for chunk in chunks(list(event_pointers(instance, asset_key(product), keys).values()), LOOK_UP):
        wanted = dg.EventRecordsFilter(dg.DagsterEventType.ASSET_MATERIALIZATION, asset_key(product), storage_ids=chunk)
        for event in instance.event_log_storage.get_event_records(wanted):
            made = event.asset_materialization
            if made is not None and made.partition is not None and made.tags:
                files[made.partition] = made.tags.get(FILE_TAG, "")
    return files


def _latest_versions(instance: dg.DagsterInstance, asset: str, keys: Sequence[str]) -> dict[str, str]:
    """Data version of the latest record by key."""
    found: dict[str, str] = {}
    for chunk in chunks(keys, LOOK_UP):
        found.update(_query_versions(instance, asset, chunk))
    return found


def _query_versions(instance: dg.DagsterInstance, asset: str, keys: Sequence[str] | None) -> dict[str, str]:
    """Ask for the data version, the one tag that Dagster keeps in an index, of at most `LOOK_UP` keys, or of all."""
    tags = instance.event_log_storage.get_latest_tags_by_partition(
        dg.AssetKey(asset), dg.DagsterEventType.ASSET_MATERIALIZATION, [DATA_VERSION_TAG], keys
    )
    return {key: values[DATA_VERSION_TAG] for key, values in tags.items()}
