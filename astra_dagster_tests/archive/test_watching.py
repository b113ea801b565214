"""Looking at a mirror again and again: everything is found, once, and what has not changed is not listed."""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astra_dagster.archive import discovery
from astra_dagster.archive.watch_state import BusyError, State, Watch
from astra_dagster.archive.watching import COARSE, RECENT, SKEW, look_at
from astra_dagster.errors import OutputError
from astra_dagster_tests.archive.found import find_files
from astra_dagster_tests.archive.watcher import FOLDER, NAME, RELEASES, SETTLE, VISITS, Watcher, put
from astra_dagster_tests.outages import Undo, circle, unlinked


@pytest.fixture
def watcher(mirror: Path, tmp_path: Path) -> Watcher:
    return Watcher(mirror, tmp_path / "outputs" / "watch.sqlite")


@pytest.fixture
def night(watcher: Watcher) -> Path:
    """A folder of a mirror that has been gone through, and in which nothing has happened since."""
    watcher.quiet()
    assert watcher.look().listed == 0
    return watcher.root / FOLDER


def test_the_first_look_finds_what_discovery_finds(watcher: Watcher) -> None:
    look = watcher.look()
    found = {file.path.name for release in RELEASES for file in find_files(VISITS, release, watcher.root)[0]}
    assert watcher.take() == found
    assert look.listed == look.folders > 4
    assert look.complete
    assert watcher.look().folders == look.folders
    assert watcher.take() == set()


def test_folders_that_have_not_changed_are_not_listed(
    watcher: Watcher, night: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(Path(path)) or scandir(path))
    assert watcher.look().listed == 0
    assert listed == []
    put(night / NAME.format(99))
    assert watcher.look().listed == 1
    assert listed == [night]
    assert watcher.take() == {NAME.format(99)}


def test_a_new_folder_is_gone_through(watcher: Watcher, night: Path) -> None:
    path = put(night.parents[1] / "5227" / "56001" / "apVisit-dr17-5227-56001-001.fits")
    look = watcher.look()
    assert look.listed == 3  # the field's, the plate's and the night's
    assert watcher.take() == {path.name}
    put(watcher.root / FOLDER.replace("apo25m", "lco25m") / NAME.replace("ap", "as", 1).format(1))
    watcher.look()
    assert len(watcher.take()) == 1


def test_a_release_that_comes_later_is_found(mirror: Path, tmp_path: Path) -> None:
    away = shutil.move(mirror / "dr17", tmp_path / "away")
    watcher = Watcher(mirror, tmp_path / "watch.sqlite")
    watcher.quiet()
    shutil.move(away, mirror / "dr17")
    watcher.look()
    assert len(watcher.take()) == 12


def test_a_folder_of_restored_date_is_listed(watcher: Watcher, night: Path) -> None:
    """As rsync does with all folders."""
    before = night.stat()
    put(night / NAME.format(99))
    os.utime(night, ns=(before.st_atime_ns, before.st_mtime_ns))
    watcher.look()
    assert watcher.take() == {NAME.format(99)}


def test_a_folder_that_has_changed_is_listed_twice(watcher: Watcher, night: Path) -> None:
    """What comes right after it was listed may not show in its times."""
    put(night / NAME.format(99))
    assert [watcher.look(wait).listed for wait in (0, 0, COARSE, COARSE)] == [1, 0, 1, 0]
    watcher.ahead += SKEW
    put(night / NAME.format(98))
    assert [watcher.look(wait).listed for wait in (0, COARSE)] == [1, 0]


def test_what_shares_the_times_of_the_listing_is_found(
    watcher: Watcher, night: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = night.stat()
    real = os.stat

    def coarse(path: object, **named: object) -> os.stat_result:
        return times if str(path) == str(night) else real(path, **named)  # type: ignore[arg-type]

    put(night / NAME.format(97))
    watcher.look()
    times = night.stat()
    monkeypatch.setattr(os, "stat", coarse)
    put(night / NAME.format(98))  # the folder's times stay as they were
    watcher.look(COARSE)
    assert watcher.take() == {NAME.format(97), NAME.format(98)}


def test_a_young_file_is_left_until_it_settles(watcher: Watcher, night: Path) -> None:
    path = put(night / NAME.format(99), age=0)
    watcher.look()
    assert watcher.take() == set()
    watcher.look(SETTLE / 2)
    assert watcher.take() == set()
    put(path, "more", age=-watcher.ahead)  # its folder stays the same
    watcher.look(SETTLE / 2 + 1)
    assert watcher.take() == set()
    assert watcher.look(SETTLE + 1).listed <= 1
    assert watcher.take() == {path.name}
    watcher.look(SETTLE)
    assert watcher.take() == set()


def test_a_file_of_the_future_settles_as_well(watcher: Watcher, night: Path) -> None:
    put(night / NAME.format(99), age=-10 * 86_400)
    watcher.look()
    assert watcher.take() == set()
    watcher.look(SETTLE)
    assert watcher.take() == {NAME.format(99)}


@pytest.mark.parametrize(
    "name",
    [
        f".{NAME.format(99)}.Xy12Zw",  # rsync
        f"{NAME.format(99)}.part",
        f"{NAME.format(99)}.tmp",
        f".{NAME.format(99)}.part",
        f"{NAME.format(99)}~",
        f"{NAME.format(99)}.filepart",
    ],
)
def test_temporary_names_are_left_alone(watcher: Watcher, night: Path, name: str) -> None:
    put(night / name).rename(night / name)
    assert watcher.look().skipped == []
    assert watcher.take() == set()
    (night / name).rename(night / NAME.format(99))
    watcher.look()
    assert watcher.take() == {NAME.format(99)}


def test_changes(watcher: Watcher, night: Path) -> None:
    new = put(night / NAME.format(99))
    watcher.quiet()
    put(new, "written in place")
    assert watcher.look().listed == 0
    assert watcher.take() == {new.name}
    old = night / NAME.format(1)
    put(old, "written in place")  # came with the archive: only a full look finds this
    watcher.look()
    assert watcher.take() == set()
    put(night / ".new").rename(old)
    watcher.look()
    assert watcher.take() == {old.name}
    watcher.quiet()
    watcher.ahead += RECENT
    put(new, "written in place after a day")
    watcher.look()
    assert watcher.take() == set()


def test_what_is_gone_is_told_until_it_is_forgotten(watcher: Watcher, night: Path) -> None:
    (night / NAME.format(1)).unlink()
    watcher.look()
    with watcher.open() as watch:
        assert len(watch.gone_files()) == 1
    assert watcher.gone() == {NAME.format(1)}
    assert watcher.gone() == set()
    shutil.rmtree(night.parent)
    folders = watcher.look().folders
    assert len(watcher.gone()) == 7
    put(night / NAME.format(1))
    assert watcher.look().folders == folders + 2
    assert watcher.take() == {NAME.format(1)}


@pytest.mark.parametrize("outage", [unlinked, circle])
@pytest.mark.parametrize("above", [0, 1, 3])
def test_nothing_is_concluded_from_links_to_what_is_away(
    outage: Callable[[Path], Undo], above: int, watcher: Watcher, night: Path
) -> None:
    folder = (night, *night.parents)[above]
    undo = outage(folder)
    for _ in range(2):
        assert str(folder) in watcher.look().unreachable
        assert watcher.gone() == watcher.take() == set()
    undo()
    assert watcher.look().unreachable == []
    assert watcher.gone() == watcher.take() == set()


def test_where_nothing_can_be_examined_nothing_is_gone(watcher: Watcher, night: Path, tmp_path: Path) -> None:
    top = watcher.root / "dr17/apogee/spectro/redux"
    away = shutil.move(top, tmp_path / "away")
    look = watcher.look()
    assert look.unreachable
    assert watcher.gone() == set()
    shutil.move(away, top)
    assert watcher.look().unreachable == []
    assert watcher.take() == watcher.gone() == set()


def test_a_folder_that_cannot_be_listed_is_told(watcher: Watcher, night: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(night / NAME.format(99))
    scandir = os.scandir

    def failing(path: str) -> Iterator[os.DirEntry[str]]:
        if Path(path) == night:
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(discovery.os, "scandir", failing)
    assert watcher.look().unreachable == [str(night)]
    assert watcher.gone() == watcher.take() == set()
    monkeypatch.undo()
    watcher.look()
    assert watcher.take() == {NAME.format(99)}


def test_what_there_is_no_time_for_is_done_at_the_next_look(watcher: Watcher) -> None:
    looks = 0
    complete = False
    while not complete:
        complete = watcher.look(deadline=0).complete
        looks += 1
    assert looks > 5
    assert len(watcher.take()) == 18
    assert watcher.gone() == set()


def test_a_release_that_is_another_one_now_begins_anew(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "astra.toml"
    monkeypatch.setenv("ASTRA_CONFIG", str(config))
    path = tmp_path / "watch.sqlite"
    for apred, count in (("r1", 1), ("r2", 0), ("r1", 1)):
        config.write_text(f'[releases.mine]\ntree = "DR17"\napred = "{apred}"\n')
        put(mirror / FOLDER.replace("dr17/visit", "r1/visit") / NAME.replace("dr17", "r1").format(1))
        with Watch(path, mirror) as watch:
            look_at(watch, VISITS, ["mine"], mirror, settle=SETTLE)
            assert watch.count(State.READY) == count
            assert watch.gone_files() == []


def test_one_at_a_time(watcher: Watcher) -> None:
    with watcher.open(), pytest.raises(BusyError):
        watcher.open()
    code = f"from astra_dagster.archive.watch_state import Path, Watch; Watch(Path({str(watcher.path)!r}), Path('/'))"
    with watcher.open():
        other = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert "BusyError" in other.stderr
    assert watcher.look().complete


def test_a_state_of_no_use_is_made_anew(watcher: Watcher, tmp_path: Path) -> None:
    watcher.quiet()
    with Watch(watcher.path, tmp_path) as watch:  # another mirror
        assert watch.fact("seen DR17") is None
    watcher.look()
    assert len(watcher.take()) == 18
    watcher.path.write_bytes(b"no database" * 1000)
    watcher.look()
    assert len(watcher.take()) == 18
    database = sqlite3.connect(watcher.path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    watcher.look()
    assert len(watcher.take()) == 18


def test_a_state_that_cannot_be_kept_is_an_error(mirror: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be opened"):
        Watch(tmp_path / "file" / "watch.sqlite", mirror)
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="cannot be opened"):
        Watch(tmp_path / "folder", mirror)


def test_a_look_that_is_killed_has_not_been(watcher: Watcher, night: Path) -> None:
    for number in range(60, 70):
        put(night / NAME.format(number))
    code = f"""
import os, signal
from pathlib import Path
from astra_dagster import product
from astra_dagster.archive import watching
from astra_dagster.archive.watch_state import Watch
keep = watching._keep
def dying(*args):
    keep(*args)
    if args[1]:
        os.kill(os.getpid(), signal.SIGKILL)
watching._keep = dying
root = Path({str(watcher.root)!r})
with Watch(Path({str(watcher.path)!r}), root) as watch:
    watching.look_at(watch, product("apVisit"), {RELEASES!r}, root, settle=60)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert watcher.take() == set()
    watcher.look()
    assert len(watcher.take()) == 10


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["add", "rewrite", "replace", "touch", "remove", "look", "wait"]), st.integers(1, 12)),
    max_size=30,
)


@given(actions=ACTIONS)
@settings(max_examples=60)
def test_whatever_happens_all_changes_are_found_once(actions: list[tuple[str, int]], tmp_path: Path) -> None:
    folder = tmp_path / str(time.time_ns())
    root = folder / "sas"
    root.mkdir(parents=True)
    watcher = Watcher(root, folder / "watch.sqlite")
    watcher.look()
    taken: list[tuple[str, int, int]] = []  # name and version of what was ready

    def take() -> None:
        with watcher.open() as watch:
            ready = watch.sightings(State.READY)
            with watch.transaction():
                watch.mark(ready, None)
        taken.extend((Path(s.path).name, s.size, s.mtime_ns) for s in ready)

    for count, (action, number) in enumerate(actions):
        path = root / FOLDER / NAME.format(number)
        if action == "add" and number > 8:  # and a folder of its own
            path = root / FOLDER.replace("56000", f"560{number}") / NAME.replace("56000", f"560{number}").format(number)
        if action in ("add", "replace"):
            put(folder / "new", "x" * count)
            path.parent.mkdir(parents=True, exist_ok=True)
            (folder / "new").rename(path)
        elif action == "rewrite" and path.exists():
            put(path, "y" * count, age=0)
        elif action == "touch" and path.exists():
            os.utime(path, ns=(count, count))
        elif action == "remove":
            shutil.rmtree(path.parent, ignore_errors=True) if number > 10 else path.unlink(missing_ok=True)
        elif action == "look":
            watcher.look(COARSE)
            take()
        elif action == "wait":
            watcher.ahead += SETTLE
    for _ in range(3):
        watcher.look(SETTLE + COARSE)
        take()
    there = {(f.path.name, f.size, f.mtime_ns) for f in find_files(VISITS, "DR17", root)[0]}
    assert there <= set(taken)
    assert len(taken) == len(set(taken))
    assert watcher.look(COARSE).listed == 0
    assert not {name for name, *_ in there} & watcher.gone()
