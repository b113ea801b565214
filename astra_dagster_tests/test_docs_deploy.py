"""What the page on deployment has systemd and nginx do, done here: the services' own commands, behind a real nginx."""

import base64
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
from dagster._daemon.controller import all_daemons_live

from astra_dagster_tests.documented import DOCS, blocks_of, end

FILES = {block.path: block.text for block in blocks_of((DOCS / "how-to" / "deploy.md").read_text()) if block.path}
BIN = Path(sys.executable).parent
PASSWORD = "SECRET"  # noqa: S105 (the page's)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def command_of(unit: str, ports: dict[str, int]) -> list[str]:
    """What a unit of systemd starts, with the programs and ports that are here."""
    (line,) = re.findall(r"^ExecStart=(.+)$", FILES[unit], re.MULTILINE)
    words = [str(ports.get(word, word)) for word in shlex.split(line)]
    assert words[0].startswith("/srv/astra/venv/bin/")
    return [str(BIN / Path(words[0]).name), *words[1:]]


@contextmanager
def started(command: list[str], home: Path) -> Iterator[subprocess.Popen[str]]:
    with (home / "log").open("a") as log:
        process = subprocess.Popen(command, cwd=home, stdout=log, stderr=log, text=True, start_new_session=True)
    try:
        yield process
    finally:
        end(process)


def ask(url: str, document: object = None, login: str | None = None) -> tuple[int, str]:
    """Status and text of an answer; with a document it is sent as JSON."""
    headers = {"Content-Type": "application/json"}
    if login is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
    data = None if document is None else json.dumps(document).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=30) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(errors="replace")


def until_answers(url: str, process: subprocess.Popen[str]) -> None:
    for _ in range(600):
        assert process.poll() is None, f"{url} has ended"
        try:
            if ask(url)[0] < 500:
                return
        except urllib.error.URLError:
            pass
        time.sleep(0.1)
    pytest.fail(f"no answer from {url}")


@pytest.fixture
def home(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings as in the file `environment`, with places that are here."""
    named = dict(line.split("=", 1) for line in FILES["environment"].splitlines())
    places = {"SAS_BASE_DIR": mirror, "DAGSTER_HOME": tmp_path, "ASTRA_OUTPUTS": tmp_path / "outputs"}
    assert named.keys() == {*places, "ASTRA_CONFIG"}
    for name, path in places.items():
        monkeypatch.setenv(name, str(path))
    (tmp_path / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    with dg.DagsterInstance.get() as instance:  # services that start together would both make its tables
        instance.get_runs(limit=1)
        instance.all_instigator_state()
        instance.get_dynamic_partitions("files")
    return tmp_path


def test_the_web_servers_of_the_units(home: Path) -> None:
    """Under their prefixes; and the read-only one lets nobody change anything."""
    ports = {"3000": free_port(), "3001": free_port()}
    start = {"query": 'mutation { startSensor(sensorSelector: {repositoryName: "x", repositoryLocationName: "x", '
             'sensorName: "x"}) { __typename } }'}  # fmt: skip
    allowed = {}
    with (
        started(command_of("astra-web.service", ports), home) as web,
        started(command_of("astra-public.service", ports), home) as public,
    ):
        for name, port, process in (("astra", ports["3000"], web), ("astra-public", ports["3001"], public)):
            url = f"http://127.0.0.1:{port}/{name}"
            until_answers(f"{url}/server_info", process)
            assert "dagster_webserver_version" in ask(f"{url}/server_info")[1]
            assert ask(f"{url}/graphql", {"query": "{ version }"})[0] == 200
            allowed[name] = ask(f"{url}/graphql", start)[1]
    assert "UnauthorizedError" not in allowed["astra"]
    assert "UnauthorizedError" in allowed["astra-public"]


def test_the_daemon_of_the_unit(home: Path) -> None:
    with started(command_of("astra-daemon.service", {}), home) as daemon, dg.DagsterInstance.get() as instance:
        until = time.monotonic() + 120
        while not all_daemons_live(instance):
            assert daemon.poll() is None, (home / "log").read_text()
            assert time.monotonic() < until, (home / "log").read_text()
            time.sleep(0.2)
        check = [str(BIN / "dagster-daemon"), "liveness-check"]
        assert subprocess.run(check, capture_output=True, check=False).returncode == 0


@pytest.fixture
def nginx() -> str:
    found = shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
    if found is None:
        pytest.skip("nginx is not installed")
    return found


def configuration(name: str, home: Path, ports: dict[str, int]) -> list[str]:
    """Options of nginx for one of the page's files, with a certificate and a password that are made here."""
    text = FILES[name].replace("listen 443", f"listen 127.0.0.1:{ports['443']}")
    for port, here in ports.items():
        text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{here}")
    text = text.replace("/etc/ssl/", f"{home}/").replace("/etc/nginx/", f"{home}/")
    places = "".join(
        f"{kind}_temp_path {home}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    path = home / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""  # else its workers may not read what is here
    path.write_text(
        f"{user} pid {home}/nginx.pid; error_log {home}/error.log; daemon off; events {{}}\n"
        f"http {{ access_log off; {places}\n{text} }}\n"
    )
    subject = ["-subj", "/CN=astra.example.org", "-days", "2", "-nodes", "-newkey", "rsa:2048"]
    keys = ["-keyout", str(home / "astra.key"), "-out", str(home / "astra.crt")]
    openssl = shutil.which("openssl") or pytest.skip("openssl is not installed")
    subprocess.run([openssl, "req", "-x509", *subject, *keys], check=True, capture_output=True)
    command = [openssl, "passwd", "-apr1", PASSWORD]
    hashed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (home / "astra.passwords").write_text(f"maria:{hashed}")
    return ["-p", str(home), "-c", str(path)]


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".conf")])
def test_nginx_takes_its_configuration(name: str, nginx: str, tmp_path: Path) -> None:
    options = configuration(name, tmp_path, {"443": free_port()})
    done = subprocess.run([nginx, "-t", *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr


def test_nobody_gets_in_without_a_login(nginx: str, home: Path) -> None:
    ports = {"443": free_port(), "3000": free_port(), "3001": free_port()}
    options = configuration("astra.conf", home, ports)
    # Certificates are not what is tested: without them, any client does.
    conf = home / "nginx.conf"
    conf.write_text(
        re.sub(r" ssl;|ssl_certificate\w*\s+\S+;", lambda m: ";" if m[0] == " ssl;" else "", conf.read_text())
    )
    url = f"http://127.0.0.1:{ports['443']}/astra/server_info"
    with started(command_of("astra-web.service", ports), home) as web, started([nginx, *options], home):
        until_answers(f"http://127.0.0.1:{ports['3000']}/astra/server_info", web)
        assert ask(url)[0] == 401
        assert ask(url, login="maria:guess")[0] == 401
        status, text = ask(url, login=f"maria:{PASSWORD}")
        assert (status, "dagster_webserver_version" in text) == (200, True)
        # The WebSocket that the web UI follows runs with comes through as well.
        with socket.create_connection(("127.0.0.1", ports["443"]), timeout=30) as connection:
            login = base64.b64encode(f"maria:{PASSWORD}".encode()).decode()
            lines = ["GET /astra/graphql HTTP/1.1", "Host: astra.example.org", f"Authorization: Basic {login}"]
            lines += ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
            lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: graphql-ws", "", ""]
            connection.sendall("\r\n".join(lines).encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 101")
