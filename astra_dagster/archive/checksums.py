"""Read the checksums that the Science Archive Server publishes.

Some of its folders hold files ``*.sha1sum``, under no fixed name (``boss/lss/lss-dr10.sha1sum``), in the format of the
command ``sha1sum``. They are found in the listing of the folder. A file is compared with the checksum files of its own
folder; those of folders above, and other sorts of checksums, are ignored.
"""

import html.parser
import re
import threading
from collections import defaultdict
from collections.abc import Mapping
from urllib.parse import unquote, urljoin

from astra_dagster.archive.web import Client

_LINE = re.compile(r"^\\?([0-9a-fA-F]{40}) [ *](?:\./)?([^/\r\n]+)\r?$", re.MULTILINE)

Sums = Mapping[str, frozenset[str]]


class Checksums:
    """Published SHA-1 sums; the server is asked for those of a folder once."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._folders: dict[str, Sums] = {}

    def find(self, url: str) -> frozenset[str]:
        """Return the SHA-1 sums that the file at an address may have; empty if none is published.

        Raises
        ------
        DownloadError
            If the server does not answer whether there are any.
        """
        folder, _, name = url.rpartition("/")
        with self._lock:
            lock = self._locks[folder]
        with lock:
            if folder not in self._folders:
                self._folders[folder] = self._read(f"{folder}/")
        return self._folders[folder].get(unquote(name), frozenset())

    def _read(self, folder: str) -> Sums:
        found: dict[str, set[str]] = defaultdict(set)
        for address in find_sum_files(folder, self._client.text(folder) or ""):
            for digest, name in _LINE.findall(self._client.text(address) or ""):
                found[name].add(digest.lower())
        return {name: frozenset(digests) for name, digests in found.items()}


def find_sum_files(folder: str, listing: str) -> list[str]:
    """Return the addresses of the checksum files in a folder, from its listing, an HTML page."""
    reader = _Links()
    reader.feed(listing)
    addresses = (urljoin(folder, link) for link in reader.links if link.endswith(".sha1sum"))
    return sorted({each for each in addresses if "/" not in each.removeprefix(folder)})


class _Links(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the address that a link leads to."""
        self.links += [value for name, value in attrs if tag == "a" and name == "href" and value]
