"""Outputs and their records for the tests of tables, written without running anything."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from astra_dagster import Column, product, spectrum_task
from astra_dagster.outputs.record import Record, record_of
from astra_dagster.outputs.store import InputFiles, OutputStore, PartitionWork
from astra_dagster.tables.collection import Collection, table_path
from astra_dagster.tasks.task import Task

COLUMNS = {
    "velocity": Column("Radial velocity.", unit="km/s"),
    "count": Column("Number of pixels."),
    "good": Column("Whether to trust it."),
    "name": Column("What it is."),
    "cells": Column("Some numbers.", unit="1e-17 erg / (Angstrom s cm2)"),
}


@spectrum_task(requires=product("apVisit"), version="1", columns=COLUMNS)
def visit_toy(spectra, parameters):
    """Every type that a column can have."""


@spectrum_task(requires=product("apStar"), version="1", columns={"velocity": COLUMNS["velocity"], "name": Column()})
def star_toy(spectra, parameters):
    """Several spectra a file."""


@spectrum_task(requires=product("apVisit"), version="1")
def free_toy(spectra, parameters):
    """Promises no columns."""


def store_of(root: Path, task: Task = visit_toy) -> OutputStore:
    return OutputStore(root, task, task.values())


def key_of(number: int, fibre: int = 1) -> str:
    return f"DR17/apo25m/120+12/{5000 + number}/56000/{fibre:03d}"


def results_of(number: int) -> dict[str, Any]:
    return {
        "velocity": number + 0.25,
        "count": number,
        "good": number % 2 == 0,
        "name": f"star {number}",
        "cells": [number + 0.5, None, float(number)],
    }


def write(store: OutputStore, key: str, results: Mapping[str, Any], version: str = "v1") -> dict[str, Record]:
    """Write the output of a partition; its key and record."""
    work = PartitionWork(store.task.domain.parse_key(key), (InputFiles("apVisit", f"{key}.fits", version, ()),))
    return {key: record_of(store, work, store.write(work, results))}


def write_many(store: OutputStore, numbers: Iterable[int], version: str = "v1") -> dict[str, Record]:
    found: dict[str, Record] = {}
    for number in numbers:
        found |= write(store, key_of(number), results_of(number), version)
    return found


def rows_of(path: Path) -> list[dict[str, Any]]:
    return pq.read_table(path).to_pylist()


def schema_of(path: Path) -> dict[str, pa.Field]:
    return {field.name: field for field in pq.read_schema(path)}


def document(store: OutputStore, key: str) -> dict[str, Any]:
    return json.loads(store.path(store.task.domain.parse_key(key)).read_text())


def both(store: OutputStore) -> tuple[bytes, bytes]:
    return table_path(store).read_bytes(), table_path(store, "fits").read_bytes()


def counts(made: Collection) -> tuple[int, int, int, int]:
    return made.new, made.changed, made.dropped, len(made.unreadable)
