"""Keep the part of a file that has been fetched so far, with the version of the remote file to which it belongs.

The part lies beside the file under a hidden name, ``.NAME.part``, with the version in ``.NAME.part.json``; discovery
and clean-up ignore both. What is fetched, and whether it is right, is not decided here.
"""

import contextlib
import fcntl
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from typing import Self

from astra_dagster.archive.web import parse_http_date
from astra_dagster.files import check_is_file, parse_json, read_file


class Busy(Exception):
    """Another process or thread is fetching the file."""


@dataclass(frozen=True)
class Version:
    """What a server says of the state of a remote file; `size` is in bytes."""

    etag: str
    modified: str
    size: int

    @property
    def condition(self) -> str:
        """Value for the header If-Range; empty if the server says nothing by which states surely differ."""
        return self.etag if self.etag.startswith('"') else self.modified

    @property
    def mtime_ns(self) -> int | None:
        """Modification time in nanoseconds, as the server says; None if it does not."""
        date = parse_http_date(self.modified)
        return None if date is None else int(date.timestamp()) * 1_000_000_000

    def agrees(self, answer: "Version") -> bool:
        """Whether an answer is about this version. An answer with a part of a file may leave out etag and date."""
        return answer.size == self.size and answer.etag in ("", self.etag) and answer.modified in ("", self.modified)


class Partial:
    """The fetched part of a file, locked for others while the context is open; an empty part is removed.

    Parameters
    ----------
    is_whole
        Whether the file that has its own name need not be fetched.
    """

    def __init__(self, target: Path, is_whole: Callable[[Path], bool] = Path.is_file) -> None:
        self.target = target
        self.is_whole = is_whole
        self.path = target.with_name(f".{target.name}.part")
        self.note = target.with_name(f".{target.name}.part.json")
        self._stream: FileIO | None = None

    def __enter__(self) -> Self:
        with contextlib.suppress(FileNotFoundError):
            self._open(os.O_RDWR)
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            with self._stream as stream, contextlib.suppress(OSError):
                if not os.fstat(stream.fileno()).st_size:
                    self._remove()

    @property
    def stream(self) -> FileIO:
        """The contents, to be read and written."""
        if self._stream is None:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            self._open(os.O_RDWR | os.O_CREAT)
        assert self._stream is not None  # noqa: S101 (for mypy)
        return self._stream

    def find_start(self) -> tuple[int, Version | None]:
        """Return how many bytes need not be fetched again, and the version of the remote file to which they belong.

        The last byte of a complete file is fetched again, so that the server says whether it still has this version.
        """
        if self._stream is None:
            return 0, None
        size = os.fstat(self._stream.fileno()).st_size
        try:
            version = Version(**parse_json(read_file(self.note)))
            valid = 0 < size <= version.size and bool(re.fullmatch(r"[\x21-\x7e][\x20-\x7e]*", version.condition))
        except (OSError, ValueError, TypeError, AttributeError):
            return 0, None
        return (min(size, version.size - 1), version) if valid else (0, None)

    def discard(self) -> None:
        """Throw away what was fetched."""
        if self._stream is not None:
            self._stream.truncate(0)

    def restart(self, version: Version) -> None:
        """Throw away what was fetched, and start with another version of the remote file."""
        self.stream.truncate(0)
        self.stream.seek(0)
        self.note.write_text(json.dumps(asdict(version)), encoding="utf-8")

    def finish(self, mtime_ns: int | None) -> None:
        """Move the complete file to its own name, with the modification time of the remote file if that is known."""
        if mtime_ns is not None:
            os.utime(self.stream.fileno(), ns=(time.time_ns(), mtime_ns))
        os.fsync(self.stream.fileno())
        self.note.unlink(missing_ok=True)
        self.path.replace(self.target)
        self.stream.close()
        self._stream = None

    def _open(self, flags: int) -> None:
        """Open and lock the file, and check that its name was not given to another file meanwhile.

        Raises
        ------
        Busy
            If another process or thread has it, or has just completed it.
        """
        stream = os.fdopen(
            os.open(self.path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666), "r+b", buffering=0
        )
        try:
            check_is_file(stream.fileno(), self.path)
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy from None
            except OSError:
                pass  # a file system without locks
            if not self._is_ours(stream):
                raise Busy
            if self.is_whole(self.target):
                self._remove()
                raise Busy
        except BaseException:
            stream.close()
            raise
        self._stream = stream

    def _is_ours(self, stream: FileIO) -> bool:
        """Whether the file that was opened still has its name."""
        try:
            return os.path.samestat(self.path.stat(), os.fstat(stream.fileno()))
        except FileNotFoundError:
            return False

    def _remove(self) -> None:
        self.note.unlink(missing_ok=True)
        self.path.unlink()
