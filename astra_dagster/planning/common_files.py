"""Look at the files that the partitions of a task have in common: which are there, and in which version."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from astra_dagster.archive.discovery import content_version
from astra_dagster.datamodel.products import DataID, Product
from astra_dagster.errors import AstraError, InputMissingError, InvalidKeyError, UnreachableError
from astra_dagster.outputs.store import InputFiles
from astra_dagster.planning.status import Reason, ReasonKind
from astra_dagster.presence import status_of
from astra_dagster.tasks.groups import PartitionID
from astra_dagster.tasks.inputs.common_files import CommonFile

State = InputFiles | Reason
"""The input of a partition from one requirement, or the reason why it has none."""

FindFiles = Callable[[Product, Sequence[DataID]], Mapping[str, State]]
"""Function from a product and data IDs to their files, by key."""


def find_common(file: CommonFile, partitions: Sequence[PartitionID], find: FindFiles) -> dict[str, State]:
    """Return a file that partitions have in common, or why it cannot be used, by the key of the partition.

    Parameters
    ----------
    find
        Finds the files of a product as they are now.
    """
    if not isinstance(file.of, Product):
        state = _look_at(file.of, file.text)
        return {one.key: state for one in partitions}
    known: dict[tuple[str, ...], DataID | Reason] = {}
    chosen: dict[str, DataID | Reason] = {}
    for one in partitions:
        which = (one.release, *(one.values.get(name, "") for name in file.of.parts))
        if which not in known:
            known[which] = _choose(file.of, one)
        chosen[one.key] = known[which]
    found = find(file.of, [one for one in known.values() if isinstance(one, DataID)])
    return {key: one if isinstance(one, Reason) else _there(found[one.key], one) for key, one in chosen.items()}


def _choose(product: Product, one: PartitionID) -> DataID | Reason:
    """Return which file of a product a partition requires: the one with its release and parts; or why there is none."""
    try:
        needed = {part.name for part in product.template(one.release).keys.values()}
        known = {name: text for name, text in one.values.items() if name in needed}
        if missing := sorted(needed - set(known)):
            raise InvalidKeyError(
                f"{product.name} of {one.release} is told apart by {', '.join(missing)}, which {one.key} does not have",
                hint="require files that are found in another way with matching",
            )
        return product.data_id(one.release, **known)
    except AstraError as error:
        return Reason(ReasonKind.FILE_MISSING, cause=error)


def _there(state: State, data_id: DataID) -> State:
    if isinstance(state, InputFiles) or state.kind is ReasonKind.UNREACHABLE:
        return state
    which = "/".join(data_id.values.values())
    error = InputMissingError(
        f"no {data_id.product.name} of {which}", path=data_id.relative_path, hint="fetch it, or run with --fetch"
    )
    return Reason(ReasonKind.FILE_MISSING, cause=error)


def _look_at(path: Path, text: str) -> State:
    try:
        status = status_of(path)
        if status is None:
            return Reason(ReasonKind.FILE_MISSING, cause=InputMissingError(f"{text} is not there", path=path))
        version = _content_version(path, status.st_size, status.st_mtime_ns)
    except UnreachableError as error:
        return Reason(ReasonKind.UNREACHABLE, cause=error)
    return InputFiles(path.name, text, version, (str(path),))


@functools.lru_cache(maxsize=256)
def _content_version(path: Path, _size: int, _mtime_ns: int) -> str:
    """Return the version of a file by its contents, which are read again only if its size or date has changed."""
    return content_version(path)
