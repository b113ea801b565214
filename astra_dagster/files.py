"""Open and read files safely: only regular files, and only up to the size that is expected.

A path may lead to a FIFO, which blocks whoever opens it, or to a device that never ends; a file may have any size
without taking space on disk, and a small compressed file may unpack to any size. So everything that the package reads,
and did not just write itself, is opened here. What is in a file is not the business of this module.
"""

import bz2
import contextlib
import errno
import io
import json
import lzma
import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, BinaryIO

SMALL = 64_000_000
"""Largest size in bytes of a document, configuration or list, which are read as a whole."""

STEP = 1 << 20
"""Number of bytes that are unpacked at a time."""

_SORTS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

_MEMBERS = 1000
"""Number of parts that a compressed file may have, in addition to one for every thousand bytes in it."""

_UNPACKERS: dict[str, tuple[bytes, Callable[[], Any]]] = {
    "gz": (b"\x1f\x8b", lambda: zlib.decompressobj(wbits=31)),
    "bz2": (b"BZh", bz2.BZ2Decompressor),
    "xz": (b"\xfd7zXZ\0", lambda: lzma.LZMADecompressor(memlimit=1 << 28)),
}
"""First bytes and decompressor of each form of recognise_compression."""

_ZIP = b"PK\x03\x04"


_check: ContextVar[Callable[[Path], None] | None] = ContextVar("check", default=None)


@contextlib.contextmanager
def checked_by(check: Callable[[Path], None]) -> Iterator[None]:
    """Have `check_may_read` call a function within the context, which raises if a file may not be read."""
    token = _check.set(check)
    try:
        yield
    finally:
        _check.reset(token)


def check_may_read(path: str | Path) -> None:
    """Check that a file may be read whose path comes from the parameters of a task; see `checked_by`."""
    check = _check.get()
    if check is not None:
        check(Path(path))


class WrongFileError(OSError):
    """A path that cannot be the wanted file, as it is no regular file or too large; `strerror` says which."""


def open_descriptor(path: str | Path, flags: int = 0) -> int:
    """Open a file for reading, without ever blocking; the caller closes the descriptor.

    The descriptor is checked after it was opened, and not the path, under which another file may have come meanwhile.

    Parameters
    ----------
    flags
        More flags for `os.open`.

    Raises
    ------
    WrongFileError
        If the path is that of a folder, FIFO, socket or device, or of a link to one.
    OSError
        If the file cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | flags)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket, or a device that does not exist
            raise WrongFileError(errno.ENXIO, "a socket or device, not a file", str(path)) from None
        raise
    try:
        check_is_file(descriptor, path)
    except WrongFileError:
        os.close(descriptor)
        raise
    return descriptor


def check_is_file(descriptor: int, path: str | Path) -> None:
    """Check that a descriptor is that of a regular file.

    Raises
    ------
    WrongFileError
        If it is that of something else.
    """
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        raise WrongFileError(errno.EINVAL, f"{_SORTS.get(stat.S_IFMT(mode), 'something')}, not a file", str(path))


def open_file(path: str | Path, flags: int = 0) -> io.BufferedReader:
    """Open a file for reading, as `open_descriptor` does."""
    return os.fdopen(open_descriptor(path, flags), "rb")


def read_file(path: str | Path, largest: int = SMALL) -> bytes:
    """Read a whole file.

    Raises
    ------
    WrongFileError
        If the path is not that of a regular file, or the file has more than `largest` bytes; then nothing is read.
    OSError
        If the file cannot be read.
    """
    with os.fdopen(open_descriptor(path), "rb", buffering=0) as stream:
        check_size(os.fstat(stream.fileno()).st_size, largest, path)
        return stream.read()


def read_text(path: str | Path, largest: int = SMALL) -> str:
    """Read a whole file as UTF-8; lines may end as on any operating system.

    Raises
    ------
    OSError
        If the file cannot be read, as in `read_file`.
    UnicodeDecodeError
        If the file is not UTF-8.
    """
    return read_file(path, largest).decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")


def parse_json(contents: bytes | str) -> Any:
    """Parse JSON.

    Raises
    ------
    ValueError
        If the contents are not JSON, or nested too deeply.
    """
    try:
        return json.loads(contents)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def check_size(size: int, largest: int, path: str | Path) -> None:
    """Check that a size in bytes is not above the largest allowed.

    Raises
    ------
    WrongFileError
        If it is above.
    """
    if size > largest:
        problem = f"has {size} bytes, where at most {largest} are expected"
        raise WrongFileError(errno.EFBIG, problem, str(path))


def recognise_compression(head: bytes) -> str | None:
    """Recognise the form of recognise_compression by the first bytes of a file: "gz", "bz2", "xz", "zip", or None."""
    found = (form for form, (magic, _) in _UNPACKERS.items() if head.startswith(magic))
    return next(found, "zip" if head.startswith(_ZIP) else None)


def unpack(stream: BinaryIO, form: str) -> Iterator[bytes]:
    """Yield the contents of a compressed file, at most `STEP` bytes at a time, so that the caller can stop early.

    Of a zip archive the first file is unpacked. Bytes after the last part of a compressed file are ignored.

    Raises
    ------
    ValueError
        If the file is damaged, or a zip archive that is packed with another method than deflate.
    OSError
        If the file cannot be read.
    """
    try:
        yield from _unpack_zip(stream) if form == "zip" else _unpack_members(stream, form)
    except OSError as error:
        if error.errno is not None:
            raise
        raise ValueError(f"damaged {form}: {error}") from error  # bz2 reports damage so
    except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"damaged {form}: {error}") from error


def _unpack_members(stream: BinaryIO, form: str) -> Iterator[bytes]:
    magic, new = _UNPACKERS[form]
    members = made = 0
    rest = stream.read(STEP)
    if not rest.startswith(magic):
        raise ValueError(f"it is not {form}")
    while rest.startswith(magic):
        members += 1
        if members > _MEMBERS + made // 1000:
            raise ValueError(f"it has more than {members - 1} parts with hardly anything in them")
        unpacker = new()
        while not unpacker.eof:
            piece = unpacker.decompress(rest, STEP)
            made += len(piece)
            yield piece
            rest = unpacker.unused_data if unpacker.eof else getattr(unpacker, "unconsumed_tail", b"")
            if not rest and not unpacker.eof and getattr(unpacker, "needs_input", True):
                rest = stream.read(STEP)
                if not rest and not piece:
                    raise EOFError("it is cut short")
        if len(rest) < len(magic):
            rest += stream.read(STEP)


def _unpack_zip(stream: BinaryIO) -> Iterator[bytes]:
    with zipfile.ZipFile(stream) as archive:
        for item in archive.infolist()[:1]:
            # With other methods, zipfile may unpack any number of bytes at a time.
            if item.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError("the archive is packed with another method than deflate")
            with archive.open(item) as packed:
                while piece := packed.read(STEP):
                    yield piece


def unpack_file(stream: BinaryIO, form: str, largest: int, path: str | Path) -> bytes:
    """Unpack a whole file.

    Raises
    ------
    WrongFileError
        If the file has more than `largest` bytes, packed or unpacked; then it is not unpacked any further.
    ValueError, OSError
        As `unpack` raises them.
    """
    check_size(os.fstat(stream.fileno()).st_size, largest, path)
    with io.BytesIO() as whole:  # an error, which may be kept, does not keep what was unpacked
        for piece in unpack(stream, form):
            if whole.tell() + len(piece) > largest:
                problem = f"unpacks to more than {largest} bytes, which no such file has"
                raise WrongFileError(errno.EFBIG, problem, str(path))
            whole.write(piece)
        return whole.getvalue()
