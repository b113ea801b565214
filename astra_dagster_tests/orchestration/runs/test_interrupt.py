"""A run that is stopped, or whose cluster goes away: what is finished is recorded, and the rest done by the next."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner

from astra_dagster.cli import main
from astra_dagster_tests.execution.cluster import DASK, dask_cluster

ASTRA = [sys.executable, "-m", "astra_dagster"]
RUN = ["run", "deadly", "--set", "seconds=0.3"]


def discover(config: Path, workers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text(f'packages = ["astra_dagster_tests.execution.deadly"]\nworkers = "{workers}"\n')
    monkeypatch.setenv("ASTRA_CONFIG", str(config))
    assert CliRunner().invoke(main, ["discover"]).exit_code == 0


@pytest.mark.parametrize("workers", ["processes:2", "in-process"])
@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_stops_within_seconds_and_records_what_is_done(
    instance: dg.DagsterInstance,
    programs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    workers: str,
    signal_number: int,
) -> None:
    discover(tmp_path / "astra.toml", workers, monkeypatch)
    # In a process group of its own, as a terminal has it: Ctrl-C reaches the workers too.
    alone = workers == "in-process" or signal_number == signal.SIGTERM
    command = [str(programs / "astra-dagster"), *RUN] if alone else [*ASTRA, *RUN]
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    outputs = tmp_path / "outputs" / "deadly"
    while not list(outputs.rglob("deadly-*.json")):
        assert running.poll() is None, running.communicate()
        time.sleep(0.05)
    start = time.monotonic()
    if signal_number == signal.SIGINT:
        os.killpg(running.pid, signal_number)
    else:
        running.send_signal(signal_number)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130, out + err
    assert time.monotonic() - start < 30
    assert "stopped" in err
    assert "astra_dagster" not in err.partition("Error:")[0], err  # no traceback of ours
    assert not list(outputs.rglob("*.tmp"))
    done = len(list(outputs.rglob("deadly-*.json")))
    plan = CliRunner().invoke(main, ["plan", "deadly", "--set", "seconds=0.3"]).output
    assert f"{done} complete, {18 - done} to do" in plan
    (run,) = [run for run in instance.get_runs() if run.job_name == "update_deadly"]
    assert run.status in (dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.FAILURE)
    again = CliRunner().invoke(main, ["run", "deadly", "--set", "seconds=0.3"])
    assert again.exit_code == 0, again.output
    assert f"{18 - done} computed" in again.output


@DASK
def test_a_run_whose_cluster_goes_away_records_what_is_done(
    instance: dg.DagsterInstance, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    discover(tmp_path / "astra.toml", "processes", monkeypatch)
    command = [str(programs / "astra-dagster"), *RUN]
    with dask_cluster(tmp_path / "cluster") as address:
        running = subprocess.Popen(
            [*command, "--workers", f"dask:{address}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        outputs = tmp_path / "outputs" / "deadly"
        while len(list(outputs.rglob("deadly-*.json"))) < 6:
            assert running.poll() is None, running.communicate()
            time.sleep(0.05)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 1, out + err
    assert "the Dask cluster is gone" in err
    recorded = len(instance.fetch_materializations(dg.AssetKey("deadly"), limit=100).records)
    assert 0 < recorded < 18
    # What the cluster wrote and the run never heard of is there, and not computed again.
    told = CliRunner().invoke(main, ["plan", *RUN[1:]]).output
    assert f"{recorded} complete" in told
    assert f"{18 - recorded} to do" in told or "to be recorded again and not computed" in told
    assert CliRunner().invoke(main, RUN).exit_code == 0
