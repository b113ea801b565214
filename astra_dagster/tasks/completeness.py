"""Which partitions are complete, and why the others are not.

A partition is complete when its record carries today's parameters digest, code version and input data version, and
its output is there with the recorded size. Records come from outside; nothing here knows who keeps them.
"""

from dataclasses import dataclass

from astra_dagster.datamodel.products import DataID
from astra_dagster.tasks.store import OutputStore


@dataclass(frozen=True, slots=True)
class Record:
    """What was recorded of a partition of a task when it was last materialised.

    Attributes
    ----------
    data_version, code_version, input_version
        Of the output, of the task, and of the file that it was made from.
    digest
        Parameters digest.
    size
        Size of the output in bytes.
    """

    data_version: str
    code_version: str
    input_version: str
    digest: str
    size: int


def why_incomplete(record: Record | None, data_id: DataID, input_version: str, store: OutputStore) -> str | None:
    """Reason why a partition is not complete; None if it is.

    Parameters
    ----------
    record
        Its latest record, None if it has none.
    input_version
        Data version of its input today.
    """
    if record is None:
        return "no record"
    if record.digest != store.parameters.digest:
        return _parameters_changed(record.digest, store)
    if record.code_version != store.task.version:
        return f"code version {record.code_version} -> {store.task.version}"
    if record.input_version != input_version:
        return "input changed"
    try:
        size = store.path(data_id).stat().st_size
    except OSError:
        return "output missing"
    return None if size == record.size else f"output has {size} bytes, recorded were {record.size}"


def _parameters_changed(digest: str, store: OutputStore) -> str:
    before, now = store.parameters_of(digest), store.parameters.as_dict()
    if before is None:
        return f"parameters changed: digest {digest} -> {store.parameters.digest}"
    names = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    changes = (f"{name} {before.get(name, 'unset')} -> {now.get(name, 'unset')}" for name in names)
    return "parameters changed: " + ", ".join(changes)
