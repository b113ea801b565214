"""Dagster's web UI on a folder of its own, and a browser to look at it with: for tests, and for pictures of the UI."""

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from astra_dagster_tests.documented import end

if TYPE_CHECKING:
    from playwright.sync_api import Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage"]
PATIENCE = 120.0
"""Seconds to wait for anything: the machine may be busy."""


def missing() -> str | None:
    """What a browser test lacks on this machine, and how to get it; nothing if it can run."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "playwright is not installed: pip install 'astra-dagster[test]'"
    if not any(map(shutil.which, BROWSERS)):
        return f"no browser is installed, neither of {', '.join(BROWSERS)}: apt-get install chromium"
    return None


def places(folder: Path) -> dict[str, str]:
    """Environment of a user whose mirror, records and outputs are below a folder, with no other settings."""
    others = {k: v for k, v in os.environ.items() if not k.startswith(("ASTRA_", "DAGSTER_", "SAS_", "TREE_"))}
    here = {"SAS_BASE_DIR": "sas", "DAGSTER_HOME": "dagster", "ASTRA_OUTPUTS": "outputs"}
    return others | {name: str(folder / part) for name, part in here.items()}


def command(environment: Mapping[str, str], module: str, *arguments: str, code: int = 0) -> None:
    """Run the command line of a package, which must end with this exit code."""
    words = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(words, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == code, done.stdout


@contextmanager
def web_ui(
    folder: Path, environment: Mapping[str, str], cwd: Path | None = None, *, daemon: bool = True
) -> Iterator[str]:
    """Run `dagster dev`: web server, daemon and code server; gives the address, and ends all of it afterwards.

    Parameters
    ----------
    folder
        For the log.
    cwd
        Working directory, if it is another.
    daemon
        Whether there is to be a daemon; else the web server runs alone, with its code server.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "web-ui.log"
    program = ["-m", "dagster", "dev"] if daemon else ["-m", "dagster_webserver"]
    command = [sys.executable, *program, "-m", "astra_dagster.definitions", "-p", str(port)]
    with log.open("w") as written:
        running = subprocess.Popen(
            command,
            cwd=cwd or folder,
            env=environment,
            stdout=written,
            stderr=written,
            text=True,
            start_new_session=True,
        )
    try:
        _await(port, running)
        yield f"http://127.0.0.1:{port}"
    except BaseException as error:
        error.add_note(f"the log of the web server ends so:\n{log.read_text()[-3000:]}")
        raise
    finally:
        end(running)


def graphql(address: str, query: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Ask the web server what its pages ask it."""
    document = json.dumps({"query": query, "variables": dict(variables or {})}).encode()
    request = urllib.request.Request(f"{address}/graphql", document, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
        told = json.load(answer)
    assert "errors" not in told, told
    return dict(told["data"])


def _await(port: int, running: subprocess.Popen[str]) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        assert running.poll() is None, "the web server ended"
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        try:
            connection.request("GET", "/server_info")
            if connection.getresponse().status == http.HTTPStatus.OK:
                return
        except ConnectionError:
            time.sleep(0.2)
        finally:
            connection.close()
    raise AssertionError(f"the web server does not answer within {PATIENCE:.0f} s")


@contextmanager
def browser(address: str, size: tuple[int, int], failed: Path, zoom: float = 1.0) -> Iterator["Page"]:
    """Open a page in the system's browser.

    Parameters
    ----------
    size
        Of the window, pixels.
    failed
        Where a picture of the page is left when something goes wrong.
    zoom
        Pixels of a picture for one of the window.
    """
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=1000 * PATIENCE)
    found = next(filter(None, map(shutil.which, BROWSERS)))
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, args=OPTIONS, timeout=1000 * PATIENCE)
        try:
            window = {"width": size[0], "height": size[1]}
            context = running.new_context(base_url=address, viewport=window, device_scale_factor=zoom)
            context.set_default_timeout(1000 * PATIENCE)
            page = context.new_page()
            try:
                yield page
            except BaseException as error:
                page.screenshot(path=failed)
                error.add_note(f"at {page.url}, shown in {failed}")
                raise
        finally:
            running.close()
