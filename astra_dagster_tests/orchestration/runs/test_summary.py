"""What a run in which partitions fail says: each reason once, and how many it is that of."""

import dagster as dg
from click.testing import CliRunner

from astra_dagster import product, settings
from astra_dagster.cli import main
from astra_dagster.orchestration.partitions import register
from astra_dagster.orchestration.runs.summary import SHOWN, FailedPartition, make_failure

TASK = """from astra_dagster import ap_visit, spectrum_task


@spectrum_task(requires=ap_visit, version="1")
def failing(spectra, parameters):
    return {"n": 1 / 0}
"""

KEYS = [f"DR17/apo25m/120+12/5226/56000/{fibre:03}" for fibre in range(1, 9)]


def test_an_error_that_all_share_is_told_once(instance: dg.DagsterInstance) -> None:
    (settings.dagster_home() / "failing_task.py").write_text(TASK)
    (settings.dagster_home() / "astra.toml").write_text('packages = ["failing_task"]\nworkers = "in-process"\n')
    register(instance, product("apVisit"), KEYS)
    result = CliRunner().invoke(main, ["run", "failing"])
    told = "failing failed: ZeroDivisionError: division by zero (line 6 of failing_task.py, in failing)"
    assert result.output.endswith(f"Error: 8 of 8 partitions failed\n8 partitions: {told}; the first is {KEYS[0]}\n")


def test_reasons_in_the_order_of_the_first_of_each() -> None:
    failures = [FailedPartition(str(i), f"odd {i} (file x)", f"odd {i}") for i in range(SHOWN - 2)]
    failures[1:1] = [FailedPartition(f"same {i}", f"same (file {i})", "same") for i in range(3)]
    failures += [FailedPartition(f"late {i}", "late") for i in range(3)]
    lines = str(make_failure(failures, 100, {}).description).splitlines()
    assert lines[:4] == [
        f"{len(failures)} of 100 partitions failed",
        "0: odd 0 (file x)",
        "3 partitions: same; the first is same 0",
        "1: odd 1 (file x)",
    ]
    assert lines[-2:] == ["late 0: late", "and 2 more"]
    assert len(lines) == 1 + SHOWN + 1
