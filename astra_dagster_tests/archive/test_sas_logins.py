"""Logins of the archive: found, told of without the password, and sent to nobody else."""

import logging
from pathlib import Path

import pytest

from astra_dagster import product
from astra_dagster.archive.sas import Archive
from astra_dagster.errors import (
    AccessDeniedError,
)
from astra_dagster_tests.archive import server as servers
from astra_dagster_tests.archive.faults import (
    BYTES,
    ONE,
    PATH,
    SECRET,
    assert_arrived,
    fetch_one,
    remote,
    visit,
)
from astra_dagster_tests.archive.server import File, Server


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
    assert entry in Logins().make_hint(Archive(archive.root).url(data_id))


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
