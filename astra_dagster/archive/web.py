"""Requests to the Science Archive Server, which are repeated when they fail, and their errors as ours.

What is done with an answer is not decided here.
"""

import datetime
import email.utils
import http
import http.client
import http.cookiejar
import logging
import random
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

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
    """How often, and for how long, to try a server that fails.

    Attributes
    ----------
    tries
        Number of failures in a row after which a request is given up.
    first_wait
        Seconds to wait after the first failure; each further failure doubles the wait.
    timeout
        Seconds without an answer, or without a further byte of it, after which a request has failed.
    """

    tries: int = 5
    first_wait: float = 1.0
    timeout: float = 60.0


class Stopped(Exception):
    """Whoever asked does not wait for the answer any longer."""


class Transient(DownloadError):
    """A failure that may not happen again at the next attempt.

    `retry_after` is the wait in seconds that the server asks for; `progress` says that a part of the answer has come.
    """

    def __init__(self, message: str, *, retry_after: float = 0.0, progress: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.progress = progress


class Client:
    """Sends requests to servers, from any number of threads, until `stop` is set.

    A login goes to the machine for which ``~/.netrc`` has an entry, and not to another to which that redirects; the
    entry ``default`` is not used.
    """

    def __init__(self, patience: Patience, stop: threading.Event) -> None:
        self.patience = patience
        self.stop = stop
        self._own = threading.local()  # requests does not promise that threads can share a session
        self._logins = Logins()

    def ask(self, method: str, url: str, headers: Mapping[str, str] | None = None) -> requests.Response:
        """Make one request, and return an answer of status 200, 206 or 416, whose body is still to be read.

        Raises
        ------
        Transient
            If another attempt may succeed.
        NotOnSASError, AccessDeniedError, DownloadError
            If it would fail too.
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
            raise _make_error(error, url) from None
        if response.status_code in (200, 206, 416):
            return response
        response.close()
        raise self._make_refusal(response, url)

    def retry(self, act: Callable[[], T]) -> T:
        """Call `act`, again while its failures may pass and patience allows, and return what it returns.

        Raises
        ------
        DownloadError
            If `act` has failed too often in a row, or in a way that does not pass.
        Stopped
            If `stop` is set.
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
                        f"{error.message}, and it asks to wait for {error.retry_after:.0f} s",
                        hint="try again later",
                    ) from None
                own = min(_LONGEST_WAIT, self.patience.first_wait * 2.0 ** (failures - 1))
                delay = max(error.retry_after, own * random.uniform(0.5, 1.0))  # noqa: S311 (no secret)
                _log.info("%s; next try in %.1f s", error.message, delay)
                self.pause(delay)

    def pause(self, seconds: float) -> None:
        """Wait; raise `Stopped` as soon as `stop` is set."""
        if self.stop.wait(seconds):
            raise Stopped

    def text(self, url: str) -> str | None:
        """Fetch a small text; None if the server does not have it, or refuses it."""

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
                    raise _make_error(error, url) from None
            return b"".join(pieces).decode("utf-8", "replace")

        try:
            return self.retry(read)
        except (NotOnSASError, AccessDeniedError):
            return None

    def close(self) -> None:
        """Close the connections of this thread."""
        session = getattr(self._own, "session", None)
        if session is not None:
            session.close()

    def refuse_page(self, url: str, kind: str = "", start: bytes = b"") -> None:
        """Check, by its type or first bytes, that an answer is not a web page, unless the address is that of one.

        Raises
        ------
        AccessDeniedError
            If it is a web page, as a server may send that wants a login.
        """
        page = kind.strip().lower().startswith(("text/html", "application/xhtml"))
        if (page or start.lstrip().lower().startswith((b"<!doctype html", b"<html"))) and not url.endswith(_PAGES):
            raise AccessDeniedError(
                f"the server sent a web page in place of the file, maybe to log in: {url}",
                hint=self._logins.make_hint(url),
            )

    def _session(self) -> requests.Session:
        if not hasattr(self._own, "session"):
            self._own.session = _Session()
        session: requests.Session = self._own.session
        return session

    def _make_refusal(self, response: requests.Response, url: str) -> DownloadError:
        status = response.status_code
        if status in (404, 410):
            return NotOnSASError(f"not on the SAS: {url}")
        host, asked = urlsplit(response.url).hostname, urlsplit(url).hostname
        if status in (401, 403) and host != asked:
            return AccessDeniedError(
                f"{asked} redirects to {host}, which refuses access: {url}", hint="no login is sent to another machine"
            )
        if status in (401, 403):
            sent = self._logins.has_login(url)
            what = "this login" if sent else "access without a login"
            return AccessDeniedError(f"the server refuses {what}: {url}", hint=self._logins.make_hint(url))
        message = f"the server answered {status} {_find_phrase(status)}: {url}"
        if status in (408, 429) or status >= 500:
            return Transient(message, retry_after=_parse_retry_after(response.headers.get("Retry-After", "")))
        return DownloadError(message)


class _Session(requests.Session):
    """A session that keeps no cookies, sends a login only to its own machine, and stays with https."""

    def __init__(self) -> None:
        super().__init__()
        self.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return where an answer redirects to; from https to http nothing is asked for, as anybody could answer."""
        target = super().get_redirect_target(resp)
        if target is not None and urlsplit(resp.url).scheme == "https":
            there = urlsplit(urljoin(resp.url, target))
            if there.scheme != "https":
                raise DownloadError(
                    f"the server redirects from https to {there.scheme}://{there.hostname}: {resp.url}",
                    hint="a file could be changed on its way: tell whoever runs the server",
                )
        return target

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """Remove the login where a redirect leads to another machine; requests would look for another login."""
        if self.should_strip_auth(str(response.request.url), str(prepared_request.url)):
            prepared_request.headers.pop("Authorization", None)


def _find_phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "(no status of HTTP)"


def _parse_retry_after(text: str) -> float:
    """Return seconds from a header Retry-After, which holds a number of seconds or a date."""
    if text.strip().isdecimal():
        return float(text)
    then = parse_http_date(text)
    return 0.0 if then is None else max(0.0, (then - datetime.datetime.now(datetime.UTC)).total_seconds())


def parse_http_date(text: str) -> datetime.datetime | None:
    """Parse a date of a header; None if the text is no date."""
    try:
        date = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return date.replace(tzinfo=datetime.UTC) if date.tzinfo is None else date


def _make_error(error: Exception, url: str) -> DownloadError:
    """Make our error for one of requests or urllib3."""
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
    proxy = _find_proxy(url)
    if proxy and isinstance(error, requests.exceptions.InvalidSchema):
        hint = "install it: pip install 'requests[socks]'" if proxy.startswith("socks") else "is it right?"
        return DownloadError(f"the proxy {proxy} cannot be used: {url}", hint=hint)
    if proxy and isinstance(error, requests.exceptions.ProxyError):
        return Transient(f"the proxy {proxy} does not answer ({type(error).__name__}): {url}")
    if not isinstance(error, passing):
        return DownloadError(f"the answer makes no sense ({type(error).__name__}): {url}")
    return Transient(f"{describe_failure(error)}: {url}")


def _find_proxy(url: str) -> str | None:
    """Return the proxy that the environment names for an address, without a login; None if there is none."""
    proxy = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
    return None if proxy is None else re.sub(r"//[^/@]*@", "//", proxy)


def describe_failure(error: Exception) -> str:
    """Say in a few words why a connection failed."""
    timeouts = (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
    seen: list[BaseException] = [error]
    for item in seen:  # the cause is wrapped several times
        if isinstance(item, timeouts) and not isinstance(item, urllib3.exceptions.NewConnectionError):
            return "no answer in time"
        if isinstance(item, http.client.IncompleteRead | http.client.RemoteDisconnected):
            return "the connection was closed"
        if isinstance(item, OSError) and item.strerror:
            return f"the connection failed ({item.strerror})"
        inner = [item.__cause__, item.__context__, getattr(item, "reason", None), *item.args]
        seen += [each for each in inner if isinstance(each, BaseException) and each not in seen][: 20 - len(seen)]
    return f"the connection failed ({type(error).__name__})"
