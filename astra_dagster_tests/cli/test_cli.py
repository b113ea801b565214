"""The command lines, ours and Dagster's, as a person uses them."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from astra_dagster.cli import main

KEY = "DR17/apo25m/120+12/5226/56000/001"

Materialise = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def places(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings of a person who has a mirror; DAGSTER_HOME does not exist yet."""
    monkeypatch.setenv("SAS_BASE_DIR", str(mirror))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "new" / "home"))
    return tmp_path


def astra(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def materialise(programs: Path) -> Materialise:
    """`dagster asset materialize` of the S/N, with more options."""

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        command = ["asset", "materialize", "-m", "astra_dagster.definitions", "--select", "ap_visit_snr", *options]
        environment = os.environ | {"NO_COLOR": "1"}
        return subprocess.run(
            [programs / "dagster", *command], capture_output=True, text=True, check=False, env=environment
        )

    return run


def test_discover_run_and_run_again(places: Path) -> None:
    dry = astra("discover", "--release", "DR17", "--product", "apVisit", "--dry-run")
    assert dry.output == "apVisit in DR17: 12 files, 12 new, 0 changed, 0 skipped\n"
    assert astra("discover").exit_code == 0
    assert "apVisit in DR17: 12 files, 0 new, 0 changed" in astra("discover").output

    planned = astra("run", "ap_visit_snr", "--dry-run")
    assert planned.output == "ap_visit_snr: 18 partitions\n0 complete, 18 to do\n  18 no record\n"
    assert not (places / "new" / "astra-outputs").exists()
    some = astra("run", "ap_visit_snr", "--release", "DR17", "--where", "fibre=3")
    assert "1 computed" in some.output
    assert "17 computed" in astra("run", "ap_visit_snr").output
    assert astra("run", "ap_visit_snr").output == "ap_visit_snr: 18 partitions\n18 complete, 0 to do\n"
    twice = astra("run", "ap_visit_snr", "--set", "fudge_factor=2", "--release", "DR19")
    assert "6 parameters changed: fudge_factor 1.0 -> 2.0" in twice.output
    back = astra("run", "ap_visit_snr")
    assert "12 complete, 0 to do\n6 outputs are there already" in back.output
    assert "0 computed" in back.output
    assert (
        "2 computed"
        in astra(
            "run", "ap_visit_snr", "--overwrite", "--where", "plate=3148", "--where", "fibre=5", "--where", "fibre=33"
        ).output
    )
    folders = {path.parent.name for path in (places / "new" / "astra-outputs").rglob("parameters.json")}
    assert len(folders) == 2


def test_a_broken_file_is_reported_and_the_exit_code_says_so(places: Path) -> None:
    path = next(Path(os.environ["SAS_BASE_DIR"]).rglob("apVisit-dr17-5226-56000-002.fits"))
    path.write_bytes(b"SIMPLE")
    assert astra("discover").exit_code == 0
    result = astra("run", "ap_visit_snr")
    assert result.exit_code == 1
    assert "1 of 18 partitions failed" in result.output
    assert KEY.replace("001", "002") in result.output
    assert str(path) in result.output
    assert "17 complete, 1 to do" in astra("run", "ap_visit_snr", "--dry-run").output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "ap_visit_snr"), "run astra-dagster discover --product apVisit"),
        (("run", "ap_visit_sn"), "did you mean ap_visit_snr"),
        (("run", "ap_visit_snr", "--set", "fudge=2"), "did you mean fudge_factor?"),
        (("run", "ap_visit_snr", "--set", "fudge_factor=big"), "fudge_factor cannot be 'big'"),
        (("discover", "--product", "apVisits"), "did you mean apVisit"),
        (("discover", "--release", "DR71"), "did you mean DR7"),
        (("discover", "--product", "apVisit", "--release", "DR9"), "DR9 has no product 'apVisit'"),
        (("discover", "--where", "colour=red"), "has no colour"),
        (("discover", "--product", "specFull"), "no files found for this selection"),
    ],
)
def test_what_cannot_be_done_is_one_line(arguments: tuple[str, ...], message: str, places: Path) -> None:
    result = astra(*arguments)
    assert result.exit_code == 1
    assert message in result.output
    assert result.output.count("\n") == 1


@pytest.mark.parametrize("name", ["SAS_BASE_DIR", "DAGSTER_HOME"])
@pytest.mark.parametrize("command", [("discover",), ("run", "ap_visit_snr")])
@pytest.mark.parametrize("value", [None, "", "nowhere"])
def test_missing_settings_are_one_line(
    name: str, command: tuple[str, ...], value: str | None, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    result = astra(*command)
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {name} is not")
    assert result.output.count("\n") == 1


def test_outputs_that_cannot_be_written(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    astra("discover")
    (places / "file").write_text("")
    monkeypatch.setenv("ASTRA_OUTPUTS", str(places / "file" / "below"))
    result = astra("run", "ap_visit_snr")
    assert result.exit_code == 1
    assert result.output.startswith("Error: the outputs cannot be written")
    assert result.output.count("\n") == 1


def test_wrong_usage(places: Path) -> None:
    assert astra("run", "ap_visit_snr", "--where", "mjd").exit_code == 2
    assert astra("run", "ap_visit_snr", "--set", "x").exit_code == 2


def test_dagster_materialises_a_partition_and_a_range(places: Path, materialise: Materialise) -> None:
    astra("discover", "--release", "DR17")
    one = materialise("--partition", KEY)
    assert one.returncode == 0, one.stderr
    assert "1 no record" in one.stderr
    again = materialise("--partition", KEY)
    assert "1 complete, 0 to do" in again.stderr
    many = materialise("--partition-range", f"{KEY}...{KEY.replace('001', '008')}")
    assert many.returncode == 0, many.stderr
    assert "1 complete, 7 to do" in many.stderr
    twice = materialise(
        "--partition", KEY, "--config-json", '{"ops": {"ap_visit_snr": {"config": {"fudge_factor": 2}}}}'
    )
    assert twice.returncode == 0, twice.stderr
    assert len(list((places / "new" / "astra-outputs").rglob("ap_visit_snr-*.json"))) == 9


@pytest.mark.parametrize(
    ("variable", "key", "message"),
    [
        (None, KEY, "run astra-dagster discover --release DR17 --product apVisit"),
        (None, "DR17/apo25m", "has 2 parts, a key of apVisit has 6"),
        ("SAS_BASE_DIR", KEY, "SAS_BASE_DIR is not set"),
        ("DAGSTER_HOME", KEY, "neither ASTRA_OUTPUTS nor DAGSTER_HOME is set"),
    ],
)
def test_dagster_says_in_one_line_why_it_cannot(
    variable: str | None,
    key: str,
    message: str,
    places: Path,
    materialise: Materialise,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (places / "new" / "home").mkdir(parents=True)
    if variable:
        monkeypatch.delenv(variable)
    result = materialise("--partition", key)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert message in line


def test_the_demo_is_deterministic(programs: Path, tmp_path: Path) -> None:
    trees = []
    for name in ("one", "two"):
        command = [str(programs / "astra-dagster"), "demo", str(tmp_path / name)]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "18 computed" in result.stdout
        assert "dagster dev -m astra_dagster.definitions" in result.stdout
        assert "DR17/apo25m/120+12/5226/56000/001" in result.stdout
        root = tmp_path / name
        assert f"wrote {root / 'spectrum.html'}" in result.stdout
        assert "apVisit DR17/apo25m/120+12/5226/56000/001" in (root / "spectrum.html").read_text()
        files = [p for part in ("sas", "outputs") for p in (root / part).rglob("*") if p.is_file()]
        trees.append({path.relative_to(root): path.read_bytes() for path in files})
    assert trees[0] == trees[1]
    assert len(trees[0]) == 29 + 18 + 1


def test_dagster_loads_the_workspace(programs: Path) -> None:
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [programs / "dagster", "definitions", "validate", "-w", "workspace.yaml"],
        capture_output=True,
        text=True,
        check=False,
        cwd=root,
    )
    assert result.returncode == 0, result.stderr
