"""Every result says who it is of: name, place, S/N by the file, velocity and its source, flags, class and redshift."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.io.votable.ucd import parse_ucd
from astropy.table import Table

from astra_dagster import Column, SpectrumBatch, ap_visit, product, spectrum_task
from astra_dagster.errors import TaskError
from astra_dagster.execution import runner
from astra_dagster.outputs.record import record_of
from astra_dagster.outputs.store import OutputStore
from astra_dagster.spectra.products.spec import name_position
from astra_dagster.tables.collection import collect
from astra_dagster.tables.table_columns import UCDS
from astra_dagster.tasks.continuum import ap_star_continuum, ap_visit_continuum, spec_continuum, spec_lite_continuum
from astra_dagster.tasks.identity import APOGEE, BOSS, identity
from astra_dagster.tasks.snr import ap_star_snr, ap_visit_snr, aspcap_star_snr, spec_lite_snr, spec_snr
from astra_dagster.tasks.task import Task
from astra_dagster_tests.execution.work import find_work

TASKS = (
    *(ap_visit_snr, ap_star_snr, spec_snr, ap_visit_continuum, ap_star_continuum, spec_continuum),
    *(spec_lite_snr, aspcap_star_snr, spec_lite_continuum),
)
RELEASES = ("DR12", "DR13", "DR14", "DR17")


def expected_of(name: str, path: Path) -> dict[str, Any]:
    """What a file says of the first of its spectra, by astropy."""
    with fits.open(path, memmap=False) as hdus:
        header = hdus[0].header
        if not name.startswith("spec"):
            return {
                "object": header.get("OBJ") if name == "aspcapStar" else header["OBJID"],
                "ra": header.get("RA"),
                "dec": header.get("DEC"),
                "header_snr": header.get("SNR"),
                "v_rad": header.get("VHELIO"),
                "v_source": None if header.get("VHELIO") is None else "header",
                "starflag": header.get("STARFLAG"),
            }
        row = {column.lower(): hdus[2].data[column][0] for column in hdus[2].columns.names}
        star = str(row["class"]).strip() == "STAR"
        return {
            "object": name_position(float(row["plug_ra"]), float(row["plug_dec"])),
            "ra": float(row["plug_ra"]),
            "dec": float(row["plug_dec"]),
            "header_snr": float(row["sn_median_all"]),
            "v_rad": 299792.458 * float(row["z"]) if star else None,
            "v_source": "redshift" if star else None,
            "zwarning": int(row["zwarning"]),
            "class": str(row["class"]).strip(),
            "z": float(row["z"]),
        }


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_real_files(task: Task, real_mirrors: list[Path], tmp_path: Path, extra_release: str) -> None:
    work = [
        item
        for root in real_mirrors
        for name in ([task.domain.name, "spec-lite"] if task.domain.name == "spec" else [task.domain.name])
        for item in find_work(task, root, *RELEASES, extra_release, name=name)
    ]
    if not work:
        pytest.skip(f"the real files hold no {task.domain.name}")
    store = OutputStore(tmp_path, task, task.values())
    for outcome in (one for chunk in runner.run([(store, work)]) for one in chunk):
        assert outcome.written is not None, outcome.error
        expected = expected_of(task.domain.name, outcome.work.path)
        results = outcome.written.results
        assert {name: results[name][0] if store.several else results[name] for name in expected} == expected
        assert set(expected) == {name for name, column in task.columns.items() if column.identity}
        if store.several:
            header = fits.getheader(outcome.work.path)
            visits = range(1, len(results["row"] if "row" in results else results["ra"]) - 1)
            assert results["v_rad"][2:] == [header[f"VHELIO{i}"] for i in visits]
            assert results["starflag"][2:] == [header.get(f"FLAG{i}") for i in visits]
            assert results["header_snr"][2:] == [header[f"SNRVIS{i}"] for i in visits]
            assert set(results["object"]) == {header["OBJID"]}


def test_what_a_file_does_not_say_is_missing_whatever_others_say(mirror: Path, tmp_path: Path) -> None:
    for item, cards in zip(find_work(ap_visit_snr, mirror, "DR17"), ({"STARFLAG": 4, "RA": 12.5}, {}), strict=False):
        with fits.open(item.path, mode="update") as hdus:
            for name in ("RA", "DEC"):
                del hdus[0].header[name]
            hdus[0].header.update(cards)
    work = find_work(ap_visit_snr, mirror, "DR17")[:2]
    for task in (ap_visit_snr, ap_visit_continuum):
        stores = [OutputStore(tmp_path / name, task, task.values()) for name in ("together", "alone")]
        together = [one for chunk in runner.run([(stores[0], work)]) for one in chunk]
        alone = [one for item in work for chunk in runner.run([(stores[1], [item])]) for one in chunk]
        for one, other in zip(together, alone, strict=True):
            assert one.written.path.read_bytes() == other.written.path.read_bytes()
        assert [one.written.results["starflag"] for one in together] == [4, None]
        assert [one.written.results["ra"] for one in together] == [12.5, None]


def test_velocities_that_pipelines_write_for_unknown_ones_are_none() -> None:
    meta = {"v_helio": (999999.0, -9999.0, 12.5, None)}
    found = identity(SpectrumBatch(flux=np.ones((4, 3)), ivar=np.ones((4, 3)), meta=meta), APOGEE)
    assert found["v_rad"] == (None, None, 12.5, None)
    assert found["v_source"] == (None, None, "header", None)
    assert found["object"] == (None,) * 4
    meta = {"z": (0.001, 0.5, None), "class": ("STAR", "QSO", "STAR")}
    found = identity(SpectrumBatch(flux=np.ones((3, 3)), ivar=np.ones((3, 3)), meta=meta), BOSS)
    assert found["v_rad"] == (pytest.approx(299.792458), None, None)


@pytest.mark.parametrize(
    ("ra", "dec"), [(6.7137386, 0.012459214), (359.9999999, -0.00001), (237.74594, -1.4850507), (0.0, 89.99999)]
)
def test_names_by_position_are_those_of_the_iau(ra: float, dec: float) -> None:
    where = SkyCoord(ra, dec, unit="deg")
    hours, degrees = where.ra.to_string("hour", sep="", precision=6, pad=True), f"{abs(dec):.9f}"
    tenths = int(float(degrees) * 36_000 + 1e-6)
    expected = f"{'-' if dec < 0 else '+'}{tenths // 36_000:02}{tenths // 600 % 60:02}{tenths % 600 / 10:04.1f}"
    assert name_position(ra, dec) == f"SDSS J{hours[:9]}{expected}"


def test_tables_tell_units_and_meanings_to_other_programs(synthetic: Path, tmp_path: Path) -> None:
    store = OutputStore(tmp_path, spec_snr, spec_snr.values())
    done = [one for chunk in runner.run([(store, find_work(spec_snr, synthetic, "DR17"))]) for one in chunk]
    made = collect(store, {one.work.data_id.key: record_of(store, one.work, one.written) for one in done})
    assert made.fits is not None
    fields = {field.name: field for field in pq.read_schema(made.parquet)}
    header = fits.getheader(made.fits, 1)
    for name, unit, ucd in (
        ("ra", "deg", "pos.eq.ra;meta.main"),
        ("dec", "deg", "pos.eq.dec;meta.main"),
        ("v_rad", "km s-1", "spect.dopplerVeloc.opt"),
        ("object", None, "meta.id;meta.main"),
        ("key", None, "meta.id"),
        ("mjd", None, "time.epoch"),
    ):
        number = list(fields).index(name) + 1
        assert header[f"TTYPE{number}"] == name
        assert header.get(f"TUNIT{number}") == unit
        assert header[f"TUCD{number}"] == ucd
        assert fields[name].metadata[b"ucd"].decode() == ucd
    table = Table.read(made.fits)
    for name in ("plate", "mjd", "fibre"):
        assert table[name].dtype.kind == "i"
    assert [product("spec").parse_key(row["key"]).values["fibre"] for row in table] == [
        f"{n:04}" for n in table["fibre"]
    ]


def test_meanings_are_words_of_the_virtual_observatory() -> None:
    for ucd in (*UCDS.values(), *(column.ucd for column in (*APOGEE.values(), *BOSS.values()))):
        parse_ucd(ucd, check_controlled_vocabulary=True)


def test_a_column_may_lack_values(tmp_path: Path) -> None:
    def of(values: object, **promises: bool) -> object:
        @spectrum_task(requires=ap_visit, version="1", columns={"x": Column(**promises)}, name="lacking")
        def task(spectra, parameters):
            return {"x": values}

        return task(SpectrumBatch(flux=np.ones((3, 2)), ivar=np.ones((3, 2))))["x"]

    assert of([1, None, 3]) == [1, None, 3]
    assert of(("a", None, "b")) == ["a", None, "b"]
    assert of([None] * 3) == [None] * 3
    with pytest.raises(TaskError, match="is not finite"):
        of([1, None, 3], finite=True)
    with pytest.raises(TaskError, match="has shape"):
        of([{}, None, 3])
