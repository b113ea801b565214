"""What a task says that a worker needs, and that it gets it: room in memory, GPUs, and jobs that last."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astra_dagster import ap_visit, spectrum_task
from astra_dagster.errors import ConfigurationError, DeclarationError
from astra_dagster.execution import workers
from astra_dagster.execution.dask import GPU, _describe_job
from astra_dagster.execution.workers import Crew, Workers, spread
from astra_dagster.resources import (
    NONE,
    UNITS,
    Resources,
    gpus_here,
    memory_here,
    read_walltime,
    walltime_text,
)
from astra_dagster_tests.execution.cluster import DASK, cluster_here
from astra_dagster_tests.execution.work import taking

HOUR = 3600


@pytest.mark.parametrize(
    ("given", "needed"),
    [
        ({}, NONE),
        ({"memory": "8GB"}, Resources(memory=8 * 10**9)),
        ({"memory": "1.5 GiB", "gpus": 2}, Resources(memory=3 * 2**29, gpus=2)),
        ({"walltime": "04:00:00"}, Resources(walltime=4 * HOUR)),
        ({"walltime": "2-01:30:05"}, Resources(walltime=49 * HOUR + 1805)),
    ],
)
def test_a_task_declares_what_it_needs(given: dict[str, Any], needed: Resources) -> None:
    @spectrum_task(requires=ap_visit, version="1", resources=given)
    def heavy(spectra: Any, parameters: Any) -> Any:
        return {"n": [1] * len(spectra)}

    assert heavy.resources == needed
    assert heavy.variant("other").resources == needed


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"memry": "8GB"}, "a task cannot need 'memry'; did you mean memory?"),
        ({"memory": 8}, "memory cannot be 8; a number with MB, GB"),
        ({"memory": "8"}, "memory cannot be '8'"),
        ({"memory": "8gb"}, "memory cannot be '8gb'"),
        ({"memory": "0GB"}, "memory cannot be '0GB'"),
        ({"walltime": "4 hours"}, "walltime cannot be '4 hours'; hours, minutes and seconds"),
        ({"walltime": "04:60:00"}, "walltime cannot be '04:60:00'"),
        ({"gpus": "1"}, "gpus cannot be '1'; a whole number"),
        ({"gpus": True}, "gpus cannot be True"),
        ({"gpus": -1}, "gpus cannot be -1"),
    ],
)
def test_what_it_cannot_need(given: dict[str, Any], said: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        spectrum_task(requires=ap_visit, version="1", resources=given)
    assert said in str(caught.value)


AMOUNTS = st.builds(Resources, memory=st.integers(0, 10**12), walltime=st.integers(0, 10**6), gpus=st.integers(0, 16))


@given(AMOUNTS, AMOUNTS, st.integers(1, 100), st.integers(1, 10**12), st.integers(0, 16))
def test_workers_that_do_the_work_of_two_tasks(a: Resources, b: Resources, asked: int, memory: int, gpus: int) -> None:
    both = a.join(b)
    assert both == b.join(a)
    assert both.join(a) == both
    number = both.fitting(asked, memory=memory, gpus=gpus)
    assert 1 <= number <= min(one.fitting(asked, memory=memory, gpus=gpus) for one in (a, b))
    if number > 1:
        assert number * both.memory <= memory
        assert number * both.gpus <= gpus
    assert NONE.fitting(asked, memory=memory, gpus=gpus) == asked


@given(st.integers(0, 10**7))
def test_a_walltime_is_read_as_it_is_written(seconds: int) -> None:
    assert read_walltime(walltime_text(seconds)) == seconds


def test_what_this_machine_has() -> None:
    assert UNITS["MB"] < memory_here() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert gpus_here() == len([path for path in Path("/dev").glob("nvidia*") if path.name[6:].isdigit()])


CHUNKS = [[1]] * 12


@pytest.mark.parametrize(
    ("needed", "number", "started"),
    [
        (NONE, None, 3),
        (Resources(memory=4 * 10**9), None, 2),
        (Resources(memory=10**15), None, 1),
        (Resources(gpus=1), None, 1),
        (Resources(memory=10**15), 3, 3),
    ],
)
def test_no_more_processes_than_there_is_room_for(
    needed: Resources, number: int | None, started: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless their number is given."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    monkeypatch.setattr(workers, "memory_here", lambda: 9 * 10**9)
    monkeypatch.setattr(workers, "gpus_here", lambda: 1)
    with Crew(Workers("processes", number), needed) as crew:
        assert crew.number == started
        assert len(list(spread(crew, len, taking(CHUNKS)))) == 12


CONFIGURED: dict[str, Any] = {
    "cores": 32,
    "processes": None,
    "memory": "128GB",
    "walltime": "02:00:00",
    "job-extra-directives": ["--qos=low"],
    "worker-extra-args": ["--nworkers=2"],
}


@pytest.mark.parametrize(
    ("needed", "configured", "job"),
    [
        (NONE, {}, {"processes": 32, "memory": 128}),
        (NONE, {"processes": 4}, {"processes": 4, "memory": 128}),
        (Resources(memory=5 * 10**9), {}, {"processes": 25, "memory": 128}),
        (Resources(memory=200 * 10**9), {}, {"processes": 1, "memory": 200}),
        (Resources(walltime=HOUR), {}, {"processes": 32, "memory": 128, "walltime": "02:00:00"}),
        (Resources(walltime=30 * HOUR), {}, {"processes": 32, "memory": 128, "walltime": "30:00:00"}),
        (Resources(walltime=HOUR), {"walltime": "1-12"}, {"processes": 32, "memory": 128, "walltime": "01:00:00"}),
    ],
)
def test_what_a_job_of_slurm_has(needed: Resources, configured: dict[str, Any], job: dict[str, Any]) -> None:
    made = _describe_job({**CONFIGURED, **configured}, needed, lambda text: int(text.removesuffix("GB")) * 10**9)
    assert {**made, "memory": made["memory"] // 10**9} == job


def test_a_job_with_gpus_has_one_worker_that_says_so() -> None:
    made = _describe_job(CONFIGURED, Resources(gpus=2), lambda _: 10**9)
    assert made["processes"] == 1
    assert made["job_extra_directives"] == ["--qos=low", "--gres=gpu:2"]
    assert made["worker_extra_args"] == ["--nworkers=2", "--resources", "GPU=2"]


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A Dask cluster of two workers in this process, of which one has a GPU."""
    from distributed import Worker

    with cluster_here() as started:
        spec = {"cls": Worker, "options": {"nthreads": 1, "resources": {GPU: 1}, "name": "with a GPU"}}
        started.worker_spec["with a GPU"] = spec
        started.sync(started._correct_state)
        yield started


def get_name(_: object) -> object:
    from distributed import get_worker

    return get_worker().name


@DASK
def test_a_cluster_gives_it_to_workers_that_have_it(cluster: Any) -> None:
    there = Workers("dask", None, cluster.scheduler_address)
    with Crew(there, Resources(gpus=1)) as crew:
        assert {made for _, made in spread(crew, get_name, taking(CHUNKS))} == {"with a GPU"}
    refused = r"no worker of the Dask cluster has 2 GPUs, as a task needs; start its workers with --resources \"GPU=2\""
    with Crew(there, Resources(gpus=2)) as crew, pytest.raises(ConfigurationError, match=refused):
        list(spread(crew, get_name, taking(CHUNKS)))


@DASK
def test_one_on_this_machine_has_what_is_needed() -> None:
    with Crew(Workers("dask", 1), Resources(gpus=2, memory=10**15)) as crew:
        assert [made for _, made in spread(crew, len, taking(CHUNKS))] == [1] * 12
