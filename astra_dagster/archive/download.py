"""Fetch one file from the Science Archive Server to this disk, whole or not at all.

The file grows under a hidden name beside its own (see `partial`). A later attempt, by this process or another,
continues from there if the server still has the same version. At the end the length is compared with that which the
server announced, and the contents with a checksum if one is published; the modification time becomes that of the remote
file.
"""

import hashlib
import re
from collections.abc import Callable
from io import BufferedReader, FileIO
from pathlib import Path

import requests
import urllib3

from astra_dagster import files
from astra_dagster.archive.checksums import Checksums
from astra_dagster.archive.partial import Busy, Partial, Version
from astra_dagster.archive.web import Client, Stopped, Transient, describe_failure
from astra_dagster.datamodel.templates import COMPRESSIONS
from astra_dagster.errors import ChecksumError, DownloadError, make_write_error

_BLOCK = 1 << 20  # bytes
_BUSY = 0.5  # s to wait before looking again at a file that another process is fetching


def download(
    client: Client, checksums: Checksums, url: str, target: Path, is_whole: Callable[[Path], bool] = Path.is_file
) -> int:
    """Fetch a file, unless it is on disk already.

    Parameters
    ----------
    is_whole
        Whether what is on disk is the file, and need not be fetched; else it stays until another is complete.

    Returns
    -------
    int
        Bytes that came over the network.

    Raises
    ------
    DownloadError
        If the file could not be fetched; the type of the error says why.
    DiskFullError
        If the disk takes no more.
    Stopped
        If `client` was stopped; the part that has come is kept.
    """
    try:
        while not is_whole(target):
            try:
                with Partial(target, is_whole) as partial:
                    transfer = _Transfer(client, checksums, url, partial)
                    client.retry(transfer.attempt)
                    return transfer.received
            except Busy:
                client.pause(_BUSY)
    except OSError as error:
        raise make_write_error(error, "it", target, hint="make it writable", kind=DownloadError) from error
    return 0


def check_sum(path: Path, url: str, checksums: Checksums) -> None:
    """Compare a file on this disk with the checksum that the server publishes for it, if there is one.

    Raises
    ------
    ChecksumError
        If they differ.
    DownloadError
        If the server does not answer.
    """
    with files.open_file(path) as stream:
        if problem := _find_difference(stream, url, checksums):
            raise ChecksumError(problem, path=path, hint="fetch it again, with --overwrite")


def _find_difference(stream: BufferedReader | FileIO, url: str, checksums: Checksums) -> str:
    """Say how a file differs from the checksum that the server publishes for it; empty if it does not, or has none."""
    right = checksums.find(url)
    if not right:
        return ""
    stream.seek(0)
    digest = hashlib.file_digest(stream, lambda: hashlib.sha1(usedforsecurity=False)).hexdigest()
    published = " or ".join(sorted(right))
    return "" if digest in right else f"its SHA-1 is {digest}, and {published} by the checksum file beside it: {url}"


class _Transfer:
    """The transfer of one file, by one request or several."""

    def __init__(self, client: Client, checksums: Checksums, url: str, partial: Partial) -> None:
        self.received = 0
        self._client = client
        self._checksums = checksums
        self._url = url
        self._partial = partial
        self._furthest = 0

    def attempt(self) -> None:
        """Make one request, which starts where the last one ended."""
        offset, version = self._partial.find_start()
        headers = {} if version is None else {"Range": f"bytes={offset}-", "If-Range": version.condition}
        with self._client.ask("GET", self._url, headers) as response:
            offers = self._read_version(response, offset)
            if response.status_code == 200 and offers is not None:
                version, offset = offers, 0
                self._partial.restart(version)
            elif version is None or offers is None or not version.agrees(offers):
                self._partial.discard()
                raise Transient(f"the server did not send what it was asked for: {self._url}")
            self._partial.stream.seek(offset)
            self._copy(response, offset, version.size)
        self._check_contents(whole=offset == 0)
        self._partial.finish(version.mtime_ns)

    def _read_version(self, response: requests.Response, offset: int) -> Version | None:
        """Return the version of the remote file that an answer announces; None if it does not start at `offset`."""
        if response.status_code == 416:
            return None
        self._client.refuse_page(self._url, kind=response.headers.get("Content-Type", ""))
        coding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if coding != "identity" and self._partial.target.suffix not in COMPRESSIONS:
            raise DownloadError(f"the server sends it compressed, although asked not to: {self._url}")
        etag, modified = response.headers.get("ETag", ""), response.headers.get("Last-Modified", "")
        if response.status_code == 200:
            size = response.headers.get("Content-Length", "")
            if not size.isdecimal():
                raise DownloadError(f"the server does not say how long the file is: {self._url}")
            if int(size) == 0:
                raise DownloadError(f"the server sends a file of length 0: {self._url}", hint="try again later")
            return Version(etag, modified, int(size))
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", "").strip())
        return Version(etag, modified, int(match[2])) if match is not None and int(match[1]) == offset else None

    def _copy(self, response: requests.Response, offset: int, size: int) -> None:
        """Write the answer to disk piece by piece, so that little is lost if the connection breaks."""
        here, reason = offset, "the connection was closed"
        while here < size:
            if self._client.stop.is_set():
                raise Stopped
            try:
                block = response.raw.read1(min(_BLOCK, size - here), decode_content=False)
            except (urllib3.exceptions.HTTPError, requests.RequestException) as error:
                block, reason = b"", describe_failure(error)
            if not block:
                further, self._furthest = here > self._furthest, max(here, self._furthest)
                raise Transient(f"{reason} after {here} of {size} bytes: {self._url}", progress=further)
            rest = memoryview(block)
            while rest:
                rest = rest[self._partial.stream.write(rest) :]
            here += len(block)
            self.received += len(block)

    def _check_contents(self, whole: bool) -> None:
        stream = self._partial.stream
        stream.seek(0)
        try:
            self._client.refuse_page(self._url, start=stream.read(256))
        except DownloadError:
            self._partial.discard()
            raise
        if problem := _find_difference(stream, self._url, self._checksums):
            self._partial.discard()
            if not whole:  # the parts may not have fitted together
                raise Transient(f"its parts do not add up to the published checksum: {self._url}")
            raise ChecksumError(problem, hint="nothing was kept; try again later, or ask the SDSS help desk")
