"""Dask clusters on which functions are called: one that is there already, one on this machine, or in jobs of Slurm."""

import asyncio
import contextlib
import logging
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

from astra_dagster.errors import ConfigurationError, DeclarationError, describe
from astra_dagster.execution.pool import start_fork_server
from astra_dagster.resources import NONE, Resources, read_walltime, walltime_text

logger = logging.getLogger(__name__)

PATIENCE = 30.0
"""Seconds to wait for the answer of a Dask scheduler."""

GPU = "GPU"
"""Name of the resource of Dask that says how many GPUs a worker has; Dask's documentation calls it so."""

LONG = 60.0
"""Seconds after which a run says that none of its jobs works yet."""

ADAPT: Mapping[str, Any] = {"interval": "1s", "target_duration": "1s", "wait_count": 60}
"""How jobs of Slurm follow the work: Dask looks each second whether those it has would take longer than a second for
what is under way, and ends one that had nothing to do for a minute."""

SETTINGS: Mapping[str, Any] = {
    # The item that kills its worker is found in `workers`, so that the scheduler need not try it on other workers.
    "distributed.scheduler.allowed-failures": 0,
    "distributed.worker.multiprocessing-method": "forkserver",
    # Memory is not returned to the system after each chunk, which would take a fifth of the time.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
}

P = ParamSpec("P")
R = TypeVar("R")


class OnDask(Executor):
    """An executor on a Dask cluster, whose futures always end.

    A future of Dask's own executor never ends if the chunk's result is lost with its worker before it is fetched, and
    the chunk fails when it is done again.
    """

    def __init__(self, client: Any, needed: Resources = NONE) -> None:
        self._client = client
        self._resources = {GPU: needed.gpus} if needed.gpus else None

    @property
    def workers(self) -> int:
        """Number of workers that the cluster has now."""
        try:
            return len(self._client.scheduler_info(n_workers=-1).get("workers", ()))
        except OSError as error:
            raise make_cluster_error() from error

    def submit(self, function: Callable[P, R], /, *arguments: P.args, **named: P.kwargs) -> "Future[R]":
        """Have a function called on the cluster; the future has its result once that is fetched."""
        made = self._client.submit(function, *arguments, pure=False, resources=self._resources, **named)
        fetched = self._client.gather(made, asynchronous=True)
        return asyncio.run_coroutine_threadsafe(fetched, self._client.loop.asyncio_loop)


class OnSlurm(OnDask):
    """An executor in jobs of Slurm, of which as many workers are expected as there may be at most."""

    def __init__(self, client: Any, most: int, needed: Resources = NONE) -> None:
        super().__init__(client, needed)
        self._most = most
        self._since: float | None = time.monotonic()

    @property
    def workers(self) -> int:
        """Number of workers at most; if there is none after a while, that is told once."""
        if self._since is not None and super().workers:
            self._since = None
        elif self._since is not None and time.monotonic() > self._since + LONG:
            self._since = None
            logger.warning("no job of Slurm works yet: squeue says whether it waits, its slurm-*.out whether it failed")
        return self._most


@contextlib.contextmanager
def open_dask(address: str | None, number: int, needed: Resources = NONE) -> Iterator[OnDask]:
    """Use the cluster whose scheduler has this address; if it is None, start one on this machine, with so many workers.

    What needs GPUs is given to workers alone that say that they have as many, in Dask's own resource ``GPU``.

    Raises
    ------
    ConfigurationError
        If Dask is not installed, no scheduler answers, or no worker of the cluster has the GPUs that are needed.
    """
    dask, distributed = _import("dask"), _import("distributed")
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(SETTINGS))
        if not address:
            distributed.utils.get_mp_context()  # else it sets the fork server later
            start_fork_server(["distributed"])
        cluster = address or stack.enter_context(
            distributed.LocalCluster(
                n_workers=number,
                threads_per_worker=1,
                dashboard_address=":0",
                silence_logs=logging.CRITICAL,
                resources={GPU: needed.gpus},
            )
        )
        client = stack.enter_context(_connect(distributed, cluster))
        if address and needed.gpus:
            _refuse_without_gpus(client, needed.gpus)
        yield OnDask(client, needed)


def _refuse_without_gpus(client: Any, gpus: int) -> None:
    """Refuse a cluster that has workers, none of which has so many GPUs: the work would wait for ever."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    if workers and all(one["resources"].get(GPU, 0) < gpus for one in workers):
        raise ConfigurationError(
            f"no worker of the Dask cluster has {gpus} GPUs, as a task needs",
            hint=f'start its workers with --resources "{GPU}={gpus}"',
        )


@contextlib.contextmanager
def open_slurm(jobs: int, needed: Resources = NONE) -> Iterator[OnSlurm]:
    """Start a cluster whose workers are jobs of Slurm, as many as the work needs, and so many at most.

    What a job has, and whose it is, Dask's own configuration says, in the section ``jobqueue.slurm``. A job has no more
    workers than its memory has room for, and with GPUs one; if not even one has room, or the job would be too short, it
    gets more. A job that is lost is submitted again. The jobs end with the context, and by themselves within a minute
    if this process is killed.

    Raises
    ------
    ConfigurationError
        If dask-jobqueue is not installed or configured, or Slurm takes no job.
    """
    dask, distributed, jobqueue = _import("dask"), _import("distributed"), _import("dask_jobqueue")
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(SETTINGS))
        configured = dask.config.get("jobqueue.slurm")
        if lacking := [name for name in ("cores", "memory") if not configured[name]]:
            raise _make_slurm_error(f"Dask's configuration says nothing of {' and '.join(lacking)}")
        try:
            cluster = stack.enter_context(
                jobqueue.SLURMCluster(
                    **_describe_job(configured, needed, dask.utils.parse_bytes),
                    scheduler_options={"dashboard_address": ":0", **configured["scheduler-options"]},
                    silence_logs=logging.CRITICAL,
                )
            )
            script = cluster.job_script()
            tried = subprocess.run(
                ["sbatch", "--test-only"],  # noqa: S607 (it is where the site has put it)
                input=script,
                capture_output=True,
                text=True,
                check=False,
            )
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            raise _make_slurm_error(describe(error)) from error
        if tried.returncode:
            raise _make_slurm_error(tried.stderr.strip())
        logger.info("each job of Slurm is\n%s", script)
        adaptive = cluster.adapt(minimum_jobs=1, maximum_jobs=jobs, **ADAPT)
        yield OnSlurm(stack.enter_context(_connect(distributed, cluster)), adaptive.maximum, needed)


def _describe_job(
    configured: Mapping[str, Any], needed: Resources, parse_bytes: Callable[[Any], int]
) -> dict[str, Any]:
    """Return what is said of each job besides what is configured, so that its workers have what they need."""
    workers = int(configured["processes"] or configured["cores"])  # one thread each
    memory = parse_bytes(configured["memory"])
    workers = needed.fitting(workers, memory=memory, gpus=needed.gpus)
    job: dict[str, Any] = {"processes": workers, "memory": max(memory, workers * needed.memory)}
    if needed.walltime:
        with contextlib.suppress(DeclarationError):  # Slurm reads other forms too, which are then replaced
            needed = needed.join(Resources(walltime=read_walltime(configured["walltime"])))
        job["walltime"] = walltime_text(needed.walltime)
    if needed.gpus:
        job["job_extra_directives"] = [*configured["job-extra-directives"], f"--gres=gpu:{needed.gpus}"]
        job["worker_extra_args"] = [*configured["worker-extra-args"], "--resources", f"{GPU}={needed.gpus}"]
    return job


def _make_slurm_error(why: str) -> ConfigurationError:
    return ConfigurationError(
        f"no job of Slurm can be started: {why}",
        hint="the command sbatch must work here; the section jobqueue.slurm of Dask's configuration, "
        "~/.config/dask/jobqueue.yaml, needs cores and memory, and says queue, account and walltime",
    )


def make_cluster_error() -> ConfigurationError:
    """Make the error of a cluster that does not answer any more."""
    return ConfigurationError("the Dask cluster is gone", hint="start it again; what is done is recorded")


def _import(name: str) -> ModuleType:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigurationError(
            f"the workers need {name}, which is not installed", hint="pip install 'astra-dagster[dask]'"
        ) from error


@contextlib.contextmanager
def _connect(distributed: ModuleType, cluster: Any) -> Iterator[Any]:
    try:
        client = distributed.Client(cluster, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"no Dask scheduler answers at {cluster}: {error}", hint="start one, or set other workers"
        ) from error
    # Dask itself no longer waits for some of what it has begun: asyncio would print what fails of it.
    client.loop.asyncio_loop.set_exception_handler(lambda _, about: logger.debug("Dask: %s", about))
    with client:
        yield client
