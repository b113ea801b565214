"""Files from an archive server that misbehaves in every way: what arrives is whole and right, or does not arrive."""

import random
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from astra_dagster import product
from astra_dagster.archive.discovery import file_version
from astra_dagster.archive.partial import Partial, Version
from astra_dagster.archive.sas import Archive
from astra_dagster.archive.web import Client, Patience, Transient, _parse_retry_after
from astra_dagster.errors import (
    AccessDeniedError,
    DownloadError,
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
    assert_arrived,
    everything,
    fetch_one,
    visit,
)
from astra_dagster_tests.archive.found import find_files
from astra_dagster_tests.archive.server import MODIFIED, File, Server


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
    assert _parse_retry_after(text) >= 0
    assert isinstance(Version("", text, 1).mtime_ns, int | None)


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
