"""Rows of a table: what outputs say, one row a spectrum, read a chunk of files at a time into columns."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from astra_dagster.errors import AstraError, InvalidKeyError, OutputError, describe
from astra_dagster.outputs import document
from astra_dagster.outputs.document import Label
from astra_dagster.outputs.record import Record, input_hash
from astra_dagster.outputs.store import OutputStore
from astra_dagster.tables import column_types as kinds
from astra_dagster.tables.column_types import Kinds

CHUNK = 1000
"""Outputs that are read together."""

THREADS = 8
"""Chunks that are read at the same time: waiting for the disk is most of it, where the files were not read lately."""


@dataclass(frozen=True)
class Rows:
    """Rows of some outputs.

    Attributes
    ----------
    keys, spectra, versions, inputs
        Partition key, which spectrum of the file, data version and version of the input, of each row.
    results, found
        Results by name, and their kinds.
    outputs
        Number of outputs that were looked at.
    problems
        Key of each output that could not be read, and why.
    """

    keys: pa.Array
    spectra: pa.Array
    versions: pa.Array
    inputs: pa.Array
    results: Mapping[str, pa.Array]
    found: Mapping[str, Kinds]
    outputs: int
    problems: tuple[tuple[str, str], ...]


def read_outputs(store: OutputStore, wanted: pa.Table) -> Iterator[Rows]:
    """Rows of these outputs, in their order; `wanted` holds the columns key and data_version."""
    chunks = [wanted.slice(start, CHUNK) for start in range(0, len(wanted), CHUNK)]
    if len(chunks) < 2:
        yield from (read_rows(store, chunk) for chunk in chunks)
        return
    with ThreadPoolExecutor(min(THREADS, len(chunks)), "astra-read") as threads:
        yield from threads.map(lambda chunk: read_rows(store, chunk), chunks)


def read_rows(store: OutputStore, wanted: pa.Table) -> Rows:
    """Rows of a chunk of outputs; one that cannot be read, or is not what was recorded, costs itself."""
    keys: list[str] = []
    spectra: list[int] = []
    versions: list[str] = []
    inputs: list[str] = []
    results: list[Mapping[str, Any]] = []
    problems: list[tuple[str, str]] = []
    for key, version in zip(wanted["key"].to_pylist(), wanted["data_version"].to_pylist(), strict=True):
        try:
            found, given = _read(store, key, version)
            rows = _by_spectrum(found) if store.several else [found]
        except (AstraError, ValueError) as error:
            problems.append((key, str(error)))
            continue
        results += rows
        keys += [key] * len(rows)
        spectra += range(len(rows))
        versions += [version] * len(rows)
        inputs += [given] * len(rows)
    names = tuple(store.task.columns) or tuple(dict.fromkeys(name for row in results for name in row))
    values = {name: [row.get(name) for row in results] for name in names}
    of = {name: kinds.kinds_of(column) for name, column in values.items()}
    return Rows(
        pa.array(keys, pa.string()),
        pa.array(spectra, pa.int32()),
        pa.array(versions, pa.string()),
        pa.array(inputs, pa.string()),
        {name: kinds.array(column, of[name]) for name, column in values.items()},
        of,
        len(wanted),
        tuple(problems),
    )


def _by_spectrum(results: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Results of each spectrum of a file, from lists of them."""
    if not results:
        return [results]
    if any(not isinstance(values, list) for values in results.values()) or len(set(map(len, results.values()))) != 1:
        raise ValueError("the output does not hold one value a spectrum")
    return [dict(zip(results, values, strict=True)) for values in zip(*results.values(), strict=True)]


def _read(store: OutputStore, key: str, version: str) -> tuple[Mapping[str, Any], str]:
    """Results and version of the input, of an output that is the one that was recorded.

    Raises
    ------
    AstraError
        If it cannot be read, or is another one.
    """
    task = store.task
    parts = key.split("/")  # the key of a record was checked when it was recorded, which takes long
    if len(parts) != 1 + len(task.domain.parts) or ".." in parts:
        raise InvalidKeyError(f"{key!r} is no key of {task.domain.name}", hint=f"its parts are {task.domain.key_order}")
    path = store.path_of(key)
    try:
        found = document.read(path, task.output)
    except FileNotFoundError as error:
        raise OutputError("the output is not there", key=key, path=path, hint=f"run {task.name}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise OutputError(f"the output cannot be read: {describe(error)}", key=key, path=path) from error
    record = Record.parse(version)
    if record is None or found.origin.label != Label(key, task.family, store.digest, task.version):
        raise OutputError("the output is of another origin", key=key, path=path)
    if found.size != record.size:
        raise OutputError(f"the output has {found.size} bytes, recorded were {record.size}", key=key, path=path)
    given = document.input_version(item.version for item in found.origin.inputs)
    if Record(record.results, store.digest, task.version, input_hash(given), found.size) != record:
        raise OutputError("the output was made from another input than was recorded", key=key, path=path)
    return found.results, given
