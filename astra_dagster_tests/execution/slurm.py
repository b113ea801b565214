"""Slurm on this machine, with two nodes: its daemons are started in a folder of their own, and ended."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path

import psutil
import pytest

NODES = ("n1", "n2")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")
SLURM = pytest.mark.skipif(
    not all(shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") for name in PROGRAMS),
    reason="Slurm is not installed: apt-get install munge slurmctld slurmd slurm-client",
)
"""Mark of tests that need Slurm."""

CONF = """
ClusterName=astra
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthInfo=socket={folder}/munge.socket
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
ReturnToService=2
SlurmdTimeout=3
KillWait=1
SchedulerParameters=sched_interval=1,batch_sched_delay=0,requeue_delay=1
GresTypes=gpu
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=2000 Gres=gpu:1
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=2000
PartitionName=main Nodes=ALL Default=YES State=UP
"""


@dataclass(frozen=True)
class Slurm:
    """A cluster that runs."""

    folder: Path
    environment: dict[str, str]
    """What the processes that use it need, with Dask's configuration of a job: one process."""

    def ask(self, *words: str) -> str:
        """What one of Slurm's commands prints."""
        return subprocess.run(words, env=self.environment, check=True, capture_output=True, text=True).stdout

    def idle_nodes(self) -> int:
        """Number of nodes that are up, with nothing to do; 0 if the controller does not answer."""
        try:
            return sum(map(int, self.ask("sinfo", "--noheader", "--states", "idle", "--format", "%D").split()))
        except subprocess.CalledProcessError:
            return 0

    def jobs(self, states: str = "all") -> list[str]:
        """Numbers of the jobs of the last minutes in these states."""
        return self.ask("squeue", "--noheader", "--states", states, "--format", "%A").split()

    def wait_for_jobs(self, states: str, number: int, seconds: float = 60.0) -> list[str]:
        """Wait until so many jobs are in these states."""
        until = time.monotonic() + seconds
        while len(jobs := self.jobs(states)) != number:
            assert time.monotonic() < until, self.ask("squeue", "--states", "all", "--long")
            time.sleep(0.1)
        return jobs

    def fail(self, node: str) -> None:
        """Kill all that runs on a node, as if it had lost its power."""
        daemon = int((self.folder / f"slurmd-{node}.pid").read_text())
        on_node = self.ask("squeue", "--noheader", "--states", "running", "--nodelist", node, "--format", "%A").split()
        steps = [one for one in psutil.process_iter(["cmdline"]) if "slurmstepd" in "".join(one.info["cmdline"] or ())]
        lost = [one for one in steps if any(f"[{job}." in " ".join(one.info["cmdline"]) for job in on_node)]
        assert lost
        psutil.Process(daemon).kill()
        for process in [each for step in lost for each in (step, *step.children(recursive=True))]:
            with suppress(psutil.NoSuchProcess):
                process.kill()


@contextmanager
def start_slurm() -> Iterator[Slurm]:
    """Slurm with two nodes of two cores, which is gone afterwards with all that it runs."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-")))
        (folder / "state").mkdir()
        (folder / "munge.key").write_bytes(os.urandom(1024))
        (folder / "munge.key").chmod(0o400)
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1] for one in sockets]
        for one in sockets:
            one.close()
        conf = folder / "slurm.conf"
        conf.write_text(CONF.format(host=socket.gethostname(), folder=folder, user=getuser(), ports=ports))
        (folder / "gres.conf").write_text("NodeName=n1 Name=gpu File=/dev/null\n")
        environment = {
            **os.environ,
            "PATH": f"{os.environ['PATH']}:/usr/sbin",
            "SLURM_CONF": str(conf),
            "DASK_JOBQUEUE__SLURM__CORES": "1",
            "DASK_JOBQUEUE__SLURM__MEMORY": "1GB",
            "DASK_JOBQUEUE__SLURM__INTERFACE": "lo",
            "DASK_JOBQUEUE__SLURM__DEATH_TIMEOUT": "5",
        }
        munge = [f"--{name}={folder}/munge.{name.partition('-')[0]}" for name in ("key-file", "socket", "pid-file")]
        munge += [f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed"]
        daemons = (["munged", "--force", "--foreground", *munge], ["slurmctld", "-D"])
        for words in (*daemons, *(["slurmd", "-D", "-N", node] for node in NODES)):
            process = subprocess.Popen(
                words, env=environment, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            if words[0] == "munged":
                _wait_for(folder / "munge.socket")
        slurm = Slurm(folder, environment)
        until = time.monotonic() + 60
        while slurm.idle_nodes() != len(NODES):
            if time.monotonic() > until:
                pytest.skip(f"Slurm does not start here: {(folder / 'slurmctld.log').read_text()[-300:]}")
            time.sleep(0.1)
        stack.callback(slurm.ask, "scancel", "--user", getuser())
        yield slurm


def _wait_for(path: Path) -> None:
    until = time.monotonic() + 30
    while not path.exists():
        if time.monotonic() > until:
            pytest.skip(f"Slurm does not start here: there is no {path.name}")
        time.sleep(0.02)
