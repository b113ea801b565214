"""Whether something is on disk: it is there, it is not there, or nobody can tell.

`Path.exists`, `is_file` and `is_dir` say "no" of a link that leads back to itself, and raise bare errors of the
operating system where a folder may not be entered or a disk fails. What is asked here says "no" only where that is
certain.
"""

import errno
import os
import stat
from pathlib import Path

from astra_dagster.errors import UnreachableError

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG})
"""What the system answers of a path that is not there: nothing of this name, a file where a folder would have to be, or
a name that is too long for any file of this disk. Every other answer leaves it open."""

_HINTS = {
    errno.EACCES: "ask its owner",
    errno.EPERM: "ask its owner",
    errno.ELOOP: "a link in it leads back to itself",
}


def status_of(path: str | os.PathLike[str]) -> os.stat_result | None:
    """Status of a file or folder, None if it is not there; a link that leads nowhere is not there.

    Raises
    ------
    UnreachableError
        If nobody can tell: permission denied, a disk that fails or is away.
    """
    try:
        return os.stat(path)  # noqa: PTH116 (of very many files)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise unreachable(error, path) from error


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether there is a file; raises as `status_of` does."""
    status = status_of(path)
    return status is not None and stat.S_ISREG(status.st_mode)


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether there is a folder; raises as `status_of` does."""
    status = status_of(path)
    return status is not None and stat.S_ISDIR(status.st_mode)


def unreachable(error: OSError, path: str | os.PathLike[str]) -> UnreachableError:
    """What to say of a path that cannot be looked at: it names the topmost file or folder that is at fault."""
    here = above = Path(path)
    for place in (*reversed(here.parents), here):
        try:
            os.stat(place)  # noqa: PTH116
            above = place
        except OSError as fault:  # what is asked of a file is permitted by the folders above it
            error, here = fault, above if fault.errno == errno.EACCES else place
            break
    reason = (error.strerror or str(error)).lower()
    hint = _HINTS.get(error.errno or 0, "is its disk mounted, and in order?")
    return UnreachableError(f"cannot be looked at: {reason}", path=here, hint=hint)
