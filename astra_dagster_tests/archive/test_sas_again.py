"""Files that are here and not whole, servers that send nothing or lead astray, and proxies that cannot be used."""

import hashlib
from pathlib import Path

import pytest
import requests

from astra_dagster.archive.sas import Archive
from astra_dagster.archive.web import _Session
from astra_dagster.errors import ChecksumError, DownloadError
from astra_dagster_tests.archive.faults import ONE, PATH
from astra_dagster_tests.archive.server import File, Server, status
from astra_dagster_tests.spectra.synthetic import write_ap_visit


@pytest.fixture
def whole(server: Server, tmp_path: Path) -> bytes:
    """The FITS file on the server."""
    contents = write_ap_visit(tmp_path / "made").read_bytes()
    server.files[PATH] = File(contents)
    return contents


def put(archive: Archive, contents: bytes) -> Path:
    path = ONE.path(archive.root)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(contents)
    return path


@pytest.mark.parametrize("left", [0, 100, 30_000, -1, -3000])
def test_a_file_that_was_cut_short_is_fetched_again(archive: Archive, whole: bytes, left: int) -> None:
    path = put(archive, whole[:left])
    (result,) = archive.fetch([ONE])
    assert result.error is None
    assert result.received == len(whole)
    assert path.read_bytes() == whole
    (result,) = archive.fetch([ONE])
    assert result.received == 0


def test_a_whole_file_is_fetched_again_only_if_asked(archive: Archive, whole: bytes, server: Server) -> None:
    damaged = whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:]
    path = put(archive, damaged)
    assert [result.received for result in archive.fetch([ONE])] == [0]
    assert path.read_bytes() == damaged
    assert [result.received for result in archive.fetch([ONE], overwrite=True)] == [len(whole)]
    assert path.read_bytes() == whole
    del server.files[PATH]
    (result,) = archive.fetch([ONE], overwrite=True)
    assert result.error is not None
    assert path.read_bytes() == whole  # what is here stays until another has come


def test_a_download_of_no_length_is_no_file(archive: Archive, server: Server) -> None:
    server.files[PATH] = File(b"")
    (result,) = archive.fetch([ONE])
    assert "the server sends a file of length 0" in str(result.error)
    assert not ONE.path(archive.root).exists()


def answer(url: str, location: str) -> requests.Response:
    """An answer that redirects."""
    made = requests.Response()
    made.status_code, made.url = 302, url
    made.headers["location"] = location
    return made


@pytest.mark.parametrize(
    "location", ["http://elsewhere.example.org/x", "http://data.sdss.org/x", "HTTP://data.sdss.org/x"]
)
def test_no_redirect_leads_from_https_to_http(location: str) -> None:
    with pytest.raises(DownloadError, match="redirects from https to http://"):
        _Session().get_redirect_target(answer("https://data.sdss.org/sas/x", location))


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("https://data.sdss.org/sas/x", "https://elsewhere.example.org/x"),
        ("https://data.sdss.org/sas/x", "/sas/y"),
        ("https://data.sdss.org/sas/x", "//elsewhere.example.org/x"),
        ("http://data.sdss.org/sas/x", "http://elsewhere.example.org/x"),
        ("http://data.sdss.org/sas/x", "https://data.sdss.org/x"),
    ],
)
def test_other_redirects_are_followed(url: str, location: str) -> None:
    assert _Session().get_redirect_target(answer(url, location)) == location


@pytest.mark.parametrize(
    ("name", "proxy", "told"),
    [
        ("all_proxy", "socks5h://me:word@127.0.0.1:9", "the proxy socks5h://127.0.0.1:9 cannot be used"),
        ("http_proxy", "http://me:word@127.0.0.1:9", "the proxy http://127.0.0.1:9 does not answer"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_named(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, name: str, proxy: str, told: str
) -> None:
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv(name, proxy)
    (result,) = archive.fetch([ONE])
    assert told in str(result.error)
    assert "word" not in str(result.error)


def test_files_are_compared_with_published_checksums(archive: Archive, whole: bytes, server: Server) -> None:
    right = hashlib.sha1(whole, usedforsecurity=False).hexdigest()
    folder, _, name = PATH.rpartition("/")
    server.files[f"{folder}/"] = File(b'<a href="files.sha1sum">files.sha1sum</a>', type="text/html")
    server.files[f"{folder}/files.sha1sum"] = File(f"{right}  {name}\n".encode())
    path = put(archive, whole)
    assert [result.error for result in archive.verify([ONE])] == [None]
    path.write_bytes(whole[:9000] + bytes([whole[9000] ^ 1]) + whole[9001:])
    (result,) = archive.verify([ONE])
    assert isinstance(result.error, ChecksumError)
    assert f"and {right} by the checksum file" in str(result.error)
    path.write_bytes(whole[:9000])
    (result,) = archive.verify([ONE])
    assert "is incomplete" in str(result.error)
    path.unlink()
    (result,) = archive.verify([ONE])
    assert "the file is not there" in str(result.error)


def test_a_server_that_does_not_answer_is_asked_once(archive: Archive, whole: bytes, server: Server) -> None:
    put(archive, whole)
    server.otherwise = status(500)
    first, second = archive.verify([ONE, ONE])
    assert isinstance(first.error, DownloadError)
    assert second.error is None
