"""Published checksums: looked up once a folder, and nothing that differs from them is kept."""

import hashlib

import pytest

from astra_dagster.archive.sas import Archive
from astra_dagster.errors import ChecksumError
from astra_dagster_tests.archive import server as servers
from astra_dagster_tests.archive.faults import (
    BYTES,
    FOLDER,
    ONE,
    PATH,
    assert_arrived,
    everything,
    fetch_one,
    remote,
    visit,
)
from astra_dagster_tests.archive.server import Behaviour, File, Server


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
