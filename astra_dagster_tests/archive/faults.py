"""What an archive server may do wrong, and what comes of it.

As a command it prints the table: ``python -m astra_dagster_tests.archive.faults``.
"""

import random
import tempfile
import threading
from pathlib import Path

from astra_dagster import DataID, product
from astra_dagster.archive.sas import Archive, Fetched
from astra_dagster.archive.web import Patience
from astra_dagster.errors import AccessDeniedError, DownloadError, NotOnSASError
from astra_dagster_tests.archive import server as servers
from astra_dagster_tests.archive.server import Behaviour, File, Server

BYTES = random.Random(1).randbytes(300_000)
QUICK = Patience(tries=3, first_wait=0.01, timeout=10)
IMPATIENT = Patience(tries=3, first_wait=0.01, timeout=0.3)


def visit(fibre: int = 1) -> DataID:
    return product("apVisit").data_id("DR17", telescope="apo25m", field="120+12", plate=5226, mjd=56000, fibre=fibre)


def remote(data_id: DataID) -> str:
    return f"/sas/{data_id.relative_path}"


ONE = visit()
PATH = remote(ONE)
FOLDER = PATH.rpartition("/")[0] + "/"
SECRET = "open-sesame"  # noqa: S105 (nobody's)


def fetch_one(archive: Archive, data_id: DataID = ONE) -> Fetched:
    (result,) = archive.fetch([data_id])
    return result


def everything(archive: Archive) -> list[str]:
    """Names of all files of the mirror, hidden ones too."""
    return sorted(path.name for path in archive.root.rglob("*") if path.is_file())


def assert_arrived(archive: Archive, result: Fetched, contents: bytes = BYTES) -> None:
    assert result.error is None
    assert result.path == archive.path(result.data_id)
    assert result.path.read_bytes() == contents
    assert everything(archive) == [result.path.name]


SILENCE = threading.Event()
PASSES: dict[str, list[Behaviour]] = {
    "503, then fine": [servers.status(503), servers.status(503)],
    "500": [servers.status(500)],
    "429 with a wait": [servers.status(429, Retry_After="0")],
    "408": [servers.status(408)],
    "a wait until a date that is over": [servers.status(503, Retry_After="Sat, 01 Jan 2000 00:00:00 GMT")],
    "a wait that makes no sense": [servers.status(503, Retry_After="soon")],
    "reset before the body": [servers.broken_off(0, reset=True)],
    "reset in the body": [servers.broken_off(100_000, reset=True)],
    "short body": [servers.broken_off(100_000)],
    "one byte missing": [servers.broken_off(len(BYTES) - 1)],
    "short again and again, but further each time": [servers.broken_off(50_000)] * 5,
    "too great a Content-Length": [servers.claiming(len(BYTES) + 5)],
    "Range ignored": [servers.broken_off(100_000), servers.whole],
    "another part than asked for": [
        servers.broken_off(100_000),
        lambda handler, file: handler.answer(206, {"Content-Range": f"bytes 5-9/{len(BYTES)}"}, b"wrong"),
    ],
    "a shorter part than asked for": [
        servers.broken_off(100_000),
        lambda handler, file: handler.answer(
            206, {"Content-Range": f"bytes 100000-199999/{len(BYTES)}"}, BYTES[100_000:200_000]
        ),
    ],
    "a part of which it is not said which": [
        servers.broken_off(100_000),
        lambda handler, file: handler.answer(206, {}, b"wrong"),
    ],
    "a part, unasked": [lambda handler, file: handler.answer(206, {"Content-Range": "bytes 0-4/5"}, b"wrong")],
    "a part of something longer": [
        servers.broken_off(len(BYTES) - 5),
        lambda handler, file: handler.answer(
            206, {"Content-Range": f"bytes {len(BYTES) - 5}-{len(BYTES) - 1}/{len(BYTES) + 1}"}, b"wrong"
        ),
    ],
    "416": [servers.broken_off(100_000), servers.status(416)],
    "silence before the answer": [servers.silent(SILENCE)],
    "silence in the body": [servers.broken_off(100_000, wait=SILENCE)],
}
"""Failures that pass: what the server does, request by request, before it does the right thing."""

LASTS: dict[str, tuple[Behaviour, type[DownloadError], str, int]] = {
    "503 for ever": (servers.status(503), DownloadError, "503 Service Unavailable", 3),
    "429 for ever": (servers.status(429), DownloadError, "429 Too Many Requests", 3),
    "a wait too long": (servers.status(503, Retry_After="3600"), DownloadError, "it asks to wait for 3600 s", 1),
    "599": (servers.status(599), DownloadError, "599", 3),
    "404": (servers.status(404), NotOnSASError, "not on the SAS", 1),
    "410": (servers.status(410), NotOnSASError, "not on the SAS", 1),
    "401": (servers.status(401), AccessDeniedError, "refuses access without a login", 1),
    "403": (servers.status(403), AccessDeniedError, "refuses access without a login", 1),
    "400": (servers.status(400), DownloadError, "400 Bad Request", 1),
    "304": (servers.status(304), DownloadError, "304 Not Modified", 1),
    "a page to log in": (servers.page, AccessDeniedError, "a web page in place of the file", 1),
    "the same, not named so": (
        lambda handler, file: servers.page(handler, file, "application/fits"),
        AccessDeniedError,
        "a web page in place of the file",
        1,
    ),
    "compressed": (servers.with_headers(Content_Encoding="gzip"), DownloadError, "compressed, although asked", 1),
    "two lengths": (servers.with_headers(Content_Length="5"), DownloadError, "makes no sense (InvalidHeader)", 1),
    "no length": (servers.chunked, DownloadError, "does not say how long", 1),
    "never any byte": (servers.broken_off(0), DownloadError, "closed after 0 of 300000 bytes", 3),
    "redirect in circles": (servers.redirect(PATH), DownloadError, "redirected in circles", 31),
    "redirect to nowhere": (servers.redirect("ftp://127.0.0.1/x"), DownloadError, "makes no sense (InvalidSchema)", 1),
    "redirect to nonsense": (servers.redirect("http://[bad/x"), DownloadError, "makes no sense", 1),
}
"""Failures that last: what the server does every time, the error, a part of its message, and the number of tries."""


def main() -> None:
    """Print what the server did and what the user saw."""
    print("| the server | requests | the user |\n| --- | --- | --- |")
    for how, script in PASSES.items():
        print(row(how, script, servers.good))
    for how, (behaviour, *_) in LASTS.items():
        print(row(how, [], behaviour))


def row(how: str, script: list[Behaviour], otherwise: Behaviour) -> str:
    """Line of the table for one fault."""
    with Server() as server, tempfile.TemporaryDirectory() as folder:
        server.files[PATH] = File(BYTES)
        server.scripts[PATH].extend(script)
        server.otherwise = otherwise
        result = fetch_one(Archive(Path(folder), server.url, IMPATIENT))
        if result.error is None:
            whole = result.path is not None and result.path.read_bytes() == BYTES
            saw = "the file, right to the byte" if whole else "a WRONG file"
        else:
            saw = f"{type(result.error).__name__}: {result.error}".replace(f"{server.url}/{ONE.relative_path}", "URL")
        return f"| {how} | {len(server.asked(PATH))} | {saw.replace(f' (key {ONE.key})', '')} |"


if __name__ == "__main__":
    main()
