"""Checks of tables pass on good ones and name the key, or the night, of what is wrong."""

import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from astra_dagster import Column, ap_visit, grouped, product, spectrum_task
from astra_dagster.analysis.snr import median_snr, pixel_snr
from astra_dagster.checks.check import LISTED
from astra_dagster.checks.table_checks import (
    BEFORE,
    CHECKS,
    NIGHTS,
    Table,
    all_inputs_done,
    find_jumps,
    nights_alike,
    no_duplicates,
    read_digest,
)
from astra_dagster.errors import OutputError, TaskError
from astra_dagster.execution import runner
from astra_dagster.outputs.record import Record, record_of
from astra_dagster.outputs.store import InputFiles, OutputStore, PartitionWork
from astra_dagster.spectra.readers import read_spectra
from astra_dagster.tables.collection import collect
from astra_dagster.tasks.continuum import ap_visit_continuum
from astra_dagster.tasks.snr import ap_star_snr, ap_visit_snr, spec_snr
from astra_dagster.tasks.task import Task
from astra_dagster_tests.checks.checked import OTHER, VISIT, named, only, visit_path
from astra_dagster_tests.execution.work import work_on
from astra_dagster_tests.mirrors import skip_without
from astra_dagster_tests.tables.collected import star_toy, store_of, visit_toy, write

COLUMNS = {"level": Column("A level."), "width": Column("A width."), "name": Column("A name."), "good": Column("Good.")}


@spectrum_task(requires=ap_visit, version="1", columns=COLUMNS)
def two_numbers(spectra, parameters):
    """Two numbers, a text and a truth value."""


@spectrum_task(requires=ap_visit, version="1")
def few_numbers(spectra, parameters):
    """Whole numbers and one that is not: two spectra may have the same."""


def key_of(mjd: int, fibre: int, release: str = "DR17", telescope: str = "apo25m") -> str:
    return f"{release}/{telescope}/120+12/5226/{mjd}/{fibre:03d}"


def table(store: OutputStore, results: Mapping[str, Mapping[str, Any]], inputs: Iterable[str] = ()) -> Table:
    """The table of made-up outputs."""
    records: dict[str, Record] = {}
    for key, values in results.items():
        records |= write(store, key, values)
    return Table(store, collect(store, records, fits=False).parquet, lambda: list(inputs))


def nights_of(*medians: float, first: int = 56000, fibres: int = 8, **key: str) -> dict[str, dict[str, Any]]:
    """Results of some nights; every night has the same scatter, of 1."""
    offsets = np.linspace(-1.349, 1.349, fibres)
    return {
        key_of(first + night, fibre + 1, **key): {
            "level": float(median + offsets[fibre]),
            "width": 0.1 + 1e-3 * fibre + 1e-6 * night,
            "name": f"{night}",
            "good": night % 2 == 0,
        }
        for night, median in enumerate(medians)
        for fibre in range(fibres)
    }


def test_which_checks_a_task_gets() -> None:
    def names(task: Task) -> list[str]:
        return [check.name for check in CHECKS if check.applies(task)]

    generic = ["all_inputs_done", "no_duplicates"]
    for task in (ap_visit_snr, ap_visit_continuum, spec_snr, two_numbers):
        assert names(task) == [*generic, "nights_alike"]
    of_night = spectrum_task(requires=grouped(ap_visit_snr, by=("plate", "mjd")), version="1", name="of_night")
    of_plate = spectrum_task(requires=grouped(ap_visit_snr, by="plate"), version="1", name="of_plate")
    assert names(of_night(lambda visits, parameters: None)) == [*generic, "nights_alike"]
    for task in (ap_star_snr, of_plate(lambda visits, parameters: None)):
        assert names(task) == generic


def test_inputs_without_a_result(tmp_path: Path) -> None:
    store = store_of(tmp_path, two_numbers)
    done = nights_of(50.0)
    failed, waiting = key_of(56009, 1), key_of(56009, 2)
    work = PartitionWork(ap_visit.parse_key(failed), (InputFiles("apVisit", "path", "v1", ()),))
    store.note_failure(work, TaskError("the flux is odd"))
    verdict = all_inputs_done(table(store, done, [waiting, *done, failed]))
    assert [(f.key, f.value, f.unusable) for f in verdict.findings] == [
        (waiting, "no result", False),
        (failed, "failed: the flux is odd", False),
    ]
    assert (verdict.looked_at, verdict.what, verdict.note) == (10, "inputs", "8 partitions have results")
    assert all_inputs_done(table(store, done, done)).findings == ()


def test_a_table_without_a_row_is_unusable(tmp_path: Path) -> None:
    inputs = [key_of(56000 + i, 1) for i in range(3 * LISTED)]
    verdict = all_inputs_done(table(store_of(tmp_path, two_numbers), {}, inputs))
    assert named(verdict) == inputs
    assert all(finding.unusable for finding in verdict.findings)
    assert all_inputs_done(table(store_of(tmp_path, two_numbers), {})).findings == ()


def test_the_same_results_twice(tmp_path: Path) -> None:
    results = nights_of(50.0, 51.0)
    first, *others = key_of(56000, 3), key_of(56001, 4), key_of(56001, 8)
    for key in others:
        results[key] = results[first]
    verdict = no_duplicates(table(store_of(tmp_path, two_numbers), results))
    assert (only(verdict).key, only(verdict).value) == (first, f"same results as {', '.join(others)}")
    assert verdict.looked_at == 16


def test_the_same_results_in_other_releases(tmp_path: Path) -> None:
    values = {"level": 1.5, "width": 2.5, "name": "a", "good": True}
    results = {key_of(56000, 1): values, key_of(56000, 1, release="DR16"): values}
    assert no_duplicates(table(store_of(tmp_path, two_numbers), results)).findings == ()


def test_results_that_may_be_the_same_by_chance(tmp_path: Path) -> None:
    values = {"count": 3, "share": 0.5, "name": "a", "whole": 2.0}
    results = {key_of(56000, fibre): values for fibre in (1, 2)}
    assert no_duplicates(table(store_of(tmp_path, few_numbers), results)).findings == ()


@pytest.mark.parametrize("task", [ap_visit_snr, ap_visit_continuum], ids=lambda task: task.name)
def test_a_file_that_is_there_twice(task: Task, mirror: Path, tmp_path: Path) -> None:
    store = OutputStore(tmp_path / "out", task, task.values())
    fits.delval(visit_path(mirror), "FIBERID")  # else its copy is refused

    def made() -> Table:
        outcomes = [one for chunk in runner.run([(store, work_on(mirror))]) for one in chunk]
        records = {one.work.data_id.key: record_of(store, one.work, one.written) for one in outcomes}
        return Table(store, collect(store, records, fits=False).parquet, lambda: list(records))

    for check in CHECKS:
        assert check.look(made()).findings == ()
    shutil.copy2(visit_path(mirror), visit_path(mirror, OTHER))
    verdict = no_duplicates(made())
    assert (only(verdict).key, only(verdict).value) == (VISIT, f"same results as {OTHER}")


def test_an_object_that_is_there_twice(tmp_path: Path) -> None:
    stars = [f"DR17/{where}/-/2M0{i}" for i, where in enumerate(["apo25m/120+12", "apo25m/130+12", "lco25m/120+12"])]
    results = {key: {"velocity": [i + 0.5, 2.0], "name": ["a", "b"]} for i, key in enumerate(stars)}
    assert no_duplicates(table(store_of(tmp_path, star_toy), results)).findings == ()
    again = [stars[0].replace("120+12", "130+12"), stars[0].replace("apo25m", "lco25m")]
    results |= {key: {"velocity": [9.5, 2.0], "name": ["a", "b"]} for key in again}
    verdict = no_duplicates(table(store_of(tmp_path, star_toy), results))
    assert (only(verdict).key, only(verdict).value) == (stars[0], f"the object is also {again[0]}")
    assert verdict.looked_at == 5


def test_many_duplicates_are_told_shortly(tmp_path: Path) -> None:
    values = {"level": 1.5, "width": 2.5, "name": "a", "good": True}
    results = {key_of(56000, fibre): values for fibre in range(1, 8)}
    found = only(no_duplicates(table(store_of(tmp_path, two_numbers), results))).value
    assert found == f"same results as {', '.join(key_of(56000, fibre) for fibre in (2, 3, 4))} and 3 more"


def test_a_night_that_jumps(tmp_path: Path) -> None:
    store = store_of(tmp_path, two_numbers)
    verdict = nights_alike(table(store, nights_of(50, 50.5, 49.5, 50, 50, 54)))
    assert only(verdict).key == "DR17/apo25m/*/*/56005/*"
    assert only(verdict).value == "level 54, median of 8"
    assert only(verdict).expected.startswith("50, scatter 1")
    assert not only(verdict).unusable
    assert (verdict.looked_at, verdict.what) == (3, "nights")
    assert verdict.note == "3 left out: too few spectra in them or before them"


def test_nights_that_do_not(tmp_path: Path) -> None:
    alike = nights_of(50, 50.5, 49.5, 50, 50, 52)
    assert nights_alike(table(store_of(tmp_path / "a", two_numbers), alike)).findings == ()
    other_telescope = alike | nights_of(90, 90, 90, 90, telescope="lco25m", first=56002)
    assert nights_alike(table(store_of(tmp_path / "b", two_numbers), other_telescope)).findings == ()
    few = alike | nights_of(90, first=56009, fibres=4)
    assert nights_alike(table(store_of(tmp_path / "c", two_numbers), few)).findings == ()
    text = {key: {"name": "a", "cells": [1.0 * i]} for i, key in enumerate(alike)}
    verdict = nights_alike(table(store_of(tmp_path / "d", few_numbers), text))
    assert (verdict.looked_at, verdict.findings) == (0, ())


def test_groups_of_a_night_jump_too(tmp_path: Path) -> None:
    @spectrum_task(requires=grouped(ap_visit_snr, by=("telescope", "plate", "mjd")), version="1")
    def of_night(visits, parameters):
        """A number a plate and night."""

    results = {
        f"DR17/apo25m/{plate}/{56000 + night}": {"snr": 50 + plate / 10 + 100 * (night == 4)}
        for night in range(5)
        for plate in range(10)
    }
    verdict = nights_alike(table(store_of(tmp_path, of_night), results))
    assert only(verdict).key == "DR17/apo25m/*/56004"


def jumped(*nights: Iterable[float]) -> list[int]:
    return [i for i, jump in find_jumps([np.array(list(night), dtype=float) for night in nights]) if jump]


def test_what_a_jump_is() -> None:
    rng = np.random.default_rng(1)
    steady = [rng.normal(50, 1, 30) for _ in range(60)]
    assert jumped(*steady) == []
    assert jumped(*steady[:59], steady[59] + 4) == [59]
    assert jumped(*steady[:40], steady[40] + 4, *steady[41:]) == [40]
    assert jumped(*steady[: 59 - NIGHTS], steady[0] + 4, *steady[60 - NIGHTS :]) == []  # long known
    assert jumped(*steady[:59], np.append(steady[59], [np.nan] * 99)) == []
    assert jumped(*steady[:59], [np.nan] * 30) == []
    assert jumped([3.0] * 30, [3.001] * 30) == []
    assert jumped([3.0] * 30, [3.1] * 30) == [1]
    assert jumped([0.0] * 30, [0.0] * 30) == []
    assert jumped(steady[0]) == []
    assert jumped() == []


def test_no_five_real_visits_in_a_row_jump(real_mirrors: list[Path]) -> None:
    paths = [path for root in real_mirrors for path in root.glob("dr13/**/a?Visit*.fits")]
    if len(paths) < 3 * BEFORE:
        skip_without("visits of DR13 in a number that tells what is usual")
    paths.sort(key=lambda path: (path.name.split("-")[3], path.name))
    spectra = [read_spectra(path, "apVisit", wavelength=False) for path in paths]
    columns = {
        "snr": [float(median_snr(pixel_snr(one.flux, one.error))[0]) for one in spectra],
        "good": [int((~one.bad).sum()) for one in spectra],
    }
    for values in columns.values():
        for i in range(len(values) - 4):
            assert jumped([*values[:i], *values[i + 5 :]], values[i : i + 5]) == []


def test_a_table_that_cannot_be_read(tmp_path: Path) -> None:
    good = table(store_of(tmp_path, two_numbers), nights_of(50.0), ["a"])
    assert read_digest(good.path) == good.store.digest
    good.path.write_bytes(good.path.read_bytes()[:-20])
    assert read_digest(good.path) is None
    for check in CHECKS:
        with pytest.raises(OutputError, match=r"two_numbers_table\.parquet"):
            check.look(Table(good.store, good.path, good.inputs))
    good.path.unlink()
    with pytest.raises(OutputError):
        all_inputs_done(good)


@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_table_is_told_of_as_such(
    tmp_path_factory: pytest.TempPathFactory, place: float, byte: int, cut: bool
) -> None:
    contents = bytearray(_small(tmp_path_factory).path.read_bytes())
    at = int(place * len(contents))
    contents[at] = byte
    path = tmp_path_factory.mktemp("damaged") / "table.parquet"
    path.write_bytes(contents[: at + 1] if cut else contents)
    read_digest(path)
    for check in CHECKS:
        damaged = Table(store_of(path.parent, two_numbers), path, lambda: [VISIT])
        with suppress(OutputError):
            check.look(damaged)


def _small(factory: pytest.TempPathFactory) -> Table:
    root = factory.getbasetemp() / "small"
    made = store_of(root, two_numbers)
    path = root / "two_numbers" / made.digest / "two_numbers_table.parquet"
    return Table(made, path, list) if path.exists() else table(made, nights_of(50.0, 51.0))


def test_only_single_numbers_are_looked_at(tmp_path: Path) -> None:
    cells = {"velocity": 1.5, "count": 1, "good": True, "name": "a", "cells": [1.5, 2.5]}
    made = table(store_of(tmp_path, visit_toy), {key_of(56000, 1): cells})
    assert made.numbers == ("velocity", "count")
    assert product("apVisit").parts == made.parts[1:]
