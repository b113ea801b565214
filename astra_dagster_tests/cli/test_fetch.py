"""Fetching from the command line."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from astra_dagster import product
from astra_dagster.cli import main
from astra_dagster_tests.archive import server as servers
from astra_dagster_tests.archive.server import File, Server
from astra_dagster_tests.disks import small_disk

KEYS = [f"DR17/apo25m/120+12/5226/56000/{fibre:03}" for fibre in (1, 2, 3)]
IDS = [product("apVisit").parse_key(key) for key in KEYS]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server with two of the three files, and settings of a person with an empty mirror."""
    for name in ("NETRC", "http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "sas").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SAS_BASE_DIR", str(tmp_path / "sas"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    with Server() as made:
        monkeypatch.setenv("ASTRA_SAS_URL", made.url)
        for data_id in IDS[:2]:
            made.files[f"/sas/{data_id.relative_path}"] = File(data_id.key.encode() * 40_000)
        yield made


def astra(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_keys(server: Server, tmp_path: Path) -> None:
    dry = astra("fetch", "--product", "apVisit", "--dry-run", KEYS[0])
    assert dry.output == f"fetch  {KEYS[0]}  {server.url}/{IDS[0].relative_path}\n"
    assert server.requests == []

    first = astra("fetch", "--product", "apVisit", KEYS[0])
    assert (first.exit_code, first.output) == (0, "1 fetched (1.3 MB), 0 here already, 0 failed\n")
    assert IDS[0].path(tmp_path / "sas").read_bytes() == KEYS[0].encode() * 40_000
    assert astra("fetch", "--product", "ap_visit", "--dry-run", KEYS[0]).output.startswith("here   DR17/")

    rest = astra("fetch", "--product", "apVisit", *KEYS, KEYS[0])
    assert rest.exit_code == 1
    assert rest.stdout == "1 fetched (1.3 MB), 1 here already, 1 failed\n"
    missing, summary = rest.stderr.splitlines()
    assert missing == f"not on the SAS: {server.url}/{IDS[2].relative_path} (key {KEYS[2]})"
    assert summary == "Error: 1 of 3 could not be fetched"


def test_a_list_of_keys_and_of_fibres(server: Server, tmp_path: Path) -> None:
    listed = tmp_path / "mine.txt"
    listed.write_text(f"# mine\n{KEYS[0]}\n")
    came = astra("fetch", "--product", "apVisit", "--keys", str(listed), "--dry-run")
    assert came.output == f"fetch  {KEYS[0]}  {server.url}/{IDS[0].relative_path}\n"
    listed.write_text(f"{KEYS[0]}\n5226-56000-2\n")
    assert "is no key, and names files of any product" in astra("fetch", "--keys", str(listed)).stderr
    table = tmp_path / "table.csv"
    table.write_text("telescope,field,plate,mjd,fibre\napo25m,120+12,5226,56000,2\n")
    assert astra("register", str(table), "--product", "apVisit", "--release", "DR17").exit_code == 0
    assert astra("fetch", "--product", "apVisit", "--keys", str(listed)).stdout.startswith("2 fetched")
    listed.write_text("5226-56000-9\n")
    unknown = astra("fetch", "--product", "apVisit", "--keys", str(listed)).stderr
    assert "no ap_visit partition is registered as 5226-56000-9" in unknown


def test_registered_files_that_are_not_here(server: Server, tmp_path: Path) -> None:
    """A night's table is registered first; then its files are fetched."""
    table = tmp_path / "table.csv"
    rows = "".join(f"apo25m,120+12,5226,56000,{fibre}\n" for fibre in (1, 2))
    table.write_text("telescope,field,plate,mjd,fibre\n" + rows)
    assert astra("register", str(table), "--product", "apVisit", "--release", "DR17").exit_code == 0
    some = astra("fetch", "--product", "apVisit", "--release", "DR17", "--where", "fibre=2", "--workers", "1")
    assert (some.exit_code, some.output) == (0, "1 fetched (1.3 MB), 0 here already, 0 failed\n")
    both = astra("fetch", "--product", "apVisit", "--where", "mjd=56000")
    assert (both.exit_code, both.output) == (0, "1 fetched (1.3 MB), 1 here already, 0 failed\n")


def test_where_a_file_is(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for options in ([], ["--product", "apVisit"]):
        assert astra("path", *options, KEYS[0]).output == f"{tmp_path}/sas/{IDS[0].relative_path}\n"
        assert astra("url", *options, KEYS[0]).output == f"{server.url}/{IDS[0].relative_path}\n"
    assert astra("url", "--product", "apVisit", KEYS[0]).output == f"{server.url}/{IDS[0].relative_path}\n"
    monkeypatch.delenv("ASTRA_SAS_URL")
    monkeypatch.delenv("SAS_BASE_DIR")
    assert astra("url", "--product", "apVisit", KEYS[0]).output == IDS[0].url + "\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["fetch", "--release", "DR17"], 2, "give --product too"),
        (["path", "DR17/x"], 1, "is no key of a source asset"),
        (
            ["fetch", "--product", "apVisit"],
            2,
            "give keys, or --keys, or select registered ones by --release or --where",
        ),
        (["fetch", "--product", "apVisit", "--release", "DR17", KEYS[0]], 2, "not both"),
        (["fetch", "--product", "apVisit", "--release", "DR17"], 1, "no ap_visit partition is registered"),
        (["fetch", "--product", "apVisits", KEYS[0]], 1, "did you mean apVisit"),
        (["fetch", "--product", "apVisit", "DR17/x"], 1, "its parts are release/telescope"),
        (["url", "--product", "plObs", "DR17/2009.01.a"], 1, "software product"),
    ],
)
def test_what_cannot_be_fetched(server: Server, arguments: list[str], code: int, message: str) -> None:
    result = astra(*arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert server.requests == []


def test_a_login_is_asked_of_nobody(server: Server) -> None:
    server.otherwise = servers.status(401)
    result = CliRunner().invoke(main, ["fetch", "--product", "apVisit", KEYS[0]], input="sdss\nsecret\n")
    assert result.exit_code == 1
    assert "~/.netrc needs a line like: machine 127.0.0.1 login NAME password PASSWORD" in result.stderr
    assert len(result.stderr.splitlines()) == 2


def test_a_full_disk_stops_it_at_once(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk(tmp_path / "disk", "2m") as disk:
        (disk.folder / "sas").mkdir()
        monkeypatch.setenv("SAS_BASE_DIR", str(disk.folder / "sas"))
        arguments = ("fetch", "--product", "apVisit", "--workers", "1", *KEYS)
        result = astra(*arguments)  # there is room for one, and half of another
        assert result.exit_code == 1
        assert result.output.count("\n") == 1
        said = f"the disk at {disk.folder} takes no more: No space left on device"
        assert said in result.output
        assert "1 fetched, 2 left to fetch" in result.output
        assert not any(IDS[2].relative_path in request.path for request in server.requests)
