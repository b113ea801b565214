"""A PostgreSQL server for the tests: started in a temporary folder, stopped at their end."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

BINARIES = [Path("/usr/lib/postgresql"), Path("/opt/homebrew/bin"), Path("/usr/local/pgsql/bin")]


@contextmanager
def server() -> Iterator[Callable[[], str]]:
    """Run a server, and give a function that makes an empty database and returns its URL."""
    initdb, postgres = _binary("initdb"), _binary("postgres")
    if initdb is None or postgres is None:
        pytest.skip("no PostgreSQL server is installed: neither initdb nor postgres is found")
    if importlib.util.find_spec("dagster_postgres") is None:
        pytest.skip("no driver for PostgreSQL is installed: pip install 'astra-dagster[postgres]'")
    user = _user()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    # Not below the folder of pytest, which nobody else may enter; and the path of a socket must be short.
    with tempfile.TemporaryDirectory(prefix="astra-pg-", ignore_cleanup_errors=True) as name:
        if user:
            os.chown(name, user["user"], user["group"])
        data = Path(name, "data")
        options = ["--username=astra", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]
        subprocess.run([initdb, "-D", str(data), *options], cwd=name, check=True, **quiet, **user)
        command = [postgres, "-D", str(data), "-k", name, "-c", "listen_addresses=", "-F"]
        running = subprocess.Popen(command, cwd=name, **quiet, **user)
        made = 0

        def database() -> str:
            nonlocal made
            made += 1
            engine = sa.create_engine(_url(name, "postgres"), poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                connection.exec_driver_sql(f"CREATE DATABASE test{made}")
            return _url(name, f"test{made}")

        try:
            _await(_url(name, "postgres"), running)
            yield database
        finally:
            running.send_signal(signal.SIGINT)
            running.wait(30)


def _url(folder: str, database: str) -> str:
    return f"postgresql+psycopg2://astra@/{database}?host={folder}"


def _binary(name: str) -> str | None:
    there = sorted(path for folder in BINARIES for path in (folder / name, *folder.glob(f"*/bin/{name}")))
    return next((str(path) for path in reversed(there) if path.is_file()), shutil.which(name))


def _user() -> dict[str, Any]:
    """Whom the server is to run as: it refuses root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    pytest.skip("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody")


def _await(url: str, running: subprocess.Popen[bytes]) -> None:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    for _ in range(300):
        try:
            engine.connect().close()
        except sa.exc.OperationalError:
            assert running.poll() is None, "the PostgreSQL server did not start"
            time.sleep(0.1)
        else:
            return
    pytest.fail("the PostgreSQL server does not answer")
