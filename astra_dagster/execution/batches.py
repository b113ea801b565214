"""Which partitions are computed together, and how their inputs are joined."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from astra_dagster.errors import TaskError
from astra_dagster.outputs.store import OutputStore, PartitionWork
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.tasks.calling import join_results, size_of
from astra_dagster.tasks.columns import FAILURE, Failed, Results

Inputs = tuple[Any, ...]
"""What a partition gives to the function of its task."""


def pick_sized(inputs: Inputs) -> list[SpectrumBatch | Results]:
    """Return the inputs that hold something of each spectrum, without files and lists of many partitions."""
    return [item for item in inputs if isinstance(item, (SpectrumBatch, Results))]


def check_sizes(inputs: Inputs) -> None:
    """Check that the inputs of a partition hold equally many spectra.

    Raises
    ------
    TaskError
        If they do not.
    """
    sizes = {size_of([item]) for item in pick_sized(inputs)}
    if len(sizes) > 1:
        raise TaskError(f"the inputs hold {' and '.join(map(str, sorted(sizes)))} spectra")


def find_group(work: PartitionWork, inputs: Inputs) -> str:
    """Return a text that is the same for partitions whose inputs can be computed together."""
    kinds: list[Any] = [(file.locations[0], file.version) for file in work.common]
    for item in inputs:
        if isinstance(item, SpectrumBatch):
            kinds.append((item.flux.shape[1], item.chips, item.unit))
        elif isinstance(item, Results):
            kinds.append(sorted((name, values.shape[1:], values.dtype.kind) for name, values in item.items()))
        else:
            kinds.append(work.data_id.key)  # a partition with many inputs, or a file, is computed by itself
    return repr(kinds)


def split_group(
    store: OutputStore, pairs: list[tuple[PartitionWork, Inputs]]
) -> Iterator[list[tuple[PartitionWork, Inputs]]]:
    """Yield partitions that are computed together, so that no batch has more spectra than the task takes."""
    batch: list[tuple[PartitionWork, Inputs]] = []
    size = 0
    for pair in pairs:
        count = size_of(pick_sized(pair[1]))
        if batch and store.task.batch_size is not None and size + count > store.task.batch_size:
            yield batch
            batch, size = [], 0
        batch.append(pair)
        size += count
    yield batch


def join(items: Sequence[Any]) -> Any:
    """Join the inputs of partitions that are computed together, all from one requirement."""
    if len(items) == 1:
        return items[0]
    joined = join_results(items)
    return joined if isinstance(joined, SpectrumBatch) else Results(joined)


def pick_results(store: OutputStore, columns: Mapping[str, Sequence[Any]], rows: slice) -> dict[str, Any]:
    """Return the results of one partition from the columns of all that were computed together.

    Raises
    ------
    TaskError
        If the partition has failed: its spectrum, all of several, or one of several where no column holds the reason.
    """
    picked = {name: list(values[rows]) for name, values in columns.items()}
    marked = {i: value for i, value in enumerate(next(iter(picked.values()), ())) if isinstance(value, Failed)}
    if not store.several:
        if marked:
            raise TaskError(marked[0].reason)
        return {name: values[0] for name, values in picked.items()}
    if marked:
        number, first = next(iter(marked.items()))
        if len(marked) == rows.stop - rows.start:
            raise TaskError(f"all {len(marked)} spectra failed: {first.reason}")
        if FAILURE not in picked:
            hint = f"let the task promise a column {FAILURE!r}, and the other spectra stand"
            raise TaskError(f"spectrum {number} failed: {first.reason}", hint=hint)
        for name, values in picked.items():
            for i, mark in marked.items():
                values[i] = mark.reason if name == FAILURE else None
    return picked
