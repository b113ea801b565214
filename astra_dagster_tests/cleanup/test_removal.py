"""Only what is ours is removed, and only as it was listed."""

import io
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astra_dagster.cleanup import cleaning
from astra_dagster.cleanup.cleaning import Selection
from astra_dagster.cleanup.known_tasks import Family
from astra_dagster.cleanup.removal import remove
from astra_dagster.fits.writer import make_primary
from astra_dagster.outputs.own_files import inspect, walk
from astra_dagster.planning.status import Status
from astra_dagster.tasks.snr import ap_visit_snr
from astra_dagster_tests.cleanup.cleaned import DAY, NAME, TODAY, Place, age, make_place, tree
from astra_dagster_tests.execution.work import run


@pytest.fixture
def place(synthetic: Path, tmp_path: Path) -> Place:
    return make_place(synthetic, tmp_path)


def everything(place: Place) -> Selection:
    """A selection under which whatever looks like ours would go."""
    return Selection(tasks=[NAME, "gone"], older_days=0, other_parameters=True)


def foreign(place: Place) -> dict[str, bytes]:
    """Files of a user's, by path, that look more or less like ours."""
    other = place.other(fudge_factor=2.0)
    table = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata({"task": NAME}), table)
    today, ours = place.path(0).read_bytes(), other.path(place.work[0].data_id).read_bytes()
    name = place.path(0).name
    folder = str(other.path(place.work[0].data_id).parent.relative_to(place.root))
    inner = folder.split("/", 2)[2]
    fits = make_primary([("ORIGIN", "me", ""), ("CREATOR", "astra_dagster", ""), ("TASK", NAME, "")])
    key = place.keys[7].encode()
    note = b'{"key": "%s", "error": "", "tried": []}'
    return {
        "notes.txt": b"mine",
        f"{NAME}/plot.png": b"mine",
        f"{NAME}/{other.digest}/README": b"mine",
        f"{NAME}/{other.digest}/{NAME}_table.fits": fits,
        f"{NAME}/{other.digest}/{NAME}_table.parquet": table.getvalue(),
        f"{NAME}/{place.store.digest}/{NAME}_table.parquet": b"no Parquet",
        f"{NAME}/{other.digest}/{name}": ours,  # in the wrong folder
        f"{folder}/{name}.bak": ours,
        f"{folder}/copy-{name}": ours,
        f"{folder}/{name.replace('001.json', '007.json')}": ours,  # of another key
        f"{folder}/{name.replace('001.json', '008.json')}": today.replace(place.keys[0].encode(), key),  # and digest
        f"{folder}/{name.replace('001.json', '009.json')}": b"[" * 100_000,
        f"{folder}/{name.replace('001.json', '010.fits')}": fits,
        f"{folder}/{name.replace('001.json', '011.fits')}": b"",
        f"{folder}/{name.replace('001.json', '012.json')}": b'{"key": 3, "provenance": []}',
        f"{folder}/{name.replace('001.json', '013.json')}": b"\xff\xfe",
        f"{folder}/{name.replace('001.json', '014.json')}.failed": note % key,  # of another key
        f"{folder}/{name}.failed": b'{"key": "%s", "error": ""}' % place.keys[0].encode(),
        f"{folder}/.astra-1-xyz.tmp": b"",
        f"{NAME}/0123456789ab/{inner}/{name}": today,  # of a digest that nothing spells out
        f"{NAME}/ba9876543210/parameters.json": b'{"task": "ap_visit_snr", "parameters": {}}',
        f"gone/{other.digest}/parameters.json": (other.folder / "parameters.json").read_bytes(),  # of another task
        f"gone/0123456789ab/DR17/{name}": today,
        "Work/0123456789ab/parameters.json": b"{}",
    }


def test_foreign_files_stay_and_so_do_their_folders(place: Place) -> None:
    files = foreign(place)
    for path, contents in files.items():
        (place.root / path).parent.mkdir(parents=True, exist_ok=True)
        (place.root / path).write_bytes(contents)
        age(place.root / path, DAY)
    for path in place.root.rglob("*"):
        age(path, DAY)
    (place.root / NAME / "empty").mkdir()
    found = place.find(**vars(everything(place)))
    removed = remove(place.root, found.candidates).removed
    assert Counter(c.kind for c in found.candidates) == {"other-parameters": 2}
    assert len(removed) == 2
    assert {path: (place.root / path).read_bytes() for path in files} == files
    assert (place.root / NAME / "empty").is_dir()


@pytest.mark.parametrize("suffix", ["fits", "parquet"])
def test_a_table_of_a_user_stays(place: Place, suffix: str) -> None:
    other = place.other(fudge_factor=2.0)
    path, files = other.folder / f"{NAME}_table.{suffix}", foreign(place)
    path.write_bytes(files[str(path.relative_to(place.root))])
    assert place.kinds(other_parameters=True) == {"other-parameters": 3}
    place.clean(other_parameters=True)
    assert list(other.folder.iterdir()) == [path]


NAMES = (
    *(NAME, f"{NAME}-", f"{NAME}-DR17", f"{NAME}-DR17-x.json", f"{NAME}-DR17-x.fits", f"{NAME}-DR17-x.json.failed"),
    *("parameters.json", f"{NAME}_table.parquet", ".astra-1-0123456789ab.tmpx", "DR17", "0123456789ab", "x", "ü\n"),
    *(TODAY, f"{NAME}/{TODAY}", f"{NAME}/{TODAY}/DR17"),
)
CONTENTS = (
    *(b"", b"{}", b"[]", b"null", b'"key"', b'{"key": 1}', b"PAR1", b"SIMPLE  = ", b"\x00\xff", b"1e999"),
    *(b'{"key": "DR17/x"}', b'{"key": "DR17/x", "provenance": {}}', b'{"task": "ap_visit_snr"}', b'{"parameters": 3}'),
)
PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=5).map("/".join)


@settings(max_examples=150)
@given(files=st.dictionaries(PATHS, st.sampled_from(CONTENTS), max_size=12))
def test_trees_of_foreign_names_are_untouched(
    files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("foreign")
    for path, contents in files.items():
        place = root / path
        if not any(parent.is_file() for parent in place.parents) and not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(contents)
            age(place, DAY)
    before = tree(root)
    for tasks in ([ap_visit_snr], []):
        known = {NAME: Family(tasks, ["DR17/x"], {NAME: {}}, {TODAY: {"DR17/x": Status.TO_DO}})} if tasks else {}
        selection = Selection(tasks=[NAME], kinds=list(cleaning.KINDS), older_days=0, other_parameters=True)
        assert (
            remove(root, cleaning.find(root, known, selection, began=time.time_ns() + 10**9).candidates).removed == []
        )
    assert tree(root) == before
    shutil.rmtree(root)


def test_links_are_not_followed(place: Place, tmp_path: Path) -> None:
    other = place.other(fudge_factor=2.0)
    first, second = (other.path(work.data_id) for work in place.work[:2])
    outside = tmp_path / "outside"
    shutil.move(other.folder.parent / other.digest, outside / other.digest)
    kept = tree(outside)
    (place.root / NAME / other.digest).symlink_to(outside / other.digest)  # a folder outside
    (place.root / "gone").symlink_to(outside)
    assert place.kinds(other_parameters=True) == {}
    (place.root / NAME / other.digest).unlink()
    other.folder.mkdir()
    shutil.copy(outside / other.digest / "parameters.json", other.folder)
    (other.folder / "DR17").symlink_to(outside / other.digest / "DR17")  # a folder outside, below one of ours
    assert place.kinds(other_parameters=True) == {"other-parameters": 1}
    (other.folder / "DR17").unlink()
    shutil.copytree(outside / other.digest, other.folder, dirs_exist_ok=True)
    first.unlink()
    first.symlink_to(outside / first.relative_to(other.folder.parent))  # a file outside
    assert place.kinds(other_parameters=True) == {"other-parameters": 2}
    assert next(c.path for c in place.clean(other_parameters=True).removed).endswith(second.name)
    assert first.is_symlink()
    assert tree(outside) == kept
    other = place.other(fudge_factor=2.0)
    shutil.move(place.root / NAME, outside / NAME)
    (place.root / NAME).symlink_to(outside / NAME)  # the folder of a whole task
    assert place.kinds(other_parameters=True) == {}


def test_the_outputs_folder_itself_may_be_a_link(place: Place, tmp_path: Path) -> None:
    other = place.other(fudge_factor=2.0)
    link = tmp_path / "link"
    link.symlink_to(place.root)
    found = replace(place, root=link).find(other_parameters=True)
    assert len(remove(link, found.candidates).removed) == 3
    assert not other.folder.exists()


def test_a_folder_that_becomes_a_link_after_it_was_listed(place: Place, tmp_path: Path) -> None:
    other = place.other(fudge_factor=2.0)
    found = place.find(other_parameters=True)
    shutil.move(other.folder / "DR17", tmp_path / "elsewhere")
    (other.folder / "DR17").symlink_to(tmp_path / "elsewhere")
    before = tree(tmp_path / "elsewhere")
    done = remove(place.root, found.candidates)
    assert len(done.failed) == 2
    assert tree(tmp_path / "elsewhere") == before


def test_a_file_that_becomes_a_link_before_it_is_looked_into(place: Place, tmp_path: Path) -> None:
    (file,) = [f for f in walk(str(place.store.folder), NAME, []) if f.entry.path == str(place.path(0))]
    place.path(0).rename(tmp_path / "outside.json")
    place.path(0).symlink_to(tmp_path / "outside.json")
    with pytest.raises(OSError, match="symbolic links"):
        inspect(file, NAME, place.store.digest)
    place.path(0).unlink()
    os.mkfifo(place.path(0))
    assert inspect(file, NAME, place.store.digest) is None


def rewritten(path: Path) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(path.read_bytes())
    os.utime(new, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    new.replace(path)


@pytest.mark.parametrize(
    "change", [rewritten, lambda path: path.write_text("other"), lambda path: os.utime(path), Path.unlink]
)
def test_a_file_that_changes_after_it_was_listed_stays(
    place: Place, change: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    place.unwanted(0)
    found = place.find()
    change(place.path(0))
    monkeypatch.setattr(os, "rename", None)  # nor is it put aside
    there = place.path(0).read_bytes() if place.path(0).exists() else None
    done = remove(place.root, found.candidates)
    assert (done.removed, done.failed) == ([], [])
    assert done.left[0][1] in ("changed since it was listed", "no longer there")
    assert (place.path(0).read_bytes() if there else None) == there
    assert list(place.root.rglob("*.tmp")) == []


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("links", [True, False])
def test_a_file_written_at_the_moment_of_removal_is_not_lost(
    place: Place, again: bool, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.unwanted(0)
    found = place.find()
    path, real = place.path(0), os.rename

    def raced(source: str, target: str, **folders: int) -> None:
        if target.endswith(".tmp"):
            path.write_text("new")
        real(source, target, **folders)
        if again and target.endswith(".tmp"):
            path.write_text("newer")

    def refused(*_: object, **__: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "rename", raced)
    if not links and not again:
        monkeypatch.setattr(os, "link", refused)
    done = remove(place.root, found.candidates)
    assert done.removed == []
    assert done.left == [(str(path.relative_to(place.root)), "changed since it was listed")]
    assert path.read_text() == ("newer" if again else "new")
    assert list(place.root.rglob("*.tmp")) == []


def test_a_run_that_begins_meanwhile_keeps_its_parameters(place: Place) -> None:
    other = place.other(fudge_factor=2.0)
    found = place.find(other_parameters=True)
    run(other, place.work[5:6])
    assert len(remove(place.root, found.candidates).removed) == 2
    assert (other.folder / "parameters.json").exists()
    assert other.path(place.work[5].data_id).exists()


def test_what_cannot_be_read_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.unwanted(0)
    place.unwanted(1)
    real = os.open

    def refused(path: object, *arguments: object, **named: object) -> int:
        if str(path).endswith("001.json"):
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments, **named)

    monkeypatch.setattr(os, "open", refused)
    found = place.find()
    assert found.problems == [(str(place.path(0)), "cannot be read: Permission denied")]
    assert len(remove(place.root, found.candidates).removed) == 1


def test_a_folder_that_cannot_be_listed_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def refused(path: str) -> object:
        if path.endswith("lco25m"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", refused)
    place.unwanted(0)
    found = place.find()
    assert [problem[1] for problem in found.problems] == ["cannot be listed: Permission denied"]
    assert [c.kind for c in found.candidates] == ["unrecorded"]  # and no output is said to be lost


def test_what_cannot_be_removed_is_told_and_stops_no_other(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(3):
        place.unwanted(i)
    found = place.find()
    before, real, count = tree(place.root), os.unlink, [0]

    def refused(path: str, **folder: int) -> None:
        count[0] += 1
        if count[0] == 2:
            raise PermissionError(13, "Permission denied")
        real(path, **folder)

    monkeypatch.setattr(os, "unlink", refused)
    done = remove(place.root, found.candidates)
    assert len(done.removed) == 2
    ((path, reason),) = done.failed
    assert reason == "Permission denied"
    assert (place.root / path).read_bytes() == before[path]
    assert list(place.root.rglob("*.tmp")) == []
