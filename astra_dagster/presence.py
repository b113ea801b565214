"""Whether a file or folder exists: yes, no, or an error where that cannot be told.

`Path.exists`, `is_file` and `is_dir` return False for a link that leads back to itself, and raise bare errors of the
operating system where a folder may not be entered or a disk fails. The functions here return False only where that is
certain.
"""

import errno
import os
import stat
from pathlib import Path

from astra_dagster.errors import UnreachableError

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG})
"""Errors of the system by which a path surely does not exist: there is nothing of this name, a file stands where a
folder would have to be, or the name is too long for this disk. After every other error it may exist."""

_HINTS = {
    errno.EACCES: "ask its owner",
    errno.EPERM: "ask its owner",
    errno.ELOOP: "a link in it leads back to itself",
}


def status_of(path: str | os.PathLike[str]) -> os.stat_result | None:
    """Return the status of a file or folder; None if it does not exist, or is a link that leads nowhere.

    Raises
    ------
    UnreachableError
        If that cannot be told: permission is denied, or the disk fails or is away.
    """
    try:
        return os.stat(path)  # noqa: PTH116 (of very many files)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise make_unreachable_error(error, path) from error


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether a path is that of a file; raises as `status_of` does."""
    status = status_of(path)
    return status is not None and stat.S_ISREG(status.st_mode)


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a path is that of a folder; raises as `status_of` does."""
    status = status_of(path)
    return status is not None and stat.S_ISDIR(status.st_mode)


def make_unreachable_error(error: OSError, path: str | os.PathLike[str]) -> UnreachableError:
    """Make the error for a path that cannot be examined; it names the topmost file or folder that is at fault."""
    here = above = Path(path)
    for place in (*reversed(here.parents), here):
        try:
            os.stat(place)  # noqa: PTH116
            above = place
        except OSError as fault:  # whether a file may be examined depends on the folders above it
            error, here = fault, above if fault.errno == errno.EACCES else place
            break
    reason = (error.strerror or str(error)).lower()
    hint = _HINTS.get(error.errno or 0, "is its disk mounted, and in order?")
    return UnreachableError(f"cannot be looked at: {reason}", path=here, hint=hint)
