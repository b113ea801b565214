"""Remove our files, and nothing else; links are never followed.

A file that has changed since it was inspected is kept, even if it changes at the moment of its removal.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from astra_dagster.outputs.layout import Sort, digest_folder, temporary_name
from astra_dagster.outputs.own_files import Identity, identity_of, walk

LAST = frozenset({Sort.PARAMETERS, Sort.TABLE})
"""Types of files that are removed only if no output is left in the folder of their digest."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file to be removed, or kept for a reason.

    Attributes
    ----------
    path
        Path below the outputs folder; for a record without an output, the partition key.
    kept
        Why it is kept; empty if it is to be removed.
    last
        Whether it is removed only if no output is left in the folder of its digest.
    """

    kind: str
    family: str
    digest: str
    path: str
    identity: Identity = (0, 0, 0)
    kept: str = ""
    last: bool = False

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.identity[1]


@dataclass
class Removal:
    """The removed candidates, and path and reason of those that were left or could not be removed."""

    removed: list[Candidate] = field(default_factory=list)
    left: list[tuple[str, str]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


def remove(root: Path, candidates: Iterable[Candidate], *, folders: bool = True) -> Removal:
    """Remove the candidates that are not to be kept; go on if one has changed or cannot be removed.

    Parameters
    ----------
    root
        The outputs folder.
    folders
        Whether to remove folders that become empty as well. A run that is about to write into one would fail.
    """
    removal = Removal()
    wanted = [candidate for candidate in candidates if not candidate.kept]
    _remove_all(root, [candidate for candidate in wanted if not candidate.last], removal)
    last = [candidate for candidate in wanted if candidate.last]
    for family, digest in dict.fromkeys((candidate.family, candidate.digest) for candidate in last):
        if all(file.name.sort in LAST for file in walk(digest_folder(root, family, digest), family, [])):
            mine = [candidate for candidate in last if (candidate.family, candidate.digest) == (family, digest)]
            _remove_all(root, mine, removal)
    emptied = {parent for candidate in removal.removed for parent in _parents(candidate.path)} if folders else set()
    for folder in sorted(emptied, key=lambda folder: folder.count("/"), reverse=True):
        above, _, name = folder.rpartition("/")
        with contextlib.suppress(OSError), _opened(root, above) as descriptor:  # one that is not empty stays
            os.rmdir(name, dir_fd=descriptor)
    return removal


def _remove_all(root: Path, candidates: Sequence[Candidate], removal: Removal) -> None:
    def folder_of(candidate: Candidate) -> str:
        return candidate.path.rpartition("/")[0]

    for folder, group in groupby(sorted(candidates, key=folder_of), key=folder_of):
        files = list(group)
        try:
            with _opened(root, folder) as descriptor:
                for candidate in files:
                    _remove_one(descriptor, candidate, removal)
        except OSError as error:
            removal.failed += [(candidate.path, f"{error.strerror}") for candidate in files]


def _remove_one(folder: int, candidate: Candidate, removal: Removal) -> None:
    """Rename a file, check that it is the one that was inspected, and only then remove it."""
    name = candidate.path.rpartition("/")[2]
    aside = temporary_name()
    try:
        if _identity(folder, name) == candidate.identity:
            os.rename(name, aside, src_dir_fd=folder, dst_dir_fd=folder)
            try:
                if _identity(folder, aside) == candidate.identity:
                    os.unlink(aside, dir_fd=folder)
                    removal.removed.append(candidate)
                    return
            except OSError:
                _put_back(folder, aside, name)
                raise
            _put_back(folder, aside, name)
        removal.left.append((candidate.path, "changed since it was listed"))
    except FileNotFoundError:
        removal.left.append((candidate.path, "no longer there"))
    except OSError as error:
        removal.failed.append((candidate.path, str(error.strerror)))


def _put_back(folder: int, aside: str, name: str) -> None:
    """Give a renamed file its name back, unless a newer file has it meanwhile."""
    try:
        os.link(aside, name, src_dir_fd=folder, dst_dir_fd=folder)
    except FileExistsError:
        pass
    except OSError:  # not every file system has hard links
        os.rename(aside, name, src_dir_fd=folder, dst_dir_fd=folder)
        return
    os.unlink(aside, dir_fd=folder)


def _identity(folder: int, name: str) -> Identity:
    return identity_of(os.stat(name, dir_fd=folder, follow_symlinks=False))


@contextlib.contextmanager
def _opened(root: Path, inner: str) -> Iterator[int]:
    """Open a folder below the root, which may be a link itself, without following links, and yield its descriptor."""
    descriptor = os.open(root, _FOLDER)
    try:
        for part in filter(None, inner.split("/")):
            below = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def _parents(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
