"""Runs whose processes are killed, again and again: ``python benchmarks/kills.py --trials 100``.

A trial begins a run in one of several ways, and kills one of its processes, or all, at a random moment; whoever is left
ends as it can. Then `astra-dagster run` does the rest. A trial is good if then every output is there, byte for byte as
from an undisturbed run; if 10 s after the run had ended none of its processes was left; and if 60 s after the kill no
run counts as started. The seed gives the same ways, victims and moments again. It needs ``/proc``, as on Linux.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import dagster as dg
from contenders import ASTRA, ONE_THREAD, SETTINGS, databases, installed
from measure import PROC, load, table
from night import write_night
from victims import MARK, processes, send, victims_of, wait

DAGSTER = [sys.executable, "-m", "dagster"]
JOB = ["-m", "astra_dagster.definitions", "-j", "update_slow"]
ORPHANS, DEAD, PATIENCE = 10.0, 60.0, 120.0
"""Seconds: until no process may be left, until no run may count as started, and for anything else."""

TASK = '''"""A task that takes its time, in a package of its own."""

import time

from astra_dagster import ap_visit, spectrum_task


@spectrum_task(requires=ap_visit, version="1")
def slow(spectra, parameters):
    """Sum of the flux."""
    time.sleep(0.02 * len(spectra))
    return {"sum": spectra.flux.sum(axis=1)}
'''


@dataclass
class Way:
    """A way to have a run, and what may be killed in it.

    Attributes
    ----------
    command
        What starts the run.
    victims
        By name, which of the processes to kill; and the signal.
    launched
        Whether a daemon makes the run; the command then only puts it into the queue.
    postgres
        Whether the records are in PostgreSQL.
    """

    name: str
    command: Sequence[str]
    victims: Sequence[str]
    launched: bool = False
    postgres: bool = False
    seconds: float = 0.0


POOL = ("run", "worker", "fork server", "all of it", "run, SIGTERM", "terminal, SIGHUP", "terminal, SIGINT")
SERVICES = ("run", "worker", "daemon", "code server", "daemon and code server", "all of it")


def ways() -> list[Way]:
    """All ways that this machine can do."""
    slow = [*ASTRA, "run", "slow"]
    found = [
        Way("run, pool", [*slow, "--workers", "processes:2"], POOL),
        Way("run, in-process", [*slow, "--workers", "in-process"], ("run", "run, SIGTERM", "terminal, SIGHUP")),
        Way("job execute, pool", [*DAGSTER, "job", "execute", *JOB], POOL),
        Way("launched, pool", [*DAGSTER, "job", "launch", *JOB], SERVICES, launched=True),
    ]
    if installed("distributed"):
        found.append(Way("run, Dask", [*slow, "--workers", "dask:2"], POOL))
    if installed("dagster_postgres"):
        found.append(Way("run, pool, PostgreSQL", [*slow, "--workers", "processes:2"], POOL, postgres=True))
    return found


class Place:
    """A mirror, an instance, outputs, and a package with the task, in a folder."""

    def __init__(self, folder: Path, files: int, init: Sequence[str]) -> None:
        self.folder, self.outputs = folder, folder / "outputs"
        write_night(folder / "sas", files)
        (folder / "tasks_to_kill.py").write_text(TASK)
        (folder / "astra.toml").write_text('packages = ["tasks_to_kill"]\nworkers = "processes:2"\n')
        others = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
        self.environment = {
            **others,
            **ONE_THREAD,
            "SAS_BASE_DIR": str(folder / "sas"),
            "DAGSTER_HOME": str(folder / "dagster"),
            "ASTRA_OUTPUTS": str(self.outputs),
            "ASTRA_CONFIG": str(folder / "astra.toml"),
        }
        self.do([*ASTRA, "init", *init])
        self.do([*ASTRA, "discover", "--product", "apVisit"])

    def do(self, command: Sequence[str]) -> None:
        """Run a command to its end, which must be good."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, cwd="/", timeout=PATIENCE, check=False
        )
        if done.returncode:
            raise SystemExit(f"failed with {done.returncode}: {' '.join(command)}\n{done.stdout}{done.stderr}")

    def begin(self, command: Sequence[str], mark: str) -> subprocess.Popen[bytes]:
        """Start a command in a group of its own, from the root folder, as a service has it."""
        said = (self.folder / f"{mark}.log").open("ab")
        with said:
            return subprocess.Popen(
                command,
                env={**self.environment, MARK: mark},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd="/",
                start_new_session=True,
            )

    def digests(self) -> dict[str, str]:
        """Hash of each output by its path."""
        paths = (path for path in (self.outputs / "slow").rglob("*") if path.is_file() and path.suffix != ".tmp")
        return {str(p.relative_to(self.outputs)): hashlib.blake2b(p.read_bytes()).hexdigest() for p in paths}

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        """Its instance, as this process sees it."""
        os.environ.update(self.environment)
        with dg.DagsterInstance.get() as made:
            yield made

    def runs(self, *statuses: dg.DagsterRunStatus) -> set[str]:
        """Ids of the runs of the task in one of these states."""
        with self.instance() as instance:
            filters = dg.RunsFilter(job_name="update_slow", statuses=list(statuses) or None)
            return {run.run_id for run in instance.get_runs(filters)}


@dataclass
class Trial:
    """What became of a trial; `wrong` says what was not as it should be."""

    way: str
    victim: str
    moment: float
    hit: int = 0
    wrong: list[str] = field(default_factory=list)


class Trials:
    """Trials in one place, one after another; of services one daemon does for all until it is killed."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.daemon: subprocess.Popen[bytes] | None = None
        self.daemons = 0
        self.truth: dict[str, str] = {}

    def calibrate(self, chosen: Sequence[Way]) -> None:
        """Undisturbed runs: what comes out, and how long each way takes."""
        for way in chosen:
            self.fresh()
            start = time.monotonic()
            leader, _, before = self.start(way, "undisturbed")
            self.finish(way, leader, before)
            way.seconds = time.monotonic() - start
            made = self.place.digests()
            if self.truth and made != self.truth:
                raise SystemExit(f"{way.name}: the outputs differ, and nothing was killed")
            self.truth = made
        print("undisturbed: " + ", ".join(f"{way.name} {way.seconds:.1f} s" for way in chosen), flush=True)

    def fresh(self) -> None:
        """Remove all outputs: the records stay, and say that all is to be done again."""
        shutil.rmtree(self.place.outputs / "slow", ignore_errors=True)

    def start(self, way: Way, mark: str) -> tuple[subprocess.Popen[bytes], str, set[str]]:
        """Have a run begin: its leading process, the mark of its processes, and the runs that were there before."""
        before = self.place.runs()
        if way.launched:
            if self.daemon is None or self.daemon.poll() is not None:
                self.daemons += 1
                command = [str(Path(sys.executable).with_name("dagster-daemon")), "run", *JOB[:2]]
                self.daemon = self.place.begin(command, f"daemon-{self.daemons}")
            self.place.do(way.command)
            return self.daemon, f"daemon-{self.daemons}", before
        return self.place.begin(way.command, mark), mark, before

    def finish(self, way: Way, leader: subprocess.Popen[bytes], before: set[str]) -> None:
        """Wait until a run has ended that nobody disturbs."""
        if way.launched:
            good = wait(lambda: len(self.place.runs(dg.DagsterRunStatus.SUCCESS) - before) == 1, PATIENCE)
        else:
            good = leader.wait(PATIENCE) == 0
        if not good:
            raise SystemExit(f"{way.name} failed, and nothing was killed")

    def trial(self, number: int, way: Way, victim: str, dice: random.Random) -> Trial:
        """One trial."""
        self.fresh()
        # A launched run begins after it is taken from the queue: from then on the moment counts.
        made = Trial(way.name, victim, dice.uniform(0.0, 0.9 * (3.0 if way.launched else way.seconds)))
        leader, mark, before = self.start(way, f"trial-{number}")
        if way.launched:
            wait(lambda: bool(self.place.runs(dg.DagsterRunStatus.STARTED) - before), PATIENCE)
        made.hit = self.kill(way, made, leader, mark, before)
        killed = time.monotonic()
        self.end(way, made, leader, mark, before)
        self.rest(made)
        if not wait(lambda: not self.place.runs(dg.DagsterRunStatus.STARTED), DEAD - (time.monotonic() - killed)):
            made.wrong.append("a run counts as started")
        left = self.place.digests()
        if left != self.truth:
            different = {name for name in {*left, *self.truth} if left.get(name) != self.truth.get(name)}
            made.wrong.append(f"{len(different)} outputs differ")
        return made

    def kill(self, way: Way, made: Trial, leader: subprocess.Popen[bytes], mark: str, before: set[str]) -> int:
        """Kill the victims at the moment, or as soon after it as there are any; returns how many were hit."""
        until = time.monotonic() + made.moment
        while time.monotonic() < until and leader.poll() is None:
            time.sleep(0.005)
        number = signal.Signals[made.victim.rpartition(", ")[2]] if ", SIG" in made.victim else signal.SIGKILL
        if made.victim.startswith("terminal"):
            if leader.poll() is not None:
                return 0
            os.killpg(leader.pid, number)
            return 1
        over = time.monotonic() + 5.0
        while time.monotonic() < over and leader.poll() is None:
            run = self.process_of(before) if way.launched else leader.pid
            hit = [pid for pid in victims_of(made.victim, processes(mark), leader.pid, run) if send(pid, number)]
            if hit:
                return len(hit)
        return 0

    def process_of(self, before: set[str]) -> int | None:
        """The process that a launched run is in."""
        with self.place.instance() as instance:
            for run_id in self.place.runs(dg.DagsterRunStatus.STARTED) - before:
                key = f"astra/alive/{run_id}"
                sign = instance.run_storage.get_cursor_values({key}).get(key)
                return None if sign is None else int(json.loads(sign)["pid"])
        return None

    def end(self, way: Way, made: Trial, leader: subprocess.Popen[bytes], mark: str, before: set[str]) -> None:
        """Wait until the run has ended, and see that nothing is left of it."""
        stays: set[int] = set()
        if not way.launched:
            try:
                leader.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                made.wrong.append("the run does not end")
        elif leader.poll() is None and wait(lambda: leader.poll() is not None, 0.5):
            pass
        elif leader.poll() is None:
            if not wait(lambda: not self.place.runs(dg.DagsterRunStatus.STARTED) - before, DEAD):
                made.wrong.append("the daemon leaves the run as started")
            there = processes(mark)
            stays = {leader.pid, *victims_of("code server", there, leader.pid, None)}
            stays |= {p.pid for p in there if p.parent in stays and "forkserver" not in p.command}

        def gone() -> bool:
            return not [p for p in processes(mark) if p.pid not in stays]

        if way.launched and leader.poll() is not None:  # the daemon was killed: its code server may live on
            for process in victims_of("code server", processes(mark), leader.pid, None):
                send(process, signal.SIGKILL)
        if not wait(gone, ORPHANS):
            left = [p for p in processes(mark) if p.pid not in stays]
            made.wrong.append(f"{len(left)} processes are left: {left[0].command[:60]}")
            for process in left:
                send(process.pid, signal.SIGKILL)

    def rest(self, made: Trial) -> None:
        """Have the rest done, as a person would."""
        try:
            self.place.do([*ASTRA, "run", "slow"])
        except SystemExit as error:
            made.wrong.append(f"the rest cannot be done: {error}")

    def close(self) -> None:
        """End the daemon."""
        if self.daemon is not None and self.daemon.poll() is None:
            os.killpg(self.daemon.pid, signal.SIGTERM)
            self.daemon.wait(PATIENCE)


def plan_of(trials: int, chosen: Sequence[Way]) -> list[tuple[Way, str]]:
    """Which way and victim each trial has: all of them in turn."""
    every = [(way, victim) for way in chosen for victim in way.victims]
    return [every[i % len(every)] for i in range(trials)]


def summary(made: Sequence[Trial]) -> str:
    """A row for each way and victim."""
    rows = [["way", "victim", "trials", "hit", "wrong"]]
    for key in dict.fromkeys((trial.way, trial.victim) for trial in made):
        mine = [trial for trial in made if (trial.way, trial.victim) == key]
        rows.append([key[0], key[1], str(len(mine)), str(sum(t.hit > 0 for t in mine)), str(sum(map(bad, mine)))])
    rows.append(["all", "", str(len(made)), str(sum(t.hit > 0 for t in made)), str(sum(map(bad, made)))])
    return table([[f"{row[0]:24} {row[1]:24}", *row[2:]] for row in rows])


def bad(trial: Trial) -> bool:
    """Whether anything was not as it should be."""
    return bool(trial.wrong)


def main() -> None:
    """Do the trials, and print what became of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--only", action="append", help="ways of this name: 'launched*'; repeatable")
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder")
    arguments = parser.parse_args()
    if not PROC.is_dir():
        raise SystemExit("there is no /proc: the processes of a run cannot be found")
    names = arguments.only or ["*"]
    chosen = [way for way in ways() if any(fnmatch(way.name, name) for name in names)]
    print(f"{arguments.trials} trials over {arguments.files} files, seed {arguments.seed}; {load()}", flush=True)
    dice, made = random.Random(arguments.seed), []  # noqa: S311
    with ExitStack() as stack:
        groups = {}
        for postgres in sorted({way.postgres for way in chosen}):
            folder = stack.enter_context(temporary(arguments.folder))
            init = databases(stack) if postgres else list
            if isinstance(init, str):
                print(f"PostgreSQL: not tried: {init}")
                chosen = [way for way in chosen if not way.postgres]
                continue
            groups[postgres] = Trials(Place(folder, arguments.files, init()))
            stack.callback(groups[postgres].close)
            groups[postgres].calibrate([way for way in chosen if way.postgres == postgres])
        for number, (way, victim) in enumerate(plan_of(arguments.trials, chosen)):
            trial = groups[way.postgres].trial(number, way, victim, dice)
            made.append(trial)
            for wrong in trial.wrong:
                print(f"{number}: {way.name}, {victim} after {trial.moment:.2f} s: {wrong}", flush=True)
    print(summary(made))
    print(load())
    if any(map(bad, made)):
        raise SystemExit("not everything was as it should be")


@contextmanager
def temporary(folder: Path | None) -> Iterator[Path]:
    """A temporary folder."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="astra-kills-", ignore_cleanup_errors=True) as name:
        yield Path(name)


if __name__ == "__main__":
    main()
