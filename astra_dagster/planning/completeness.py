"""Decide whether a partition is complete, and if not, why.

A partition is complete if its record has today's parameters digest, code version and data version of the inputs, and
its output exists with the recorded size.
"""

from collections.abc import Sequence

from astra_dagster.errors import AstraError
from astra_dagster.outputs import document
from astra_dagster.outputs.digests import list_changes
from astra_dagster.outputs.document import FORMAT, READABLE
from astra_dagster.outputs.record import Record, find_changed, hash_inputs_of
from astra_dagster.outputs.store import OutputStore, PartitionWork
from astra_dagster.planning.status import Reason, ReasonKind
from astra_dagster.presence import status_of

SPELLED = 3
"""Most keys that a reason lists."""


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
    today = hash_inputs_of(work)
    if record.input != today:
        if changed := find_changed(record.input, today):
            return Reason(ReasonKind.FILE_CHANGED, tuple(work.common[number].name for number in changed))
        if members := _find_moved(work, store):
            return Reason(ReasonKind.MEMBERS_CHANGED, members)
        upstream = tuple(task.name for task in store.task.upstream)
        return Reason(ReasonKind.UPSTREAM_CHANGED if upstream else ReasonKind.INPUT_CHANGED, upstream)
    status = status_of(store.location_of(work.data_id.key))
    if status is None:
        return Reason(ReasonKind.OUTPUT_MISSING)
    if status.st_size != record.size:
        return Reason(ReasonKind.OUTPUT_DAMAGED, (str(status.st_size), str(record.size)))
    if verify and store.version_of(work.data_id) != record.results:
        return Reason(ReasonKind.OUTPUT_ALTERED)
    return None


def _find_moved(work: PartitionWork, store: OutputStore) -> tuple[str, ...]:
    """Return how the many partitions that a partition requires differ from those that its output names.

    Nothing is returned if the output names none, or if only results of a task changed, which is a reason of its own.
    """
    if not work.membership:
        return ()
    try:
        before = document.read(store.path(work.data_id), store.task.output).origin.inputs
    except (OSError, ValueError, KeyError, TypeError, AttributeError, AstraError):
        return ()
    moved: list[str] = []
    for requirement, then, given in zip(store.task.requires, before, work.given, strict=False):
        old, new = dict(then.members), dict(zip(given.keys, given.versions, strict=True))
        if not old or not new:
            continue
        more, fewer = [key for key in new if key not in old], [key for key in old if key not in new]
        changed = [key for key in new if key in old and new[key] != old[key]]
        if more or fewer or requirement.task is None:
            moved += _list_keys("more", more) + _list_keys("fewer", fewer) + _list_keys("changed", changed)
        if not (more or fewer or changed) and then.path != given.path:
            moved.append(f"{then.path} -> {given.path}")
    return tuple(moved)


def _list_keys(what: str, keys: Sequence[str]) -> list[str]:
    more = f" and {len(keys) - SPELLED} more" if len(keys) > SPELLED else ""
    return [f"{len(keys)} {what} ({', '.join(keys[:SPELLED])}{more})"] if keys else []
