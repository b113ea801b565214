"""Decide whether a partition is complete, and if not, why.

A partition is complete if its record has today's parameters digest, code version and data version of the inputs, and
its output exists with the recorded size.
"""

from astra_dagster.outputs.digests import list_changes
from astra_dagster.outputs.document import FORMAT, READABLE
from astra_dagster.outputs.record import Record, hash_version
from astra_dagster.outputs.store import OutputStore, PartitionWork
from astra_dagster.planning.status import Reason, ReasonKind
from astra_dagster.presence import status_of


def why_incomplete(
    record: Record | None, work: PartitionWork, store: OutputStore, *, verify: bool = False
) -> Reason | None:
    """Return the reason why a partition is not complete; None if it is.

    Parameters
    ----------
    record
        Its latest record; None if it has none.
    work
        The partition with its inputs as they are today.
    verify
        Whether to read its output, and compare all that it holds with the record.

    Raises
    ------
    UnreachableError
        If its output cannot be examined.
    """
    if record is None:
        return Reason(ReasonKind.NO_RECORD)
    if record.digest != store.digest:
        return Reason(ReasonKind.PARAMETERS_CHANGED, list_changes(store.root, record.digest, store.task))
    if record.code_version != store.task.version:
        return Reason(ReasonKind.CODE_CHANGED, (record.code_version, store.task.version))
    if record.layout not in READABLE:
        return Reason(ReasonKind.LAYOUT_CHANGED, (str(record.layout), str(FORMAT)))
    if record.input != hash_version(work.input_version):
        upstream = tuple(task.name for task in store.task.upstream)
        return Reason(ReasonKind.UPSTREAM_CHANGED if upstream else ReasonKind.INPUT_CHANGED, upstream)
    status = status_of(store.path(work.data_id))
    if status is None:
        return Reason(ReasonKind.OUTPUT_MISSING)
    if status.st_size != record.size:
        return Reason(ReasonKind.OUTPUT_DAMAGED, (str(status.st_size), str(record.size)))
    if verify and store.version_of(work.data_id) != record.results:
        return Reason(ReasonKind.OUTPUT_ALTERED)
    return None
