"""Links that lead out of the mirror, seen by the sensor: no run is requested for them until they are allowed."""

from pathlib import Path

from astra_dagster import settings
from astra_dagster_tests.orchestration.watch.arrivals import FOLDER, KEY, NAME, Daemon, put, recorded


def allow(folder: Path) -> None:
    (settings.dagster_home() / "astra.toml").write_text(f"readable = ['{folder}']\n")


def test_a_file_that_is_a_link_to_the_outside(daemon: Daemon, mirror: Path, tmp_path: Path, whole: bytes) -> None:
    daemon()
    private = put(tmp_path / "private" / "x.fits", whole)
    link = mirror / FOLDER / NAME.format(250)
    link.symlink_to(private)
    for _ in range(2):  # it is told at each look, as long as it is there
        made = daemon.tick()
        assert made.requests == []
        assert "1 links lead out of the mirror" in str(made)
        assert any(f"skipped {link}: may not be read: the symbolic link" in note for note in made.notes)
    assert KEY.format(250) not in recorded(daemon.instance)
    allow(private.parent)
    made, success = daemon()
    assert (made.new, success) == (1, [True])
    assert KEY.format(250) in recorded(daemon.instance, "ap_visit_snr")
    assert "mirror" not in str(daemon.tick())


def test_a_folder_that_is_a_link_to_the_outside(daemon: Daemon, mirror: Path, tmp_path: Path, whole: bytes) -> None:
    daemon()
    disk = tmp_path / "disk" / "56001"
    name = "apVisit-dr17-5226-56001-001.fits"
    put(disk / name, whole)
    (mirror / FOLDER).with_name("56001").symlink_to(disk)
    made = daemon.tick()
    assert made.requests == []
    (note,) = [note for note in made.notes if "leads out of the mirror" in note]
    assert note.endswith(f'readable = ["{disk}"]')
    allow(disk)
    made, success = daemon()
    assert (made.new, len(success)) == (1, 1)


def test_a_folder_that_becomes_such_a_link_is_not_gone(daemon: Daemon, mirror: Path, tmp_path: Path) -> None:
    daemon()
    before = recorded(daemon.instance)
    folder = mirror / FOLDER
    aside = folder.rename(tmp_path / "56000")
    folder.symlink_to(aside)
    for _ in range(2):
        made = daemon.tick()
        assert (made.requests, made.gone) == ([], 0)
    assert recorded(daemon.instance) == before
