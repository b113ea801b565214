"""Read logins for servers from ``~/.netrc``.

Nobody is ever asked for a password, and none is shown. Messages of `netrc` about a file that it does not understand may
hold one, and are not shown either.
"""

import netrc
import os
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import requests
from requests.auth import HTTPBasicAuth

_NAMES = {"data.sdss.org": "sdss", "data.sdss5.org": "sdss5"}


class Logins:
    """The entries of ``~/.netrc``, or of the file that ``NETRC`` names; read at most once."""

    def __init__(self) -> None:
        named = os.environ.get("NETRC", "").strip()
        self._path = Path(named or "~/.netrc").expanduser()
        self._shown = named or "~/.netrc"
        self._lock = threading.Lock()
        self._hosts: dict[str, tuple[str, str]] | None = None
        self._problem = ""

    def authorise(self, url: str) -> Callable[[requests.PreparedRequest], requests.PreparedRequest]:
        """Return a function that adds the login for an address to a request.

        It is never None, for which the package requests would look up a login.
        """
        login = self._all().get(urlsplit(url).hostname or "")
        if login is None:
            return lambda request: request
        return HTTPBasicAuth(login[0].encode(), login[1].encode())

    def has_login(self, url: str) -> bool:
        """Whether there is a login for the machine of an address."""
        return (urlsplit(url).hostname or "") in self._all()

    def make_hint(self, url: str) -> str:
        """Say what to do where access to an address is refused."""
        host = urlsplit(url).hostname or ""
        entry = f"machine {host} login {_NAMES.get(host, 'NAME')} password PASSWORD"
        if self._problem:
            return f"{self._shown} {self._problem}; it needs a line like: {entry}"
        if self.has_login(url):
            return f"check the line for {host} in {self._shown}: {entry}"
        return f"{self._shown} needs a line like: {entry} (and chmod 600 {self._shown})"

    def _all(self) -> dict[str, tuple[str, str]]:
        with self._lock:
            if self._hosts is None:
                self._hosts = self._read()
            return self._hosts

    def _read(self) -> dict[str, tuple[str, str]]:
        try:
            found = netrc.netrc(str(self._path)).hosts
        except FileNotFoundError:
            return {}
        except netrc.NetrcParseError as error:  # its message may hold a password
            self._problem = f"cannot be understood at line {error.lineno}"
            return {}
        except (OSError, UnicodeDecodeError):
            self._problem = "cannot be read"
            return {}
        return {host: (login or "", password or "") for host, (login, _, password) in found.items()}
