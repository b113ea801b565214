"""Compare the files of known partitions, as they are on disk now, with their records.

`archive.discovery` finds files that are not known yet.
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from astra_dagster.archive.absence import Absences
from astra_dagster.archive.discovery import HASHED, FoundFile, content_version, file_version
from astra_dagster.archive.links import Links
from astra_dagster.datamodel.products import DataID
from astra_dagster.errors import UnreachableError
from astra_dagster.planning.ledger import SourceRecord
from astra_dagster.presence import status_of


@dataclass(frozen=True, slots=True)
class Input:
    """The file of a data ID as it is on disk now.

    Attributes
    ----------
    version
        Data version; None if the file does not exist.
    recorded
        Whether the latest record has this version and this state of the file.
    before
        Data version in the latest record; None if there is none.
    error
        Why the file cannot be examined; then `file` and `version` are None.
    """

    data_id: DataID
    file: FoundFile | None
    version: str | None
    recorded: bool
    before: str | None = None
    error: UnreachableError | None = None

    @property
    def gone(self) -> bool:
        """Whether the file was recorded and has been removed."""
        return self.file is None and self.error is None and self.before is not None


def examine(
    data_ids: Iterable[DataID], root: Path, known: Mapping[str, SourceRecord], *, by_content: bool
) -> list[Input]:
    """Examine the files of these data IDs on disk, and compare them with their records.

    Parameters
    ----------
    root
        Top of the SAS mirror.
    known
        Latest records by partition key.
    by_content
        Whether data versions are hashes of the contents, instead of size and modification time.
    """
    inputs = []
    for data_id, found in locate(data_ids, root, known):
        record = known.get(data_id.key)
        if isinstance(found, FoundFile):
            inputs.append(compare(found, record, by_content=by_content))
        else:
            before = record.version if record else None
            inputs.append(Input(data_id, None, None, recorded=False, before=before, error=found))
    return inputs


def locate(
    data_ids: Iterable[DataID], root: Path, known: Container[str]
) -> Iterator[tuple[DataID, FoundFile | UnreachableError | None]]:
    """Yield the file of each data ID; None if it does not exist, or the error if it cannot be examined.

    Parameters
    ----------
    known
        Keys of files that were recorded: if one is missing, its disk may be away.
    """
    folders: dict[str, bool] = {}  # whether each exists: most missing files are in missing folders
    absences, links, top = Absences(root), Links(root), str(root)
    for data_id in data_ids:
        try:
            location = data_id.location(top)
            folder = location.rpartition("/")[0]
            if folder not in folders:
                folders[folder] = links.is_folder(Path(folder), data_id.key)
            status = links.file_status(location) if folders[folder] else None
            if status is None and folders[folder] and (other := links.existing_path(data_id)):
                location, status = str(other), status_of(other)  # of a link, or of a compressed file
            if status is not None:
                yield data_id, FoundFile(data_id, location, status.st_size, status.st_mtime_ns)
                continue
            if data_id.key in known:
                absences.refuse_outage(data_id)
            yield data_id, None
        except UnreachableError as error:
            yield data_id, error


def compare(file: FoundFile, record: SourceRecord | None, *, by_content: bool, again: bool = False) -> Input:
    """Compare an existing file with its record.

    Parameters
    ----------
    by_content
        Whether its data version is a hash of its contents.
    again
        Whether to read it even if its size and modification time are those recorded.
    """
    before = record.version if record else None
    state = file_version(file.size, file.mtime_ns)
    hashed = record is not None and record.version.startswith(HASHED)
    if record is not None and record.file == state and (hashed or not by_content) and not again:
        return Input(file.data_id, file, record.version, recorded=True, before=before)
    # A file that was recorded by its contents stays so: an unchanged copy with a new date keeps its version.
    try:
        version = content_version(file.path) if by_content or hashed else state
    except UnreachableError as error:
        return Input(file.data_id, None, None, recorded=False, before=before, error=error)
    same = record is not None and (record.version, record.file) == (version, state)
    return Input(file.data_id, file, version, recorded=same, before=before)
