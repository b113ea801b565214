"""The benchmarks run, over a few files: every contender does its work, and all make the same."""

import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

pytestmark = pytest.mark.slow

Run = Callable[..., dict[str, list[str]]]

luigi = pytest.mark.skipif(find_spec("luigi") is None, reason="Luigi is not installed: pip install luigi")
dask = pytest.mark.skipif(
    find_spec("distributed") is None, reason="Dask is not installed: pip install 'astra-dagster[dask]'"
)


@pytest.fixture
def run(programs: Path, tmp_path: Path) -> Run:
    """Run a benchmark, and give the rows of its table; nothing may be left behind."""

    def command(name: str, *options: str) -> dict[str, list[str]]:
        done = subprocess.run(
            [programs / "python", str(BENCHMARKS / name), "--folder", str(tmp_path), *options],
            capture_output=True,
            text=True,
            timeout=500,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert not list(tmp_path.iterdir())
        assert done.stdout.count("load average") == 2
        rows = (line.split("  ") for line in done.stdout.splitlines() if "  " in line)
        return {name: [cell.strip() for cell in cells if cell.strip()] for name, *cells in rows}

    return command


def python(code: str) -> str:
    """Run a script beside the modules of the benchmarks."""
    script = f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r})\n{code}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


@luigi
def test_all_contenders_make_the_same_outputs(run: Run) -> None:
    slow = "stock, a range"
    chosen = ["floor", "ours", slow, "Luigi, 1 worker", "Luigi, 2 workers, batch, not flushed"]
    only = [f"--only={name}" for name in chosen]
    rows = run("throughput.py", "--files", "6", "--stock-files", "4", *only)
    contest = {name: cells for name, cells in rows.items() if name in chosen}
    assert {name: (cells[0], cells[-1]) for name, cells in contest.items()} == {
        name: ("4" if name == slow else "6", "same") for name in chosen
    }
    assert rows["ours: discover"][0] == "6"


@dask
def test_the_cluster_makes_the_same_outputs_as_the_pool(run: Run) -> None:
    rows = run("cluster.py", "--files", "6", "--only", "processes:2", "--only", "dask:2")
    assert [rows[name][-1] for name in ("processes:2", "dask:2")] == ["same", "same"]


@luigi
def test_nobody_does_again_what_is_done(run: Run) -> None:
    rows = run("again.py", "--files", "6", "--repeat", "1")  # fails by itself if an output is written again
    contest = ["ours", "Luigi, each task", "Luigi, a wrapper", "Luigi, batch"]
    assert [rows[name][0] for name in contest] == ["6"] * 4
    assert {"astra-dagster --version", "import dagster", "import luigi"} <= set(rows)


def test_a_night_has_a_page(run: Run) -> None:
    rows = run("nights.py", "--files", "4", "--night", "3", "--repeat", "1")
    assert all(float(seconds) > 0 for name in ("start", "page", "json") for seconds in rows[name][:2])


def test_growth_has_a_row_for_each_number_of_files(run: Run) -> None:
    rows = run("growth.py", "--files", "2", "--starts", "1", "--only", "records only, SQLite", "--only", "all*")
    assert [rows[name][0] for name in ("records only, SQLite", "all of it, SQLite")] == ["2", "2"]
    assert all(float(rows[name][-1]) > 0 for name in ("records only, SQLite", "all of it, SQLite"))


def test_every_command_is_measured_over_an_archive(run: Run) -> None:
    rows = run("archive.py", "--files", "2")
    names = ("discover", "discover again", "plan", "plan of one plate", "run")
    assert all(rows[name][0] == "2" and float(rows[name][1]) > 0 for name in names)


def test_every_query_of_the_web_pages_is_answered(run: Run) -> None:
    rows = run("ui.py", "--files", "3")  # fails by itself if an answer holds an error, or no partition
    asked = {name: cells for name, cells in rows.items() if name.endswith("Query")}
    assert len(asked) == 15
    assert all(float(cell) > 0 for cells in asked.values() for cell in cells)


def test_damaged_files_change_no_number_without_a_word(run: Run) -> None:
    rows = run("damage.py", "--flips", "1300", "--mutations", "140", "--runs", "16")
    for kind, least in (("flips", 1200), ("mutations", 120), ("runs", 13)):
        trials, refused, unharmed, wrong = map(int, rows[kind])
        assert trials == refused + unharmed >= least
        assert refused > 0
        assert wrong == 0


def test_the_bits_of_the_mask_are_measured() -> None:
    command = [sys.executable, str(BENCHMARKS / "masks.py"), "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = dict(re.split(r"  +", line, maxsplit=1) for line in done.stdout.splitlines() if "  " in line)
    assert float(rows["nothing"].split()[0]) == pytest.approx(1, abs=1e-3)  # the header's S/N is that of all pixels
    assert {"no flag", "PERSIST_HIGH", "as the survey", "and SIG_SKYLINE", "with the mask"} <= set(rows)


def test_outputs_that_differ_are_told(tmp_path: Path) -> None:
    made = python(f"""
from pathlib import Path
from contenders import Contender, nights
from contest import contest, rows

def writes(text):
    code = "import os, pathlib; p = pathlib.Path(os.environ['ASTRA_OUTPUTS'], 'ap_visit_snr'); p.mkdir(parents=True)"
    more = f"; (p / 'a').write_text({{text!r}})"
    return lambda place: {{"run": [sys.executable, "-c", code + more]}}

idle = lambda place: {{"run": [sys.executable, "-c", ""]}}
chosen = [Contender("a", writes("1")), Contender("b", writes("1")), Contender("c", writes("2")), Contender("d", idle)]
with nights(Path({str(tmp_path)!r}), 2) as mirrors:
    results, same = contest(mirrors, chosen, 2, 2)
print(same, [row[-1] for row in rows(results, same, "a")])
""")
    same = "{'a': True, 'b': True, 'c': False, 'd': False}"
    assert made.splitlines()[-1] == f"{same} ['outputs', 'same', 'same', 'DIFFER', 'DIFFER']"


def test_a_command_that_fails_is_not_measured() -> None:
    made = python("""
from measure import measured
try:
    measured([sys.executable, "-c", "raise SystemExit('no such luck')"], {})
except SystemExit as error:
    print(error)
""")
    assert made.startswith("failed with 1: ")
    assert made.endswith("no such luck\n")


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are found on Linux alone")
def test_processes_that_outlive_a_command_are_measured_too() -> None:
    made = python("""
from measure import measured
busy = "import time; b = bytearray(200 * 2**20); [None for _ in iter(lambda: time.process_time() < 0.5, False)]"
parent = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {busy!r}])"
taken = measured([sys.executable, "-c", parent], {})
print(taken.cpu >= 0.5, taken.largest > 200)
""")
    assert made == "True True\n"


def test_runs_whose_processes_are_killed_lose_nothing(run: Run) -> None:
    rows = run("kills.py", "--trials", "1", "--files", "6", "--only", "run, in-process")
    assert rows["all"] == ["1", "1", "0"] or rows["all"] == ["1", "0", "0"]  # it may have been over before
