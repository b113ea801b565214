"""Files from an archive server that misbehaves in every way: what arrives is whole and right, or does not arrive."""

import hashlib
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from astra_dagster import product, settings
from astra_dagster.archive.discovery import file_version, find_files
from astra_dagster.archive.partial import Partial, Version
from astra_dagster.archive.sas import Archive, Fetched
from astra_dagster.archive.web import Client, Patience, Transient, _retry_after
from astra_dagster.errors import (
    AccessDeniedError,
    ChecksumError,
    ConfigurationError,
    DownloadError,
    NotOnSASError,
)
from astra_dagster_tests.archive import server as servers
from astra_dagster_tests.archive.faults import (
    BYTES,
    IMPATIENT,
    LASTS,
    ONE,
    PASSES,
    PATH,
    QUICK,
    fetch_one,
    remote,
    visit,
)
from astra_dagster_tests.archive.server import MODIFIED, Behaviour, File, Server

SECRET = "open-sesame"  # noqa: S105 (nobody's)


FOLDER = PATH.rpartition("/")[0] + "/"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without logins, on a machine without proxies."""
    for name in ("NETRC", "http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        made.files[PATH] = File(BYTES)
        yield made


@pytest.fixture
def archive(server: Server, tmp_path: Path) -> Archive:
    (tmp_path / "mirror").mkdir()
    return Archive(tmp_path / "mirror", server.url, QUICK)


def everything(archive: Archive) -> list[str]:
    """Names of all files of the mirror, hidden ones too."""
    return sorted(path.name for path in archive.root.rglob("*") if path.is_file())


def assert_arrived(archive: Archive, result: Fetched, contents: bytes = BYTES) -> None:
    assert result.error is None
    assert result.path == archive.path(result.data_id)
    assert result.path.read_bytes() == contents
    assert everything(archive) == [result.path.name]


def test_a_file_arrives_with_its_date_and_only_once(server: Server, archive: Archive) -> None:
    assert archive.url(ONE) == server.url + "/" + ONE.relative_path
    assert not archive.exists(ONE)
    assert archive.path(ONE) == archive.root / ONE.relative_path
    assert archive.exists_remotely(ONE)
    assert not archive.exists_remotely(visit(2))
    assert [each.method for each in server.requests] == ["HEAD", "HEAD"]

    result = fetch_one(archive)
    assert_arrived(archive, result)
    assert result.received == len(BYTES)
    assert archive.exists(ONE)
    (found,), skipped = find_files(ONE.product, "DR17", archive.root)
    assert found.data_id == ONE
    assert found.version == file_version(len(BYTES), MODIFIED * 10**9)
    assert skipped == []
    assert "part" not in str(everything(archive))

    asked = len(server.requests)
    again = fetch_one(archive)
    assert (again.path, again.received, again.error) == (result.path, 0, None)
    assert len(server.requests) == asked


def test_a_compressed_variant_stands_for_the_file(server: Server, archive: Archive) -> None:
    path = archive.root / (ONE.relative_path + ".gz")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"here")
    assert archive.exists(ONE)
    assert fetch_one(archive).path == archive.path(ONE) == path
    assert server.requests == []


def test_an_empty_file_is_a_file(server: Server, archive: Archive) -> None:
    server.files[PATH] = File(b"")
    assert_arrived(archive, fetch_one(archive), b"")


@pytest.mark.parametrize("how", PASSES)
def test_failures_that_pass(server: Server, archive: Archive, how: str) -> None:
    server.scripts[PATH].extend(PASSES[how])
    if "silence" in how:
        archive = Archive(archive.root, server.url, IMPATIENT)
    assert_arrived(archive, fetch_one(archive))
    assert server.scripts[PATH] == type(server.scripts[PATH])()


def test_a_broken_transfer_goes_on_where_it_ended(server: Server, archive: Archive) -> None:
    server.scripts[PATH].append(servers.broken_off(100_000))
    result = fetch_one(archive)
    assert_arrived(archive, result)
    assert result.received == len(BYTES)
    first, second = server.asked(PATH)
    assert "Range" not in first.headers
    assert second.headers["Range"] == "bytes=100000-"
    assert second.headers["If-Range"] == server.files[PATH].headers["ETag"]
    assert {each.headers["Accept-Encoding"] for each in server.requests} == {"identity"}


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_strong_etag_the_date_says_whether_it_is_the_same(
    server: Server, archive: Archive, etag: str | None
) -> None:
    def short(handler: servers.Handler, file: File | None) -> None:
        headers = {**File(BYTES).headers, "ETag": etag}
        handler.answer(200, {k: v for k, v in headers.items() if v}, BYTES[:1000], len(BYTES))
        handler.close_connection = True

    def rest(handler: servers.Handler, file: File | None) -> None:
        part = {"Content-Range": f"bytes 1000-{len(BYTES) - 1}/{len(BYTES)}"}
        handler.answer(206, part, BYTES[1000:])

    server.scripts[PATH].extend([short, rest])
    assert_arrived(archive, fetch_one(archive))
    assert server.asked(PATH)[1].headers["If-Range"] == File(BYTES).headers["Last-Modified"]


def test_without_etag_and_date_it_starts_anew(server: Server, archive: Archive) -> None:
    def short(handler: servers.Handler, file: File | None) -> None:
        handler.answer(200, {}, BYTES[:1000], len(BYTES))
        handler.close_connection = True

    server.scripts[PATH].append(short)
    assert_arrived(archive, fetch_one(archive))
    assert "Range" not in server.asked(PATH)[1].headers


@pytest.mark.parametrize("told_by", ["all of it", "ETag", "Last-Modified"])
def test_a_file_that_changes_on_the_server_starts_anew(server: Server, archive: Archive, told_by: str) -> None:
    """Also where the server sends the rest of the new file, in spite of If-Range."""
    new = random.Random(2).randbytes(len(BYTES))

    def change(handler: servers.Handler, file: File | None) -> None:
        server.files[PATH] = File(new, MODIFIED + 1)
        if told_by == "all of it":
            servers.good(handler, server.files[PATH])
        else:
            part = {"Content-Range": f"bytes 100000-{len(new) - 1}/{len(new)}"}
            handler.answer(206, part | {told_by: server.files[PATH].headers[told_by]}, new[100_000:])

    server.scripts[PATH].extend([servers.broken_off(100_000), change])
    assert_arrived(archive, fetch_one(archive), new)
    assert archive.path(ONE).stat().st_mtime == MODIFIED + 1


@pytest.mark.parametrize("how", LASTS)
def test_failures_that_last(server: Server, archive: Archive, how: str) -> None:
    server.otherwise, kind, message, tries = LASTS[how]
    result = fetch_one(archive)
    assert type(result.error) is kind
    assert message in str(result.error)
    assert ONE.key in str(result.error)
    assert archive.url(ONE) in str(result.error)
    assert "\n" not in str(result.error)
    assert result.path is None
    assert len(server.asked(PATH)) == tries
    assert list(archive.root.rglob("*")) == [] or everything(archive) == []


def test_waits_double_up_to_a_minute_and_are_as_long_as_the_server_asks() -> None:
    class Hasty(Client):
        def pause(self, seconds: float) -> None:
            waits.append(seconds)

    def fail() -> None:
        raise Transient("no", retry_after=asked)

    for asked in (0.0, 7.0, 300.0):
        waits: list[float] = []
        with pytest.raises(DownloadError, match="no, 12 times in a row"):
            Hasty(Patience(tries=12, first_wait=1.0), threading.Event()).retry(fail)
        assert len(waits) == 11
        for number, wait in enumerate(waits):
            own = min(60.0, 2.0**number)
            assert max(asked, own / 2) <= wait <= max(asked, own)
        assert asked > 60 or len(set(waits)) > 5


def test_the_wait_that_the_server_asks_for_is_kept(server: Server, archive: Archive) -> None:
    times: list[float] = []

    def note(handler: servers.Handler, file: File | None) -> None:
        times.append(time.monotonic())
        (servers.status(503, Retry_After="1") if len(times) == 1 else servers.good)(handler, file)

    server.scripts[PATH].extend([note, note])
    assert_arrived(archive, fetch_one(archive))
    assert times[1] - times[0] >= 1


def test_404_leaves_no_folder_behind(server: Server, archive: Archive) -> None:
    fetch_one(archive, visit(2))
    assert list(archive.root.iterdir()) == []


def test_a_length_that_is_never_reached(server: Server, archive: Archive) -> None:
    server.otherwise = servers.claiming(len(BYTES) + 5)
    assert "after 300000 of 300005 bytes" in str(fetch_one(archive).error)
    assert not archive.exists(ONE)
    server.otherwise = servers.good
    assert_arrived(archive, fetch_one(archive))


def test_nobody_listens(archive: Archive) -> None:
    with Server() as gone:
        url = gone.url
    result = fetch_one(Archive(archive.root, url, QUICK))
    assert "the connection failed (Connection refused)" in str(result.error)
    assert "3 times in a row" in str(result.error)
    assert "try again later" in str(result.error)
    with pytest.raises(DownloadError, match="Connection refused"):
        Archive(archive.root, url, QUICK).exists_remotely(ONE)


def test_what_has_come_is_kept_for_the_next_time(server: Server, archive: Archive) -> None:
    server.scripts[PATH].append(servers.broken_off(100_000))
    server.otherwise = servers.status(503)
    assert fetch_one(archive).path is None
    name = Path(ONE.relative_path).name
    assert everything(archive) == [f".{name}.part", f".{name}.part.json"]
    assert find_files(ONE.product, "DR17", archive.root) == ([], [])
    assert not archive.exists(ONE)

    server.otherwise = servers.page  # the page does not spoil it
    assert isinstance(fetch_one(archive).error, AccessDeniedError)
    server.otherwise = servers.good
    result = fetch_one(archive)
    assert_arrived(archive, result)
    assert result.received == 200_000
    assert server.requests[-2].headers["Range"] == "bytes=100000-"


@pytest.mark.parametrize(
    "note",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"etag": 5, "modified": "", "size": 9000000}',
        '{"etag": "\\"a\\"", "modified": "", "size": "9"}',
        '{"etag": "\\"a\\"", "modified": "", "size": 9}',
        '{"etag": "\\"a\\"\\r\\nCookie: b", "modified": "", "size": 300000}',
        '{"etag": " \\"a\\"", "modified": "", "size": 300000}',
    ],
)
def test_a_beginning_of_which_nothing_is_known_is_not_used(server: Server, archive: Archive, note: str) -> None:
    partial = Partial(ONE.path(archive.root))
    partial.path.parent.mkdir(parents=True)
    partial.path.write_bytes(b"x" * 1000)
    partial.note.write_text(note)
    assert_arrived(archive, fetch_one(archive))
    assert "Range" not in server.asked(PATH)[0].headers


def test_a_complete_file_that_was_not_put_in_its_place(server: Server, archive: Archive) -> None:
    """Killed between the last byte and the end: the last byte is asked for again, and with it whether all is as was."""
    file = server.files[PATH]
    partial = Partial(ONE.path(archive.root))
    partial.path.parent.mkdir(parents=True)
    partial.path.write_bytes(BYTES)
    etag = file.headers["ETag"].replace('"', '\\"')
    partial.note.write_text(
        f'{{"etag": "{etag}", "modified": "{file.headers["Last-Modified"]}", "size": {len(BYTES)}}}'
    )
    result = fetch_one(archive)
    assert_arrived(archive, result)
    assert result.received == 1


# Checksums


def sha1(contents: bytes) -> str:
    return hashlib.sha1(contents, usedforsecurity=False).hexdigest()


def sums(contents: bytes, name: str = ONE.relative_path.rpartition("/")[2]) -> File:
    return File(f"{sha1(contents)}  {name}\n{'0' * 40} *other.fits\n".encode())


@pytest.mark.parametrize("before", ["", "./"])
def test_a_published_checksum_is_looked_at(server: Server, archive: Archive, before: str) -> None:
    server.files[FOLDER + "of-this-folder.sha1sum"] = sums(BYTES, before + ONE.relative_path.rpartition("/")[2])
    assert_arrived(archive, fetch_one(archive))
    assert len(server.asked(FOLDER + "of-this-folder.sha1sum")) == 1


def test_another_checksum_is_an_error_and_nothing_is_kept(server: Server, archive: Archive) -> None:
    server.files[FOLDER + "x.sha1sum"] = sums(b"other")
    result = fetch_one(archive)
    assert type(result.error) is ChecksumError
    assert sha1(BYTES) in str(result.error)
    assert sha1(b"other") in str(result.error)
    assert everything(archive) == []
    assert len(server.asked(PATH)) == 1


def test_parts_that_do_not_fit_together_are_fetched_anew(server: Server, archive: Archive) -> None:
    server.files[FOLDER + "x.sha1sum"] = sums(BYTES)
    file = server.files[PATH]

    def other(handler: servers.Handler, _: File | None) -> None:
        handler.answer(200, file.headers, b"\0" * 1000, len(BYTES))
        handler.close_connection = True

    server.scripts[PATH].append(other)
    assert_arrived(archive, fetch_one(archive))
    assert [each.headers.get("Range") for each in server.asked(PATH)] == [None, "bytes=1000-", None]


def test_checksums_are_looked_up_once_a_folder(server: Server, archive: Archive) -> None:
    wanted = [visit(n) for n in range(1, 31)]
    for data_id in wanted:
        server.files[remote(data_id)] = File(b"%d" % data_id.parts.__hash__())
    server.files[FOLDER + "x.sha1sum"] = sums(BYTES)
    server.files[PATH] = File(BYTES)
    assert all(result.error is None for result in archive.fetch(wanted))
    assert len(server.asked(FOLDER)) == len(server.asked(FOLDER + "x.sha1sum")) == 1


@pytest.mark.parametrize("how", [servers.status(403), servers.status(404), servers.status(401), servers.page])
def test_folders_that_are_not_listed_have_no_checksums(server: Server, archive: Archive, how: Behaviour) -> None:
    server.files[FOLDER + "x.sha1sum"] = sums(b"other")
    server.scripts[FOLDER].append(how)
    assert_arrived(archive, fetch_one(archive))


def test_it_is_an_error_if_nobody_knows_whether_there_is_a_checksum(server: Server, archive: Archive) -> None:
    server.scripts[FOLDER].extend([servers.status(503)] * 3)
    result = fetch_one(archive)
    assert "503" in str(result.error)
    assert not archive.exists(ONE)
    again = fetch_one(archive)
    assert_arrived(archive, again)
    assert again.received == 1


def test_links_of_a_listing_that_lead_elsewhere_are_not_followed(server: Server, archive: Archive) -> None:
    links = ["/sas/top.sha1sum", "../up.sha1sum", "deeper/x.sha1sum", "http://127.0.0.1:1/x.sha1sum", "x.sha1sum?a"]
    listing = "".join(f"<a href='{link}'>x</a><a name=x><a href>" for link in links).encode()
    server.scripts[FOLDER].append(lambda handler, _: handler.answer(200, {"Content-Type": "text/html"}, listing))
    assert_arrived(archive, fetch_one(archive))
    assert {each.path for each in server.requests} == {PATH, FOLDER}


# Logins


def netrc(home: Path, text: str) -> None:
    (home / ".netrc").write_text(text)
    (home / ".netrc").chmod(0o600)


def test_a_good_login_of_netrc(server: Server, archive: Archive, home: Path) -> None:
    server.otherwise = servers.login("sdss", SECRET)
    netrc(home, f"machine elsewhere login a password b\nmachine 127.0.0.1 login sdss password {SECRET}\n")
    assert archive.exists_remotely(ONE)
    assert_arrived(archive, fetch_one(archive))


def test_netrc_may_lie_elsewhere(server: Server, archive: Archive, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.otherwise = servers.login("sdss", "pä55")
    (home / "logins").write_text("machine 127.0.0.1 login sdss password pä55\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(home / "logins"))
    monkeypatch.setenv("PYTHONUTF8", "1")
    assert_arrived(archive, fetch_one(archive))


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (None, "without a login", "~/.netrc needs a line like: machine 127.0.0.1 login NAME password PASSWORD"),
        (f"machine other login sdss password {SECRET}", "without a login", "needs a line like: machine 127.0.0.1"),
        (f"default login sdss password {SECRET}", "without a login", "needs a line like: machine 127.0.0.1"),
        (f"machine 127.0.0.1 login sdss password wrong{SECRET}", "this login", "check the line for 127.0.0.1"),
        (f"machine 127.0.0.1 login sdss password open {SECRET}", "without", "cannot be understood at line 1"),
        (f"{SECRET}", "without a login", "cannot be understood at line 1"),
    ],
)
def test_a_missing_or_wrong_login_is_told_without_the_password(
    server: Server,
    archive: Archive,
    home: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    text: str | None,
    message: str,
    hint: str,
) -> None:
    server.otherwise = servers.login("sdss", SECRET)
    if text is not None:
        netrc(home, text)
    with caplog.at_level(logging.DEBUG):
        error = fetch_one(archive).error
    assert type(error) is AccessDeniedError
    assert message in str(error)
    assert hint in str(error)
    assert len(server.asked(PATH)) == 1
    causes: list[BaseException | None] = [error]
    while causes[-1] is not None:
        causes.append(causes[-1].__cause__ or causes[-1].__context__)
    told = " ".join(map(repr, causes)) + str(error) + caplog.text + "".join(capfd.readouterr())
    assert SECRET not in told


def test_a_netrc_that_cannot_be_read(server: Server, archive: Archive, home: Path) -> None:
    server.otherwise = servers.login("sdss", SECRET)
    (home / ".netrc").mkdir()
    assert "~/.netrc cannot be read; it needs a line like" in str(fetch_one(archive).error)


@pytest.mark.parametrize(
    ("release", "entry"),
    [
        ("sdsswork", "machine data.sdss5.org login sdss5 password"),
        ("DR17", "machine data.sdss.org login sdss password"),
    ],
)
def test_the_hosts_of_the_sas_have_their_own_logins(archive: Archive, release: str, entry: str) -> None:
    from astra_dagster.archive.logins import Logins

    data_id = product("apVisit").data_id(release, telescope="apo25m", field="200+45", plate=3148, mjd=59162, fibre=33)
    assert entry in Logins().hint(Archive(archive.root).url(data_id))


@pytest.mark.parametrize("known_there", [False, True])
def test_a_login_is_not_sent_to_another_machine(
    server: Server, archive: Archive, home: Path, known_there: bool
) -> None:
    """Neither the login of the first machine, nor one that ~/.netrc has for the other one."""
    other = f"machine localhost login x password {SECRET}\n" if known_there else ""
    netrc(home, f"machine 127.0.0.1 login sdss password {SECRET}\n{other}default login y password {SECRET}\n")
    with Server() as second:
        second.files[PATH] = File(BYTES)
        elsewhere = f"http://localhost:{second.server_port}{PATH}"
        server.scripts[PATH].append(servers.redirect(elsewhere))
        assert_arrived(archive, fetch_one(archive))
        (asked,) = second.requests
        assert "Authorization" not in asked.headers
        assert "Authorization" in server.asked(PATH)[0].headers

        archive.path(ONE).unlink()
        second.otherwise = servers.login("x", SECRET)
        server.scripts[PATH].append(servers.redirect(elsewhere))
        error = fetch_one(archive).error
        assert type(error) is AccessDeniedError
        assert "127.0.0.1 redirects to localhost, which refuses access" in str(error)


def test_a_redirect_on_the_same_machine_keeps_login_and_range(server: Server, archive: Archive, home: Path) -> None:
    netrc(home, f"machine 127.0.0.1 login sdss password {SECRET}\n")
    server.files["/real"] = File(BYTES)
    server.otherwise = servers.login("sdss", SECRET)
    server.scripts[PATH].extend([servers.redirect("/real")] * 2)
    server.scripts["/real"].append(servers.broken_off(1000))
    assert_arrived(archive, fetch_one(archive))
    assert server.asked("/real")[1].headers["Range"] == "bytes=1000-"


def test_cookies_are_not_kept(server: Server, archive: Archive) -> None:
    server.otherwise = servers.with_headers(Set_Cookie="session=1; Path=/")
    server.files[remote(visit(2))] = File(b"2")
    assert len(list(archive.fetch([ONE, visit(2)], workers=1))) == 2
    assert not any("Cookie" in each.headers for each in server.requests)


# Many files


def test_one_failure_costs_itself_only(server: Server, archive: Archive) -> None:
    wanted = [visit(n) for n in range(1, 21)]
    for data_id in wanted[:-2]:
        server.files[remote(data_id)] = File(data_id.key.encode() * 100)
    server.scripts[remote(wanted[3])].extend([servers.status(503)] * 3)
    server.scripts[remote(wanted[4])].append(servers.status(401))
    results = {result.data_id: result for result in archive.fetch(wanted + wanted)}
    assert len(results) == 20
    for data_id in wanted:
        error = results[data_id].error
        if data_id in (wanted[3], wanted[4], *wanted[-2:]):
            assert error is not None
            assert error.key == data_id.key
        else:
            assert results[data_id].path is not None
            assert archive.path(data_id).read_bytes() == data_id.key.encode() * 100
    assert isinstance(results[wanted[-1]].error, NotOnSASError)
    assert len(everything(archive)) == 16


@pytest.mark.parametrize("workers", [1, 3])
def test_no_more_requests_at_a_time_than_allowed(server: Server, archive: Archive, workers: int) -> None:
    wanted = [visit(n) for n in range(1, 25)]
    together = threading.Barrier(workers)

    def slow(handler: servers.Handler, file: File | None) -> None:
        if file is not None:
            together.wait(20)  # breaks unless as many as allowed come at a time
        servers.good(handler, file)

    for data_id in wanted:
        server.files[remote(data_id)] = File(data_id.key.encode())
    server.otherwise = slow
    assert all(result.error is None for result in archive.fetch(wanted, workers))
    assert max(each.at_once for each in server.requests) == workers


def test_results_come_as_they_come_and_stopping_stops(server: Server, archive: Archive) -> None:
    wait = threading.Event()
    server.scripts[PATH].append(servers.broken_off(1000, wait=wait))
    wanted = [visit(n) for n in range(1, 41)]
    for data_id in wanted[1:]:
        server.files[remote(data_id)] = File(b"x")
    results = archive.fetch(wanted, workers=2)
    assert server.requests == []
    assert next(results).data_id != ONE
    results.close()
    wait.set()
    asked = len({each.path for each in server.requests} - {FOLDER})
    assert asked < 10
    assert not archive.exists(ONE)


def test_stopping_ends_waits(server: Server, archive: Archive) -> None:
    server.scripts[PATH].append(servers.status(503, Retry_After="250"))
    server.files[remote(visit(2))] = File(b"x")
    results = archive.fetch([ONE, visit(2)], workers=2)
    assert next(results).data_id == visit(2)
    until(lambda: len(server.asked(PATH)) == 1)
    before = {thread for thread in threading.enumerate() if thread.name == "astra-fetch"}
    assert len(before) == 2
    results.close()
    until(lambda: not any(thread.is_alive() for thread in before))
    assert len(server.asked(PATH)) == 1


def test_one_thread_keeps_its_connection(server: Server, archive: Archive) -> None:
    connections: set[object] = set()

    def note(handler: servers.Handler, file: File | None) -> None:
        connections.add(handler.client_address)
        servers.good(handler, file)

    server.otherwise = note
    wanted = [visit(n) for n in range(1, 11)]
    for data_id in wanted:
        server.files[remote(data_id)] = File(b"x" * 100_000)
    assert all(result.error is None for result in archive.fetch(wanted, workers=1))
    assert len(connections) == 1


def test_the_same_file_twice_at_a_time_comes_once(server: Server, archive: Archive) -> None:
    """Two runs that want the same file: the second waits for the first, and finds it there."""
    wait = threading.Event()

    def slow(handler: servers.Handler, file: File | None) -> None:
        handler.answer(200, File(BYTES).headers, BYTES[:1000], len(BYTES))
        wait.wait(20)
        handler.wfile.write(BYTES[1000:])

    server.scripts[PATH].append(slow)
    results: list[Fetched] = []
    threads = [threading.Thread(target=lambda: results.append(fetch_one(archive))) for _ in range(2)]
    threads[0].start()
    until(lambda: Partial(ONE.path(archive.root)).path.exists())
    threads[1].start()
    time.sleep(0.2)
    wait.set()
    for thread in threads:
        thread.join(20)
    assert sorted(result.received for result in results) == [0, len(BYTES)]
    assert len(server.asked(PATH)) == 1
    assert archive.path(ONE).read_bytes() == BYTES
    assert len(everything(archive)) == 1


# This disk


def test_a_file_that_cannot_be_written(server: Server, archive: Archive) -> None:
    (archive.root / "dr17").write_text("in the way")
    error = fetch_one(archive).error
    assert type(error) is DownloadError
    assert "cannot be written" in str(error)
    assert str(archive.path(ONE)) in str(error)


def test_a_folder_in_the_place_of_the_file(server: Server, archive: Archive) -> None:
    archive.path(ONE).mkdir(parents=True)
    assert "cannot be written: Is a directory" in str(fetch_one(archive).error)


def test_a_software_product_is_not_on_the_sas(server: Server, archive: Archive) -> None:
    error = fetch_one(archive, product("plObs").data_id("DR17", drillrun="2009.01.a")).error
    assert "software product" in str(error)
    assert server.requests == []


CHILD = """
import sys
from pathlib import Path
from astra_dagster import product
from astra_dagster.archive.sas import Archive
for result in Archive(Path(sys.argv[1]), sys.argv[2]).fetch([product("apVisit").parse_key(sys.argv[3])]):
    print(result.received, result.error)
"""


def until(true: Callable[[], bool]) -> None:
    for _ in range(3000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it never happened")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_in_the_middle_and_fetched_again(server: Server, archive: Archive, number: int) -> None:
    """SIGINT is what Ctrl-C sends: the process must not wait for a server that says nothing."""
    wait = threading.Event()
    server.scripts[PATH].append(servers.broken_off(100_000, wait=wait))
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(archive.root), server.url, ONE.key],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    partial = Partial(ONE.path(archive.root)).path
    until(lambda: partial.exists() and partial.stat().st_size == 100_000)
    os.kill(child.pid, number)
    child.communicate(timeout=30)  # less than the time-out of the transfer
    assert child.returncode != 0
    wait.set()
    assert not archive.exists(ONE)
    assert find_files(ONE.product, "DR17", archive.root) == ([], [])

    result = fetch_one(archive)
    assert_arrived(archive, result)
    assert result.received == 200_000
    assert server.asked(PATH)[-1].headers["Range"] == "bytes=100000-"


@given(
    code=st.one_of(st.sampled_from([200, 206, 416, 302, 404, 503]), st.integers(200, 599)),
    headers=st.dictionaries(
        st.sampled_from(
            (
                *("Content-Length", "Content-Range", "Content-Type", "Content-Encoding", "Transfer-Encoding"),
                *("ETag", "Last-Modified", "Location"),
            )
        ),
        st.one_of(
            st.sampled_from(
                ["5", "0", "-1", "bytes 0-4/5", "bytes 1-4/5", "bytes */5", "gzip", "chunked", '"a"', "W/", "text/html"]
            ),
            st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=12),
        ),
    ),
    body=st.sampled_from([b"", b"right", b"righ", b"right and more"]),
    begun=st.booleans(),
)
@hypothesis_settings(max_examples=150)
def test_whatever_the_server_says_nothing_wrong_arrives(
    tmp_path_factory: pytest.TempPathFactory, code: int, headers: dict[str, str], body: bytes, begun: bool
) -> None:
    def anything(handler: servers.Handler, _: File | None) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = True

    root = tmp_path_factory.mktemp("mirror")
    with Server() as server:
        server.files[PATH] = File(b"right")
        if begun:
            server.scripts[PATH].append(servers.broken_off(2))
        server.scripts[PATH].append(anything)
        archive = Archive(root, server.url, Patience(tries=3, first_wait=0.001, timeout=2))
        result = fetch_one(archive)
    if result.error is None:
        announced = headers.get("Content-Length", "")
        its_word = body[: int(announced)] if code == 200 and announced.isdecimal() else b"right"
        assert archive.path(ONE).read_bytes() in (b"right", its_word)
    else:
        assert isinstance(result.error, DownloadError)
        assert not archive.exists(ONE)


@given(
    st.one_of(st.text(max_size=40), st.from_regex(r"\w{3}, \d+ \w{3} \d+ \d+:\d+:\d+ (GMT|[+-]\d+)", fullmatch=True))
)
def test_dates_and_waits_of_headers_are_read_or_ignored(text: str) -> None:
    assert _retry_after(text) >= 0
    assert isinstance(Version("", text, 1).mtime_ns, int | None)


# Names and settings


def test_the_names_of_beginnings_are_no_products_files() -> None:
    from astra_dagster import release
    from astra_dagster_tests.datamodel.agreement import RELEASES, some_data_id, unresolved

    rng = random.Random(4)
    for name in RELEASES:
        refused = unresolved(name)
        resolved = [item for item in release(name).products if item not in refused]
        made = [data_id for item in resolved if (data_id := some_data_id(item, name, rng)) is not None]
        assert len(made) > 0.8 * len(resolved)
        hidden = {
            path.name for data_id in made for path in (Partial(data_id.path("/")).path, Partial(data_id.path("/")).note)
        }
        for item in resolved:
            last = product(item).template(name).segments[-1]
            taken = [text for text in hidden if last.fullmatch(text)]
            assert taken == [], item


@pytest.mark.parametrize(
    "value",
    [
        "data.sdss.org/sas",
        "ftp://data.sdss.org/sas",
        "https://",
        "https://data.sdss.org:x/sas",
        "https://[::1/sas",
        "https://data.sdss.org/sas?x=1",
        "https://data.sdss.org/s as",
        f"https://sdss:{SECRET}@data.sdss.org/sas",
    ],
)
def test_addresses_that_are_none(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("ASTRA_SAS_URL", value)
    with pytest.raises(ConfigurationError, match="ASTRA_SAS_URL") as caught:
        settings.sas_url()
    assert SECRET not in str(caught.value)


def test_the_archive_of_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAS_BASE_DIR", str(tmp_path))
    assert Archive.from_settings().url(ONE) == ONE.url
    monkeypatch.setenv("ASTRA_SAS_URL", "https://data.mirror.sdss.org/sas/")
    assert Archive.from_settings() == Archive(tmp_path, "https://data.mirror.sdss.org/sas")
    assert Archive.from_settings().url(ONE) == f"https://data.mirror.sdss.org/sas/{ONE.relative_path}"
