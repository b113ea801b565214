"""Sensors and schedules as Dagster's daemon runs them, and the daily job."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner
from dagster._core.scheduler.instigation import InstigatorTick, InstigatorType

from astra_dagster import product
from astra_dagster.cli import main
from astra_dagster.cli.init import DAGSTER_YAML
from astra_dagster.definitions import build_definitions, defs
from astra_dagster.errors import ConfigurationError
from astra_dagster.orchestration.partitions import registered
from astra_dagster.orchestration.watch.sensors import run_request
from astra_dagster.orchestration.watch.settings import watched
from astra_dagster.orchestration.watch.tick import tick
from astra_dagster.spectra.products.astra import ASTRA
from astra_dagster.spectra.readers import READERS
from astra_dagster_tests.documented import end
from astra_dagster_tests.orchestration.daemon import SENSOR, running_daemon, wait_for, workspace
from astra_dagster_tests.orchestration.watch.arrivals import FOLDER, KEY, NAME, make_anonymous, outputs, put, recorded

VISITS = product("apVisit")
JOB = "update_ap_visit"


def configure(text: str) -> None:
    (Path(os.environ["DAGSTER_HOME"]) / "astra.toml").write_text(f'workers = "in-process"\n{text}')


def update(instance: dg.DagsterInstance, *partitions: str, from_defs: dg.Definitions = defs) -> bool:
    config = {"ops": {f"{JOB}_files": {"config": {"partitions": list(partitions)}}}}
    job = from_defs.resolve_job_def(JOB)
    return job.execute_in_process(instance=instance, run_config=config, raise_on_error=False).success


def evaluate(instance: dg.DagsterInstance) -> dg.SensorEvaluationContext:
    """A tick of the sensor, as the code server runs it."""
    repository = defs.get_repository_def()
    context = dg.build_sensor_context(instance=instance, repository_def=repository)
    return repository.get_sensor_def(SENSOR).evaluate_tick(context)


def test_each_product_has_a_sensor_and_a_schedule_that_are_off() -> None:
    repository = defs.get_repository_def()
    names = {product(name).asset_name for name in READERS if name not in ASTRA}  # models have no tasks
    assert {s.name for s in repository.sensor_defs} == {f"{name}_arrivals" for name in names}
    assert {s.name for s in repository.schedule_defs} == {f"{name}_daily" for name in names}
    assert all(s.default_status == dg.DefaultSensorStatus.STOPPED for s in repository.sensor_defs)
    assert all(s.default_status == dg.DefaultScheduleStatus.STOPPED for s in repository.schedule_defs)


def test_the_configuration_switches_them_on(instance: dg.DagsterInstance) -> None:
    configure('[watch.ap_visit]\nrunning = true\ninterval = 7\ndaily = "30 6 * * *"\ntasks = ["ap_visit_continuum"]\n')
    repository = build_definitions().get_repository_def()
    sensor = repository.get_sensor_def(SENSOR)
    schedule = repository.get_schedule_def("ap_visit_daily")
    assert (sensor.default_status, sensor.minimum_interval_seconds) == (dg.DefaultSensorStatus.RUNNING, 7)
    assert (schedule.default_status, schedule.cron_schedule) == (dg.DefaultScheduleStatus.RUNNING, "30 6 * * *")
    assert repository.get_sensor_def("spec_arrivals").default_status == dg.DefaultSensorStatus.STOPPED
    keys = repository.get_job("analyse_ap_visit").asset_layer.executable_asset_keys
    assert {key.to_user_string() for key in keys} == {"ap_visit", "ap_visit_continuum"}


@pytest.mark.parametrize(
    ("table", "sensor", "said"),
    [
        ("[watch.ap_visit]\nintervall = 3", SENSOR, "no option 'intervall'; did you mean interval?"),
        ('[watch.ap_visit]\nreleases = ["DR71"]', SENSOR, "releases: no release 'DR71'"),
        ('[watch.ap_visit]\ntasks = ["ap_visit_nsr"]', SENSOR, "tasks: no task 'ap_visit_nsr'"),
        ('[watch.apVisit]\ntasks = ["spec_snr"]', SENSOR, "tasks: spec_snr does not run on ap_visit"),
        ("[watch.ap_vist]", "broken_ap_vist_arrivals", "no product 'ap_vist'; did you mean"),
        ("[watch.apField]", "broken_apField_arrivals", 'apField has no asset; list it in the same file: products = ["'),
    ],
)
def test_a_table_that_is_wrong_is_told_by_a_sensor_and_the_rest_is_there(
    table: str, sensor: str, said: str, instance: dg.DagsterInstance
) -> None:
    configure(f"{table}\nrunning = true\n[watch.spec]\ninterval = 7\n")
    definitions = build_definitions()
    repository = definitions.get_repository_def()
    repository.load_all_definitions()
    found = repository.get_sensor_def(sensor)
    path = Path(os.environ["DAGSTER_HOME"]) / "astra.toml"
    assert said in found.description
    assert found.description.startswith(f"{path}: [watch.")
    assert found.default_status == dg.DefaultSensorStatus.RUNNING
    context = dg.build_sensor_context(instance=instance, repository_def=repository)
    with pytest.raises(ConfigurationError) as failed:
        found.evaluate_tick(context)
    assert str(failed.value) == found.description

    others = repository.get_sensor_def("spec_arrivals")
    assert others.minimum_interval_seconds == 7
    assert others.evaluate_tick(context).skip_message or others.evaluate_tick(context).run_requests
    CliRunner().invoke(main, ["discover"])
    planned = CliRunner().invoke(main, ["plan", "ap_visit_snr"])
    assert planned.exit_code == 0
    assert planned.stderr == f"left out: {found.description}\n"
    if sensor == SENSOR:  # what needs the table fails with the same line
        result = definitions.resolve_job_def(JOB).execute_in_process(instance=instance, raise_on_error=False)
        (event,) = [event for event in result.all_events if event.is_step_failure]
        assert event.step_failure_data.user_failure_data.description == found.description


def test_two_tables_of_one_product_are_a_mistake(instance: dg.DagsterInstance) -> None:
    configure("[watch.ap_visit]\ninterval = 7\n[watch.apVisit]\ninterval = 9\n")
    repository = build_definitions().get_repository_def()
    assert repository.get_sensor_def(SENSOR).minimum_interval_seconds == 7
    assert (
        "[watch.apVisit]: that is [watch.ap_visit]" in repository.get_sensor_def("broken_apVisit_arrivals").description
    )


def test_a_product_that_is_listed_has_an_asset_and_can_be_watched(instance: dg.DagsterInstance) -> None:
    configure('products = ["mwmStar"]\n[watch.mwmStar]\nrunning = true\n')
    assert build_definitions().get_repository_def().get_sensor_def("mwm_star_arrivals")


def test_what_a_tick_tells(instance: dg.DagsterInstance, mirror: Path) -> None:
    put(mirror / FOLDER / NAME.format(301), b"")
    made = evaluate(instance)
    (request,) = made.run_requests
    assert made.cursor.startswith("18 new, 0 changed, 0 gone; 1 run requested; 22 folders, 22 listed, ")
    assert (request.job_name, request.tags["astra/partitions"]) == ("analyse_ap_visit", "18")
    assert made.skip_message is None
    again = evaluate(instance)
    assert again.run_requests[0].run_key == request.run_key
    tags = {"dagster/run_key": str(request.run_key), "dagster/sensor_name": SENSOR}
    instance.add_run(dg.DagsterRun(job_name="analyse_ap_visit", tags=tags, status=dg.DagsterRunStatus.SUCCESS))
    idle = evaluate(instance)
    assert idle.skip_message == idle.cursor


def test_groups_of_files_are_brought_up_to_date_as_well(
    instance: dg.DagsterInstance, mirror: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(os.environ["DAGSTER_HOME"])
    (folder / "plates_of_arrivals.py").write_text(
        "from astra_dagster import grouped, spectrum_task\n"
        "from astra_dagster.tasks.snr import ap_visit_snr\n"
        "@spectrum_task(requires=grouped(ap_visit_snr, by='plate'), version='1')\n"
        "def plate_visits(visits, parameters):\n"
        "    '''Number of visits.'''\n"
        "    return {'visits': len(visits)}\n"
    )
    configure('packages = ["plates_of_arrivals"]\n[watch.ap_visit]\ntasks = ["plate_visits"]\n')
    own = build_definitions()
    repository = own.get_repository_def()
    assert [job.name for job in repository.get_sensor_def(SENSOR).jobs] == [JOB]
    for new, groups in ((18, 4), (1, 1)):
        made = tick(instance, watched(VISITS))
        assert made.new == new
        asked = run_request(VISITS, made.requests[0], by_range=False)
        before = outputs()
        assert update(instance, *made.requests[0].partitions, from_defs=own)
        made_now = {path for path, at in outputs().items() if before.get(path) != at}
        assert len(made_now) == new + groups
        tags = {"dagster/run_key": str(asked.run_key), "dagster/sensor_name": SENSOR}
        instance.add_run(dg.DagsterRun(job_name=JOB, tags=tags, status=dg.DagsterRunStatus.SUCCESS))
        put(mirror / FOLDER / NAME.format(99), whole)
    assert len(recorded(instance, "plate_visits")) == 4


def test_the_daily_job_does_all_that_is_not_complete(
    instance: dg.DagsterInstance, mirror: Path, whole: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    configure("")
    broken, short, young = (mirror / FOLDER / NAME.format(number) for number in (1, 60, 61))
    put(broken, b"no FITS file" * 1000)
    put(short, whole[:20_000])
    put(young, whole, age=0)
    assert not update(instance)
    keys = set(registered(instance, VISITS))
    assert len(keys) == 18
    assert recorded(instance) == keys
    assert recorded(instance, "ap_visit_snr") == recorded(instance, "ap_visit_continuum") == keys - {KEY.format(1)}
    put(mirror / FOLDER / NAME.format(2), whole)
    put(short, whole)
    before = outputs()
    assert update(instance)
    changed = {path.name for path, at in outputs().items() if before.get(path) != at}
    assert changed == {f"ap_visit_snr-{KEY.format(n).replace('/', '-')}.json" for n in (2, 60)}
    assert "1 failed before on the same files, and are left alone" in capfd.readouterr().err
    put(young, whole)
    put(broken, whole)
    assert update(instance)
    assert recorded(instance, "ap_visit_snr") == {*keys, KEY.format(60), KEY.format(61)}
    assert evaluate(instance).run_requests == []


def test_a_half_written_new_version_waits_for_the_next_day(
    instance: dg.DagsterInstance, mirror: Path, whole: bytes
) -> None:
    configure("")
    assert update(instance)
    before = outputs()
    put(mirror / FOLDER / NAME.format(2), whole[:20_000])
    assert update(instance)
    assert outputs() == before
    put(mirror / FOLDER / NAME.format(2), whole)
    assert update(instance)
    assert outputs() != before


def test_partitions_of_the_job_by_name(instance: dg.DagsterInstance) -> None:
    configure("")
    evaluate(instance)
    assert update(instance, f"{KEY.format(2)}...{KEY.format(4)}", KEY.format(6))
    assert recorded(instance) == recorded(instance, "ap_visit_snr") == {KEY.format(n) for n in (2, 3, 4, 6)}
    assert not update(instance, KEY.format(299))
    assert not update(instance, f"{KEY.format(4)}...{KEY.format(2)}")


def ticks(instance: dg.DagsterInstance) -> list[InstigatorTick]:
    """Ticks of the sensor, the first first."""
    states = instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
    (state,) = [state for state in states if state.name == SENSOR]
    return list(instance.get_ticks(state.instigator_origin_id, state.selector_id))[::-1]


def run_keys(instance: dg.DagsterInstance) -> Counter[str]:
    return Counter(run.tags["dagster/run_key"] for run in instance.get_runs())


DYING = """
import signal, sys
import dagster as dg
from astra_dagster_tests.orchestration.daemon import workspace
with dg.DagsterInstance.get() as instance, workspace(instance) as iterate:
    iterate({sys.argv[1]: signal.SIGKILL})
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated")  # Dagster's daemon calls it
def test_a_daemon_that_is_killed_loses_no_run_and_makes_none_twice(
    instance: dg.DagsterInstance, mirror: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Path(os.environ["DAGSTER_HOME"])
    # Nobody takes runs out of this queue.
    (home / "dagster.yaml").write_text("run_queue:\n  max_concurrent_runs: 0\ntelemetry:\n  enabled: false\n")
    configure("[watch.ap_visit]\nrunning = true\ninterval = 1\n")
    asked = []
    with dg.DagsterInstance.get() as queued, workspace(queued) as iterate:
        for number, step in enumerate(("RUN_IDS_RESERVED", "RUN_CREATED", "RUN_LAUNCHED"), start=50):
            put(mirror / FOLDER / NAME.format(number), whole)
            dying = subprocess.Popen([sys.executable, "-c", DYING, step], stderr=subprocess.DEVNULL, process_group=0)
            try:
                assert dying.wait(120) == -signal.SIGKILL
            finally:
                end(dying)  # its code server, and it where it lives on
            for _ in range(3):
                time.sleep(1.1)
                iterate()
            asked.append(run_keys(queued))
        assert [sum(counts.values()) for counts in asked] == [1, 2, 3]
        assert set(asked[-1].values()) == {1}
        assert {run.status for run in queued.get_runs()} == {dg.DagsterRunStatus.QUEUED}
        assert sorted(partitions(queued)) == [1, 1, 19]


def partitions(instance: dg.DagsterInstance) -> list[int]:
    """How many each run takes."""
    return [int(run.tags["astra/partitions"]) for run in instance.get_runs()]


@pytest.mark.slow
def test_files_that_come_while_the_daemon_runs_are_analysed_once(
    instance: dg.DagsterInstance, mirror: Path, whole: bytes
) -> None:
    home = Path(os.environ["DAGSTER_HOME"])
    (home / "dagster.yaml").write_text(DAGSTER_YAML)
    configure('[watch.ap_visit]\nrunning = true\ninterval = 3\nsettle = 2\ntasks = ["ap_visit_snr"]\n')
    night = mirror / FOLDER
    put(night / NAME.format(1), b"no FITS file" * 1000)  # corrupt
    (night / NAME.format(50)).write_bytes(whole[:30_000])  # half-written
    with dg.DagsterInstance.get() as now, running_daemon():
        wait_for(lambda: len(recorded(now, "ap_visit_snr")) == 17)
        (night / NAME.format(50)).write_bytes(whole)  # the other half, in place
        put(night / NAME.format(51), whole)
        wait_for(lambda: len(recorded(now, "ap_visit_snr")) == 19)
        anew = put(night / NAME.format(51), make_anonymous((night / NAME.format(2)).read_bytes()))  # reduced anew
        wait_for(lambda: sum(partitions(now)) == 21 and all(run.is_finished for run in now.get_runs()))
        before = len(ticks(now))
        wait_for(lambda: len(ticks(now)) > before + 1)  # so that one has begun afterwards
        assert sum(partitions(now)) == 18 + 2 + 1
        texts = [made.cursor for made in ticks(now) if made.cursor]  # one may be under way
        storage, key = now.event_log_storage, dg.AssetKey("ap_visit_snr")
        records = storage.get_event_records(dg.EventRecordsFilter(dg.DagsterEventType.ASSET_MATERIALIZATION, key))
        made = Counter(record.partition_key for record in records)
    assert made.pop(KEY.format(51)) == 2
    assert set(made.values()) == {1}
    assert len(made) == 18
    assert any(text.startswith("18 new, 0 changed, 0 gone; 1 run requested; 22 folders, 22 listed") for text in texts)
    assert any("1 still being written" in text for text in texts)
    assert any(text.startswith("0 new, 1 changed, 0 gone; 1 run requested") for text in texts)
    assert texts[-1].startswith("0 new, 0 changed, 0 gone; no run requested; 22 folders, 0 listed")
    (output,) = [path for path in outputs() if path.name.endswith("-56000-051.json")]
    version = json.loads(output.read_text())
    assert version["provenance"]["inputs"][0]["data_version"].startswith(str(anew.stat().st_size))


def test_the_benchmark_runs(programs: Path, tmp_path: Path) -> None:
    script = Path(__file__).parents[3] / "benchmarks" / "watching.py"
    sizes = {"files": 60, "folders": 3, "night": 6, "new-folders": 2, "ticks": 2}
    options = [f"--{name}={size}" for name, size in sizes.items()]
    done = subprocess.run(
        [programs / "python", str(script), f"--folder={tmp_path}", *options], check=True, capture_output=True, text=True
    )
    assert "6 new, 0 changed, 0 gone; 1 run requested" in done.stdout
    assert list(tmp_path.iterdir()) == []
