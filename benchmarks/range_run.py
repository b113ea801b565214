"""The assets in one run over a range of partitions: ``python benchmarks/range_run.py FIRST LAST ap_visit_snr ...``.

As ``dagster asset materialize --partition-range FIRST...LAST`` does, but for the checks of the assets, which read the
outputs again, and the lines on the terminal.
"""

import sys

import dagster as dg
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from astra_dagster.definitions import defs
from astra_dagster.orchestration.runs.start import QUIET


def main() -> None:
    """Run."""
    first, last, *names = sys.argv[1:]
    chosen = dg.AssetSelection.assets(*names).without_checks()
    job = dg.define_asset_job("range", selection=chosen, executor_def=dg.in_process_executor)
    tags = {ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last}
    with dg.DagsterInstance.get() as instance:
        found = dg.Definitions.merge(defs, dg.Definitions(jobs=[job])).resolve_job_def("range")
        found.execute_in_process(instance=instance, tags=tags, run_config=QUIET)


if __name__ == "__main__":
    main()
