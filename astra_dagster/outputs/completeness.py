"""Which partitions are complete, and why the others are not.

A partition is complete when its record carries today's parameters digest, code version and input data version, and
its output is there with the recorded size. Records come from outside; nothing here knows who keeps them.
"""

from astra_dagster.outputs.record import Record, input_hash
from astra_dagster.outputs.store import OutputStore, Work
from astra_dagster.presence import status_of


def why_incomplete(record: Record | None, work: Work, store: OutputStore) -> str | None:
    """Reason why a partition is not complete; None if it is.

    Parameters
    ----------
    record
        Its latest record, None if it has none.
    work
        The partition with what it is given today.

    Raises
    ------
    UnreachableError
        If nobody can tell whether its output is there.
    """
    if record is None:
        return "no record"
    if record.digest != store.digest:
        return _parameters_changed(record.digest, store)
    if record.code_version != store.task.version:
        return f"code version {record.code_version} -> {store.task.version}"
    if record.input != input_hash(work.input_version):
        upstream = ", ".join(task.name for task in store.task.upstream)
        return f"upstream changed: {upstream}" if upstream else "input changed"
    status = status_of(store.path(work.data_id))
    if status is None:
        return "output missing"
    size = status.st_size
    return None if size == record.size else f"output has {size} bytes, recorded were {record.size}"


def _parameters_changed(digest: str, store: OutputStore) -> str:
    before, now = store.parameters_of(digest), {**store.parameters.as_dict(), **store.task.required_digests}
    if before is None:
        return f"parameters changed: digest {digest} -> {store.digest}"
    names = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    changes = (f"{name} {before.get(name, 'unset')} -> {now.get(name, 'unset')}" for name in names)
    return "parameters changed: " + ", ".join(changes)
