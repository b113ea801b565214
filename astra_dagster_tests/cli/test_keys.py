"""Partitions that are named at the prompt: by key, in a list, by parts; and keys that are forgotten."""

from pathlib import Path

import pytest
from astropy.table import Table
from click.testing import CliRunner, Result

from astra_dagster.cli import main
from astra_dagster.datamodel.products import product
from astra_dagster.orchestration.partitions import register
from astra_dagster.orchestration.runs.instance import open_instance

FOLDER = "DR17/apo25m/120+12/5226/56000"
ONE, TWO = f"{FOLDER}/001", f"{FOLDER}/002"


def astra(*arguments: str, given: str | None = None) -> Result:
    return CliRunner().invoke(main, arguments, input=given)


@pytest.fixture(autouse=True)
def places(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings of a person whose visits and stars are registered."""
    monkeypatch.setenv("SAS_BASE_DIR", str(mirror))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    with open_instance() as instance:
        for name in ("apVisit", "apStar"):
            item = product(name)
            paths = mirror.rglob(f"a[ps]{name[2:]}-*.fits")
            keys = [item.parse_path(path, path.relative_to(mirror).parts[0].upper(), mirror).key for path in paths]
            register(instance, item, sorted(keys))
    return tmp_path


def test_keys_as_arguments() -> None:
    done = astra("run", "ap_visit_snr", ONE, TWO)
    assert done.output.splitlines()[0] == "ap_visit_snr: 2 partitions"
    assert "2 computed" in done.output
    assert astra("plan", "ap_visit_snr", "ap_visit_continuum", ONE).output.count(": 1 partitions") == 2
    assert astra("plan", "ap_visit_snr").output.startswith("ap_visit_snr: 18 partitions\n2 complete, 16 to do")


def test_lists(places: Path) -> None:
    listed = places / "list.txt"
    listed.write_text(f"# mine\n{ONE}\n\n5226-56000-2\n{ONE}\n")
    assert "ap_visit_snr: 2 partitions" in astra("plan", "ap_visit_snr", "--keys", str(listed)).output
    assert "ap_visit_snr: 1 partitions" in astra("plan", "ap_visit_snr", "--keys", "-", given=ONE).output
    Table({"PLATE": [5226, 5226], "MJD": [56000, 56000], "FIBERID": [1, 3]}).write(places / "t.fits")
    assert "ap_visit_snr: 2 partitions" in astra("plan", "ap_visit_snr", "--keys", str(places / "t.fits")).output
    Table({"apogee_id": ["2M00000032+5737103"]}).write(places / "stars.csv")
    assert "ap_star_snr: 1 partitions" in astra("plan", "ap_star_snr", "--keys", str(places / "stars.csv")).output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "ap_visit_snr", f"{FOLDER}/099"), f"no ap_visit partition is registered as {FOLDER}/099"),
        (("run", "ap_visit_snr", "--keys", "-"), "names of stars are no part of these keys"),
        (("plan", "ap_visit_snr", "--explain", f"{FOLDER}/099"), "did you mean DR17/apo25m/120+12/5226/56000/00"),
        (("run", "ap_visit_snr", ONE, "--release", "DR17"), "give keys, or --release and --where, not both"),
        (("run", ONE), "name a task before its keys"),
        (("run", "ap_visit_snr", "--workers", "process:2"), "workers cannot be 'process:2'"),
        (("forget", "ap_visit", f"{FOLDER}/099"), "no ap_visit partition is registered as"),
    ],
)
def test_what_cannot_be_understood(arguments: tuple[str, ...], message: str, places: Path) -> None:
    done = astra(*arguments, given="2M00000032+5737103")
    assert done.exit_code == 2
    assert message in done.output
    assert not (places / "astra-outputs" / "ap_visit_snr").exists()


def test_lists_that_cannot_be_read(places: Path) -> None:
    Table({"colour": [1]}).write(places / "t.csv")
    (places / "empty.txt").write_text("\n# nothing\n")
    (places / "broken.fits").write_text("SIMPLE nonsense")
    wrong = {"t.csv": "none of the columns", "empty.txt": "no entry", "no": "no such"}
    wrong["broken.fits"] = "no table can be read"
    for name, message in wrong.items():
        done = astra("run", "ap_visit_snr", "--keys", str(places / name))
        assert done.exit_code == 1
        assert message in done.output


def test_listing() -> None:
    assert astra("list", "ap_visit", "--where", "fibre=1..2", "--release", "dr17").output == f"{ONE}\n{TWO}\n"
    assert astra("list", "apVisit", "--where", "plate=5226", "--where", "fiber=00?", "--json").output.count(FOLDER) == 8
    none = astra("list", "spec")
    assert none.exit_code == 1
    assert "run astra-dagster discover --product spec" in none.output


def test_forgetting(places: Path) -> None:
    with open_instance() as instance:
        register(instance, product("apVisit"), ["nonsense", f"{FOLDER}/099"])
    assert astra("forget", "ap_visit", "nonsense", f"{FOLDER}/099").output == "2 forgotten\n"
    assert "ap_visit_snr: 18 partitions" in astra("plan", "ap_visit_snr").output
    assert astra("run", "ap_visit_snr", ONE).exit_code == 0
    kept = astra("forget", "ap_visit", ONE)
    assert kept.exit_code == 1
    assert "with --yes it is forgotten all the same" in kept.output
    assert ONE in astra("list", "ap_visit").output
    assert astra("forget", "ap_visit", ONE, "--yes").exit_code == 0
    assert ONE not in astra("list", "ap_visit").output
