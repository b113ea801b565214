"""Which mirrors of real files the tests go over, and what is said of those that lack some."""

import os
from pathlib import Path

import pytest

from astra_dagster_tests import mirrors
from astra_dagster_tests.mirrors import find_mirrors, find_real, find_some, releases_with


def test_the_mirrors_that_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for root in (one, two):
        root.mkdir()
    monkeypatch.setenv("ASTRA_TEST_SAS", str(two))
    assert find_mirrors() == [two]
    monkeypatch.setenv("ASTRA_TEST_SAS", f"{two}{os.pathsep}{one}{os.pathsep}")
    assert find_mirrors() == [two, one]
    monkeypatch.setenv("ASTRA_TEST_SAS", f"{one}{os.pathsep}{tmp_path / 'three'}")
    with pytest.raises(pytest.skip.Exception, match=r"not there: .*three$"):
        find_mirrors()


def test_the_mirrors_beside_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASTRA_TEST_SAS", raising=False)
    monkeypatch.setattr(mirrors, "BESIDE", (tmp_path / "sas", tmp_path / "sas-more"))
    with pytest.raises(pytest.skip.Exception, match="set ASTRA_TEST_SAS"):
        find_mirrors()
    (tmp_path / "sas-more").mkdir()
    assert find_mirrors() == [tmp_path / "sas-more"]
    (tmp_path / "sas").mkdir()
    assert find_mirrors() == [tmp_path / "sas", tmp_path / "sas-more"]


def test_files_of_several_mirrors(tmp_path: Path) -> None:
    names = {"b": ["spec-3.fits", "spec-1.fits", "spec-2.fits"], "a": ["spec-0.fits", "aspcapStar-1.fits"]}
    for root, files in names.items():
        (tmp_path / root).mkdir()
        for name in files:
            (tmp_path / root / name).touch()
    roots = [tmp_path / "b", tmp_path / "a"]
    assert [path.name for path in find_real(roots, "spec")] == [f"spec-{i}.fits" for i in (1, 2, 3, 0)]
    some = {name: [path.name for path in paths] for name, paths in find_some(roots).items()}
    assert some == {"aspcapStar": ["aspcapStar-1.fits"], "spec": ["spec-1.fits", "spec-3.fits", "spec-0.fits"]}
    with pytest.raises(pytest.skip.Exception, match="hold no apStar"):
        find_real(roots, "apStar")
    with pytest.raises(pytest.skip.Exception, match="hold no spectrum"):
        find_some([])


def test_releases_that_say_where_a_product_lies(extra_release: str) -> None:
    found = releases_with("apVisit")
    assert {"DR13", "DR17", extra_release} <= set(found)
    assert "DR11" not in found  # it has no default for the reduction
