"""There, not there, or nobody can tell; and files that were here before: removed, or on a disk that is away."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from astra_dagster import DataID, product
from astra_dagster.archive.absence import Absences
from astra_dagster.archive.sas import Archive
from astra_dagster.errors import AwayError, Fault, UnreachableError
from astra_dagster.presence import is_file, is_folder, status_of
from astra_dagster_tests.archive.found import find_files
from astra_dagster_tests.outages import circle, empty, missing, unlinked

VISITS = product("apVisit")
FIRST = VISITS.parse_key("DR17/apo25m/120+12/5226/56000/001")


def test_what_is_there_and_what_is_not(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    link = tmp_path / "link"
    link.symlink_to(file)
    assert [is_file(path) for path in (file, link, tmp_path)] == [True, True, False]
    assert [is_folder(path) for path in (file, link, tmp_path)] == [False, False, True]
    (tmp_path / "nowhere").symlink_to("none")
    for path in (tmp_path / "none", file / "below", tmp_path / ("n" * 256), tmp_path / "nowhere"):
        assert status_of(path) is None
        assert not is_file(path)
        assert not is_folder(path)


def test_a_link_that_leads_back_to_itself_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for asked in (status_of, is_file, is_folder):
        with pytest.raises(UnreachableError, match="too many levels of symbolic links") as told:
            asked(tmp_path / "a" / "below" / "file")
        assert told.value.path == str(tmp_path / "a")
        assert told.value.fault is Fault.MACHINE


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.ENODEV])
def test_a_disk_that_fails_says_nothing(number: int, mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no real way to such a disk here."""
    real, broken = os.stat, FIRST.path(mirror).parent

    def failing(path: str | Path, **options: bool) -> os.stat_result:
        if Path(path).is_relative_to(broken):
            raise OSError(number, os.strerror(number), str(path))
        return real(path, **options)

    monkeypatch.setattr(os, "stat", failing)
    with pytest.raises(UnreachableError, match="is its disk mounted, and in order") as told:
        FIRST.existing_path(mirror)
    assert (told.value.path, told.value.key) == (str(broken), FIRST.key)
    assert os.strerror(number).lower() in told.value.message


DENIED = """
import sys
from pathlib import Path
from astra_dagster import product
from astra_dagster.archive.absence import Absences
from astra_dagster_tests.archive.found import find_files
from astra_dagster.errors import UnreachableError

root = Path(sys.argv[1])
one = product("apVisit").parse_key(sys.argv[2])
for look in (lambda: one.existing_path(root), lambda: Absences(root).refuse_outage(one)):
    try:
        look()
    except UnreachableError as error:
        print(type(error).__name__, error)
files, skipped = find_files(product("apVisit"), "DR17", root)
print(len(files), *{skip.error and skip.error.path for skip in skipped})
"""


@pytest.mark.parametrize("above", [0, 3])
@pytest.mark.parametrize("mode", [0o000, 0o600, 0o300])
def test_permission_denied(mode: int, above: int, mirror: Path) -> None:
    folder = (FIRST.path(mirror).parents)[above]
    if mode == 0o300:  # what is in it can be reached, and not listed: what is not there any more cannot be told
        FIRST.path(mirror).unlink()
    folder.chmod(mode)
    plain = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    try:
        told = subprocess.run(
            [*plain, sys.executable, "-c", DENIED, str(mirror), FIRST.key], check=True, text=True, capture_output=True
        ).stdout.splitlines()
    finally:
        folder.chmod(0o755)
    denied = f"UnreachableError cannot be looked at: permission denied (key {FIRST.key}, file {folder}); ask its owner"
    if mode == 0o300:
        assert told[:-1] == ([denied] if above == 0 else [])
    else:
        assert set(told[:-1]) == {denied}
    assert told[-1] == f"4 {folder}"


def test_a_file_counts_as_removed_where_others_of_its_folder_are_there(mirror: Path) -> None:
    missing(FIRST.path(mirror))
    assert FIRST.existing_path(mirror) is None
    Absences(mirror).refuse_outage(FIRST)  # and says nothing


def all_files(mirror: Path) -> None:
    for path in FIRST.path(mirror).parent.iterdir():
        path.unlink()


def all_but_notes(mirror: Path) -> None:
    all_files(mirror)
    (FIRST.path(mirror).parent / "NOT MOUNTED").write_text("")


@pytest.mark.parametrize(
    ("damage", "above", "what"),
    [
        (all_files, 0, "is empty"),
        (all_but_notes, 0, "holds no apVisit"),
        (lambda mirror: empty(FIRST.path(mirror).parent), 0, "is empty"),
        (lambda mirror: empty(FIRST.path(mirror).parents[3]), 3, "is empty"),
        (lambda mirror: missing(FIRST.path(mirror).parents[3]), 3, "is missing"),
        (lambda mirror: unlinked(FIRST.path(mirror).parents[3]), 3, "is a link that leads nowhere"),
        (lambda mirror: unlinked(mirror / "dr17"), 9, "is a link that leads nowhere"),
        (lambda mirror: missing(mirror / "dr17"), 9, "is missing"),
        (lambda mirror: empty(mirror), 10, "is empty"),
    ],
)
def test_else_its_disk_may_be_away(damage: Callable[[Path], object], above: int, what: str, mirror: Path) -> None:
    damage(mirror)
    place = FIRST.path(mirror).parents[above]
    with pytest.raises(AwayError, match=f"was here before, and this folder {what} now") as told:
        Absences(mirror).refuse_outage(FIRST)
    assert (told.value.path, told.value.key, told.value.fault) == (str(place), FIRST.key, Fault.MACHINE)
    assert "astra-dagster discover --product apVisit --release DR17 --forget" in str(told.value)


def test_a_file_that_is_a_link_to_nowhere_was_not_removed(mirror: Path) -> None:
    unlinked(FIRST.path(mirror))
    assert FIRST.existing_path(mirror) is None  # its contents may not have come yet
    with pytest.raises(UnreachableError, match="a link that leads nowhere"):
        Absences(mirror).refuse_outage(FIRST)


def test_one_file_that_cannot_be_looked_at_costs_itself(mirror: Path) -> None:
    circle(FIRST.path(mirror))
    files, (skipped,) = find_files(VISITS, "DR17", mirror)
    assert len(files) == 11
    assert isinstance(skipped.error, UnreachableError)
    assert skipped.path == FIRST.path(mirror)
    (fetched,) = Archive(mirror, "http://127.0.0.1:9").fetch([FIRST])
    assert isinstance(fetched.error, UnreachableError)


def test_a_start_that_cannot_be_looked_at_is_told(mirror: Path) -> None:
    circle(mirror / "dr17")
    files, (skipped,) = find_files(VISITS, "DR17", mirror)
    assert files == []
    assert skipped.error is not None
    assert skipped.error.path == str(mirror / "dr17")


def second(mirror: Path) -> DataID:
    return VISITS.parse_key(FIRST.key.replace("/001", "/002"))


def test_each_error_has_its_own_key(mirror: Path) -> None:
    all_files(mirror)
    absences = Absences(mirror)
    for one in (FIRST, second(mirror)):
        with pytest.raises(AwayError) as told:
            absences.refuse_outage(one)
        assert told.value.key == one.key
