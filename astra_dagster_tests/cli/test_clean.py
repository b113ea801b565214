"""The command `astra-dagster clean`, as a person uses it."""

import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from astra_dagster.cleanup.cleaning import KINDS, Found
from astra_dagster.cleanup.removal import Removal
from astra_dagster.cli import main
from astra_dagster.outputs.store import OutputStore
from astra_dagster.tasks.snr import ap_visit_snr

KEY = "DR17/apo25m/120+12/5226/56000/001"


def astra(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def use(folder: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAS_BASE_DIR", str(mirror))
    monkeypatch.setenv("DAGSTER_HOME", str(folder / "home"))
    monkeypatch.setenv("ASTRA_OUTPUTS", str(folder / "outputs"))


@pytest.fixture(scope="module")
def made(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs of the visits of DR19 with two sets of parameters, the second not the latest, and records; read only."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as monkeypatch:
        use(folder, synthetic, monkeypatch)
        assert astra("init").exit_code == 0
        assert astra("discover", "--product", "apVisit", "--release", "DR19").exit_code == 0
        for arguments in ((), ("--set", "fudge_factor=2"), ()):
            assert astra("run", "ap_visit_snr", *arguments).exit_code == 0
    return folder


@pytest.fixture
def outputs(made: Path, synthetic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of them that a test may clean."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    use(tmp_path, synthetic, monkeypatch)
    return tmp_path / "outputs"


def store(root: Path, **values: float) -> OutputStore:
    return OutputStore(root, ap_visit_snr, ap_visit_snr.values(values))


def test_listing_and_removing(outputs: Path) -> None:
    other = store(outputs, fudge_factor=2)
    assert "nothing to clean below" in astra("clean", "--kind", "code").output
    listed = astra("clean")
    assert listed.exit_code == 0
    (row,) = [line for line in listed.output.splitlines() if line.startswith("other-parameters")]
    assert row.split()[:5] == ["other-parameters", "ap_visit_snr", other.digest, "0", "7"]
    assert "stays: not in the latest records" in row
    assert "--yes" not in listed.output
    assert "0 removed, 0 B" in astra("clean", "--yes").output
    assert "0 removed, 0 B" in astra("clean", "--yes", "--kind", "other-parameters").output
    assert len(list(other.folder.rglob("*.json"))) == 7

    offered = astra("clean", "--digest", other.digest, "--list")
    assert "nothing was removed; add --yes to remove\n" in offered.output
    paths = [line.split("  ")[2] for line in offered.output.splitlines() if line.startswith("remove  ")]
    assert sorted(paths) == sorted(str(path) for path in other.folder.rglob("*.json"))
    done = astra("clean", "--other-parameters", "--yes")
    assert done.exit_code == 0
    assert "7 removed, " in done.output
    assert not other.folder.exists()
    assert astra("clean", "--yes").output == f"nothing to clean below {outputs}\n"
    assert astra("run", "ap_visit_snr").output == "ap_visit_snr: 6 partitions\n6 complete, 0 to do\n"


def test_older(outputs: Path) -> None:
    other = store(outputs, fudge_factor=2)
    assert "nothing to clean" in astra("clean", "--older", "1", "--yes").output
    old = next(other.folder.rglob("ap_visit_snr-*.json"))
    os.utime(old, (1, 1))
    assert "1 removed" in astra("clean", "--older", "1", "--yes").output
    assert not old.exists()
    assert len(list(other.folder.rglob("*.json"))) == 6


def test_what_cannot_be_removed_is_said_and_so_does_the_exit_code(
    outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "rename", refused)
    result = astra("clean", "--yes", "--other-parameters", "--task", "ap_visit_snr")
    assert result.exit_code == 1
    assert result.output.count("Permission denied") == 6
    assert result.output.endswith("Error: 6 could not be removed\n")


def test_what_changes_meanwhile_is_left(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from astra_dagster.orchestration import clean

    real = clean.carry_out

    def later(instance: object, root: Path, found: Found) -> Removal:
        os.utime(root / found.candidates[0].path, (1, 1))
        return real(instance, root, found)

    monkeypatch.setattr(clean, "carry_out", later)
    result = astra("clean", "--yes", "--other-parameters")
    assert result.exit_code == 0
    assert "5 removed" in result.output
    assert result.output.count("changed since it was listed") == 1


def test_names_that_cannot_be_printed(outputs: Path) -> None:
    name = b"ap_visit_snr-DR17-\xff\x1b[31m.json"
    folder = store(outputs).folder / "DR17"
    folder.mkdir()
    Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_text("{}")
    result = astra("clean", "--list")
    assert result.exit_code == 0
    assert "stray" in result.output
    assert "\x1b" not in result.output
    assert "\\udcff\\x1b[31m.json" in result.output


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--kind", "tmp"), 1, "no kind 'tmp'"),
        (("--task", "ap_visit_sn"), 1, "did you mean ap_visit_snr"),
        (("--digest", "5"), 1, "expected 12 hexadecimal digits"),
        (("--older", "-1"), 2, "--older"),
    ],
)
def test_what_makes_no_sense(arguments: tuple[str, ...], code: int, message: str, outputs: Path) -> None:
    result = astra("clean", *arguments)
    assert result.exit_code == code
    assert message in result.output


def test_the_help_explains_every_kind() -> None:
    text = astra("clean", "--help").output
    assert [kind for kind in KINDS if f"\n  {kind} " not in text] == []


def test_partitions_are_chosen_by_parts_of_their_keys(outputs: Path) -> None:
    other = store(outputs, fudge_factor=2)
    keys = [path.name for path in sorted(other.folder.rglob("*-3148-*.json"))]
    assert len(keys) == 3
    told = astra("clean", "--other-parameters", "--where", "plate=3148", "--where", "fibre=1..50", "--list")
    listed = [line.rpartition("/")[2] for line in told.output.splitlines() if line.startswith("remove  ")]
    assert listed == keys[:2], told.output
    some = ["clean", "--other-parameters", "--where", "plate=3148", "--where", "fibre=1..50", "--yes"]
    assert "2 removed" in astra(*some).output
    assert (other.folder / "parameters.json").exists()
    assert "nothing to clean" in astra("clean", "--release", "DR17").output
    assert "did you mean" in astra("clean", "--release", "DR18x").stderr
    assert "a range is of whole numbers" in astra("clean", "--where", "mjd=5..x").stderr
    assert "has no colour" in astra("clean", "--where", "colour=red").stderr
