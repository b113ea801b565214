"""The command that writes a package with one small task, as a template."""

import importlib.util
import keyword
import re
import secrets
import shlex
import shutil
from pathlib import Path

import click

from astra_dagster import settings
from astra_dagster.errors import AstraError, make_write_error

TASK = "my_visit_snr"

FILES = {
    "astra.toml": """\
packages = ["PACKAGE"]
# defs = "PACKAGE.defs"  # when a defs.yaml in a folder of it declares a variant
""",
    "pyproject.toml": """\
[build-system]
requires = ["setuptools>=69"]
build-backend = "setuptools.build_meta"

[project]
name = "PACKAGE"
version = "0.1"
dependencies = ["astra-dagster"]

[project.optional-dependencies]
test = ["pytest>=8"]

[tool.setuptools.packages.find]
include = ["PACKAGE*"]

[tool.pytest.ini_options]
pythonpath = ["."]

[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "PACKAGE"
code_location_target_module = "astra_dagster.definitions"
""",
    "PACKAGE/__init__.py": '''\
"""Tasks of my own."""
''',
    "PACKAGE/defs/__init__.py": '''\
"""Variants of tasks, each declared in a defs.yaml in a folder of its own."""
''',
    "PACKAGE/snr.py": '''\
"""A first task."""

import numpy as np
from astra_dagster import Parameters, ap_visit, spectrum_task


class SNRParameters(Parameters):
    fudge_factor: float = 1.0


@spectrum_task(requires=ap_visit, parameters=SNRParameters, version="1")
def my_visit_snr(spectra, parameters):
    """Mean signal-to-noise ratio of an apVisit spectrum."""
    return {"snr": parameters.fudge_factor * np.nanmean(spectra.flux * np.sqrt(spectra.ivar), axis=1)}
''',
    "tests/test_snr.py": '''\
"""A task is a plain function: no files and no Dagster are needed to try it."""

import numpy as np
from astra_dagster import SpectrumBatch

from PACKAGE.snr import my_visit_snr


def test_flux_over_error():
    spectra = SpectrumBatch(flux=np.full((2, 100), 10.0), ivar=np.full((2, 100), 4.0))
    assert my_visit_snr(spectra)["snr"] == [20.0, 20.0]
    assert my_visit_snr(spectra, fudge_factor=0.5)["snr"] == [10.0, 10.0]
''',
}
"""Contents by path; PACKAGE stands for the name of the package."""


@click.command(short_help="Write a package with a task to start from.")
@click.argument("folder", type=click.Path(path_type=Path))
def new(folder: Path) -> None:
    """Write a package with a task to start from into FOLDER, which is the name of the package too.

    Example: astra-dagster new my_tasks
    """
    place = folder.expanduser().absolute()
    check_name(place.name)
    write(place)
    for name in FILES:
        click.echo(f"wrote {folder / _named(name, place.name)}")
    before = _read_so_far()
    click.echo(f"\nIts task is {TASK}. Next:\n")
    click.echo(f"  export ASTRA_CONFIG={shlex.quote(str(place / 'astra.toml'))}")
    click.echo(f"  astra-dagster plan {TASK}")
    click.echo("  dagster dev -m astra_dagster.definitions")
    click.echo("\nIt is a project of Python, with a test:\n")
    click.echo(f"  pip install -e {shlex.quote(f'{place}[test]')}")
    click.echo(f"  pytest {shlex.quote(str(place))}")
    if before is not None:
        click.echo(f"\nThen {before} is no longer read: copy to the new file what you need of it.")


def check_name(name: str) -> None:
    """Check that a package may have this name.

    Raises
    ------
    AstraError
        If the name is not valid, or Python would import another package.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name) or name == "tests":
        raise AstraError(
            f"{name!r} cannot be the name of a package", hint="lower-case letters, digits and _: my_tasks, for example"
        )
    found = importlib.util.find_spec(name)
    if found is not None and found.origin is not None:
        raise AstraError(f"there is a package {name} already", hint="choose another name: my_tasks, for example")


def write(place: Path) -> None:
    """Write the template, completely or not at all.

    Raises
    ------
    AstraError
        If the folder is not empty, or the template cannot be written.
    """
    if place == Path.cwd():
        raise AstraError("the current folder cannot be replaced", hint="name one to be made: my_tasks, for example")
    temporary = place.with_name(f".{place.name}-{secrets.token_hex(6)}.tmp")
    try:
        if place.is_symlink() or (place.exists() and (not place.is_dir() or any(place.iterdir()))):
            raise AstraError("there is something already", path=place, hint="name a folder to be made")
        place.parent.mkdir(parents=True, exist_ok=True)
        for name, text in FILES.items():
            path = temporary / _named(name, place.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_named(text, place.name), encoding="utf-8")
        temporary.replace(place)
    except OSError as error:
        raise make_write_error(error, "the package", place) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _read_so_far() -> Path | None:
    """Return the path of the configuration file that is read now; None if there is none."""
    try:
        return settings.config_path()
    except AstraError:
        return None


def _named(text: str, package: str) -> str:
    return text.replace("PACKAGE", package)
