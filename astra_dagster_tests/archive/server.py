"""An archive server on loopback that serves files as a good one does, and misbehaves on demand."""

import base64
import email.utils
import hashlib
import os
import re
import socket
import struct
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

MODIFIED = 1_600_000_000
"""When the files were modified, seconds of the epoch."""


@dataclass
class File:
    """A file on the server."""

    contents: bytes
    modified: int = MODIFIED
    type: str = "application/octet-stream"

    @property
    def headers(self) -> dict[str, str]:
        etag = hashlib.md5(self.contents, usedforsecurity=False).hexdigest()
        return {
            "ETag": f'"{etag}"',
            "Last-Modified": email.utils.formatdate(self.modified, usegmt=True),
            "Content-Type": self.type,
        }


@dataclass
class Request:
    """What the server was asked, and how many requests it was at then."""

    method: str
    path: str
    headers: dict[str, str]
    at_once: int


Behaviour = Callable[["Handler", File | None], None]


class Handler(BaseHTTPRequestHandler):
    """Does what the script of the path says, else what a good server does."""

    protocol_version = "HTTP/1.1"
    server: "Server"
    timeout = 30

    def do_GET(self) -> None:
        server = self.server
        with server.lock:
            server.at_once += 1
            server.requests.append(Request(self.command, self.path, dict(self.headers), server.at_once))
            script = server.scripts[self.path]
            behaviour = script.popleft() if script else server.otherwise
        try:
            behaviour(self, server.files.get(self.path))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with server.lock:
                server.at_once -= 1

    do_HEAD = do_GET  # noqa: N815 (http.server calls it so)

    def answer(self, status: int, headers: dict[str, str], body: bytes = b"", length: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """As a context it serves; ``files`` and ``scripts`` may change meanwhile."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, File] = {}
        self.scripts: dict[str, deque[Behaviour]] = defaultdict(deque)
        self.otherwise: Behaviour = good
        self.requests: list[Request] = []
        self.lock = threading.Lock()
        self.at_once = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/sas"

    def asked(self, path: str, method: str = "GET") -> list[Request]:
        with self.lock:
            return [each for each in self.requests if each.path == path and each.method == method]

    def handle_error(self, *_: object) -> None:
        pass

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


def good(handler: Handler, file: File | None) -> None:
    """Files, parts of files if they are still the same, and listings of folders."""
    if file is None:
        files = handler.server.files
        inside = [path.removeprefix(handler.path) for path in files if path.startswith(handler.path)]
        if handler.path.endswith("/") and inside:
            links = "".join(f'<a href="{name}">{name}</a>\n' for name in ["../", *inside])
            handler.answer(200, {"Content-Type": "text/html"}, f"<html><body>{links}</body></html>".encode())
        else:
            handler.answer(404, {"Content-Type": "text/html"}, b"<html>Not Found</html>")
        return
    match = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    condition = handler.headers.get("If-Range")
    if match and condition in (None, file.headers["ETag"], file.headers["Last-Modified"]):
        start, size = int(match[1]), len(file.contents)
        if start >= size:
            handler.answer(416, {"Content-Range": f"bytes */{size}"})
        else:
            part = {"Content-Range": f"bytes {start}-{size - 1}/{size}"}
            handler.answer(206, file.headers | part, file.contents[start:])
    else:
        handler.answer(200, file.headers, file.contents)


def status(code: int, **headers: str) -> Behaviour:
    """An answer that is no file."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler, _: handler.answer(code, {"Content-Type": "text/html"} | named, b"<html>no</html>")


def page(handler: Handler, _: File | None, type: str = "text/html; charset=utf-8") -> None:
    """A page to log in, as if it were the file."""
    handler.answer(200, {"Content-Type": type}, b"\n<!DOCTYPE html><html><form>user, password</form></html>")


def with_headers(**headers: str | None) -> Behaviour:
    """The file, with other headers, or without those that are None."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    def behave(handler: Handler, file: File | None) -> None:
        assert file is not None
        changed = {name: value for name, value in (file.headers | named).items() if value is not None}
        handler.answer(200, changed, file.contents)

    return behave


def claiming(count: int) -> Behaviour:
    """The file, and `count` as its length."""

    def behave(handler: Handler, file: File | None) -> None:
        assert file is not None
        handler.answer(200, file.headers, file.contents, count)
        handler.close_connection = True

    return behave


def whole(handler: Handler, file: File | None) -> None:
    """The file from its beginning, whatever part was asked for."""
    assert file is not None
    handler.answer(200, file.headers, file.contents)


def chunked(handler: Handler, file: File | None) -> None:
    """The file without a word about its length."""
    assert file is not None
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(file.contents), file.contents))


def broken_off(count: int, *, reset: bool = False, wait: threading.Event | None = None) -> Behaviour:
    """Right headers, and `count` bytes of what they announce; then the end, a reset, or nothing until `wait` is set."""

    def behave(handler: Handler, file: File | None) -> None:
        assert file is not None
        match = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        start, size = int(match[1]) if match else 0, len(file.contents)
        handler.send_response(206 if match else 200)
        for name, value in file.headers.items():
            handler.send_header(name, value)
        if match:
            handler.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        handler.send_header("Content-Length", str(size - start))
        handler.end_headers()
        handler.wfile.write(file.contents[start : start + count])
        handler.wfile.flush()
        if wait is not None:
            wait.wait(60)
        if reset:
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(handler.connection.detach())
        handler.close_connection = True

    return behave


def silent(wait: threading.Event) -> Behaviour:
    """No answer at all until `wait` is set."""

    def behave(handler: Handler, _: File | None) -> None:
        wait.wait(60)
        handler.close_connection = True

    return behave


def login(user: str, password: str) -> Behaviour:
    """The file, for those who know the password."""
    expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def behave(handler: Handler, file: File | None) -> None:
        if handler.headers.get("Authorization") == expected:
            good(handler, file)
        else:
            handler.answer(401, {"WWW-Authenticate": 'Basic realm="SDSS"'}, b"<html>who are you?</html>")

    return behave


def redirect(target: str) -> Behaviour:
    return lambda handler, _: handler.answer(302, {"Location": target})
