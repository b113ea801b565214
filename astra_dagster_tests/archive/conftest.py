"""An archive server and an archive that fetches from it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from astra_dagster.archive.sas import Archive
from astra_dagster_tests.archive.faults import (
    BYTES,
    PATH,
    QUICK,
)
from astra_dagster_tests.archive.server import File, Server


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
