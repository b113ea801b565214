"""Every name that is taken from the inside of Dagster, where nobody promises that it stays: an upgrade starts here.

Each has a line on what it is for, and on what breaks without it. The modules of `storage` are subclasses of Dagster's
own storages and take the names of those themselves. What `dagster` exports is taken from there.
"""

from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_TAG,
    get_input_data_version_tag,
    get_input_event_pointer_tag,
)
from dagster._core.definitions.partitions.context import PartitionLoadingContext
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION
from dagster._core.definitions.target import ExecutableDefinition
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.errors import DagsterUserCodeProcessError
from dagster._core.events import AssetMaterializationPlannedData, AssetObservationData, StepMaterializationData
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext
from dagster._core.instance.utils import RUNLESS_JOB_NAME, RUNLESS_RUN_ID
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    BACKFILL_ID_TAG,
    PARTITION_NAME_TAG,
    RUN_KEY_TAG,
    SENSOR_NAME_TAG,
)
from dagster._utils.interrupts import capture_interrupts, check_captured_interrupt
from dagster._utils.schedules import is_valid_cron_schedule
from dagster_shared.error import SerializableErrorInfo

__all__ = [  # noqa: RUF022 (in groups)
    # Tags: a run, a record or an asset says by them what it is.
    "ASSET_PARTITION_RANGE_START_TAG",  # first partition of a run that takes many; without it a run takes one
    "ASSET_PARTITION_RANGE_END_TAG",  # the last one
    "PARTITION_NAME_TAG",  # the partition of a run that takes one; without it such a run takes all
    "BACKFILL_ID_TAG",  # a backfill that counts what its runs record; without it complete partitions count as missing
    "RUN_KEY_TAG",  # what a sensor asked for; without it a tick cannot tell whether its run exists
    "SENSOR_NAME_TAG",  # the sensor that asked; without it the runs of two sensors are mixed up
    "CODE_VERSION_TAG",  # code version of a record; without it the web UI never says "outdated"
    "DATA_VERSION_TAG",  # our whole record is its text; without it nothing is complete
    "get_input_data_version_tag",  # version of the input of a record; without it the web UI never says "outdated"
    "get_input_event_pointer_tag",  # the input's own record; the same
    "SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION",  # an output with records of its own
    # Events: Dagster's own ways to make them write one by one.
    "AssetMaterializationPlannedData",  # a partition that a run will make; without it a failed one is not shown as such
    "AssetObservationData",  # a file that was found; without it source assets have no records
    "StepMaterializationData",  # a partition that was made; without it there are no records
    "RUNLESS_JOB_NAME",  # job of records that no run makes; without it files are found only in runs
    "RUNLESS_RUN_ID",  # their run; the same
    # Runs: when to wait, and when to stop.
    "NOT_FINISHED_STATUSES",  # states of runs that go on; without it what they work on is removed, or asked for twice
    "BulkActionStatus",  # states of backfills; without it records go that a backfill still counts
    "InstanceConcurrencyContext",  # slots of a pool; without it all runs fetch files at once
    "capture_interrupts",  # holds back the order to stop; without it a run stops amid writing its records
    "check_captured_interrupt",  # asks whether there was one; without it a run does not stop
    "CheckRunHealthResult",  # what a launcher says of the process of a run; without it killed runs go on for ever
    "WorkerStatus",  # the same
    # Definitions: what their types and refusals are called.
    "PartitionLoadingContext",  # argument of the partitions definitions that we subclass
    "SerializableErrorInfo",  # type of the error of a step, of which Dagster keeps the texts only
    "UnresolvedAssetJobDefinition",  # type of what `define_asset_job` makes
    "ExecutableDefinition",  # type of the jobs of a sensor
    "DagsterUserCodeProcessError",  # an error that is shown as it says; without it a stack trace comes with it
    "is_valid_cron_schedule",  # refuses a schedule when it is read; without it the daemon stumbles over it
]
