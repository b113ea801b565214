"""Commands about tasks: plans and runs."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from astra_dagster import settings
from astra_dagster.cli.common import (
    TaskCommand,
    also_set,
    check_workers,
    json_option,
    keys_option,
    open_instance,
    put_json,
    raise_failures,
    selection,
    setting,
    settings_of,
    split_keys,
    task_names,
    verify_option,
    where_of,
)
from astra_dagster.errors import InvalidKeyError
from astra_dagster.presence import is_file

if TYPE_CHECKING:  # slow to import
    import dagster as dg

    from astra_dagster.planning.plan import Plan
    from astra_dagster.planning.planner import Planner

MEMBERS = 20
"""Most members of a group that the story of a partition lists."""


@click.command(cls=TaskCommand, short_help="Run tasks on everything that is not complete.")
@click.argument("tasks", metavar="TASK... [KEY...]", nargs=-1, required=True, shell_complete=task_names)
@selection
@keys_option
@setting
@click.option("--dry-run", is_flag=True, help="Say what would run, and why: the same as plan.")
@click.option("--overwrite", is_flag=True, help="Compute complete partitions again.")
@click.option("--fetch", is_flag=True, help="Fetch files that are not on this disk from the SAS first.")
@click.option("--workers", default="", metavar="HOW", help="in-process, processes:4, dask:tcp://host:8786, slurm:4.")
@verify_option
@json_option
def run(
    tasks: Sequence[str],
    releases: Sequence[str],
    where: Sequence[str],
    listed: str | None,
    values: Sequence[str],
    dry_run: bool,
    overwrite: bool,
    fetch: bool,
    workers: str,
    verify: bool,
    as_json: bool,
) -> None:
    """Run each TASK, and first what it requires, on everything that is not complete, in one Dagster run.

    With each KEY, or a list of them, only on these partitions: a key has slashes.

    Example: astra-dagster run ap_visit_snr ap_visit_continuum --release DR13 --where mjd=56439
    """
    from astra_dagster.orchestration.runs.jobs import update_job, update_run_config
    from astra_dagster.orchestration.runs.signs_of_life import declare_dead
    from astra_dagster.orchestration.runs.start import count_computed, failures_of, run_job
    from astra_dagster.tasks.registry import find_task

    wanted = where_of(where)
    check_workers(workers)
    tasks, keys = split_keys(tasks, listed, selected=bool(releases or where))
    with open_instance() as instance:
        declare_dead(instance)
        planner, plans = plans_of(instance, tasks, values, releases, wanted, overwrite, keys, verify=verify)
        for plan in plans if not as_json else ():
            click.echo(_told(plan))
        _tell_kept(plans, err=as_json)
        if dry_run or not any(_to_do(plan, fetch) for plan in plans):
            if as_json:
                put_json({"plans": [_document(plan) for plan in plans], "computed": 0, "failed": []})
            _raise_unreachable(plans)
            return
        store = next(plan.store for plan in plans if plan.store.task.name == tasks[0])
        config = {
            **store.parameters.as_dict(all=True),
            **also_set(values, others=len(tasks) > 1),
            "also": list(tasks[1:]),
            "keys": keys,
            "releases": list(releases),
            "where": wanted,
            "overwrite": overwrite,
            "fetch": fetch,
            "verify": verify,
        }
        task = find_task(tasks[0])
        result = run_job(update_job(task, planner), instance, update_run_config(task, config, workers))
        if as_json and not result.success:
            put_json({"plans": [_document(plan) for plan in plans], "failed": failures_of(result)})
        raise_failures(result)
        (made,) = (event.step_output_data.metadata for event in result.all_events if event.is_successful_output)
        done = count_computed(made)
        if as_json:
            put_json({"plans": [_document(plan) for plan in plans], "computed": done, "failed": []})
            return
        for name, seconds in made.items():
            if name.endswith(": setup seconds"):
                click.echo(f"{name.removesuffix(' seconds')} took {seconds.value} s")
        folders = " and ".join(str(plan.store.folder) for plan in plans if plan.store.task.name in tasks)
        click.echo(f"{done} computed; outputs in {folders}")


@click.command(cls=TaskCommand, short_help="Say what a run of TASK would do, and why.")
@click.argument("tasks", metavar="TASK... [KEY...]", nargs=-1, required=True, shell_complete=task_names)
@selection
@keys_option
@setting
@click.option("--explain", "key", metavar="KEY", help="The whole story of one partition.")
@verify_option
@json_option
def plan(
    tasks: Sequence[str],
    releases: Sequence[str],
    where: Sequence[str],
    listed: str | None,
    values: Sequence[str],
    key: str | None,
    verify: bool,
    as_json: bool,
) -> None:
    """Say what a run of each TASK would do, and why; with KEYs, or a list of them, on these partitions.

    Example: astra-dagster plan ap_visit_snr --explain DR17/apo25m/120+12/5226/56000/001
    """
    tasks, keys = split_keys(tasks, listed, selected=bool(releases or where))
    if key and keys:
        raise click.UsageError("give one KEY to explain, or others, not both")
    wanted = [key] if key else keys
    with open_instance() as instance:
        _, plans = plans_of(instance, tasks, values, releases, where_of(where), False, wanted, verify=verify)
        if as_json:
            put_json([{**_document(item), **({"why": _why(item)} if key else {})} for item in plans])
        for item in plans if not as_json else ():
            click.echo(_story(item) if key is not None else _told(item))
        _tell_kept(plans, err=as_json)
        _raise_unreachable(plans)


def plans_of(
    instance: "dg.DagsterInstance",
    tasks: Sequence[str],
    values: Sequence[str],
    releases: Sequence[str],
    where: dict[str, list[str]],
    overwrite: bool,
    keys: Sequence[str] = (),
    *,
    verify: bool = False,
) -> "tuple[Planner, list[Plan]]":
    """Make plans of tasks and of all that they require, in the order in which they would run, and their planner."""
    from astra_dagster.orchestration.runs.jobs import jobs_of
    from astra_dagster.orchestration.sources import make_planner
    from astra_dagster.outputs.store import OutputStore
    from astra_dagster.tasks.registry import find_task, set_together

    found = set_together([find_task(name) for name in dict.fromkeys(tasks)], settings_of(values))
    root = settings.sas_base_dir()
    outputs = settings.check_outputs_dir()
    stores = [OutputStore(outputs, task, task.values()) for task in found]
    planner = make_planner(instance, outputs, root, verify=verify)
    try:
        jobs = jobs_of(instance, stores, releases, where, keys=keys, overwrite=overwrite)
    except InvalidKeyError as error:
        if not keys:
            raise
        raise click.UsageError(str(error)) from error
    return planner, planner.plan_all([(job.store, job.keys, job.overwrite) for job in jobs])


def _tell_kept(plans: "Sequence[Plan]", *, err: bool) -> None:
    """Print which tasks keep a parameter that was set for another one alone."""
    from astra_dagster.tasks.registry import find_task, tell_kept

    tasks = [plan.store.task for plan in plans]
    for line in tell_kept([find_task(task.name) for task in tasks], tasks):
        click.echo(line, err=err)


def _to_do(plan: "Plan", fetch: bool) -> bool:
    from astra_dagster.planning.status import Status

    fetching = fetch or settings.config().fetch
    done = (Status.COMPLETE,) if fetching else (Status.COMPLETE, Status.NO_INPUT)
    return any(one.status not in done for one in plan.partitions.values())


def _raise_unreachable(plans: "Sequence[Plan]") -> None:
    """Raise an error if some partitions of the plans cannot be examined."""
    from astra_dagster.planning.status import Status

    count = max(len(plan.of(Status.UNREACHABLE)) for plan in plans)
    if count:
        raise click.ClickException(f"{count} of {max(len(plan.partitions) for plan in plans)} cannot be looked at")


def _document(plan: "Plan") -> dict[str, Any]:
    """Return a plan as a JSON document."""
    from astra_dagster.planning.status import GONE, NEVER_CAME, ReasonKind, Status

    def told(what: Status | ReasonKind) -> list[dict[str, str]]:
        return [{"partition": key, "reason": reason} for key, reason in plan.explain(what)]

    return {
        "task": plan.store.task.name,
        "code_version": plan.store.task.version,
        "digest": plan.store.digest,
        "parameters": plan.store.parameters.as_dict(all=True),
        "outputs": str(plan.store.folder),
        "partitions": len(plan.partitions),
        "complete": len(plan.of(Status.COMPLETE)),
        "to_do": dict(plan.reasons),
        "waiting": len(plan.of(Status.WAITING)),
        "to_record_again": len(plan.of(Status.TO_RECORD)),
        "no_input": len(plan.of(NEVER_CAME.kind)),
        "gone": len(plan.of(GONE.kind)),
        "too_few": told(ReasonKind.TOO_FEW),
        "from_fewer": dict(plan.shares),
        "unreachable": told(Status.UNREACHABLE),
        "invalid": told(Status.INVALID),
    }


def _told(plan: "Plan") -> str:
    return "\n".join([f"{plan.store.task.name}: {len(plan.partitions)} partitions", *plan.lines()])


def _why(plan: "Plan") -> str:
    """Describe a plan: for one partition the reason, for several the numbers."""
    return ", ".join(plan.lines()) if len(plan.partitions) != 1 else plan.why(*plan.partitions)


def _story(plan: "Plan") -> str:
    """Describe one partition of a task, or the partitions that it requires, in several lines."""
    store = plan.store
    lines = [f"{store.task.name} (code version {store.task.version}, digest {store.digest})"]
    for name, value in store.parameters.as_dict(all=True).items():
        lines.append(f"  {name} = {json.dumps(value)[:100]}")
    if len(plan.partitions) != 1:
        return "\n".join([*lines, *(f"  {line}" for line in plan.lines())])
    (one,) = plan.partitions.values()
    lines.append(f"  {one.key}: {plan.why(one.key)}")
    record = plan.records.get(one.key)
    lines.append(f"  record: {record if record is not None else 'none'}")
    if one.work is not None:
        for given in one.work.inputs:
            lines.append(f"  input: {given.name} {given.path}, version {given.version}")
            lines += [f"    {key}, version {version}" for key, version in given.members[:MEMBERS]]
            lines += [f"    and {len(given.members) - MEMBERS} more"] if len(given.members) > MEMBERS else []
        path = store.path(one.work.data_id)
        lines.append(f"  output: {path}" + ("" if is_file(path) else " (not there)"))
    return "\n".join(lines)
