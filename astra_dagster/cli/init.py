"""The command that sets Dagster up."""

import click

from astra_dagster import settings
from astra_dagster.errors import AstraError

DAGSTER_YAML = """\
# How Dagster runs here. All that may stand in it: https://docs.dagster.io/deployment/oss/dagster-yaml

# Records are written in batches. These are the files of Dagster's own SQLite storage: without this section
# everything works as well, only slower.
storage:
  custom:
    module: astra_dagster.orchestration.storage
    class: BatchedSqliteStorage
    config:
      base_dir:
        env: DAGSTER_HOME

# Runs at a time; each takes any number of partitions.
concurrency:
  runs:
    max_concurrent_runs: 2

telemetry:
  enabled: false

nux:
  enabled: false
"""


@click.command()
def init() -> None:
    """Write a commented dagster.yaml into DAGSTER_HOME, with storage that writes records in batches.

    Example: astra-dagster init
    """
    path = settings.dagster_home() / "dagster.yaml"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as stream:
            stream.write(DAGSTER_YAML)
    except FileExistsError as error:
        raise AstraError("there is a dagster.yaml already", path=path, hint="move it away to get a new one") from error
    except OSError as error:
        raise AstraError(f"dagster.yaml cannot be written: {error.strerror}", path=path) from error
    click.echo(f"wrote {path}")
