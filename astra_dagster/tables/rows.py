"""Read the rows of a table from outputs, one row for each spectrum, in chunks of files."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from astra_dagster.errors import AstraError, InvalidKeyError, OutputError, describe
from astra_dagster.outputs import document
from astra_dagster.outputs.document import Label
from astra_dagster.outputs.record import Record, hash_inputs
from astra_dagster.outputs.store import OutputStore
from astra_dagster.tables import column_types as kinds
from astra_dagster.tables.column_types import Kinds

CHUNK = 1000
"""Number of outputs in a chunk."""

THREADS = 8
"""Number of chunks that are read at a time, as most of the time is spent waiting for the disk."""


@dataclass(frozen=True)
class Rows:
    """The rows of some outputs.

    Attributes
    ----------
    keys, spectra, versions, inputs
        Of each row: partition key, number of the spectrum in its file, data version, and version of the input.
    results, found
        Columns of results by name, and the kinds of their values.
    outputs
        Number of outputs, readable or not.
    problems
        Key of each output that could not be read, and the reason.
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
    """Yield the rows of outputs, in their order; `wanted` has the columns key and data_version."""
    chunks = [wanted.slice(start, CHUNK) for start in range(0, len(wanted), CHUNK)]
    if len(chunks) < 2:
        yield from (read_rows(store, chunk) for chunk in chunks)
        return
    with ThreadPoolExecutor(min(THREADS, len(chunks)), "astra-read") as threads:
        yield from threads.map(lambda chunk: read_rows(store, chunk), chunks)


def read_rows(store: OutputStore, wanted: pa.Table) -> Rows:
    """Read the rows of a chunk of outputs; those that cannot be read, or differ from their record, are `problems`."""
    keys: list[str] = []
    spectra: list[int] = []
    versions: list[str] = []
    inputs: list[str] = []
    results: list[Mapping[str, Any]] = []
    problems: list[tuple[str, str]] = []
    for key, version in zip(wanted["key"].to_pylist(), wanted["data_version"].to_pylist(), strict=True):
        try:
            found, given = _read(store, key, version)
            rows = _split_by_spectrum(found) if store.several else [found]
        except (AstraError, ValueError) as error:
            problems.append((key, str(error)))
            continue
        results += rows
        keys += [key] * len(rows)
        spectra += range(len(rows))
        versions += [version] * len(rows)
        inputs += [given] * len(rows)
    names = store.task.promised or tuple(dict.fromkeys(name for row in results for name in row))
    values = {name: [row.get(name) for row in results] for name in names}
    of = {name: kinds.find_kinds(column) for name, column in values.items()}
    return Rows(
        pa.array(keys, pa.string()),
        pa.array(spectra, pa.int32()),
        pa.array(versions, pa.string()),
        pa.array(inputs, pa.string()),
        {name: kinds.make_array(column, of[name]) for name, column in values.items()},
        of,
        len(wanted),
        tuple(problems),
    )


def _split_by_spectrum(results: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Split lists with a value for each spectrum of a file into the results of each spectrum."""
    if not results:
        return [results]
    if any(not isinstance(values, list) for values in results.values()) or len(set(map(len, results.values()))) != 1:
        raise ValueError("the output does not hold one value a spectrum")
    return [dict(zip(results, values, strict=True)) for values in zip(*results.values(), strict=True)]


def _read(store: OutputStore, key: str, version: str) -> tuple[Mapping[str, Any], str]:
    """Read the results and the version of the input from an output, and check that it is the one recorded.

    Raises
    ------
    AstraError
        If the output cannot be read, or is not the one recorded.
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
    if found.version != record.results:
        raise OutputError("the results differ from those recorded", key=key, path=path, hint="run it with --verify")
    versions = [item.version for item in found.origin.inputs]
    given = hash_inputs(versions, len(task.common))
    if replace(record, digest=store.digest, code_version=task.version, input=given) != record:
        raise OutputError("the output was made from another input than was recorded", key=key, path=path)
    return found.results, document.input_version(versions)
