"""What a person reads when something that everything needs fails: one line that says what, where and what to do."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from astra_dagster.cli import main
from astra_dagster.cli.init import DAGSTER_YAML, FROM_ENVIRONMENT, POSTGRES, dagster_yaml
from astra_dagster_tests import postgresql
from astra_dagster_tests.disks import small_disk

ASTRA = [sys.executable, "-m", "astra_dagster"]
PLAN = ("plan", "ap_visit_snr")
KEY = "DR17/apo25m/120+12/5226/56000/001"

Run = Callable[..., subprocess.CompletedProcess[str]]

NOBODY = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
"""How root starts what may do no more than others."""


@pytest.fixture(scope="module")
def discovered(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DAGSTER_HOME with some files registered."""
    home = tmp_path_factory.mktemp("discovered") / "home"
    for command in (["init"], ["discover", "--product", "apVisit", "--release", "DR17"]):
        environment = os.environ | {"DAGSTER_HOME": str(home), "SAS_BASE_DIR": str(synthetic)}
        assert CliRunner().invoke(main, command, env=environment).exit_code == 0
    return home


@pytest.fixture
def home(discovered: Path, synthetic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it that a test may damage; logs that do not fit in there go to this test's folder."""
    monkeypatch.setenv("SAS_BASE_DIR", str(synthetic))
    monkeypatch.setenv("ASTRA_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    return Path(shutil.copytree(discovered, tmp_path / "home"))


@pytest.fixture
def run(programs: Path) -> Run:
    """Run a command in a process of its own."""

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([programs / "astra-dagster", *arguments], capture_output=True, text=True, check=False)

    return command


def called(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What `run` gives, without a process: that takes a tenth of the time."""
    result = CliRunner().invoke(main, arguments)
    return subprocess.CompletedProcess(arguments, result.exit_code, result.stdout, result.stderr)


def check_line(result: subprocess.CompletedProcess[str], *parts: str, logged: bool = True) -> Path | None:
    """Check that a command ended with one line that has these parts; where the log is that it names."""
    assert result.returncode == 1, result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1, result.stderr
    for part in parts:
        assert part in result.stderr
    if not logged:
        return None
    log = Path(result.stderr.strip().rpartition("log: ")[2].rstrip(")"))
    assert "Traceback" in log.read_text()
    return log


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (f"{DAGSTER_YAML}  bad: [\n", ["expected the node content, but found '<stream end>' in line"]),
        ("storage: \0\n", ["unacceptable character"]),
        ("- a list\n", ["to parse to dictionary"]),
        (f"{DAGSTER_YAML}storge: {{}}\n", ['unexpected config entry "storge"']),
        (DAGSTER_YAML.replace("max_concurrent_runs: 2", "max_concurrent_runs: two"), ["max_concurrent_runs", "two"]),
        (DAGSTER_YAML.replace("storage.sqlite", "nowhere"), ["Couldn't import module", "orchestration.nowhere"]),
        (DAGSTER_YAML.replace("BatchedSqliteStorage", "NoStorage"), ["Couldn't find class NoStorage"]),
        (DAGSTER_YAML.replace("env: DAGSTER_HOME", "env: NOWHERE"), ["NOWHERE, which is not set", "set NOWHERE"]),
        (
            dagster_yaml(POSTGRES.format(url=FROM_ENVIRONMENT)),
            ["it takes a value from ASTRA_POSTGRES_URL, which is not set", "set ASTRA_POSTGRES_URL wherever"],
        ),
    ],
)
def test_a_dagster_yaml_that_cannot_be_used(text: str, parts: list[str], home: Path) -> None:
    (home / "dagster.yaml").write_text(text)
    log = check_line(called(*PLAN), "dagster.yaml cannot be used: ", str(home / "dagster.yaml"), *parts)
    assert log == home / "logs" / "astra-dagster.log"


def test_every_command_that_needs_records_says_so(home: Path, run: Run) -> None:
    (home / "dagster.yaml").write_text("storge: {}\n")
    check_line(run(*PLAN), 'unexpected config entry "storge" at the root')
    table = ("register", "none.csv", "--product", "apVisit")
    fetch = ("fetch", "--product", "apVisit", "--release", "DR17")
    for command in (("discover",), table, PLAN, ("run", "ap_visit_snr"), ("table", "ap_visit_snr"), ("clean",), fetch):
        check_line(called(*command), "dagster.yaml cannot be used: ")


def test_a_dagster_yaml_that_is_no_file(home: Path) -> None:
    (home / "dagster.yaml").unlink()
    (home / "dagster.yaml").mkdir()
    check_line(called(*PLAN), "dagster.yaml cannot be used: Is a directory", str(home / "dagster.yaml"))


def test_a_home_that_is_a_file(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "file"))
    check_line(called(*PLAN), "DAGSTER_HOME cannot be written: File exists", str(tmp_path / "file"), logged=False)


def test_a_damaged_database_and_the_way_out(home: Path, run: Run) -> None:
    assert called("run", "ap_visit_snr").returncode == 0
    index = home / "history" / "runs" / "index.db"
    with index.open("r+b") as stream:
        stream.write(os.urandom(3000))
    check_line(run(*PLAN), "file is not a database", str(index), "move the file away and run astra-dagster discover")
    index.unlink()
    assert called("discover").returncode == 0
    assert "12 outputs are there already" in called(*PLAN).stdout  # as the line has promised


def test_a_database_that_another_process_holds(home: Path, run: Run) -> None:
    path = home / "history" / "runs.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as holding:
        holding.execute("PRAGMA locking_mode=EXCLUSIVE")
        holding.execute("BEGIN EXCLUSIVE")
        check_line(run("run", "ap_visit_snr"), "database is locked", str(path), "another process holds it")


def test_a_home_that_is_read_only(home: Path, tmp_path: Path) -> None:
    for path in (home, *home.rglob("*")):
        path.chmod(path.stat().st_mode & 0o555)
    result = subprocess.run([*NOBODY, *ASTRA, *PLAN], capture_output=True, text=True, check=False)
    log = check_line(result, "readonly database", str(home / "history" / "runs.db"), "writable")
    assert log is not None
    assert log.parent == tmp_path


def test_a_home_on_a_full_disk(home: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk(tmp_path / "disk") as disk:
        monkeypatch.setenv("DAGSTER_HOME", str(shutil.copytree(home, disk.folder / "home")))
        disk.fill()
        check_line(run(*PLAN), "the disk is full", f"{disk.folder}/home/history/runs.db", "make room")
        monkeypatch.setenv("DAGSTER_HOME", str(disk.folder / "other"))
        said = f"the disk at {disk.folder} takes no more: No space left on device (0.0 MB free)"
        for command in (("init",), ("new", str(disk.folder / "my_tasks")), ("demo", str(disk.folder / "demo"))):
            check_line(called(*command), said, logged=False)
        for name in ("a.html", "a.png"):
            result = called("show", KEY, "--product", "apVisit", "--output", str(disk.folder / name))
            check_line(result, said, str(disk.folder / name), logged=False)
        assert not [path for path in disk.folder.iterdir() if path.suffix or path.name == "my_tasks"]


def test_a_home_that_fills_up_during_a_run(
    home: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_mishap(tmp_path, monkeypatch)
    with small_disk(tmp_path / "disk") as disk:
        monkeypatch.setenv("DAGSTER_HOME", str(shutil.copytree(home, disk.folder / "home")))
        script = f"[ -e {tmp_path}/again ] || cat /dev/zero > {disk.folder}/filler 2> {tmp_path}/again"
        command = ("run", "mishap", "--set", f"script={script}")
        check_line(run(*command), "Dagster's records cannot be used: ", "disk is full", str(disk.folder), "make room")
        assert not list((tmp_path / "outputs").rglob("*.tmp"))
        done = len(list((tmp_path / "outputs").rglob("mishap-*.json")))
        assert 0 < done <= 12
        disk.empty()
        again = called(*command)
        assert again.returncode == 0, again.stderr
        assert f"{done} outputs are there already" in again.stdout
        assert f"{12 - done} computed" in again.stdout


@pytest.mark.parametrize("workers", ["in-process", "processes:2"])
def test_outputs_on_a_disk_that_fills_up(
    workers: str, home: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        monkeypatch.setenv("ASTRA_OUTPUTS", str(disk.folder / "outputs"))
        disk.fill(leave=6 * 4096)
        result = run("run", "ap_visit_snr", "--workers", workers)
        done = len(list(disk.folder.rglob("ap_visit_snr-*.json")))
        assert 0 < done < 12
        said = f"takes no more: No space left on device (0.0 MB free); of 12, {done} are done, and {12 - done} are left"
        check_line(result, f"the disk at {disk.folder} {said}", "make room, or set ASTRA_OUTPUTS", logged=False)
        assert not [*disk.folder.rglob("*.failed"), *disk.folder.rglob("*.tmp")]
        assert f"{done} complete, {12 - done} to do\n  {12 - done} no record" in called(*PLAN).stdout
        disk.empty()
        assert f"{12 - done} computed" in called("run", "ap_visit_snr").stdout


def test_a_database_server_that_goes_away_during_a_run(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    use_mishap(tmp_path, monkeypatch)
    monkeypatch.setattr("dagster_postgres.utils.calculate_delay", lambda **_: 0.0)  # it would take a minute
    with postgresql.server() as database:
        url = database()
        folder = Path(str(sa.make_url(url).query["host"]))
        monkeypatch.setenv("ASTRA_POSTGRES_URL", url.replace("astra@", "astra:sesame@"))
        (home / "dagster.yaml").write_text(dagster_yaml(POSTGRES.format(url=FROM_ENVIRONMENT)))
        assert CliRunner().invoke(main, ["discover", "--product", "apVisit"]).exit_code == 0
        pid = (folder / "data" / "postmaster.pid").read_text().split()[0]
        script = f"kill -QUIT {pid}; while [ -e {folder}/.s.PGSQL.5432 ]; do sleep 0.05; done"
        for command in (["run", "mishap", "--set", f"script={script}"], ["plan", "mishap"]):
            result = CliRunner().invoke(main, command)
            assert result.exit_code == 1
            assert result.stderr.startswith("Error: the database postgresql+psycopg2://astra:***@/test1 cannot be ")
            assert result.stderr.count("\n") == 1
            assert "No such file or directory" in result.stderr
    assert "Retrying" not in caplog.text  # six times for each attempt, on stderr
    assert "sesame" not in (home / "logs" / "astra-dagster.log").read_text()
    assert list((tmp_path / "outputs").rglob("mishap-*.json"))


def use_mishap(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "astra.toml").write_text('packages = ["astra_dagster_tests.execution.mishap"]\nworkers = "in-process"\n')
    monkeypatch.setenv("ASTRA_CONFIG", str(folder / "astra.toml"))


def test_a_mistake_of_ours_is_one_line_too(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mistake(*_: object, **__: object) -> None:
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr("astra_dagster.planning.planner.Planner.plan", mistake)
    result = CliRunner().invoke(main, PLAN)
    assert result.exit_code == 1
    log = home / "logs" / "astra-dagster.log"
    assert result.output == (
        "Error: ZeroDivisionError: division by zero; this is a mistake in astra-dagster: "
        f"please report it with the log {log}\n"
    )
    assert "in mistake" in log.read_text()


def test_a_mistake_inside_a_run_names_its_cause(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mistake(*_: object, **__: object) -> None:
        try:
            raise ZeroDivisionError("division by zero")
        except ZeroDivisionError as error:
            raise RuntimeError("cannot go on") from error

    monkeypatch.setattr("astra_dagster.orchestration.runs.materialise.runner.run", mistake)
    result = CliRunner().invoke(main, ["run", "ap_visit_snr"])
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: the run failed: ZeroDivisionError: division by zero (log: {home}/logs/astra-dagster.log)\n"
    )


@pytest.mark.parametrize("command", [("--help",), PLAN])
def test_results_that_cannot_be_written(command: tuple[str, ...], home: Path) -> None:
    for unbuffered in ("", "1") if command == ("--help",) else ("1",):  # it fails as it is flushed, or written
        environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
        with Path("/dev/full").open("w") as full:
            result = subprocess.run(
                [*ASTRA, *command], stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False
            )
        assert result.returncode == 1
        assert result.stderr == "Error: the results cannot be written: No space left on device\n"


def test_a_pipe_that_nobody_reads(home: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    result = subprocess.run([*ASTRA, *PLAN], stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (result.returncode, result.stderr) == (141, "")


def test_ctrl_c_is_quiet(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("astra_dagster.planning.planner.Planner.plan", stop)
    result = CliRunner().invoke(main, PLAN)
    assert (result.exit_code, result.output) == (130, "")


@pytest.mark.parametrize("written", ["~/home", " {home}", "{home}\r", "{home}/"])
def test_one_home_however_it_is_written(
    written: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DAGSTER_HOME", written.format(home=home))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    result = called(*PLAN)
    assert (result.returncode, result.stdout.splitlines()[:1]) == (0, ["ap_visit_snr: 12 partitions"]), result.stderr
    assert list(Path().iterdir()) == []


def test_dagster_itself_takes_the_same_home(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DAGSTER_HOME", "~/home")
    monkeypatch.chdir(tmp_path)
    program = "import dagster as dg; print(len(dg.DagsterInstance.get().get_dynamic_partitions('ap_visit')))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "12\n"
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize("name", ["SAS_BASE_DIR", "DAGSTER_HOME", "ASTRA_OUTPUTS", "ASTRA_CONFIG"])
def test_a_home_folder_of_nobody(name: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "~nobody-of-this-name/x")
    result = CliRunner().invoke(main, PLAN)
    assert result.exit_code == 1
    assert result.output == f"Error: {name} is in the home folder of nobody here (file ~nobody-of-this-name/x)\n"
