"""Nothing that the package opens is waited for, or read without end: only files are opened, whatever they are for."""

import ast
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import astra_dagster
from astra_dagster import settings
from astra_dagster.analysis.regions import read_regions
from astra_dagster.archive.discovery import content_version
from astra_dagster.archive.partial import Partial
from astra_dagster.checks.table_checks import read_digest
from astra_dagster.errors import AstraError
from astra_dagster.fits.truncation import is_cut_short
from astra_dagster.outputs.digests import meaning_of
from astra_dagster.outputs.store import read_task_output
from astra_dagster.spectra.output import is_output, read_output
from astra_dagster.tasks import declared
from astra_dagster.tasks.snr import ap_visit_snr

MAKERS: dict[str, Callable[[Path], Any]] = {
    "FIFO": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": Path.mkdir,
    "sparse": lambda path: (path.touch(), os.truncate(path, 1 << 40)),
    "nested": lambda path: path.write_text('{"parameters": ' + "[" * 200_000),
}


def load_config(path: Path) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASTRA_CONFIG", str(path))
        return settings.config()


def load_partial(path: Path) -> object:
    target = path.with_name("x.fits")
    path.rename(path.with_name(".x.fits.part.json"))
    path.with_name(".x.fits.part").write_bytes(b"x")
    with Partial(target) as partial:
        assert partial.find_start() == (0, None)
    return None


def load_parameters(path: Path) -> object:
    folder = path.parent / "ap_visit_snr" / "0123456789ab"
    folder.mkdir(parents=True)
    path.rename(folder / "parameters.json")
    assert meaning_of(path.parent, "ap_visit_snr", "0123456789ab") is None
    return None


READERS: dict[str, Callable[[Path], object]] = {
    "output": read_output,
    "document": lambda path: read_task_output(ap_visit_snr, path),
    "regions": read_regions,
    "configuration": load_config,
    "declared": lambda path: list(declared._documents(path)),
    "is output": is_output,
    "cut short": is_cut_short,
    "partial": load_partial,
    "parameters": load_parameters,
    "contents": content_version,  # which is of any size
    "table's digest": read_digest,
}


@pytest.mark.parametrize(
    ("reader", "sort"),
    [(reader, sort) for reader in READERS for sort in MAKERS if (reader, sort) != ("contents", "sparse")],
)
def test_whatever_stands_in_the_place_of_a_file(reader: str, sort: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    MAKERS[sort](path)
    try:
        READERS[reader](path)
    except AstraError as error:
        problem = str(error)
    else:
        return
    assert str(path) in problem


def calls(tree: ast.AST) -> list[str]:
    """Names of the functions that a module calls, with what they belong to."""
    return [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]


WAYS = (".read_text", ".read_bytes", "os.open", "gzip.open", "bz2.open", "fits.open", "Table.read", "np.loadtxt")
"""Ways to open a file that wait for it, or have no bound."""

ALLOWED = {
    "files.py": {"os.open"},  # this is where it is done
    "archive/partial.py": {"os.open"},  # for writing; it is looked at what was opened
    "cleanup/removal.py": {"os.open"},  # folders
    "cli/failures.py": {"os.open"},  # of nothing, to write to
    "orchestration/runs/signs_of_life.py": {"os.open"},  # to be locked, not read
    "outputs/own_files.py": {"os.open"},  # for writing
    "datamodel/catalogue.py": {"fits.open", "Table.read"},  # of what is open already
    "tasks/inputs/forms.py": {"fits.open", "Table.read"},  # of bytes that were read, and after a look at the file
}


def test_no_module_opens_files_in_a_way_of_its_own() -> None:
    root = Path(astra_dagster.__file__).parent
    found: dict[str, set[str]] = {}
    for path in root.rglob("*.py"):
        for name in calls(ast.parse(path.read_text(encoding="utf-8"))):
            ours = name.startswith(("files(", "(files(", "files(__package__)"))  # that come with the package
            if name.endswith(WAYS) and not ours:
                found.setdefault(path.relative_to(root).as_posix(), set()).add(name)
    assert {name: ways for name, ways in found.items() if not ways <= ALLOWED.get(name, set())} == {}
    assert set(found) <= set(ALLOWED)
