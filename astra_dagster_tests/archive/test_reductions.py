"""Other reductions are told where nothing of a release is found, and nowhere else."""

import os
from pathlib import Path

import pytest

from astra_dagster import ap_star, ap_visit, product, read_spectra
from astra_dagster.archive.reductions import describe_reductions, find_reductions
from astra_dagster.errors import InputMissingError
from astra_dagster_tests.archive.watcher import Watcher, put

TEXT = "its folders have files of apred r12 and apred r13, DR17 has apred dr17"
HINT = 'to use them, define a release of your own in astra.toml: [releases.MINE] tree = "DR17", apred = "r13"'
VISIT = "visit/apo25m/120+12/5226/56000/apVisit-{0}-5226-56000-001.fits"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror of two reductions that are none of DR17."""
    top = tmp_path / "reductions"
    for apred in ("r12", "r13"):
        path = top / "dr17/apogee/spectro/redux" / apred / VISIT.format(apred)
        path.parent.mkdir(parents=True)
        path.write_text("")
    monkeypatch.setenv("SAS_BASE_DIR", str(top))
    return top


def test_reductions_are_told_with_what_to_do(root: Path) -> None:
    assert describe_reductions(ap_visit, ["DR16", "DR17"], root) == (TEXT, HINT)
    assert describe_reductions(ap_visit, ["DR17"], root, {"plate": 5226}) == (TEXT, HINT)
    for item, release, where in (
        (ap_visit, "DR17", {"plate": 5227}),
        (ap_visit, "DR16", {}),
        (ap_star, "DR17", {}),
        (product("spec"), "DR17", {}),  # any reduction of which is of the release
    ):
        assert find_reductions(item, release, root, where) == []


@pytest.mark.usefixtures("extra_release")
def test_those_of_releases_of_the_configuration_are_not_told(root: Path) -> None:
    assert find_reductions(ap_visit, "DR17", root) == [(("apred", "r12"),)]


def test_one_file_of_a_reduction_is_enough(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for plate in range(6000, 6050):
        (root / "dr17/apogee/spectro/redux/r13/visit/apo25m/120+12" / str(plate)).mkdir()
    listed, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))
    assert find_reductions(ap_visit, "DR17", root, {"plate": 5226}) == [(("apred", "r12"),), (("apred", "r13"),)]
    assert len(listed) < 15


def test_of_several_versions_those_that_differ_are_told(tmp_path: Path) -> None:
    item = product("aspcapStar")
    path = item.data_id("DR17", telescope="apo25m", field="120+12", obj="2M00000000+0000000").path(tmp_path)
    other = Path(str(path).replace("synspec_rev1", "turbo20"))
    other.parent.mkdir(parents=True)
    other.write_text("")
    text, hint = describe_reductions(item, ["DR17"], tmp_path)
    assert text == "its folders have files of aspcap turbo20, DR17 has aspcap synspec_rev1"
    assert hint.endswith('tree = "DR17", aspcap = "turbo20"')


def test_a_file_that_is_missing_tells_them(root: Path) -> None:
    missing = root / "dr17/apogee/spectro/redux/dr17" / VISIT.format("dr17")
    with pytest.raises(InputMissingError) as told:
        read_spectra(missing)
    assert f"{TEXT} (file {missing}); {HINT}" in str(told.value)
    with pytest.raises(InputMissingError, match=r"the file is not there \(file"):
        read_spectra(str(missing).replace("001.fits", "002.fits"))


def test_a_watch_notes_them_until_a_file_has_come(root: Path, tmp_path: Path) -> None:
    watcher = Watcher(root, tmp_path / "watch.sqlite")
    assert watcher.look().elsewhere == [f"apVisit in DR17: nothing found; {TEXT}; {HINT}"]
    put(root / "dr17/apogee/spectro/redux/dr17" / VISIT.format("dr17"))
    assert watcher.look().elsewhere == []
