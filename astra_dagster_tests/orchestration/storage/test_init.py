"""`astra-dagster init`, and what goes wrong between Dagster and its database."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
import yaml
from click.testing import CliRunner, Result

from astra_dagster.cli import main
from astra_dagster.cli.init import DAGSTER_YAML, POSTGRES, URL_VARIABLE, dagster_yaml
from astra_dagster.errors import AstraError, ConfigurationError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DAGSTER_HOME that is not there yet."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def init(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["init", *arguments])


def test_what_is_written(folder: Path) -> None:
    result = init()
    assert (result.exit_code, result.output) == (0, f"wrote {folder / 'dagster.yaml'}\n")
    assert (folder / "dagster.yaml").read_text() == DAGSTER_YAML
    with dg.DagsterInstance.get() as instance:
        assert not instance.telemetry_enabled
        assert instance.run_monitoring_enabled
        limits = instance.get_concurrency_config()
        assert limits.run_queue_config.max_concurrent_runs == 2
        assert limits.pool_config.default_pool_limit == 1


def test_one_that_is_there_is_left_alone(folder: Path) -> None:
    folder.mkdir()
    (folder / "dagster.yaml").write_text("mine: 1\n")
    result = init()
    assert result.exit_code == 1
    assert "there is a dagster.yaml already" in result.output
    assert (folder / "dagster.yaml").read_text() == "mine: 1\n"


def test_a_url_without_a_password_is_written(folder: Path, postgresql: Callable[[], str]) -> None:
    url = postgresql().replace("+psycopg2", "")
    assert init("--postgres", url).exit_code == 0
    storage = yaml.safe_load((folder / "dagster.yaml").read_text())["storage"]["custom"]
    assert storage["config"] == {"postgres_url": url}
    with dg.DagsterInstance.get() as instance:
        assert type(instance.event_log_storage).__name__ == storage["class"].replace("Storage", "EventLogStorage")
        instance.add_dynamic_partitions("files", ["one"])
    with dg.DagsterInstance.get() as instance:
        assert instance.get_dynamic_partitions("files") == ["one"]


@pytest.mark.parametrize("in_query", [False, True])
def test_a_password_is_not(
    in_query: bool, folder: Path, postgresql: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{postgresql()}&password=sesame" if in_query else postgresql().replace("astra@", "astra:sesame@")
    result = init("--postgres", url)
    assert result.exit_code == 0, result.output
    written = (folder / "dagster.yaml").read_text()
    assert "sesame" not in written + result.output
    assert URL_VARIABLE in result.output
    with pytest.raises(dg.DagsterInvalidConfigError, match=URL_VARIABLE):
        dg.DagsterInstance.get()
    monkeypatch.setenv(URL_VARIABLE, url)
    with dg.DagsterInstance.get() as instance:
        assert instance.get_dynamic_partitions("files") == []


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sesame", "cannot be understood"),
        ("postgresql://u:sesame@host:port/db", "cannot be understood"),
        ("mysql://u:sesame@host/db", "kind 'mysql' cannot be used"),
        ("sqlite:///sesame", "cannot be kept with 'sqlite'"),
        ("postgresql+psycopg://u:sesame@host/db", "cannot be kept with"),
        ("postgresql://u:ses@ame@host/db", "an @ too many"),
        ("postgresql://u:sesame@127.0.0.1:9/db", "cannot be reached: .*refused"),
        ("postgresql://u:sesame@/db?host=/nowhere", "cannot be reached: .*No such file"),
    ],
)
def test_nothing_is_written_for_a_bad_url(url: str, reason: str, folder: Path) -> None:
    pytest.importorskip("dagster_postgres", reason="dagster-postgres is not installed")
    result = init("--postgres", url)
    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert re.search(reason, result.output)
    assert "ses" not in result.output.replace("postgresql", "")
    assert not folder.exists()


def test_a_database_that_is_not_there(folder: Path, postgresql: Callable[[], str]) -> None:
    url = sa.make_url(postgresql()).set(database="other").render_as_string()
    result = init("--postgres", url)
    assert result.exit_code == 1
    assert 'database "other" does not exist' in result.output
    assert not folder.exists()


def test_the_driver_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "astra_dagster.orchestration.storage.postgresql", raising=False)
    monkeypatch.setitem(sys.modules, "dagster_postgres.event_log", None)
    result = init("--postgres", "postgresql://me@host/db")
    assert result.exit_code == 1
    assert "pip install 'astra-dagster[postgres]'" in result.output
    assert not folder.exists()
    folder.mkdir()
    (folder / "dagster.yaml").write_text(dagster_yaml(POSTGRES.format(url="postgresql://me@host/db")))
    with pytest.raises(ConfigurationError, match=r"pip install .astra-dagster\[postgres\]"):
        dg.DagsterInstance.get()


def test_the_server_is_down_when_dagster_starts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dagster_postgres", reason="dagster-postgres is not installed")
    folder.mkdir()
    url = "postgresql://u:sesame@127.0.0.1:9/db"
    (folder / "dagster.yaml").write_text(dagster_yaml(POSTGRES.format(url=url)))
    with pytest.raises(AstraError, match="cannot be reached") as error:
        dg.DagsterInstance.get()
    assert "sesame" not in str(error.value)
