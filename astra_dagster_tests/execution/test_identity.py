"""A file that says in its header that it is another one than its path says is refused in a run, and told."""

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from click.testing import CliRunner

from astra_dagster import demo, grouped, product, spectrum_task
from astra_dagster.cli import main
from astra_dagster.errors import Fault, IdentityError, OtherProductError
from astra_dagster.execution import runner
from astra_dagster.outputs.store import InputFiles, OutputStore, PartitionWork
from astra_dagster.spectra.identity import CLAIMS, check_identity
from astra_dagster.spectra.products.astra import ASTRA
from astra_dagster.spectra.readers import READERS, read_spectra
from astra_dagster.tasks.snr import ap_visit_snr
from astra_dagster.tasks.task import Task
from astra_dagster_tests.execution.work import find_work, run, work_of
from astra_dagster_tests.spectra.synthetic import (
    write_ap_star,
    write_aspcap_star,
    write_astra,
    write_mwm,
    write_one_metre,
    write_sp_plate,
    write_sp_spec,
    write_spec,
)


def write_models(path: Path, pipeline: str, star: bool) -> Path:
    return write_astra(path / "file.fits", pipeline, star=star)


SPEC = {"run2d": "26", "plate": 266, "mjd": 60000, "fibre": 31}
PLATE = {"run2d": "v5_13_2", "plate": 266, "mjd": 51602}
SDSSV = {"field": 112360, "mjd": 60000, "catalogid": 27021598150202075}
ONE_METRE = {"telescope": "apo1m", "field": "calibration", "reduction": "VESTA"}
NIGHTS = {"coadd": "allepoch", "obs": "apo", "mjd": 60000, "catalogid": 27021598150202075}
VISIT = {"telescope": "apo25m", "field": "120+12", "plate": 5226, "mjd": 56000, "fibre": 77}
STAR = {"telescope": "apo25m", "field": "N2243", "obj": "2M00000002+0000001"}
FILES: Mapping[str, tuple[str, Mapping[str, Any], Callable[[Path], Path]]] = {
    "apVisit": ("DR17", VISIT, lambda path: demo.write_ap_visit(product("apVisit").data_id("DR17", **VISIT), path)),
    "apStar": ("DR17", STAR, lambda path: write_ap_star(path / "file.fits", 3)),
    "aspcapStar": (
        "DR17",
        {"telescope": "apo25m", "field": "120+12", "obj": "2M00000032+5737103"},
        lambda path: write_aspcap_star(path / "file.fits"),
    ),
    "apVisit-1m": ("DR17", {**ONE_METRE, "mjd": 56000}, partial(write_one_metre, name="apVisit-1m")),
    "apStar-1m": ("DR17", ONE_METRE, partial(write_one_metre, name="apStar-1m")),
    "spec": ("DR17", SPEC, lambda path: write_spec(path / "file.fits", "26", full=True)),
    "spec-lite": ("DR17", SPEC, lambda path: write_spec(path / "file.fits", "26")),
    "specLite": ("DR19", SDSSV, lambda path: write_spec(path / "file.fits")),
    "specFull": ("DR19", SDSSV, lambda path: write_spec(path / "file.fits", full=True)),
    "specLite_epoch": ("DR19", SDSSV, lambda path: write_spec(path / "file.fits")),
    "specFull_epoch": ("DR19", SDSSV, lambda path: write_spec(path / "file.fits", full=True)),
    "specLite_coadd": ("DR20", NIGHTS, lambda path: write_spec(path / "file.fits", nights=True)),
    "specFull_coadd": ("DR20", NIGHTS, lambda path: write_spec(path / "file.fits", full=True, nights=True)),
    "spSpec": ("DR20", SDSSV, lambda path: write_sp_spec(path / "file.fits", sdss5=True)),
    "spPlate": ("DR17", PLATE, lambda path: write_sp_plate(path / "file.fits")),
    "mwmStar": ("DR19", {"sdss_id": 103020000}, lambda path: write_mwm(path / "file.fits", (0, 0, 1, 1))),
    "mwmVisit": (
        "DR19",
        {"sdss_id": 103020000},
        lambda path: write_mwm(path / "file.fits", (3, 1, 0, 0), star=False),
    ),
    **{
        name: ("DR19", {"sdss_id": 103020000}, partial(write_models, pipeline=pipeline, star=star))
        for name, (pipeline, star) in ASTRA.items()
    },
}
"""Release, parts of the key and writer of a file of each product that is read."""

OTHERS: Mapping[str, Any] = {
    "telescope": "lco25m",
    "field": "000+02",
    "plate": 5227,
    "mjd": 56001,
    "fibre": 78,
    "obj": "2M00000002+0000002",
    "catalogid": 27021598150202076,
    "sdss_id": 103020001,
}
NOT_COMPARED = {
    *((f"{name}-1m", part) for name in ("apVisit", "apStar") for part in ("telescope", "field", "reduction")),
    *(("apVisit", "field"), ("aspcapStar", "telescope")),
    *((name, "run2d") for name in ("spec", "spec-lite", "spPlate")),
    *((f"spec{kind}_epoch", "mjd") for kind in ("Lite", "Full")),
    *((f"spec{kind}_coadd", part) for kind in ("Lite", "Full") for part in ("mjd", "coadd", "obs")),
}
"""What these files do not say, or say of their reduction, or what no other can have."""


def task_on(name: str) -> Task:
    @spectrum_task(requires=product(name), version="1", name="level")
    def level(spectra, parameters):
        return {"level": np.nanmean(spectra.flux, axis=1)}

    return level


def run_at(name: str, values: Mapping[str, Any], written: Path, root: Path) -> runner.Outcome:
    """Copy a file to where it would be with other values, and run a task on it."""
    release = FILES[name][0]
    data_id = product(name).data_id(release, **values)
    path = data_id.path(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(written, path)
    task = task_on(name)
    (outcome,) = run(OutputStore(root / "outputs", task, task.values()), [work_of(data_id, path, "1")])
    return outcome


@pytest.mark.parametrize("name", FILES)
def test_a_file_at_the_path_of_another(name: str, tmp_path: Path) -> None:
    _, values, write = FILES[name]
    written = write(tmp_path / "written")
    right = run_at(name, values, written, tmp_path / "right")
    assert right.written is not None, right.error
    compared = set()
    for part, value in values.items():
        other = 112361 if part == "field" and name.startswith(("spec", "spSpec")) else OTHERS.get(part)
        if (name, part) in NOT_COMPARED:
            continue
        compared.add(part)
        outcome = run_at(name, {**values, part: other}, written, tmp_path / part)
        assert isinstance(outcome.error, IdentityError), part
        assert outcome.error.fault is Fault.FILE
        assert outcome.error.path == str(outcome.work.path)
        assert outcome.error.key == outcome.work.data_id.key
        said, _, path = str(outcome.error).partition(", and the path ")
        assert f"{part} {value} (" in said
        assert f"{part} {outcome.work.data_id.values[part]} (key " in path
        assert "fetch the file again" in path
        assert len(read_spectra(outcome.work.path, name)) > 0  # without a key there is nothing to compare
    assert compared == {claim.part for claim in CLAIMS[name]} & set(values) - {
        part for part in values if (name, part) in NOT_COMPARED
    }


def test_a_file_of_another_product_costs_itself_alone(tmp_path: Path) -> None:
    ids = [product("mwmVisit").data_id("DR19", sdss_id=number) for number in (7, 103020000)]
    works = [work_of(data_id, data_id.path(tmp_path), "1") for data_id in ids]
    for work, star in zip(works, (True, False), strict=True):
        write_mwm(work.path, (3, 0, 0, 0), star=star)
    task = task_on("mwmVisit")
    wrong, other = run(OutputStore(tmp_path / "outputs", task, task.values()), works)
    assert other.written is not None, other.error
    assert isinstance(wrong.error, OtherProductError)
    assert wrong.error.fault is Fault.FILE
    assert "a file of mwmStar, not of mwmVisit: HDU 1 (BOSS/APO spectra) has a column min_mjd" in str(wrong.error)
    assert (wrong.error.key, wrong.error.path) == (ids[0].key, str(works[0].path))


def test_every_product_that_is_read_is_compared() -> None:
    assert set(CLAIMS) == set(READERS) == set(FILES)
    for name, claims in CLAIMS.items():
        assert {claim.part for claim in claims} & set(product(name).parts)


def spoken(name: str, key: str, path: Path, **cards: object) -> None:
    """Set cards of a file's header, or take them away, and compare it with a key."""
    with fits.open(path, mode="update") as hdus:
        for card, value in cards.items():
            if value is None:
                hdus[0].header.remove(card, ignore_missing=True)
            else:
                hdus[0].header[card] = value
    check_identity(read_spectra(path, name), product(name), key, path)


def test_what_is_said_in_another_way_is_no_contradiction(tmp_path: Path) -> None:
    visit = FILES["apVisit"][2](tmp_path)
    key = "DR17/apo25m/120-08-RV/5226/56000/077"
    for cards in ({"FIELD": "120-08"}, {"FIELD": None, "LOCID": 5225}, {"PLATE": " 05226"}, {"TELESCOP": "SDSS 2.5-M"}):
        spoken("apVisit", key, visit, **cards)
    spoken("apVisit", key, visit, **dict.fromkeys(("PLATE", "MJD5", "FIBERID", "TELESCOP", "LOCID")))
    star = FILES["apStar"][2](tmp_path)
    spoken("apStar", "DR13/apo25m/4424/-/2M00000002+0000001", star)
    spoken("apStar", "DR17/apo25m/N2243-RV/-/2M00000002+0000001", star)
    with pytest.raises(IdentityError, match=r"field 4424 \(FIELD or LOCID\), and the path field 4425"):
        spoken("apStar", "DR13/apo25m/4425/-/2M00000002+0000001", star)
    with pytest.raises(IdentityError, match="healpix 1013"):
        spoken("apStar", "DR19/apo25m/-/1014/2M00000002+0000001", star, HEALPIX=1013)


def test_each_file_of_a_group_is_compared(mirror: Path, tmp_path: Path) -> None:
    visits = product("apVisit")

    @spectrum_task(requires=grouped(visits, by="plate"), version="1", name="count")
    def count(files, parameters):
        return {"files": [len(files)]}

    works = [item for item in find_work(ap_visit_snr, mirror, "DR17") if "/5226/" in item.data_id.key][:2]
    paths, keys = zip(*((str(item.path), item.data_id.key) for item in works), strict=True)
    group = count.domain.parse_key("DR17/5226")
    store = OutputStore(tmp_path / "out", count, count.values())
    for given, right in ((keys, True), (keys[::-1], False)):
        work = PartitionWork(group, (InputFiles("apVisit", "2 partitions", "1", paths, given),))
        ((outcome,),) = runner.run([(store, [work])])
        assert (outcome.written is not None) == right
        assert isinstance(outcome.error, IdentityError) != right


def test_the_command_names_the_file_and_does_all_others(mirror: Path, tmp_path: Path, monkeypatch: Any) -> None:
    for name, folder in (("SAS_BASE_DIR", mirror), ("DAGSTER_HOME", tmp_path / "h"), ("ASTRA_OUTPUTS", tmp_path / "o")):
        monkeypatch.setenv(name, str(folder))
    one, other = (item.path for item in find_work(ap_visit_snr, mirror, "DR17")[:2])
    shutil.copy(one, other)

    def said(words: str, code: int = 0) -> str:
        done = CliRunner().invoke(main, words.split())
        assert done.exit_code == code, done.output
        return done.output

    said("init")
    said("discover --product apVisit --release DR17")
    text = said("run ap_visit_snr", code=1)
    assert "fibre 1 (FIBERID), and the path fibre 002" in text
    assert str(other) in text
    assert "11 complete, 1 to do" in said("plan ap_visit_snr")


def test_no_real_file_is_refused(real_mirrors: list[Path], extra_release: str) -> None:
    compared = 0
    for root in real_mirrors:
        for name in READERS:
            for item in find_work(ap_visit_snr, root, "DR12", "DR13", "DR14", "DR17", extra_release, name=name):
                check_identity(read_spectra(item.path, name), product(name), item.data_id.key, item.path)
                compared += 1
    assert compared
