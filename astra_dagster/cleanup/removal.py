"""Removing files of ours, and nothing else: not one that changed since it was looked at, not through a link.

A file that is not as it was when it was looked at stays, even if it changes at the very moment of its removal. Which
files are no longer needed is not decided here.
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
"""What goes only when no output is left in the folder of its digest."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that may be removed, or stays for a reason.

    Attributes
    ----------
    path
        Below the outputs folder; of a record without an output its partition key.
    kept
        Why it stays; empty if it is to be removed.
    last
        Whether it goes only when no output is left in the folder of its digest.
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
    """What became of candidates: removed, and path and reason of those left alone and of those that failed."""

    removed: list[Candidate] = field(default_factory=list)
    left: list[tuple[str, str]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


def remove(root: Path, candidates: Iterable[Candidate], *, folders: bool = True) -> Removal:
    """Remove candidates that are not to be kept; what cannot be removed, or has changed, is told and stops no other.

    Parameters
    ----------
    root
        The outputs folder.
    folders
        Whether to remove the folders that are empty without them as well. A run that is about to write into one of
        these would fail to.
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
    """Put a file aside, see that it is the one that was meant, and only then remove it."""
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
    """Undo that a file was put aside, unless a newer one has come in its place meanwhile."""
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
    """Descriptor of a folder below the root, reached without following a link; the root itself may be one."""
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
