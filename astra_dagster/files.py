"""Opening files: only what is one, and no more of it than is expected.

In the place of a file there may be a FIFO, which blocks whoever opens it, or a device that never ends; a file may have
any size without taking any room on the disk, and a small compressed file may unpack to any size. So whatever the
package reads that it did not just write itself is opened here. What is in a file is not the business of this module.
"""

import bz2
import errno
import io
import json
import lzma
import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

SMALL = 64_000_000
"""Bytes of a document, configuration or list that is read whole; what has more is something else."""

STEP = 1 << 20
"""Bytes that are unpacked at a time."""

_SORTS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

_MEMBERS = 1000
"""Parts that a compressed file may consist of, besides one for every thousand bytes in it."""

_UNPACKERS: dict[str, tuple[bytes, Callable[[], Any]]] = {
    "gz": (b"\x1f\x8b", lambda: zlib.decompressobj(wbits=31)),
    "bz2": (b"BZh", bz2.BZ2Decompressor),
    "xz": (b"\xfd7zXZ\0", lambda: lzma.LZMADecompressor(memlimit=1 << 28)),
}
"""First bytes and decompressor of the forms of compression."""

_ZIP = b"PK\x03\x04"


class WrongFileError(OSError):
    """Something that cannot be the file that is wanted: no file at all, or larger than any; `strerror` says what."""


def open_descriptor(path: str | Path, flags: int = 0) -> int:
    """Open a file for reading, without waiting for anybody; the caller closes the descriptor.

    It is the open descriptor that is looked at, not the path: what takes the place of the file meanwhile is not read.

    Parameters
    ----------
    flags
        More flags for `os.open`.

    Raises
    ------
    WrongFileError
        If it is a folder, FIFO, socket or device, or a link to one.
    OSError
        If it cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | flags)
    except OSError as error:
        if error.errno == errno.ENXIO:  # sockets, and devices that are not there
            raise WrongFileError(errno.ENXIO, "a socket or device, not a file", str(path)) from None
        raise
    try:
        check_sort(descriptor, path)
    except WrongFileError:
        os.close(descriptor)
        raise
    return descriptor


def check_sort(descriptor: int, path: str | Path) -> None:
    """Check that what is open is a file.

    Raises
    ------
    WrongFileError
        If it is something else.
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
        If it is no file, or has more than `largest` bytes; nothing is read of it then.
    OSError
        If it cannot be read.
    """
    with os.fdopen(open_descriptor(path), "rb", buffering=0) as stream:
        check_size(os.fstat(stream.fileno()).st_size, largest, path)
        return stream.read()


def read_text(path: str | Path, largest: int = SMALL) -> str:
    """Read a whole file as UTF-8, with line ends of any system.

    Raises
    ------
    OSError
        If it cannot be read, as in `read_file`.
    UnicodeDecodeError
        If it is not UTF-8.
    """
    return read_file(path, largest).decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")


def parse_json(contents: bytes | str) -> Any:
    """Read JSON; what is nested too deeply is none.

    Raises
    ------
    ValueError
        If it is not JSON.
    """
    try:
        return json.loads(contents)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def check_size(size: int, largest: int, path: str | Path) -> None:
    """Check that something is not larger than it may be.

    Raises
    ------
    WrongFileError
        If it is.
    """
    if size > largest:
        problem = f"has {size} bytes, where at most {largest} are expected"
        raise WrongFileError(errno.EFBIG, problem, str(path))


def compression(head: bytes) -> str | None:
    """Form of compression by the first bytes of a file: "gz", "bz2", "xz" or "zip"; None if it is none of them."""
    found = (form for form, (magic, _) in _UNPACKERS.items() if head.startswith(magic))
    return next(found, "zip" if head.startswith(_ZIP) else None)


def unpack(stream: BinaryIO, form: str) -> Iterator[bytes]:
    """Contents of a compressed file, at most `STEP` bytes at a time, so that who takes them can stop.

    Of a zip archive it is the first file. What follows the last part of a file is ignored.

    Raises
    ------
    ValueError
        If it is damaged, or of a sort of zip archives that is not unpacked.
    OSError
        If it cannot be read.
    """
    try:
        yield from _unpack_zip(stream) if form == "zip" else _unpack_members(stream, form)
    except OSError as error:
        if error.errno is not None:
            raise
        raise ValueError(f"damaged {form}: {error}") from error  # so bz2 says that
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
            # Those of other methods are unpacked by zipfile with no bound on what comes at a time.
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
        If it has more than `largest` bytes, packed or not; it is not unpacked any further then.
    ValueError, OSError
        As `unpack`.
    """
    check_size(os.fstat(stream.fileno()).st_size, largest, path)
    whole = io.BytesIO()
    for piece in unpack(stream, form):
        if whole.tell() + len(piece) > largest:
            problem = f"unpacks to more than {largest} bytes, which no such file has"
            raise WrongFileError(errno.EFBIG, problem, str(path))
        whole.write(piece)
    return whole.getvalue()
