"""A DAGSTER_HOME for the tests of the storages: Dagster's own storage or ours, on SQLite or PostgreSQL."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from astra_dagster.cli import main
from astra_dagster.cli.init import dagster_yaml


def home(folder: Path, request: pytest.FixtureRequest, database: str, *, ours: bool, url: str | None = None) -> Path:
    """Make a DAGSTER_HOME whose storage is Dagster's own, or `ours` as `astra-dagster init` sets it up."""
    folder.mkdir(exist_ok=True)
    (folder / "astra.toml").write_text('workers = "in-process"\n')  # records come in the order of the partitions
    if database == "postgresql" and url is None:
        url = request.getfixturevalue("postgresql")()
    if ours:
        options = ["--postgres", url] if database == "postgresql" else []
        made = CliRunner().invoke(main, ["init", *options], env={"DAGSTER_HOME": str(folder)})
        assert made.exit_code == 0, made.output
    else:
        storage = f"storage:\n  postgres:\n    postgres_url: {url}\n" if database == "postgresql" else ""
        (folder / "dagster.yaml").write_text(dagster_yaml(storage))
    return folder
