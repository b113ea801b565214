"""Mirrors of real SDSS files: which there are, and their files. A test says which files it misses, and is skipped."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from astra_dagster import product, releases
from astra_dagster.errors import AstraError

NAMES = {
    "apVisit": "a?Visit-*.fits",
    "apStar": "a?Star-*.fits",
    "aspcapStar": "aspcapStar-*.fits",
    "spec": "spec-*.fits",
}
"""How files are called, by the product whose reader is for them."""

BESIDE = tuple(Path(__file__).parents[2] / "shared" / name for name in ("sas", "sas-more"))


def find_mirrors() -> list[Path]:
    """The mirrors that ASTRA_TEST_SAS names, several as in PATH; without it those that are beside the project."""
    named = [Path(name) for name in os.environ.get("ASTRA_TEST_SAS", "").split(os.pathsep) if name]
    missing = [str(root) for root in named if not root.is_dir()]
    if missing:
        pytest.skip(f"ASTRA_TEST_SAS names a mirror that is not there: {', '.join(missing)}")
    found = named or [root for root in BESIDE if root.is_dir()]
    if not found:
        pytest.skip("no real SDSS files; set ASTRA_TEST_SAS to a mirror that holds them, or to several")
    return found


def find_real(mirrors: Iterable[Path], name: str) -> list[Path]:
    """All files of a product, mirror by mirror in the order of their paths; without one the test is skipped."""
    found = [path for root in mirrors for path in sorted(root.rglob(NAMES[name]))]
    if not found:
        skip_without(name)
    return found


def find_some(mirrors: Iterable[Path]) -> dict[str, list[Path]]:
    """The first and the last file of each product in each mirror, for tests that take long; often of two releases."""
    found: dict[str, dict[Path, None]] = {}
    for root in mirrors:
        for name, pattern in NAMES.items():
            paths = sorted(root.rglob(pattern))
            found.setdefault(name, {}).update(dict.fromkeys(paths[:1] + paths[-1:]))
    if not any(found.values()):
        skip_without("spectrum")
    return {name: list(paths) for name, paths in found.items() if paths}


def releases_with(name: str) -> list[str]:
    """All releases, configured ones among them, in which it is known where a product lies."""
    found = []
    for release in releases():
        with contextlib.suppress(AstraError):
            product(name).template(release)
            found.append(release)
    return found


def skip_without(what: str) -> None:
    """Skip a test for which no mirror has the files."""
    pytest.skip(f"the mirrors of real files hold no {what}")
