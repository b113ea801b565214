"""Requests to the Science Archive Server: patience with its failures, and errors in our own words.

What is done with an answer is not decided here.
"""

import datetime
import email.utils
import http
import http.client
import http.cookiejar
import logging
import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

import requests
import urllib3

from astra_dagster.archive.logins import Logins
from astra_dagster.errors import AccessDeniedError, DownloadError, NotOnSASError

_CONNECT = 20.0  # s
_LONGEST_WAIT = 60.0  # s, of our own choice
_LONGEST_ASKED = 300.0  # s, that a server may ask for
_LARGEST_TEXT = 64_000_000  # bytes
_PAGES = (".html", ".htm")

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """How long to put up with a server that fails.

    Attributes
    ----------
    tries
        How often in a row a request may fail.
    first_wait
        Seconds after the first failure; each further one doubles it.
    timeout
        Seconds without any answer, or any further byte of one, after which a request has failed.
    """

    tries: int = 5
    first_wait: float = 1.0
    timeout: float = 60.0


class Stopped(Exception):
    """Nobody waits for the answer any more."""


class Transient(DownloadError):
    """A failure that may pass.

    `retry_after` is the wait in seconds that the server asks for; `progress` says that the try was not in vain.
    """

    def __init__(self, message: str, *, retry_after: float = 0.0, progress: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.progress = progress


class Client:
    """Asks a server, from any number of threads, until `stop` is set.

    Credentials go to the machine that ``~/.netrc`` has an entry for, and to no other that it redirects to; the
    entry ``default`` is not used.
    """

    def __init__(self, patience: Patience, stop: threading.Event) -> None:
        self.patience = patience
        self.stop = stop
        self._own = threading.local()  # requests does not promise that threads can share a session
        self._logins = Logins()

    def ask(self, method: str, url: str, headers: Mapping[str, str] | None = None) -> requests.Response:
        """One try: an answer of status 200, 206 or 416, whose body is still to be read.

        Raises
        ------
        Transient
            If it may be worth another try.
        NotOnSASError, AccessDeniedError, DownloadError
            If it is not.
        """
        timeout = self.patience.timeout
        try:
            response = self._session().request(
                method,
                url,
                headers={"Accept-Encoding": "identity", **(headers or {})},
                auth=self._logins.authorise(url),
                timeout=(min(_CONNECT, timeout), timeout),
                stream=True,
                allow_redirects=True,
            )
        except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
            raise _failure(error, url) from None
        if response.status_code in (200, 206, 416):
            return response
        response.close()
        raise self._refusal(response, url)

    def retried(self, act: Callable[[], T]) -> T:
        """What `act` returns, after as many tries as it takes and patience allows.

        Raises
        ------
        DownloadError
            If patience is at its end, or the failure is one that does not pass.
        Stopped
            If nobody waits for it any more.
        """
        failures = 0
        while True:
            try:
                return act()
            except Transient as error:
                failures = 1 if error.progress else failures + 1
                if failures >= self.patience.tries:
                    raise DownloadError(f"{error.message}, {failures} times in a row", hint="try again later") from None
                if error.retry_after > _LONGEST_ASKED:
                    raise DownloadError(
                        f"{error.message}, and not to be asked again for {error.retry_after:.0f} s",
                        hint="try again later",
                    ) from None
                own = min(_LONGEST_WAIT, self.patience.first_wait * 2.0 ** (failures - 1))
                delay = max(error.retry_after, own * random.uniform(0.5, 1.0))  # noqa: S311 (no secret)
                _log.info("%s; next try in %.1f s", error.message, delay)
                self.pause(delay)

    def pause(self, seconds: float) -> None:
        """Wait, but not for longer than somebody waits for us."""
        if self.stop.wait(seconds):
            raise Stopped

    def text(self, url: str) -> str | None:
        """A small text; None if the server does not have it, or does not give it to us."""

        def read() -> str:
            with self.ask("GET", url) as response:
                pieces, size = [], 0
                try:
                    for piece in response.iter_content(65536):
                        pieces.append(piece)
                        size += len(piece)
                        if size > _LARGEST_TEXT:
                            raise DownloadError(f"more than {_LARGEST_TEXT} bytes of text: {url}")
                except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                    raise _failure(error, url) from None
            return b"".join(pieces).decode("utf-8", "replace")

        try:
            return self.retried(read)
        except (NotOnSASError, AccessDeniedError):
            return None

    def close(self) -> None:
        """Close the connections of this thread."""
        session = getattr(self._own, "session", None)
        if session is not None:
            session.close()

    def refuse_page(self, url: str, kind: str = "", start: bytes = b"") -> None:
        """See that what came is no web page, by its type or its first bytes, unless the address is that of one.

        Raises
        ------
        AccessDeniedError
            If it is: servers that want a login may answer so.
        """
        page = kind.strip().lower().startswith(("text/html", "application/xhtml"))
        if (page or start.lstrip().lower().startswith((b"<!doctype html", b"<html"))) and not url.endswith(_PAGES):
            raise AccessDeniedError(
                f"the server sent a web page in place of the file, maybe to log in: {url}", hint=self._logins.hint(url)
            )

    def _session(self) -> requests.Session:
        if not hasattr(self._own, "session"):
            self._own.session = _Session()
        session: requests.Session = self._own.session
        return session

    def _refusal(self, response: requests.Response, url: str) -> DownloadError:
        status = response.status_code
        if status in (404, 410):
            return NotOnSASError(f"not on the SAS: {url}")
        host, asked = urlsplit(response.url).hostname, urlsplit(url).hostname
        if status in (401, 403) and host != asked:
            return AccessDeniedError(
                f"{asked} redirects to {host}, which refuses access: {url}", hint="no login is sent to another machine"
            )
        if status in (401, 403):
            sent = self._logins.known(url)
            what = "this login" if sent else "access without a login"
            return AccessDeniedError(f"the server refuses {what}: {url}", hint=self._logins.hint(url))
        message = f"the server answered {status} {_phrase(status)}: {url}"
        if status in (408, 429) or status >= 500:
            return Transient(message, retry_after=_retry_after(response.headers.get("Retry-After", "")))
        return DownloadError(message)


class _Session(requests.Session):
    """A session that keeps no cookies, and gives a login away to nobody else."""

    def __init__(self) -> None:
        super().__init__()
        self.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """Leave the login away where a redirect leads elsewhere; requests would look for another one."""
        if self.should_strip_auth(str(response.request.url), str(prepared_request.url)):
            prepared_request.headers.pop("Authorization", None)


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "(no status of HTTP)"


def _retry_after(text: str) -> float:
    """Seconds from a header Retry-After: a number of seconds, or a date."""
    if text.strip().isdecimal():
        return float(text)
    then = http_date(text)
    return 0.0 if then is None else max(0.0, (then - datetime.datetime.now(datetime.UTC)).total_seconds())


def http_date(text: str) -> datetime.datetime | None:
    """A date as it stands in a header; None if it is none."""
    try:
        date = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return date.replace(tzinfo=datetime.UTC) if date.tzinfo is None else date


def _failure(error: Exception, url: str) -> DownloadError:
    """Our error for one of requests or urllib3."""
    if isinstance(error, requests.TooManyRedirects):
        return DownloadError(f"redirected in circles: {url}")
    if isinstance(error, requests.exceptions.SSLError):
        return DownloadError(f"no trustworthy connection: {url}", hint="is the certificate of the server known here?")
    passing = (
        requests.ConnectionError,
        requests.Timeout,
        requests.exceptions.ChunkedEncodingError,
        urllib3.exceptions.ProtocolError,
        urllib3.exceptions.TimeoutError,
    )
    if not isinstance(error, passing):
        return DownloadError(f"the answer makes no sense ({type(error).__name__}): {url}")
    return Transient(f"{broken(error)}: {url}")


def broken(error: Exception) -> str:
    """Why a connection failed, in a few words."""
    timeouts = (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
    seen: list[BaseException] = [error]
    for item in seen:  # the reason is wrapped several times
        if isinstance(item, timeouts) and not isinstance(item, urllib3.exceptions.NewConnectionError):
            return "no answer in time"
        if isinstance(item, http.client.IncompleteRead | http.client.RemoteDisconnected):
            return "the connection was closed"
        if isinstance(item, OSError) and item.strerror:
            return f"the connection failed ({item.strerror})"
        inner = [item.__cause__, item.__context__, getattr(item, "reason", None), *item.args]
        seen += [each for each in inner if isinstance(each, BaseException) and each not in seen][: 20 - len(seen)]
    return f"the connection failed ({type(error).__name__})"
