"""Every command and every piece of Python of the documentation does what the page says."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from astra_dagster.demo import write_mirror
from astra_dagster_tests.archive.server import File, Server
from astra_dagster_tests.documented import DOCS, as_shown, check, mutated, pages, run, steps_of_page
from astra_dagster_tests.once import made_once

FROM_NOTHING = {"index.md", "tutorial.md", "how-to/mirror.md"}
"""Pages that set everything up themselves; the others begin with the demo, as how-to/index.md says."""

ITS_OWN = {"index.md", "ci.md"}
"""Pages that start their processes themselves: the first that people read, and a script for machines."""

DEMO = "export SAS_BASE_DIR=$PWD/demo/sas DAGSTER_HOME=$PWD/demo/dagster ASTRA_OUTPUTS=$PWD/demo/outputs\n"

# A job of Slurm's is started at once, on this machine, with one process.
SLURM = {
    "sbatch": """#!/bin/bash
[ "$1" = --test-only ] && exit
script=$(sed 's/--nworkers 32/--nworkers 1/' "$1")
bash -c "$script" > /dev/null 2>&1 < /dev/null &
echo "Submitted batch job $!"
""",
    "scancel": "#!/bin/sh\nkill $1\n",
}

PAGES = [page for page in pages() if steps_of_page(page) and page.name != "tutorial.md"]


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory, programs: Path) -> Path:
    """What `astra-dagster demo demo` makes; read only."""

    def make(folder: Path) -> None:
        command = [str(programs / "astra-dagster"), "demo", str(folder / "demo")]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "HOME": str(folder)})

    return made_once(tmp_path_factory, "demo", make) / "demo"


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[str]:
    """Address of a server with the files of the demo."""
    write_mirror(tmp_path / "served")
    with Server() as server:
        for path in (tmp_path / "served").rglob("*.fits"):
            server.files[f"/sas/{path.relative_to(tmp_path / 'served')}"] = File(path.read_bytes())
        yield server.url


@pytest.fixture
def stand_ins(page: Path, request: pytest.FixtureRequest) -> dict[str, str]:
    """What is used in place of servers and networks that there are not."""
    if page.name == "fetch.md":
        return {"https://sas.example.org/sas": request.getfixturevalue("archive")}
    if page.name == "deploy.md":
        database: Callable[[], str] = request.getfixturevalue("postgresql")
        return {"postgresql://astra@db.example.org/astra": database().replace("+psycopg2", "")}
    if page.name == "workers.md":
        return {'"ib0"': '"lo"'}
    return {}


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_every_command_does_what_the_page_says(
    page: Path, demo: Path, stand_ins: dict[str, str], programs: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    start = 'export PATH="$HOME/bin:$PATH"\n'
    if str(page.relative_to(DOCS)) not in FROM_NOTHING:
        shutil.copytree(demo, home / "demo")
        start += DEMO
    (home / ".config/dask").mkdir(parents=True)  # as others have made it
    for name, script in SLURM.items():
        (home / "bin").mkdir(parents=True, exist_ok=True)
        (home / "bin" / name).write_text(script)
        (home / "bin" / name).chmod(0o755)
    steps = steps_of_page(page)
    own = Path(sys.executable).parent if page.name in ITS_OWN else programs
    results = run(steps, home, own, start, stand_ins)
    check(steps, results)
    for step, (_, real) in zip(steps, results, strict=True):
        if step.shown is not None:
            for wrong in mutated(step.shown.text):
                assert not as_shown(wrong, real), f"line {step.shown.line}: {wrong}"
