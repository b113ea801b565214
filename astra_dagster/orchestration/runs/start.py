"""Start a run in this process, for the command line and for Python, and tell what failed in it."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from typing import TextIO, cast

import dagster as dg

from astra_dagster.orchestration.runs.resources import trusted

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""Part of the configuration of a run that prints no log."""


def run_job(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    run_config: Mapping[str, object],
    asset_selection: Sequence[dg.AssetKey] | None = None,
) -> dg.ExecuteInProcessResult:
    """Run a job in this process, and print only its progress; its errors are in the result."""
    token = trusted.set(True)
    try:
        with redirect_stderr(cast(TextIO, _WithoutDagster(sys.stderr))):
            return job.execute_in_process(
                instance=instance,
                run_config={**run_config, **QUIET},
                raise_on_error=False,
                asset_selection=asset_selection,
            )
    finally:
        trusted.reset(token)


class _WithoutDagster:
    """A stream without the lines that Dagster prints, beside its logs, if its records cannot be written."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if text.startswith(("Exception while ", "Falling back to storing ")):
            return len(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def count_computed(metadata: Mapping[str, dg.MetadataValue]) -> int:
    """Return the number of outputs that a run computed, by the metadata of its summary."""
    return sum(int(str(count.value)) for name, count in metadata.items() if name.endswith(": computed"))


def failures_of(result: dg.ExecuteInProcessResult) -> list[dict[str, str]]:
    """Return the partitions that failed in a run, with the reasons."""
    failed = [event.step_failure_data.user_failure_data for event in result.all_events if event.is_step_failure]
    entries = [entry for data in failed if data is not None for entry in data.metadata.items()]
    tables = [
        table for name, table in entries if name.endswith("failures") and isinstance(table, dg.TableMetadataValue)
    ]
    return [{name: str(value) for name, value in record.data.items()} for table in tables for record in table.records]
