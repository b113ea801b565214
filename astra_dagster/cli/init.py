"""The command that sets Dagster up: it writes dagster.yaml."""

import json
from pathlib import Path

import click

from astra_dagster import settings
from astra_dagster.errors import AstraError, make_write_error

URL_VARIABLE = "ASTRA_POSTGRES_URL"
"""Environment variable from which dagster.yaml takes the URL of the database if the URL holds a password."""

SQLITE = """\
# Records are written in batches, into the files of Dagster's own SQLite storage. With `compact: true` they take a
# quarter of the bytes, and Dagster's own storage cannot read them: remove the line before the first run to be able to
# do without this section later.
storage:
  custom:
    module: astra_dagster.orchestration.storage.sqlite
    class: BatchedSqliteStorage
    config:
      base_dir:
        env: DAGSTER_HOME
      compact: true
"""

POSTGRES = """\
# Records are written in batches. These are the tables of Dagster's own PostgreSQL storage: with `postgres:` and
# `postgres_url:` instead of this everything works as well, only slower.
storage:
  custom:
    module: astra_dagster.orchestration.storage.postgresql
    class: BatchedPostgresStorage
    config:
      postgres_url: {url}
"""

FROM_ENVIRONMENT = f"""
        env: {URL_VARIABLE}  # not written here, for it holds a password"""

REST = """
concurrency:
  # Runs at a time; each takes any number of partitions, and all cores. Not one, so that files can be discovered, or
  # a small run be made, while a large one is under way.
  runs:
    max_concurrent_runs: 2
  # Runs at a time of assets that share a `pool`; see `dagster instance concurrency` for pools with limits of their own.
  pools:
    granularity: run
    default_limit: 1
run_queue:
  dequeue_interval_seconds: 1  # how often the queue is looked at; Dagster's own default is 5

# Dagster's own launcher of runs, which also tells when the process of a run is gone. With the run monitoring below, a
# run that was killed, went down with its machine, does not start, or does not end when it is told to holds up no other.
run_launcher:
  module: astra_dagster.orchestration.launcher
  class: AstraRunLauncher
run_monitoring:
  enabled: true
  poll_interval_seconds: 15
  start_timeout_seconds: 300
  cancel_timeout_seconds: 180

telemetry:
  enabled: false

nux:
  enabled: false
"""


def dagster_yaml(storage: str) -> str:
    """Return the contents of dagster.yaml with this section on storage."""
    head = "# How Dagster runs here. All that may stand in it: https://docs.dagster.io/deployment/oss/dagster-yaml\n\n"
    return f"{head}{storage}{REST}"


DAGSTER_YAML = dagster_yaml(SQLITE)


@click.command(short_help="Set Dagster up: write a commented dagster.yaml.")
@click.option(
    "--postgres", metavar="URL", help="Keep the records in this PostgreSQL database: postgresql://me@host/db."
)
def init(postgres: str | None) -> None:
    """Write a commented dagster.yaml into DAGSTER_HOME, with storage that writes records in batches.

    The database must be there and be reached; Dagster makes its tables when they are first needed. A password does
    not go into the file: Dagster then takes the URL from ASTRA_POSTGRES_URL, whenever it runs. Without a password in
    the URL the server's driver looks for one in ~/.pgpass.

    Example: astra-dagster init --postgres postgresql://me@db.example.org/astra
    """
    path = settings.dagster_home() / "dagster.yaml"
    if path.exists():
        raise AstraError("there is a dagster.yaml already", path=path, hint="move it away to get a new one")
    secret = False
    storage = SQLITE
    if postgres is not None:
        secret = _check(postgres)
        storage = POSTGRES.format(url=FROM_ENVIRONMENT if secret else json.dumps(postgres))
    _write(path, dagster_yaml(storage))
    click.echo(f"wrote {path}")
    if secret:
        click.echo(f"it holds no password: set {URL_VARIABLE} to the URL wherever Dagster or astra-dagster runs")


def _check(url: str) -> bool:
    """Check that the database can be reached, and return whether its URL holds a password."""
    from astra_dagster.orchestration.storage.postgresql import check_server, parse_url

    parsed = parse_url(url)
    check_server(parsed)
    return bool(parsed.password) or "password" in parsed.query


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as stream:
            try:
                stream.write(text)
                stream.flush()
            except OSError:
                path.unlink()
                raise
    except OSError as error:
        raise make_write_error(error, "dagster.yaml", path) from error
