"""The Science Archive Server and its mirror on this disk: where a file is, whether it exists, and how to fetch it.

Which files are wanted is not decided here. A single file is fetched by `download`.
"""

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from astra_dagster import settings
from astra_dagster.archive.checksums import Checksums
from astra_dagster.archive.download import check_sum, download
from astra_dagster.archive.web import Client, Patience, Stopped
from astra_dagster.datamodel.products import DataID
from astra_dagster.errors import (
    AstraError,
    ChecksumError,
    DiskFullError,
    DownloadError,
    InputMissingError,
    NotOnSASError,
)
from astra_dagster.fits.reader import FitsFile
from astra_dagster.fits.truncation import is_cut_short

WORKERS = 8
"""Number of requests at a time."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """The outcome of fetching one file.

    Attributes
    ----------
    path
        Path of the file on this disk; None if it could not be fetched.
    received
        Bytes that came over the network; 0 if the file was on disk already.
    error
        Why the file could not be fetched, with the partition key; None if it is on disk.
    """

    data_id: DataID
    path: Path | None
    received: int = 0
    error: AstraError | None = None


@dataclass(frozen=True)
class Archive:
    """A local mirror, and the server whose files it mirrors.

    Attributes
    ----------
    root
        Top folder of the mirror: SAS_BASE_DIR.
    base_url
        Address that replaces the Science Archive Server's: ASTRA_SAS_URL; None for the address of each release.
    patience
        How long to put up with a server that fails.
    """

    root: Path
    base_url: str | None = None
    patience: Patience = field(default_factory=Patience)

    @classmethod
    def from_settings(cls) -> Self:
        """Make the archive that the settings name.

        Raises
        ------
        ConfigurationError
            If SAS_BASE_DIR is not set, or ASTRA_SAS_URL is not an address.
        """
        return cls(settings.sas_base_dir(), settings.sas_url())

    def path(self, data_id: DataID) -> Path:
        """Return the path of a file, or of its compressed variant, on this disk; if neither exists, where it would be.

        Raises
        ------
        UnreachableError
            If it cannot be told whether the file exists.
        """
        return data_id.existing_path(self.root) or data_id.path(self.root)

    def url(self, data_id: DataID) -> str:
        """Return the address from which a file is fetched.

        Raises
        ------
        AstraError
            If the file belongs to a software product, which is not on the server.
        """
        official = data_id.url
        return official if self.base_url is None else f"{self.base_url}/{data_id.relative_path}"

    def exists(self, data_id: DataID) -> bool:
        """Whether a file, or a compressed variant of it, is on this disk.

        Raises
        ------
        UnreachableError
            If that cannot be told.
        """
        return data_id.existing_path(self.root) is not None

    def exists_remotely(self, data_id: DataID) -> bool:
        """Whether the server has a file.

        Raises
        ------
        AccessDeniedError
            If it does not answer without a login, or with this one.
        DownloadError
            If it does not answer, or its answer makes no sense.
        """
        client = Client(self.patience, threading.Event())
        url = self.url(data_id)
        try:
            with client.retry(lambda: client.ask("HEAD", url)) as response:
                client.refuse_page(url, kind=response.headers.get("Content-Type", ""))
        except NotOnSASError:
            return False
        except AstraError as error:
            error.key = data_id.key
            raise
        finally:
            client.close()
        return True

    def verify(self, data_ids: Iterable[DataID]) -> Iterator[Fetched]:
        """Compare files on this disk with the checksums in them, and with those that the server publishes.

        Yields
        ------
        Fetched
            One for each file, in their order. Its error is a `DownloadError`, but no `ChecksumError`, once at most: if
            the server does not answer, it is not asked again.
        """
        client = Client(self.patience, threading.Event())
        checksums = Checksums(client)
        answers = True
        try:
            for data_id in data_ids:
                try:
                    path = data_id.existing_path(self.root)
                    if path is None:
                        raise InputMissingError("the file is not there", path=data_id.path(self.root))
                    with FitsFile(path) as file:
                        file.verify()
                    url = self.url(data_id)
                    if answers and url.endswith(path.name):
                        check_sum(path, url, checksums)
                    yield Fetched(data_id, path)
                except AstraError as error:
                    answers &= isinstance(error, ChecksumError) or not isinstance(error, DownloadError)
                    error.key = data_id.key
                    yield Fetched(data_id, None, error=error)
        finally:
            client.close()

    def fetch(
        self, data_ids: Iterable[DataID], workers: int = WORKERS, *, overwrite: bool = False
    ) -> Iterator[Fetched]:
        """Fetch files to this disk, several at a time; whole files that are on disk already stay as they are.

        A file that is shorter than its headers say is fetched again, and replaced when it has come.

        Nothing happens before the first result is asked for. Each file is whole or absent, even if the process is
        killed; the part of an incomplete file that has come is kept for the next time. The length of a file is
        compared with that announced, and its contents with a checksum file of its folder, if the server has one. Its
        modification time is that of the remote file, so that data versions agree from one machine to the next. If
        the caller stops early, or is interrupted, the transfers stop at the next byte that comes.

        Parameters
        ----------
        data_ids
            Each is fetched once, however often it is named.
        workers
            Largest number of requests at a time.
        overwrite
            Whether to fetch all files again, and replace those that are on disk.

        Yields
        ------
        Fetched
            One for each file, in the order in which they end. A failure of one does not stop the others.

        Raises
        ------
        DiskFullError
            If the disk takes no more; raised at once.
        """
        stop = threading.Event()
        client = Client(self.patience, stop)
        checksums = Checksums(client)
        todo: queue.SimpleQueue[DataID | None] = queue.SimpleQueue()
        done: queue.SimpleQueue[Fetched | BaseException] = queue.SimpleQueue()

        def work() -> None:
            try:
                while not stop.is_set() and (data_id := todo.get()) is not None:
                    done.put(self._fetch_one(data_id, client, checksums, overwrite))
            except Stopped:
                pass
            except BaseException as error:  # raised in the caller's thread
                done.put(error)
            finally:
                client.close()

        # Plain threads, as Python would wait at its exit for those of an executor, which may wait for a server.
        threads: list[threading.Thread] = []
        wanted, waiting = iter(dict.fromkeys(data_ids)), 0
        try:
            while True:
                while waiting < 2 * workers and (data_id := next(wanted, None)) is not None:
                    todo.put(data_id)
                    waiting += 1
                    if len(threads) < workers:
                        threads.append(threading.Thread(target=work, name="astra-fetch", daemon=True))
                        threads[-1].start()
                if not waiting:
                    break
                result = done.get()
                if isinstance(result, BaseException):
                    raise result
                waiting -= 1
                yield result
        finally:
            stop.set()
            for _ in threads:
                todo.put(None)
            until = time.monotonic() + 1.0  # enough for threads that only have to close their files
            for thread in threads:
                thread.join(max(0.0, until - time.monotonic()))

    def _fetch_one(self, data_id: DataID, client: Client, checksums: Checksums, overwrite: bool) -> Fetched:
        path = data_id.path(self.root)
        is_whole = _is_never_whole if overwrite else _is_whole
        try:
            there = data_id.existing_path(self.root)
            if there is not None and is_whole(there):
                return Fetched(data_id, there)
            return Fetched(data_id, path, download(client, checksums, self.url(data_id), path, is_whole))
        except DiskFullError:  # none of the others would fare better
            raise
        except AstraError as error:
            error.key = data_id.key
            return Fetched(data_id, None, error=error)


def _is_whole(path: Path) -> bool:
    return path.is_file() and not is_cut_short(path)


def _is_never_whole(_: Path) -> bool:
    return False
