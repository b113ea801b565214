"""Whoever may launch runs can have them read no file of the service's user, and obey no host."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner

from astra_dagster.cli import main
from astra_dagster.errors import AstraError, ConfigurationError
from astra_dagster.orchestration.expected import register_job
from astra_dagster.orchestration.runs.jobs import update_job, update_run_config
from astra_dagster.orchestration.runs.resources import ExecutorResource
from astra_dagster.tasks.registry import find_task

NETRC = "machine data.sdss.org login me password hunter2\nmachine b login c password d\n"
ADDRESSES = [
    f"{lead}dask:{scheme}//{host}{tail}"
    for scheme in ("tcp:", "tls:", "ucx:", "inproc:", "TCP:", "")
    for host in ("evil.example.org:8786", "127.0.0.1:1", "[::1]:8786", "user:word@evil:1")
    for lead, tail in (("", ""), (" ", " "), ("", "/x?y=z"))
]


@pytest.fixture
def places(instance: dg.DagsterInstance, mirror: Path, tmp_path: Path) -> dict[str, Path]:
    """Files of the service's user: outside of the mirror, and by ways that lead there."""
    outside = tmp_path / "private"
    outside.mkdir()
    (outside / ".netrc").write_text(NETRC)
    (mirror / "link").symlink_to(outside)
    (mirror / "netrc.csv").symlink_to(outside / ".netrc")
    return {
        "plain": outside / ".netrc",
        "dots": mirror / ".." / "private" / ".netrc",
        "link to the folder": mirror / "link" / ".netrc",
        "link to the file": mirror / "netrc.csv",
        "a folder": outside,
        "nothing": outside / "none",
        "process": Path("/proc/self/environ"),
        "passwords": Path("/etc/passwd"),
    }


def said(result: dg.ExecuteInProcessResult) -> str:
    """Everything that a run says in its events."""
    return "\n".join(str(event) for event in result.all_events)


def run(job: dg.JobDefinition, instance: dg.DagsterInstance, config: dict[str, Any]) -> dg.ExecuteInProcessResult:
    return job.execute_in_process(instance=instance, run_config=config, raise_on_error=False)


def test_a_launch_reads_no_table_outside_of_the_mirror(
    instance: dg.DagsterInstance, places: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for path in places.values():
        config = {"table": str(path), "product": "apVisit", "release": "DR17"}
        result = run(register_job, instance, {"ops": {"register_table": {"config": config}}})
        assert not result.success
        assert "a launch may only read files below SAS_BASE_DIR" in said(result)
        assert "hunter2" not in said(result)
    (tmp_path / "astra.toml").write_text(f"readable = ['{places['a folder']}']\n")
    monkeypatch.setenv("ASTRA_CONFIG", str(tmp_path / "astra.toml"))
    config = {"table": str(places["plain"]), "product": "apVisit", "release": "DR17"}
    result = run(register_job, instance, {"ops": {"register_table": {"config": config}}})
    assert "the table has no column" in said(result)
    assert "hunter2" not in said(result)


def test_what_is_in_a_file_that_is_no_table_is_not_told(places: dict[str, Path]) -> None:
    told = CliRunner().invoke(main, ["register", str(places["plain"]), "--product", "apVisit", "--release", "DR17"])
    assert told.exit_code == 1
    assert "the table has no column" in told.output
    for word in ("login", "password", "hunter2", "data.sdss.org"):
        assert word not in told.output


def test_a_launch_reads_no_continuum_regions_outside_of_the_mirror(
    instance: dg.DagsterInstance, places: dict[str, Path]
) -> None:
    task = find_task("ap_visit_continuum")
    for path in places.values():
        config = update_run_config(task, {"continuum_regions": str(path)})
        with pytest.raises(dg.DagsterInvalidConfigError, match="a launch may only read files below SAS_BASE_DIR"):
            update_job(task).execute_in_process(instance=instance, run_config=config)


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_launch_names_no_scheduler(address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "astra.toml").write_text('[clusters]\nmain = "dask:tcp://good:8786"\n')
    monkeypatch.setenv("ASTRA_CONFIG", str(tmp_path / "astra.toml"))
    with pytest.raises(ConfigurationError, match=r"cannot name the address of a scheduler.*\[clusters\].*main"):
        ExecutorResource(workers=address).choose()


def test_a_launch_chooses_among_the_clusters_of_the_configuration(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "astra.toml").write_text('workers = "dask:tcp://usual:1"\n[clusters]\nmain = "dask:tcp://good:8786"\n')
    monkeypatch.setenv("ASTRA_CONFIG", str(tmp_path / "astra.toml"))
    for text, address in (("main", "tcp://good:8786"), ("dask:tcp://usual:1", "tcp://usual:1"), ("", "tcp://usual:1")):
        assert ExecutorResource(workers=text).choose().address == address
    assert ExecutorResource(workers="processes:2").choose().number == 2
    with pytest.raises(AstraError, match="workers cannot be"):
        ExecutorResource(workers="other").choose()
