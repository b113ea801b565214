"""Cleaning up with what Dagster and a plan know: each kind on a real instance, and what must stay."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from astra_dagster import product
from astra_dagster.orchestration.clean import CleanConfig, carry_out, holding, survey
from astra_dagster.orchestration.discover import discover_job
from astra_dagster.orchestration.partitions import register, registered
from astra_dagster.orchestration.runs.jobs import update_job, update_job_name, update_run_config
from astra_dagster.orchestration.sources import make_planner
from astra_dagster.outputs.store import OutputStore
from astra_dagster.planning.plan import Plan
from astra_dagster.planning.planner import Planner
from astra_dagster.planning.status import Status
from astra_dagster.tasks import registry

NAME = "ap_visit_snr"
VISITS = product("apVisit")


def update(instance: dg.DagsterInstance, name: str = NAME, **config: object) -> None:
    task = registry.tasks()[name]
    job = update_job(task)
    assert job.execute_in_process(instance=instance, run_config=update_run_config(task, config)).success


def store(name: str = NAME, **values: object) -> OutputStore:
    task = registry.tasks()[name]
    return OutputStore(Path(os.environ["ASTRA_OUTPUTS"]), task, task.values(values))


def path(key: str, **values: object) -> Path:
    return store(**values).path(VISITS.parse_key(key))


def kinds(instance: dg.DagsterInstance, **config: object) -> dict[str, int]:
    """Number of candidates by kind; in brackets those that stay."""
    root = store().root
    found = survey(instance, root, CleanConfig(**config).selection(root))
    assert found.problems == []
    return dict(Counter(f"({c.kind})" if c.kept else c.kind for c in found.candidates))


def plan(instance: dg.DagsterInstance, name: str = NAME) -> tuple[set[str], list[str]]:
    """Keys that are complete, and the plan in words."""
    task = store(name).task
    planner = make_planner(instance, store(name).root, Path(os.environ["SAS_BASE_DIR"]))
    made = planner.plan(store(name), registered(instance, task.domain))
    return {one.key for one in made.of(Status.COMPLETE)}, made.lines()


def clean(instance: dg.DagsterInstance, **config: object) -> dg.ExecuteInProcessResult:
    from astra_dagster.definitions import defs

    return defs.resolve_job_def("clean").execute_in_process(
        instance=instance, run_config={"ops": {"clean_outputs": {"config": config}}}, raise_on_error=False
    )


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, dg.MetadataValue]:
    (event,) = [event for event in result.all_events if event.is_successful_output]
    return dict(event.step_output_data.metadata)


@pytest.fixture
def keys(instance: dg.DagsterInstance) -> list[str]:
    """All visits, discovered and done."""
    assert discover_job.execute_in_process(
        instance=instance, run_config={"ops": {"discover_files": {"config": {"products": ["apVisit"]}}}}
    ).success
    update(instance)
    return list(registered(instance, VISITS))


def test_the_job_lists_and_removes_only_if_asked(instance: dg.DagsterInstance, keys: list[str]) -> None:
    update(instance, fudge_factor=2.0)
    update(instance)
    mine, others = store().folder, store(fudge_factor=2.0).folder
    for folder in (mine, others):
        (folder / "notes.txt").write_text("mine")
    path(keys[0]).with_name(".astra-2147483648-0123456789ab.tmp").write_bytes(b"half")
    os.utime(path(keys[0]).with_name(".astra-2147483648-0123456789ab.tmp"), (1, 1))
    before = plan(instance)
    assert len(before[0]) == 18

    listed = clean(instance)
    assert listed.success
    assert metadata(listed)["removed"].value == 0
    rows = [record.data for record in metadata(listed)["found"].value.records]
    assert [(row["kind"], row["files"], bool(row["stays"])) for row in rows] == [
        ("other-parameters", 19, True),
        ("temporary", 1, False),
    ]
    assert rows[0]["digest"] == store(fudge_factor=2.0).digest
    assert [row["recorded"] for row in rows] == [0, 18]
    removed = clean(instance, remove=True)
    assert metadata(removed)["removed"].value == 1
    removed = clean(instance, remove=True, other_parameters=True)
    assert metadata(removed)["removed"].value == 19
    assert [path.name for path in others.rglob("*")] == ["notes.txt"]
    assert plan(instance) == before
    assert kinds(instance) == {}


def test_parameters_of_the_latest_records_stay_unless_named(instance: dg.DagsterInstance, keys: list[str]) -> None:
    update(instance, fudge_factor=2.0)
    assert kinds(instance) == {"(other-parameters)": 19, "(recordable)": 18}
    assert kinds(instance, other_parameters=True, older_days=0) == {"(other-parameters)": 19, "(recordable)": 18}
    assert metadata(clean(instance, remove=True, other_parameters=True))["removed"].value == 0
    assert plan(instance)[1][-1] == "18 outputs are there already, to be recorded again and not computed"
    other = store(fudge_factor=2.0).digest
    assert metadata(clean(instance, remove=True, digests=[other]))["removed"].value == 19
    assert kinds(instance) == {"(recordable)": 18, "(lost)": 18}
    update(instance)
    assert kinds(instance) == {}


def test_an_older_code_version(instance: dg.DagsterInstance, keys: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    newer = replace(registry.tasks()[NAME], version="next")
    monkeypatch.setattr(registry, "tasks", lambda: {NAME: newer})
    before = plan(instance)
    assert before[1] == ["0 complete, 18 to do", "  18 code version 3 -> next"]
    assert kinds(instance) == {"code": 18}
    assert metadata(clean(instance, remove=True))["removed"].value == 18
    assert plan(instance) == before
    update(instance)
    assert len(plan(instance)[0]) == 18
    assert kinds(instance) == {}


def test_outputs_without_a_record(instance: dg.DagsterInstance, keys: list[str], mirror: Path) -> None:
    """Those that the next run would take up stay, as do those that it will write anew over their record."""
    instance.wipe_assets([dg.AssetKey(NAME)])
    assert kinds(instance, tasks=[NAME]) == {"(recordable)": 18}
    os.utime(VISITS.parse_key(keys[0]).path(mirror), (1, 1))
    assert kinds(instance, tasks=[NAME]) == {"unrecorded": 1, "(recordable)": 17}
    assert kinds(instance) == {"(unrecorded)": 1, "(recordable)": 17}  # no record of the task at all
    update(instance, where={"telescope": ["lco25m"]})
    assert kinds(instance) == {"unrecorded": 1, "(recordable)": 10}
    before = plan(instance)
    assert metadata(clean(instance, remove=True))["removed"].value == 1
    assert plan(instance) == before
    os.utime(VISITS.parse_key(keys[-1]).path(mirror), (1, 1))
    assert kinds(instance) == {"(recordable)": 10}  # the last one is recorded, and to be done anew


def test_folders_stay_while_another_run_may_write_into_them(instance: dg.DagsterInstance, keys: list[str]) -> None:
    for key in keys:
        instance.delete_dynamic_partition("ap_visit", key)
    other = instance.create_run_for_job(discover_job, status=dg.DagsterRunStatus.STARTED)
    assert metadata(clean(instance, remove=True))["removed"].value == 18
    assert path(keys[0]).parent.is_dir()
    instance.report_run_failed(other)
    register(instance, VISITS, keys[:1])
    update(instance)
    instance.delete_dynamic_partition("ap_visit", keys[0])
    assert metadata(clean(instance, remove=True))["removed"].value == 1
    assert not path(keys[0]).parent.exists()


def run_of(
    instance: dg.DagsterInstance, job: str, status: str, assets: Collection[str] = (), **config: object
) -> dg.DagsterRun:
    """A run that somebody else has started."""
    selection = {dg.AssetKey(name) for name in assets} or None
    ops = {"ops": {f"{job}_partitions": {"config": config}}} if config else {}
    run = dg.DagsterRun(job, status=dg.DagsterRunStatus[status], asset_selection=selection, run_config=ops)
    return instance.add_run(run)


def test_what_a_run_under_way_may_write_stays(instance: dg.DagsterInstance) -> None:
    update_snr, update_continuum, assets = "update_ap_visit_snr", "update_ap_visit_continuum", "__ASSET_JOB"
    for job, status, selected, also, holds in (
        (update_snr, "STARTED", (), [], True),
        (update_snr, "NOT_STARTED", (), [], True),
        (update_snr, "STARTING", (), [], True),
        (update_snr, "CANCELING", (), [], True),
        (update_snr, "FAILURE", (), [], False),
        (update_continuum, "STARTED", (), [], False),
        (update_continuum, "STARTED", (), [NAME], True),
        (assets, "STARTED", ("ap_visit", NAME), [], True),
        (assets, "STARTED", (f"{NAME}_table",), [], True),
        (assets, "STARTED", ("ap_visit", "spec_snr"), [], False),
        ("update_ap_visit", "STARTED", (), [], True),
        ("a_job_of_ones_own", "STARTED", (), [], True),
        ("discover", "STARTED", (), [], False),
    ):
        other = run_of(instance, job, status, selected, **({"also": also} if also else {}))
        held = holding(instance)
        told = f"the run {other.run_id[:8]} of {job} is not finished"
        assert (held.get("") or held.get(NAME, "")) == (told if holds else ""), (job, status, selected)
        instance.report_run_failed(other)


def test_a_run_that_comes_after_the_survey_holds_too(instance: dg.DagsterInstance, keys: list[str]) -> None:
    instance.delete_dynamic_partition("ap_visit", keys[0])
    root = store().root
    found = survey(instance, root, CleanConfig().selection(root))
    other = run_of(instance, update_job_name(store().task), "STARTED")
    assert kinds(instance) == {"(unregistered)": 1}
    removal = carry_out(instance, root, found)
    assert removal.removed == []
    told = f"the run {other.run_id[:8]} of update_ap_visit_snr is not finished"
    assert removal.left == [(found.candidates[0].path, told)]
    instance.report_run_failed(other)
    assert len(carry_out(instance, root, found).removed) == 1


def test_what_is_made_during_the_survey_stays(
    instance: dg.DagsterInstance, keys: list[str], mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files change, and what nobody knows of makes their outputs anew, when the survey has seen the files only."""
    instance.wipe_assets([dg.AssetKey(NAME)])
    update(instance, where={"telescope": ["lco25m"]})
    mine = [key for key in keys if "apo25m" in key]

    in_time = Planner.plan

    def late(*arguments: Any) -> Plan:
        for key in mine:
            os.utime(VISITS.parse_key(key).path(mirror), (1, 1))
        made = in_time(*arguments)
        for key in mine:
            path(key).write_bytes(path(key).read_bytes())
        return made

    monkeypatch.setattr(Planner, "plan", late)
    assert kinds(instance) == {"(unrecorded)": len(mine)}
    assert metadata(clean(instance, remove=True))["removed"].value == 0
    assert all(path(key).exists() for key in mine)


def test_partitions_that_are_not_registered_any_more(instance: dg.DagsterInstance, keys: list[str]) -> None:
    instance.delete_dynamic_partition("ap_visit", keys[0])
    complete = plan(instance)[0]
    assert complete == set(keys[1:])
    assert kinds(instance) == {"unregistered": 1}
    assert metadata(clean(instance, remove=True))["removed"].value == 1
    assert not path(keys[0]).exists()
    assert plan(instance)[0] == complete
    assert kinds(instance) == {"(lost)": 1}
    register(instance, VISITS, [keys[0]])
    update(instance)
    assert kinds(instance) == {}


def test_inputs_that_have_gone(instance: dg.DagsterInstance, keys: list[str], mirror: Path) -> None:
    gone, looped, unlinked = (VISITS.parse_key(key).path(mirror) for key in keys[:3])
    for file in (gone, looped, unlinked):
        file.unlink()
    looped.symlink_to(looped)
    unlinked.symlink_to("nowhere")
    assert kinds(instance) == {"(no-input)": 3}
    assert metadata(clean(instance, remove=True, older_days=0))["removed"].value == 0
    assert kinds(instance, kinds=["no-input"]) == {"no-input": 1, "(no-input)": 2}
    before = plan(instance)
    assert metadata(clean(instance, remove=True, kinds=["no-input"]))["removed"].value == 1
    assert plan(instance) == before
    assert not path(keys[0]).exists()


def test_a_mirror_that_is_not_mounted_loses_nothing(
    instance: dg.DagsterInstance, keys: list[str], mirror: Path
) -> None:
    shutil.move(mirror / "dr17", mirror / "elsewhere")
    assert kinds(instance) == {"(no-input)": 12}
    shutil.rmtree(mirror)
    mirror.mkdir()
    assert kinds(instance) == {"(no-input)": 18}
    removed = metadata(clean(instance, remove=True, older_days=0, kinds=["no-input"]))
    assert removed["removed"].value == 0
    (row,) = (record.data for record in removed["found"].value.records)
    assert row["stays"].endswith("it may be an outage")
    mirror.rmdir()
    assert not clean(instance, remove=True).success  # and says that SAS_BASE_DIR is no folder
    assert kinds(instance, kinds=["temporary"]) == {}  # which needs no plan


def test_notes_of_failures_that_are_over(instance: dg.DagsterInstance, keys: list[str]) -> None:
    for key in (keys[0], keys[1]):
        note = path(key).with_name(path(key).name + ".failed")
        note.write_text(json.dumps({"key": key, "error": "bad", "tried": ["2", "x"]}))
    path(keys[1]).unlink()
    assert kinds(instance) == {"failures": 1, "(lost)": 1}
    assert metadata(clean(instance, remove=True))["removed"].value == 1


GROUPS = """
from astra_dagster import ap_visit, grouped, spectrum_task
from astra_dagster.tasks.snr import ap_visit_snr

ap_visit_snr_half = ap_visit_snr.variant("half", fudge_factor=0.5)

@spectrum_task(requires=grouped(ap_visit_snr, by="plate"), version="1")
def plate_snr(visits, parameters):
    return {"n": len(visits)}
"""


def test_variants_chains_and_groups(
    instance: dg.DagsterInstance, keys: list[str], mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tasks_to_clean.py").write_text(GROUPS)
    (tmp_path / "astra.toml").write_text('packages = ["tasks_to_clean"]')
    monkeypatch.setenv("ASTRA_CONFIG", str(tmp_path / "astra.toml"))
    monkeypatch.syspath_prepend(tmp_path)
    groups = registry.tasks()["plate_snr"].domain
    register(instance, groups, sorted({groups.key_of(key) for key in keys}))
    update(instance, name="ap_visit_snr_half")
    update(instance, name="plate_snr")
    assert kinds(instance) == {}
    before = {name: plan(instance, name) for name in (NAME, "ap_visit_snr_half", "plate_snr")}
    assert [len(complete) for complete, _ in before.values()] == [18, 18, 4]
    assert metadata(clean(instance, remove=True, older_days=0, other_parameters=True))["removed"].value == 0
    assert {name: plan(instance, name) for name in before} == before

    one, four = (next(k for k in registered(instance, groups) if plate in k) for plate in ("9911", "3148"))
    for key in keys:
        if "/9911/" in key:
            VISITS.parse_key(key).path(mirror).unlink()
    assert kinds(instance) == {"(no-input)": 4 + 4 + 1}  # all of a folder: it may be an outage
    other = VISITS.parse_key(keys[8]).path(mirror).with_name("apVisit-dr17-9911-57900-007.fits")
    other.write_bytes(b"another of the same folder")
    assert kinds(instance, tasks=["ap_visit_snr_half"], kinds=["no-input"]) == {"no-input": 4}
    assert kinds(instance, tasks=["plate_snr"], kinds=["no-input"]) == {"no-input": 1}
    other.unlink()
    instance.delete_dynamic_partition(groups.name, four)
    assert kinds(instance, tasks=["plate_snr"]) == {"(no-input)": 1, "unregistered": 1}
    assert one != four

    monkeypatch.delenv("ASTRA_CONFIG")  # now the user's own tasks are not known, nor is the variant
    assert kinds(instance) == {"(no-input)": 4, "(other-parameters)": 19, "(unknown-task)": 5}
    assert kinds(instance, tasks=["plate_snr"]) == {"unknown-task": 5}


def test_what_cannot_be_removed_fails_the_run(
    instance: dg.DagsterInstance, keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in keys[:2]:
        instance.delete_dynamic_partition("ap_visit", key)
    real = os.rename

    def refused(source: str, target: str, **folders: int) -> None:
        if source == path(keys[0]).name:
            raise PermissionError(13, "Permission denied")
        real(source, target, **folders)

    monkeypatch.setattr(os, "rename", refused)
    result = clean(instance, remove=True)
    assert not result.success
    (event,) = [event for event in result.all_events if event.is_step_failure]
    description = event.step_failure_data.user_failure_data.description
    assert description.startswith("1 could not be removed\n")
    assert path(keys[0]).name in description
    assert path(keys[0]).exists()
    assert not path(keys[1]).exists()
