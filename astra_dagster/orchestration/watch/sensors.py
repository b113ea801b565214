"""Make a sensor and a schedule for each watched product, off unless the configuration turns them on.

A task runs in the same run as the tasks that it requires, after them. Dagster's declarative automation could do this
too, but examines all partitions of an asset at each tick: with 100,000 of them it took 7 to 12 seconds when nothing had
changed.
"""

from collections.abc import Sequence

import dagster as dg

from astra_dagster.datamodel.products import Product
from astra_dagster.errors import AstraError
from astra_dagster.orchestration.internals import ExecutableDefinition
from astra_dagster.orchestration.loading.broken import GROUP, identifiers
from astra_dagster.orchestration.watch.jobs import any_job, any_job_name, any_run_config, range_job, range_job_name
from astra_dagster.orchestration.watch.requests import Request
from astra_dagster.orchestration.watch.settings import Watched, broken_watches, is_on, table_of, watched
from astra_dagster.orchestration.watch.tick import sensor_name, tick

LISTED = 100
"""Most notes of a tick that are logged."""

COUNT_TAG = "astra/partitions"
"""Tag of a requested run with its number of partitions."""


def watch(products: Sequence[Product]) -> tuple[list[dg.SensorDefinition], list[dg.ScheduleDefinition]]:
    """Make the sensors and schedules of products, with their jobs.

    If the configuration of a watch is not valid, its sensor is made too, and fails with the reason when evaluated.
    """
    broken = broken_watches(products)
    sensors, schedules = [], []
    for item in products:
        wrong = broken.pop(table_of(item), None)
        seen = watched(item) if wrong is None else Watched(item, running=is_on(table_of(item)))
        update = any_job(item)
        by_range = wrong is None and seen.by_range
        sensors.append(_sensor(seen, [*([range_job(seen)] if by_range else []), update], wrong))
        schedules.append(_schedule(seen, update))
    names = identifiers(broken)
    sensors += [_refusal(names[name], error, running=is_on(name)) for name, error in broken.items()]
    return sensors, schedules


def _sensor(seen: Watched, jobs: Sequence[ExecutableDefinition], wrong: AstraError | None) -> dg.SensorDefinition:
    """Make the sensor that requests runs for new and changed files of a product.

    The result of a tick is logged, is the skip reason if no run is requested, and is stored as the cursor. The cursor
    has no other use: the watch keeps its state in a file of its own.

    Parameters
    ----------
    wrong
        Why the configuration's table is not valid; until it is, each evaluation fails with this error.
    """
    item = seen.product

    @dg.sensor(
        name=sensor_name(seen),
        jobs=jobs,
        minimum_interval_seconds=seen.interval,
        default_status=dg.DefaultSensorStatus.RUNNING if seen.running else dg.DefaultSensorStatus.STOPPED,
        description=str(wrong)
        if wrong is not None
        else f"Registers files of {item.asset_name} that appear, and has them recorded and analysed; those that "
        "change as well.",
        metadata=_metadata(wrong),
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        now = watched(item)
        now.chosen()
        made = tick(context.instance, now)
        text = str(made)
        context.log.info(text)
        for note in made.notes[:LISTED]:
            context.log.warning(note)
        if len(made.notes) > LISTED:
            context.log.warning(f"and {len(made.notes) - LISTED} more")
        if not made.requests:
            return dg.SensorResult(skip_reason=text, cursor=text)
        requests = [run_request(item, request, by_range=len(jobs) > 1) for request in made.requests]
        return dg.SensorResult(run_requests=requests, cursor=text)

    return sensor


def _refusal(name: str, error: AstraError, *, running: bool) -> dg.SensorDefinition:
    """Make the sensor for a table whose product does not exist or has no asset; its evaluations fail."""

    @dg.sensor(
        name=f"{GROUP}_{name}_arrivals",
        default_status=dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED,
        description=str(error),
        metadata=_metadata(error),
    )
    def sensor() -> None:
        raise error

    return sensor


def _metadata(wrong: AstraError | None) -> dict[str, str] | None:
    return None if wrong is None else {"error": str(wrong)}


def run_request(item: Product, request: Request, *, by_range: bool) -> dg.RunRequest:
    """Convert a request to Dagster's; `by_range` if the sensor has a job that takes a range of partitions."""
    tags = {COUNT_TAG: str(request.number)}
    if request.assets and by_range:
        return dg.RunRequest(request.run_key, job_name=range_job_name(item), tags={**tags, **request.range_tags})
    config = any_run_config(item, request.partitions)
    return dg.RunRequest(request.run_key, config, tags, any_job_name(item))


def _schedule(seen: Watched, job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """Make the schedule that examines all files of a product, and runs its tasks on all that is not complete."""
    return dg.ScheduleDefinition(
        name=f"{seen.product.asset_name}_daily",
        job=job,
        cron_schedule=seen.daily,
        default_status=dg.DefaultScheduleStatus.RUNNING if seen.running else dg.DefaultScheduleStatus.STOPPED,
        description=f"Looks at every file of {seen.product.asset_name}, for what its sensor can miss: files that were "
        "changed in place, folders whose times do not tell, runs that were lost.",
    )
