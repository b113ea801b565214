"""The errors of the package, each of which is a type of its own and says what to do next.

Every error that a user can cause derives from `AstraError`. All of them are here, whatever room raises them, so that
callers find them in one place.
"""

import contextlib
import difflib
import errno
import os
import shutil
import sysconfig
import traceback
from collections.abc import Iterable
from enum import StrEnum
from os import PathLike
from pathlib import Path
from typing import ClassVar

_INSTALLED = (str(Path(__file__).parent) + os.sep, sysconfig.get_path("stdlib") + os.sep)
"""Folders of code that is no user's: this package, and Python."""

LONGEST = 300
"""Largest number of characters that are quoted from the message of an error that is not ours."""


class Fault(StrEnum):
    """Whose fault a failure is, which decides when the partition is tried again without being asked."""

    FILE = "file"
    """The file is broken: it is tried again when it changes."""
    TASK = "task"
    """The task's code failed on the file: it is tried again when the code version or the file changes."""
    MACHINE = "machine"
    """A disk is full, a mirror is away, or a process was lost: it is tried again after a while."""


class AstraError(Exception):
    """An error that a user can understand and mend.

    Parameters
    ----------
    message
        What is wrong, in one sentence.
    key
        The partition key concerned, if there is one.
    path
        The file concerned, if there is one.
    hint
        What to do next.

    Attributes
    ----------
    fault
        Whose fault it is that a partition failed with this error.
    """

    fault: ClassVar[Fault] = Fault.FILE

    def __init__(
        self,
        message: str,
        *,
        key: str | None = None,
        path: str | PathLike[str] | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.key = key
        self.path = None if path is None else str(path)
        self.hint = hint

    def __str__(self) -> str:
        return self._compose(("key", self.key), ("file", self.path))

    def without_key(self) -> str:
        """Return the message with its file and hint, for places where the partition key stands beside it."""
        return self._compose(("file", self.path))

    def without_place(self) -> str:
        """Return the message with its hint alone, which errors of many files may share."""
        return self._compose()

    def _compose(self, *places: tuple[str, str | None]) -> str:
        """Return the message with these places, given as name and text, and with the hint."""
        where = [f"{name} {value}" for name, value in places if value is not None and value not in self.message]
        text = f"{self.message} ({', '.join(where)})" if where else self.message
        text = f"{text}; {self.hint}" if self.hint else text
        return "\n".join(map(printable, text.split("\n")))

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword-only arguments do not unpickle by themselves.
        return _rebuild, (type(self), self.message, self.key, self.path, self.hint)


def _rebuild(kind: type[AstraError], message: str, key: str | None, path: str | None, hint: str | None) -> AstraError:
    return kind(message, key=key, path=path, hint=hint)


class ConfigurationError(AstraError):
    """A setting is missing or makes no sense."""

    fault = Fault.MACHINE


class UnknownReleaseError(AstraError, KeyError):
    """There is no release of this name."""

    __str__ = AstraError.__str__


class UnknownProductError(AstraError, KeyError):
    """There is no product of this name, or the release does not have it."""

    __str__ = AstraError.__str__


class UnknownTaskError(AstraError, KeyError):
    """There is no task of this name."""

    __str__ = AstraError.__str__


class ReaderError(AstraError, ValueError):
    """A reader for a product that has one already."""


class InvalidKeyError(AstraError, ValueError):
    """A partition key, or a part of one, that identifies no file."""


class CatalogueError(AstraError, ValueError):
    """A table that cannot be read, or that does not say what identifies a file."""


class PathMismatchError(AstraError, ValueError):
    """A path that is not one of the product in this release."""


class UnresolvableTemplateError(AstraError):
    """A path template of the SDSS tree from which no path can be formed, with the reason."""


class SpectrumFileError(AstraError):
    """A file that does not agree with its data model."""


class IdentityError(SpectrumFileError):
    """A file that says in its header that it is another one than its path says."""


class OtherProductError(SpectrumFileError):
    """A file of another product than the one that was asked for, or that its name says."""


class UnknownFileError(SpectrumFileError):
    """A file of which neither the name nor the headers are those of a product with a reader."""


class CutShortError(SpectrumFileError):
    """A file that ends before what its own headers announce."""


class UnreachableError(SpectrumFileError):
    """A file or folder that cannot be examined: permission is denied, a disk fails, or a mirror is away."""

    fault = Fault.MACHINE


class AwayError(UnreachableError):
    """A missing file that was here before, and whose folder holds no other of its product: its disk may be away."""


class LinkOutsideError(UnreachableError):
    """A file that a symbolic link in the mirror leads to, and that lies where the configuration allows no reading."""


class InputMissingError(AstraError):
    """The file that a partition stands for is not on this disk."""

    fault = Fault.MACHINE


class DownloadError(AstraError):
    """A file that the Science Archive Server did not deliver."""

    fault = Fault.MACHINE


class NotOnSASError(DownloadError):
    """The Science Archive Server does not have the file."""


class AccessDeniedError(DownloadError):
    """The Science Archive Server wants a login, or another one."""


class ChecksumError(DownloadError):
    """A fetched file that does not agree with the checksum of the Science Archive Server."""


class OutputError(AstraError):
    """An output that cannot be written, or does not agree with its record."""

    fault = Fault.MACHINE


class DiskFullError(OutputError):
    """A disk that is full, read-only, or on which a quota is used up, so that no other output can be written either."""


class StorageError(AstraError):
    """Dagster's storage of records, or another file that all partitions need, cannot be read or written."""

    fault = Fault.MACHINE


class ParameterError(AstraError, ValueError):
    """A task parameter that has an unknown name, a wrong type or an impossible value."""


class DeclarationError(AstraError, ValueError):
    """A task that is declared with something that it cannot have."""


class UnknownFlagError(ParameterError, KeyError):
    """There is no bit of this name in the pixel mask of a file."""

    __str__ = AstraError.__str__


class UnknownColumnError(AstraError, KeyError):
    """The results of a task have no column of this name."""

    __str__ = AstraError.__str__


class TooManyRowsError(AstraError, ValueError):
    """More results are asked for than are taken into memory."""


class ComparisonError(AstraError, ValueError):
    """Two sets of results that cannot be compared."""


class AnalysisError(AstraError, ValueError):
    """Arrays or parameters that an analysis cannot work with."""


class TaskError(AstraError):
    """A task's function failed, or returned something that cannot be stored."""

    fault = Fault.TASK


class SetupError(TaskError):
    """A task's setup failed, in which a worker prepares what the task needs: a device may be busy, or a model away."""

    fault = Fault.MACHINE


class OutOfMemoryError(AstraError):
    """A file that needs more memory than there is, even as the only one that its process works on."""

    fault = Fault.MACHINE


class WorkerLostError(AstraError):
    """A file that kills every process that works on it."""

    fault = Fault.MACHINE


def describe(error: BaseException) -> str:
    """Describe an error that is not ours in one short line: its type and its message."""
    try:
        text = in_one_line(str(error))
    except Exception:  # libraries and users make errors that cannot say what they are
        text = ""
    name = type(error).__name__
    return f"{name}: {text}" if text else name


def find_line(error: BaseException, module: str = "") -> tuple[str, int, str] | None:
    """Return the file, line and function in which an error arose in a user's code; None if it arose in no such code.

    Parameters
    ----------
    module
        Name of the user's module. The code of its package is the user's even if it is installed, or is this package.
    """
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return error.filename, error.lineno, ""
    top = module.partition(".")[0]
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        path, name = frame.f_code.co_filename, str(frame.f_globals.get("__name__"))
        installed = path.startswith((*_INSTALLED, "<")) or "-packages/" in path or name == "__main__"
        if name.partition(".")[0] == top or not installed:
            return path, line, frame.f_code.co_name
    return None


def describe_user_error(error: BaseException, module: str = "") -> str:
    """Describe an error like `describe`, with the line of a user's code in which it arose: see `find_line`."""
    found = find_line(error, module)
    ours = isinstance(error, AstraError)
    text = str(error) if ours else describe(error)
    if found is None or isinstance(error, SyntaxError) or (ours and found[0].startswith(_INSTALLED)):
        return text
    path, line, function = found
    inside = "" if function.startswith("<") else f", in {function}"
    return f"{text} (line {line} of {_shorten(Path(path))}{inside})"


def _shorten(path: Path) -> Path:
    """Return a path from the folder of the outermost package that it is in."""
    top = path.parent
    while top.name and (top / "__init__.py").is_file():
        top = top.parent
    return path.relative_to(top)


def printable(text: str) -> str:
    """Return a text with escapes for characters that a terminal would act on, as names of files may have them."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def in_one_line(text: str) -> str:
    """Return a text without line breaks, cut to what a person reads."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."


def make_write_error(
    error: OSError,
    what: str,
    path: str | PathLike[str],
    *,
    key: str | None = None,
    hint: str = "make it writable",
    kind: type[AstraError] = OutputError,
) -> AstraError:
    """Make the error for a file that cannot be written; if its disk is full, it says which, and how much is free.

    Parameters
    ----------
    what
        What the file would have been: "the output".
    key, hint
        Partition key, and what to do next.
    kind
        Type of the error, where the disk is not the cause.
    """
    reason = error.strerror or str(error)
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return kind(f"{what} cannot be written: {reason}", key=key, path=path, hint=hint)
    there = next((parent for parent in Path(path).absolute().parents if parent.is_dir()), Path("/"))
    disk = next(folder for folder in (there, *there.parents) if folder.is_mount() or folder == folder.parent)
    free = ""
    with contextlib.suppress(OSError):
        free = f" ({shutil.disk_usage(there).free / 1e6:.1f} MB free)"
    return DiskFullError(
        f"{what} cannot be written: the disk at {disk} takes no more: {reason}{free}",
        key=key,
        path=path,
        hint=hint.replace("make it writable", "make room"),
    )


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known names are most like `name`, for the hint of an error."""
    folded: dict[str, str] = {}
    for candidate in known:
        folded.setdefault(candidate.lower(), candidate)
    close = difflib.get_close_matches(str(name)[:80].lower(), folded, n=3, cutoff=0.5)
    if not close:
        return "nothing of a similar name is known"
    return "did you mean " + ", ".join(folded[c] for c in close) + "?"
