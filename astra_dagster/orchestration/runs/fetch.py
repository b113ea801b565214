"""Fetch files that are not on this disk from the Science Archive Server, before a run reads them."""

import time
from collections import Counter
from collections.abc import Sequence

import dagster as dg
from tqdm import tqdm

from astra_dagster.datamodel.products import DataID
from astra_dagster.errors import AstraError, NotOnSASError
from astra_dagster.orchestration.internals import (
    InstanceConcurrencyContext,
    capture_interrupts,
    check_captured_interrupt,
)

POOL = "sas"
"""Pool of which a run takes a slot while it fetches, so that the pool's limit is that of runs that fetch at a time."""

POLL = 1.0
"""Seconds between two looks at whether a slot is free."""


def fetch(context: dg.OpExecutionContext, data_ids: Sequence[DataID]) -> dict[str, AstraError]:
    """Fetch files, and return by partition key the errors of those that failed, without those that the SAS lacks.

    Raises
    ------
    ConfigurationError
        If the settings name no archive.
    """
    from astra_dagster.archive.sas import Archive  # slow to import, and few runs fetch

    archive = Archive.from_settings()
    failed: dict[str, AstraError] = {}
    counts: Counter[str] = Counter()
    step = f"{context.get_step_execution_context().step.key}.fetch"
    with (
        capture_interrupts(),
        InstanceConcurrencyContext(context.instance, context.run) as slots,
        tqdm(total=len(data_ids), unit="file", disable=None, desc="fetch") as progress,
    ):
        try:
            _wait_for_slot(context, slots, step)
            for result in archive.fetch(data_ids):
                progress.update()
                if result.error is None:
                    counts["fetched"] += 1
                elif isinstance(result.error, NotOnSASError):
                    counts["not on the SAS"] += 1
                else:
                    counts["failed"] += 1
                    failed[result.data_id.key] = result.error
                if check_captured_interrupt():
                    break
        finally:
            slots.free_step(step)
        interrupted = check_captured_interrupt()
    context.log.info(f"{len(data_ids)} files not here: " + ", ".join(f"{n} {what}" for what, n in counts.items()))
    if interrupted:
        raise dg.DagsterExecutionInterruptedError
    return failed


def _wait_for_slot(context: dg.OpExecutionContext, slots: InstanceConcurrencyContext, step: str) -> None:
    logged = False
    while not slots.claim(POOL, step) and not check_captured_interrupt():
        if not logged:
            context.log.info(f"waiting for a slot of the pool {POOL}")
            logged = True
        time.sleep(POLL)
