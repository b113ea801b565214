"""From a search to results, from Python: what is found, read, run and told."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import psutil
import pytest
from astropy.coordinates import Angle, SkyCoord
from astropy.io import fits
from click.testing import CliRunner

from astra_dagster import ap_star, ap_visit, product
from astra_dagster.cli import main
from astra_dagster.definitions import defs
from astra_dagster.errors import InputMissingError, InvalidKeyError, ParameterError, SpectrumFileError
from astra_dagster.orchestration.discover import DiscoverConfig
from astra_dagster.orchestration.discover import search as discover
from astra_dagster.orchestration.partitions import register
from astra_dagster.orchestration.runs.jobs import match_keys
from astra_dagster.tasks.registry import find_task
from astra_dagster.tasks.snr import ap_visit_snr
from astra_dagster_tests.archive.renamed import rename_reduction

PLATE = "DR17/apo25m/120+12/5226/56000"


@pytest.fixture(autouse=True)
def in_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "astra.toml"
    config.write_text('workers = "in-process"\n')
    monkeypatch.setenv("ASTRA_CONFIG", str(config))


@pytest.fixture
def discovered(instance: dg.DagsterInstance, mirror: Path) -> Path:
    assert defs.resolve_job_def("discover").execute_in_process(instance=instance).success
    return mirror


@pytest.mark.usefixtures("discovered")
def test_from_a_search_to_results() -> None:
    found = ap_visit.search(release="dr17", plate=5226, fibre="1..3")
    assert found.keys == tuple(f"{PLATE}/00{i}" for i in (1, 2, 3))
    assert repr(found).splitlines()[:3] == [
        "3 files of apVisit",
        "release  telescope  field   plate  mjd    fibre",
        "DR17     apo25m     120+12  5226   56000  001",
    ]
    assert [one.key for one in found] == list(found.keys)
    assert (found[0].key, found[1:].keys) == (found.keys[0], found.keys[1:])
    assert found.read(wavelength=False).flux.shape == (3, 12288)

    made = ap_visit_snr.run(found.keys)
    assert (made.computed, made.failed) == (3, {})
    assert ap_visit_snr.run(found.keys).computed == 0
    assert ap_visit_snr.run(found.keys[0], overwrite=True).computed == 1
    assert ap_visit_snr.run(release="DR17", where={"fibre": "4"}, fudge_factor=2.0).computed == 1
    results = ap_visit_snr.results(found.keys)
    assert len(results) == 3
    assert np.all(results["snr"] > 0)
    assert ap_visit_snr.run(()).computed == 0


@pytest.mark.usefixtures("discovered")
def test_results_with_parameters_other_than_those_of_the_last_run() -> None:
    """They are there as long as the outputs are, with a table and without one."""
    keys = ap_visit.search(plate=5226, fibre="1..2").keys
    ap_visit_snr.run(keys)
    first = ap_visit_snr.results(keys)["snr"]
    ap_visit_snr.run(keys, fudge_factor=2.0)
    for where in ("outputs", "the table"):
        before, now = ap_visit_snr.results(keys), ap_visit_snr.results(keys, fudge_factor=2.0)
        np.testing.assert_array_equal(before["snr"], first)
        np.testing.assert_array_equal(now["snr"], 2 * first)
        assert before.source == f"2 from {where}"
        assert CliRunner().invoke(main, ["table", "ap_visit_snr"]).exit_code == 0
    assert len(ap_visit_snr.results(keys, fudge_factor=3.0)) == 0


@pytest.mark.usefixtures("discovered")
def test_files_of_stars_and_of_places_are_found() -> None:
    assert ap_star.search(star="2M00000032+5737103")[0].values["obj"] == "2M00000032+5737103"
    stars = ["2m17335483-2753043", "2MASS J00000032+5737103"]
    assert [one.values["obj"][2:4] for one in ap_star.search(star=stars)] == ["17", "00"]
    near = SkyCoord("00:00:00.32 +57:37:10.3", unit=("hourangle", "deg"))
    assert ap_star.search(near=near, radius="1 arcsec").keys == ap_star.search(star="2M00000032+5737103").keys
    assert len(ap_star.search(near=SkyCoord([near, near]), radius=Angle("6 deg"))) == 2
    with pytest.raises(InvalidKeyError, match=r"star '2M00000032\+5737104'; did you mean 2M00000032\+5737103"):
        ap_star.search(star="2M00000032+5737104")
    with pytest.raises(InvalidKeyError, match="known to be there"):
        ap_star.search(near=SkyCoord(80, -80, unit="deg"), radius="1 arcsec")
    with pytest.raises(InvalidKeyError, match=r"radius cannot be 5; .*5 arcsec"):
        ap_star.search(near=near, radius=5)
    with pytest.raises(InvalidKeyError, match="belong together"):
        ap_star.search(near=near)


def test_of_other_files_results_tell_the_star(discovered: Path) -> None:
    with pytest.raises(InputMissingError, match=r"not known which objects.*run astra-dagster run ap_visit_snr"):
        ap_visit.search(star="2M00000032+5737103")
    keys = [f"{PLATE}/001", f"{PLATE}/002"]
    paths = ap_visit.search(plate=5226).paths
    fits.setval(paths[0], "RA", value=10.5)
    fits.setval(paths[0], "DEC", value=-20.25)
    fits.setval(paths[1], "OBJID", value="2M00000032+5737103")  # of which its name tells the place
    for card in ("RA", "DEC"):
        fits.delval(paths[1], card)
    ap_visit_snr.run(keys)
    assert ap_visit.search(star="2M00000032+5737103").keys == (keys[1],)
    near = SkyCoord([10.5, 0], [-20.25, 57.6], unit="deg")
    assert ap_visit.search(near=near, radius="0.5 arcsec").keys == (keys[0],)
    assert ap_visit.search(near=near, radius="2 arcmin").keys == tuple(keys)


def test_keys_are_matched_once(discovered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []

    def counted(*given: Any) -> list[str]:
        calls.append(given)
        return match_keys(*given)

    for module in ("astra_dagster.results.running", "astra_dagster.orchestration.runs.jobs"):
        monkeypatch.setattr(f"{module}.match_keys", counted)
    assert ap_visit_snr.run(["5226-56000-1", f"{PLATE}/002"]).computed == 2
    assert len(calls) == 1


def test_a_run_that_is_interrupted_records_what_is_finished(
    discovered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = 'packages = ["astra_dagster_tests.execution.deadly"]\nworkers = "processes:2"\n'
    (tmp_path / "astra.toml").write_text(config)
    task, outputs = find_task("deadly"), tmp_path / "outputs" / "deadly"

    before = psutil.Process().children(recursive=True)  # a server of other tests, perhaps

    def interrupt() -> None:
        while not list(outputs.rglob("deadly-*.json")):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    stopper = threading.Thread(target=interrupt, daemon=True)
    stopper.start()
    with pytest.raises(KeyboardInterrupt):
        task.run(seconds=0.3)
    stopper.join()
    done = len(list(outputs.rglob("deadly-*.json")))
    assert 0 < done < 18
    assert task.status(seconds=0.3) == {"complete": done, "to_do": 18 - done}
    children = [one for child in psutil.Process().children() for one in child.children()]
    workers = [one for one in children if one not in before]  # of the fork server
    assert psutil.wait_procs(workers, timeout=20)[1] == []


def test_failures_are_told_by_key(discovered: Path) -> None:
    key = f"{PLATE}/002"
    product("apVisit").parse_key(key).path(discovered).write_bytes(b"nonsense")
    made = ap_visit_snr.run([key, f"{PLATE}/003"])
    assert made.computed == 1
    assert list(made.failed) == [key]
    assert "not a FITS file" in made.failed[key]


@pytest.mark.usefixtures("discovered")
def test_what_cannot_be_found() -> None:
    with pytest.raises(InvalidKeyError, match="run astra-dagster discover --product apVisit"):
        ap_visit.search(plate=1)
    with pytest.raises(InvalidKeyError, match="apVisit has no colour"):
        ap_visit.search(colour="red")
    with pytest.raises(InvalidKeyError, match="plate is given twice"):
        ap_visit.search(where={"plate": 5226}, plate=5226)
    with pytest.raises(InvalidKeyError, match="did you mean"):
        ap_visit_snr.run(f"{PLATE}/099")
    with pytest.raises(ParameterError, match="did you mean fudge_factor"):
        ap_visit_snr.run(fudge_facto=3)


def test_what_cannot_be_read(discovered: Path, instance: dg.DagsterInstance) -> None:
    with pytest.raises(SpectrumFileError, match="do not fit into one batch"):
        ap_visit.search(plate=5226).read()  # one of them is not dithered
    register(instance, product("apStar"), ["DR17/apo25m/120+12/-/2M00000000+0000000"])
    with pytest.raises(InputMissingError, match=r"the file is not here .*fetch\(\) gets it"):
        ap_star.search(obj="2M00000000+0000000").read()


def test_other_reductions_are_told_where_nothing_is_found(instance: dg.DagsterInstance, mirror: Path) -> None:
    rename_reduction(mirror, "r13")
    text = "its folders have files of apred r13, DR17 has apred dr17"
    hint = 'to use them, define a release of your own in astra.toml: [releases.MINE] tree = "DR17", apred = "r13"'
    (found,) = discover(instance, DiscoverConfig(products=["ap_visit"], releases=["DR17"]))
    assert str(found) == f"apVisit in DR17: 0 files, 0 new, 0 changed, 0 skipped; {text}"
    assert str(found) in [str(one) for one in discover(instance, DiscoverConfig(products=["apVisit"]))]
    with pytest.raises(InvalidKeyError) as told:
        ap_visit.search(plate=5226)
    assert str(told.value) == f"no apVisit partition is registered for this selection: {text}; {hint}"
    result = CliRunner().invoke(main, ["discover", "--product", "apVisit", "--where", "plate=5226"])
    assert result.exit_code == 1
    assert f"Error: no files found for this selection (file {mirror}); {hint}" in result.output
