"""Which partitions are computed together, and how their inputs are joined."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from astra_dagster.errors import TaskError
from astra_dagster.outputs.store import OutputStore, PartitionWork
from astra_dagster.spectra.batch import SpectrumBatch, stack
from astra_dagster.tasks.calling import size_of
from astra_dagster.tasks.columns import Results

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
    kinds: list[Any] = [(str(file.files[0]), file.version) for file in work.common]
    for item in inputs:
        if isinstance(item, SpectrumBatch):
            kinds.append((item.flux.shape[1], item.chips, item.unit))
        elif isinstance(item, Results):
            kinds.append(sorted((name, values.ndim, values.dtype.kind) for name, values in item.items()))
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
    if isinstance(items[0], SpectrumBatch):
        return stack(items)
    return Results({name: np.concatenate([item[name] for item in items]) for name in items[0]})
