"""Who competes in the benchmarks: ours, the same assets on Dagster's own storage, Luigi, and the floor.

A contender is a sequence of commands, each a process of its own, in a place of its own: a mirror, outputs, records.
"""

import hashlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import night
import plain
from measure import Measured, measured

HERE = Path(__file__).parent
ASTRA = [sys.executable, "-c", "from astra_dagster.cli import main; main()"]
SETTINGS = ("ASTRA_", "DAGSTER_", "SAS_BASE_DIR", "TREE_DIR")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
STOCK = "telemetry:\n  enabled: false\n"
TASKS = tuple(plain.TASKS)
CORES = len(os.sched_getaffinity(0))

Digests = dict[str, str]
"""Hash of each file of the outputs, by its path below their folder."""


@dataclass(frozen=True)
class Place:
    """Where a contender works: a mirror of so many files, and a folder for all that it makes."""

    folder: Path
    sas: Path
    files: int

    @property
    def home(self) -> Path:
        """DAGSTER_HOME."""
        return self.folder / "home"

    @property
    def outputs(self) -> Path:
        """Folder of the outputs."""
        return self.folder / "outputs"

    @property
    def environment(self) -> dict[str, str]:
        """Environment of the commands: nothing of it is set by whoever runs the benchmark."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
        own = {"SAS_BASE_DIR": str(self.sas), "DAGSTER_HOME": str(self.home), "ASTRA_OUTPUTS": str(self.outputs)}
        return {**inherited, **ONE_THREAD, **own}

    def digests(self) -> Digests:
        """Hash of each output; pictures of them may lie beside."""
        files = (path for task in TASKS for path in (self.outputs / task).rglob("*") if path.is_file())
        return {str(p.relative_to(self.outputs)): hashlib.blake2b(p.read_bytes()).hexdigest() for p in files}


Steps = Mapping[str, Sequence[str]]
"""Commands by name, in order."""


@dataclass(frozen=True)
class Contender:
    """A name, and the commands to run in a place.

    Attributes
    ----------
    stock
        Whether Dagster's records go through its own storage.
    files
        Where it is too slow for all files: how many it gets.
    """

    name: str
    steps: Callable[[Place], Steps]
    stock: bool = False
    files: int | None = None

    def run(self, place: Place) -> dict[str, Measured]:
        """Run all steps, and say what each took."""
        place.home.mkdir(parents=True)
        if self.stock:
            (place.home / "dagster.yaml").write_text(STOCK)
        return {name: measured(command, place.environment) for name, command in self.steps(place).items()}


def chosen_by(patterns: Sequence[str] | None, contenders: Sequence[Contender]) -> list[Contender]:
    """Those whose name matches a pattern; all if there is none."""
    return [one for one in contenders if any(fnmatch(one.name, pattern) for pattern in patterns or ["*"])]


class Nights:
    """Mirrors of the sizes that are asked for, links to one another's files, and places over them."""

    def __init__(self, folder: Path, files: int) -> None:
        self.folder = folder
        self.largest = folder / f"sas-{files}"
        self.mirrors = {files: self.largest}
        night.write_night(self.largest, files)

    @contextmanager
    def place(self, files: int) -> Iterator[Place]:
        """A place over so many files, gone afterwards."""
        if files not in self.mirrors:
            self.mirrors[files] = self.folder / f"sas-{files}"
            night.write_night(self.mirrors[files], files, of=self.largest)
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            yield Place(Path(name), self.mirrors[files], files)


@contextmanager
def nights(folder: Path | None, files: int) -> Iterator[Nights]:
    """Mirrors in a temporary folder."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="astra-benchmark-") as name:
        yield Nights(Path(name), files)


def floor(*options: str) -> Callable[[Place], Steps]:
    """Read, compute and write in a plain loop."""
    return lambda place: {"run": _script("plain.py", place, *options)}


def luigi(*options: str) -> Callable[[Place], Steps]:
    """The tasks on Luigi."""
    return lambda place: {"run": _script("luigi_night.py", place, *options)}


def ours(
    *options: str, tasks: Sequence[str] = TASKS, init: Callable[[], Sequence[str]] | None = tuple
) -> Callable[[Place], Steps]:
    """Our own command line; `init` gives the options of the command that sets the storage up, None for none."""

    def steps(place: Place) -> Steps:
        set_up = {} if init is None else {"init": [*ASTRA, "init", *init()]}
        return {**set_up, "discover": [*ASTRA, "discover"], "run": [*ASTRA, "run", *tasks, *options]}

    return steps


def over_range(init: Callable[[], Sequence[str]] | None = tuple) -> Callable[[Place], Steps]:
    """The same assets by Dagster's own way: one run over a range of partitions."""

    def steps(place: Place) -> Steps:
        keys = [data_id.key for data_id in night.data_ids(place.files)]
        run = [sys.executable, str(HERE / "range_run.py"), keys[0], keys[-1], *TASKS]
        return {**ours(init=init)(place), "run": run}

    return steps


def databases(stack: ExitStack) -> Callable[[], list[str]] | str:
    """Options of ``astra-dagster init`` for an empty PostgreSQL database at each call; or why there is none."""
    try:
        import pytest

        from astra_dagster_tests.postgresql import server
    except ImportError as error:
        return f"not installed: {error.name}"
    try:
        new = stack.enter_context(server())
    except pytest.skip.Exception as reason:
        return str(reason)
    return lambda: ["--postgres", new()]


def installed(module: str) -> bool:
    """Whether a peer is there."""
    return importlib.util.find_spec(module) is not None


def _script(name: str, place: Place, *options: str) -> list[str]:
    where = ["--sas", str(place.sas), "--outputs", str(place.outputs), "--files", str(place.files)]
    return [sys.executable, str(HERE / name), *TASKS, *where, *options]
