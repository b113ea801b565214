"""Symbolic links in a mirror: followed within it and to where the configuration allows, refused elsewhere."""

import os
import shutil
from pathlib import Path

import pytest

from astra_dagster import DataID, product
from astra_dagster.archive.links import Links
from astra_dagster.errors import ConfigurationError, Fault, LinkOutsideError, UnreachableError
from astra_dagster.planning.inputs import Input, examine
from astra_dagster.spectra import read_spectra
from astra_dagster_tests.archive.found import find_files

VISITS = product("apVisit")
FIRST = VISITS.parse_key("DR17/apo25m/120+12/5226/56000/001")
SECOND = VISITS.parse_key("DR17/apo25m/120+12/5226/56000/002")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "astra.toml"
    path.write_text("")
    monkeypatch.setenv("ASTRA_CONFIG", str(path))
    return path


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    return folder


def lead_out(path: Path, outside: Path) -> Path:
    """Move a file or folder of a mirror out of it, and leave a link; return where it is now."""
    target = Path(shutil.move(path, outside / path.name))
    path.symlink_to(target)
    return target


def look(data_id: DataID, root: Path) -> Input:
    (found,) = examine([data_id], root, {}, by_content=False)
    return found


def refusals(root: Path) -> tuple[int, list[LinkOutsideError]]:
    """Number of files that are found, and the errors of those that are refused."""
    files, skipped = find_files(VISITS, "DR17", root)
    return len(files), [one.error for one in skipped if isinstance(one.error, LinkOutsideError)]


def test_a_link_to_a_file_outside_is_refused_until_it_is_allowed(mirror: Path, outside: Path, config: Path) -> None:
    path = FIRST.path(mirror)
    target = lead_out(path, outside)
    config.write_text("readable = ['/data/catalogues']\n")
    error = look(FIRST, mirror).error
    assert isinstance(error, LinkOutsideError)
    assert error.fault is Fault.MACHINE
    line = f'readable = ["/data/catalogues", "{outside}"]'
    assert str(error) == (
        f"may not be read: the symbolic link {path} leads out of the mirror, to {target} (key {FIRST.key}); "
        f"if that is meant, have this line in {config}: {line}"
    )
    assert look(SECOND, mirror).error is None
    found, (of_discovery,) = refusals(mirror)
    assert (found, str(of_discovery)) == (11, str(error))
    config.write_text(f"{line}\n")
    assert look(FIRST, mirror).version is not None
    assert refusals(mirror) == (12, [])


@pytest.mark.parametrize("depth", [0, 3, 4, 7])
def test_a_link_to_a_folder_outside_is_refused_until_it_is_allowed(
    depth: int, mirror: Path, outside: Path, config: Path
) -> None:
    """The folder of a file, of a release, and of the product: what is named is the link, and is told once."""
    folder = FIRST.path(mirror).parents[depth]
    lead_out(folder, outside)
    error = look(FIRST, mirror).error
    assert isinstance(error, LinkOutsideError)
    line = f'readable = ["{outside / folder.name}"]'
    assert str(folder) in str(error)
    assert str(error).endswith(line)
    found, told = refusals(mirror)
    assert found < 12
    assert len(told) == 1
    assert str(told[0]).endswith(line)
    missing = VISITS.parse_key("DR17/apo25m/120+12/5226/56000/299")
    assert isinstance(look(missing, mirror).error, LinkOutsideError)  # or it would be fetched to there
    config.write_text(f"{line}\n")
    assert look(FIRST, mirror).version is not None
    assert look(missing, mirror).error is None
    assert refusals(mirror) == (12, [])


def test_of_several_links_a_plan_asks_for_the_last_and_discovery_for_each(
    mirror: Path, outside: Path, config: Path
) -> None:
    visit = lead_out(mirror / "dr17", outside) / "apogee" / "spectro" / "redux" / "dr17" / "visit"
    visit.rename(outside / "disk two")
    visit.symlink_to(outside / "disk two")
    line = f'readable = ["{outside / "disk two"}"]'
    assert str(look(FIRST, mirror).error).endswith(line)
    config.write_text(line)
    assert look(FIRST, mirror).error is None
    line = f'readable = ["{outside / "disk two"}", "{outside / "dr17"}"]'
    assert str(refusals(mirror)[1][0]).endswith(line)  # it lists all folders on the way
    config.write_text(line)
    assert refusals(mirror) == (12, [])


def test_a_mirror_that_is_a_link_is_followed(mirror: Path, tmp_path: Path, config: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(mirror)
    assert refusals(link) == (12, [])
    assert look(FIRST, link).version == look(FIRST, mirror).version is not None


def test_links_within_the_mirror_are_followed(mirror: Path, config: Path) -> None:
    inside = mirror / "disk"
    inside.mkdir()
    lead_out(FIRST.path(mirror), inside)
    lead_out(SECOND.path(mirror).parents[3], inside)
    relative = VISITS.parse_key("DR17/apo25m/120+12/5226/56000/003").path(mirror)
    aside = relative.rename(relative.with_name("aside"))
    relative.symlink_to(aside.name)
    assert refusals(mirror) == (12, [])
    assert look(FIRST, mirror).version is not None


def test_a_link_that_leads_out_and_back_is_followed(mirror: Path, outside: Path, config: Path) -> None:
    (outside / "back").symlink_to(mirror / "dr17")
    (mirror / "dr17" / "apogee").rename(mirror / "dr17" / "other")
    (mirror / "dr17" / "apogee").symlink_to(outside / "back" / "other")
    assert refusals(mirror) == (12, [])


def test_loops_and_links_that_lead_nowhere_are_told_as_before(mirror: Path, outside: Path, config: Path) -> None:
    loop, nowhere = FIRST.path(mirror), SECOND.path(mirror)
    for path, target in ((loop, loop), (nowhere, outside / "none")):
        path.unlink()
        path.symlink_to(target)
    error = look(FIRST, mirror).error
    assert isinstance(error, UnreachableError)
    assert "too many levels of symbolic links" in str(error)
    assert look(SECOND, mirror) == Input(SECOND, None, None, recorded=False)
    assert refusals(mirror) == (10, [])
    folder = loop.parent.parent
    shutil.rmtree(folder)
    (outside / "a").symlink_to(outside / "b")
    (outside / "b").symlink_to(outside / "a")
    folder.symlink_to(outside / "a")
    assert "too many levels of symbolic links" in str(look(FIRST, mirror).error)
    assert refusals(mirror)[1] == []


def test_a_folder_with_a_name_that_begins_alike_is_another(mirror: Path, tmp_path: Path, config: Path) -> None:
    beside = tmp_path / f"{mirror.name}-2"
    beside.mkdir()
    target = lead_out(FIRST.path(mirror), beside)
    assert isinstance(look(FIRST, mirror).error, LinkOutsideError)
    config.write_text(f"readable = ['{beside}x', '/']\n")
    assert look(FIRST, mirror).error is None
    config.write_text(f"readable = ['{target}']\n")
    assert look(FIRST, mirror).error is None


def test_a_path_in_the_configuration_is_absolute(mirror: Path, config: Path) -> None:
    config.write_text("readable = ['catalogues']\n")
    with pytest.raises(ConfigurationError, match="readable: catalogues is not an absolute path; give it in full"):
        Links(mirror)
    config.write_text("readable = ['~/catalogues']\n")
    Links(mirror)


def test_a_software_product_lies_beside_the_mirror(mirror: Path, outside: Path, config: Path) -> None:
    folder = mirror.parent / "software"
    folder.mkdir()
    (folder / "file").touch()
    Links(mirror).check(folder / "file")
    (folder / "link").symlink_to(outside)
    with pytest.raises(LinkOutsideError):
        Links(mirror).check(folder / "link")


def test_a_person_reads_in_python_whatever_that_person_may_read(mirror: Path, outside: Path, config: Path) -> None:
    path = FIRST.path(mirror)
    lead_out(path, outside)
    assert len(read_spectra(path, "apVisit").flux) == 1


def test_a_file_costs_no_look_besides_its_status(mirror: Path, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    links = Links(mirror)
    links.check(FIRST.path(mirror).parent)
    looks, lstat = [], os.lstat
    monkeypatch.setattr(os, "lstat", lambda path: looks.append(path) or lstat(path))
    monkeypatch.setattr(os, "stat", lambda path: looks.append(path))
    links.file_status(FIRST.path(mirror))
    assert looks == [FIRST.path(mirror)]
