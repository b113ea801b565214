"""Finding files: all of them, nothing else, and a reason for what is left out."""

import gzip
import os
import shutil
from pathlib import Path

import pytest

from astra_dagster import product, releases
from astra_dagster.archive import discovery
from astra_dagster.archive.discovery import content_version
from astra_dagster.errors import AstraError, InvalidKeyError
from astra_dagster.spectra.readers import READERS
from astra_dagster_tests.archive.found import find_files

FOLDER = "dr17/apogee/spectro/redux/dr17/visit/apo25m/120+12/5226/56000"


def test_all_real_files_parse_and_come_back(real_mirrors: list[Path], extra_release: str) -> None:
    """Each file of a mirror has one key, or it is said that such a file of the release lies elsewhere."""
    assert extra_release in releases()
    for root in real_mirrors:
        found: dict[Path, set[str]] = {}
        elsewhere: set[Path] = set()
        for name in READERS:
            for release in releases():
                try:
                    files, skipped = find_files(product(name), release, root)
                except AstraError:
                    continue
                for item in skipped:
                    assert "such a path looks like" in item.reason
                    elsewhere.add(item.path)
                for file in files:
                    assert product(name).parse_key(file.data_id.key).existing_path(root) == file.path
                    found.setdefault(file.path, set()).add(file.data_id.key)
        assert elsewhere.isdisjoint(found)
        assert set(found) | elsewhere == set(root.rglob("*.fits"))
        assert len(found) > len(elsewhere)
        assert all(len(keys) == 1 for keys in found.values())


def test_finds_exactly_the_files_of_a_product(synthetic: Path) -> None:
    counts = {("apVisit", "DR17"): 12, ("apVisit", "DR19"): 6, ("apStar", "DR17"): 3, ("apStar", "DR19"): 1}
    for (name, release), count in {**counts, ("spec", "DR17"): 3}.items():
        files, skipped = find_files(product(name), release, synthetic)
        assert (len(files), skipped) == (count, [])
    assert find_files(product("apVisit"), "DR13", synthetic) == ([], [])


def test_where_selects(synthetic: Path) -> None:
    def count(**where: list[str]) -> int:
        return len(find_files(product("apVisit"), "DR17", synthetic, where)[0])

    assert count(telescope=["lco25m"]) == 4
    assert count(mjd=["56000"], fibre=["1", "002", "200"]) == 2
    assert count(plate=["9911", "5226"]) == 12
    assert count(mjd=["50000"]) == 0
    with pytest.raises(InvalidKeyError, match="has no healpix"):
        count(healpix=["1"])
    with pytest.raises(InvalidKeyError, match="five-digit"):
        count(mjd=["today"])


def test_where_prunes_folders(synthetic: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(Path(path).name) or scandir(path))
    find_files(product("apVisit"), "DR17", synthetic, {"telescope": ["lco25m"]})
    assert "lco25m" in listed
    assert "120+12" not in listed
    assert not {"apogee", "dr17"} & set(listed)  # folders that the template spells out are not listed


def test_what_does_not_parse_is_listed_with_the_reason(mirror: Path) -> None:
    folder = mirror / FOLDER
    (folder / "apVisit-dr17-5226-56000-301.fits").write_text("")
    (folder / "apVisit-dr17-5226-56001-001.fits").write_text("")
    (folder / "apVisit-dr17-5226-56000-002.fits.part").write_text("")
    (folder / ".apVisit-dr17-5226-56000-009.fits.Xy12").write_text("")
    (folder / "apCframe-a-1.fits").write_text("")
    (folder / "apVisit-dr17-5226-56000-099.fits").mkdir()
    (folder / "apVisit-dr17-5226-56000-098.fits").symlink_to("nowhere")
    (folder.parent / "56000bad").mkdir()
    files, skipped = find_files(product("apVisit"), "DR17", mirror)
    assert len(files) == 12
    reasons = {item.path.name: item.reason for item in skipped}
    assert reasons.pop("apVisit-dr17-5226-56000-301.fits").startswith("fibre cannot be '301'")
    assert "such a path looks like" in reasons.pop("apVisit-dr17-5226-56001-001.fits")
    assert "not a path" in reasons.pop("apVisit-dr17-5226-56000-002.fits.part")
    assert reasons.pop("apVisit-dr17-5226-56000-099.fits") == "not a file"
    assert "nowhere" in reasons.pop("apVisit-dr17-5226-56000-098.fits")
    assert "no mjd" in reasons.pop("56000bad")
    assert reasons == {}


def test_compressed_files_are_the_same_partition(mirror: Path) -> None:
    plain = mirror / FOLDER / "apVisit-dr17-5226-56000-001.fits"
    other = plain.with_name("apVisit-dr17-5226-56000-002.fits")
    for path in (plain, other):
        with path.open("rb") as source, gzip.open(f"{path}.gz", "wb") as target:
            shutil.copyfileobj(source, target)
    other.unlink()
    files, _ = find_files(product("apVisit"), "DR17", mirror)
    by_key = {file.data_id.key: file.path.name for file in files}
    assert len(by_key) == 12
    assert by_key["DR17/apo25m/120+12/5226/56000/001"] == plain.name
    assert by_key["DR17/apo25m/120+12/5226/56000/002"] == f"{other.name}.gz"


def test_versions_follow_date_or_content(mirror: Path) -> None:
    path = mirror / FOLDER / "apVisit-dr17-5226-56000-001.fits"
    before = find_files(product("apVisit"), "DR17", mirror)[0][0].version
    content = content_version(path)
    os.utime(path, ns=(0, 1))
    assert find_files(product("apVisit"), "DR17", mirror)[0][0].version != before
    assert content_version(path) == content


def test_files_come_a_few_folders_at_a_time(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder is never divided, so that a file and its compressed variant are seen together."""
    whole = find_files(product("apVisit"), "DR17", mirror)
    path = mirror / FOLDER / "apVisit-dr17-5226-56000-001.fits"
    with path.open("rb") as source, gzip.open(f"{path}.gz", "wb") as target:
        shutil.copyfileobj(source, target)
    monkeypatch.setattr(discovery, "WINDOW", 1)
    windows = [files for files, _ in discovery.walk_files(product("apVisit"), "DR17", mirror)]
    folders = [{file.path.parent for file in files} for files in windows]
    assert len(folders) == len(set().union(*folders)) == 2
    assert find_files(product("apVisit"), "DR17", mirror) == whole
