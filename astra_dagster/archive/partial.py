"""The beginning of a file that is being fetched, and what it is the beginning of.

It lies under a hidden name beside the file's own, ``.NAME.part``, with a note ``.NAME.part.json``; discovery and
clean-up take neither for a file. What is fetched, and whether it is right, is not decided here.
"""

import contextlib
import fcntl
import json
import os
import re
import time
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from typing import Self

from astra_dagster.archive.web import http_date
from astra_dagster.files import check_sort, parse_json, read_file


class Busy(Exception):
    """Another process or thread is fetching the file."""


@dataclass(frozen=True)
class Version:
    """What tells one state of a remote file from another; `size` in bytes."""

    etag: str
    modified: str
    size: int

    @property
    def condition(self) -> str:
        """Value for the header If-Range; empty if nothing tells the states apart for sure."""
        return self.etag if self.etag.startswith('"') else self.modified

    @property
    def mtime_ns(self) -> int | None:
        """When it was modified, as the server says."""
        date = http_date(self.modified)
        return None if date is None else int(date.timestamp()) * 1_000_000_000

    def agrees(self, answer: "Version") -> bool:
        """Whether a part is of this version; an answer with a part of a file need not say all about it."""
        return answer.size == self.size and answer.etag in ("", self.etag) and answer.modified in ("", self.modified)


class Partial:
    """The beginning of a file; as a context, nobody else's in the meantime. Without contents it leaves no trace."""

    def __init__(self, target: Path) -> None:
        self.target = target
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

    def kept(self) -> tuple[int, Version | None]:
        """How many bytes need not be asked for again, and what they are the beginning of.

        The last byte of a complete file is asked for again: so the server says whether it is still the same file.
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
        """Keep nothing of what has come."""
        if self._stream is not None:
            self._stream.truncate(0)

    def restart(self, version: Version) -> None:
        """Begin with another version of the remote file."""
        self.stream.truncate(0)
        self.stream.seek(0)
        self.note.write_text(json.dumps(asdict(version)), encoding="utf-8")

    def finish(self, mtime_ns: int | None) -> None:
        """Put it where it belongs."""
        if mtime_ns is not None:
            os.utime(self.stream.fileno(), ns=(time.time_ns(), mtime_ns))
        os.fsync(self.stream.fileno())
        self.note.unlink(missing_ok=True)
        self.path.replace(self.target)
        self.stream.close()
        self._stream = None

    def _open(self, flags: int) -> None:
        """Open and lock the file, and see that the one of that name is still this one."""
        stream = os.fdopen(
            os.open(self.path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666), "r+b", buffering=0
        )
        try:
            check_sort(stream.fileno(), self.path)
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy from None
            except OSError:
                pass  # a file system without locks
            if not self._is_ours(stream):
                raise Busy
            if self.target.is_file():
                self._remove()
                raise Busy
        except BaseException:
            stream.close()
            raise
        self._stream = stream

    def _is_ours(self, stream: FileIO) -> bool:
        """Whether the name still is that of the file that was opened."""
        try:
            return os.path.samestat(self.path.stat(), os.fstat(stream.fileno()))
        except FileNotFoundError:
            return False

    def _remove(self) -> None:
        self.note.unlink(missing_ok=True)
        self.path.unlink()
