"""Groups of files in Dagster: what is said of those that are not whole, and by what files may be grouped."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner

from astra_dagster import product
from astra_dagster.cli import main
from astra_dagster.demo import write_ap_visit
from astra_dagster.orchestration import records
from astra_dagster.orchestration.checks import inputs
from astra_dagster.orchestration.clean import CleanConfig, survey
from astra_dagster.orchestration.partitions import register, registered, unregister
from astra_dagster.orchestration.runs.jobs import jobs_of, match_keys
from astra_dagster.orchestration.watch.settings import watched
from astra_dagster.outputs import document
from astra_dagster.outputs.store import OutputStore
from astra_dagster.tables.collection import collect
from astra_dagster.tables.table import read_head
from astra_dagster.tasks import registry

VISITS = product("apVisit")
TASKS = """
import numpy as np
from astra_dagster import SpectrumBatch, ap_star, ap_visit, catalogue_column, grouped, matching, spectrum_task
from astra_dagster.tasks.snr import ap_star_snr, ap_visit_snr

@spectrum_task(requires=grouped(ap_visit_snr, by=("field", "plate"), minimum="all"), version="1", columns={"best": ""})
def plate_snr(visits, parameters):
    return {"best": max(visit["snr"][0] for visit in visits)}

@spectrum_task(requires=grouped(plate_snr, by="field"), version="1")
def field_snr(plates, parameters):
    return {"best": max(plate["best"][0] for plate in plates), "visits": int(sum(p["members"][0] for p in plates))}

@spectrum_task(requires=grouped(field_snr, by=()), version="1")
def release_snr(fields, parameters):
    return {"best": max(field["best"][0] for field in fields)}

@spectrum_task(requires=grouped(ap_visit, by=()), version="1")
def release_level(visits, parameters) -> SpectrumBatch:
    level = np.mean([np.nanmean(visit.flux) for visit in visits])
    return SpectrumBatch(flux=np.full((1, 3), level), ivar=np.ones((1, 3)), wavelength=np.arange(1.0, 4.0))

@spectrum_task(
    requires=(grouped(ap_visit_snr, by=("telescope", "field")), grouped(ap_star_snr, by=("telescope", "field"))),
    version="1",
)
def field_of_both(visits, stars, parameters):
    return {"visits": len(visits), "stars": len(stars)}

@spectrum_task(requires=grouped(ap_visit_snr, by=catalogue_column("objects.csv", "cluster")), version="1")
def cluster_snr(visits, parameters):
    return {"best": max(visit["snr"][0] for visit in visits)}

@spectrum_task(
    requires=(
        grouped(ap_visit_snr, by=catalogue_column("objects.csv", "cluster")),
        grouped(ap_star_snr, by=catalogue_column("stars.csv", "cluster")),
    ),
    version="1",
)
def cluster_of_both(visits, stars, parameters):
    return {"visits": len(visits), "stars": len(stars)}

def of_the_field(star, path):
    return [{"field": star.values["field"]}]

@spectrum_task(requires=(ap_star, matching(plate_snr, ap_star, of_the_field)), version="1")
def star_plates(star, plates, parameters):
    return {"plates": [len(plates)] * len(star)}
"""
PLATE = "DR17/120+12/5226"
LATE = "DR17/apo25m/120+12/5226/56000/077"


@pytest.fixture
def visits(
    instance: dg.DagsterInstance, mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Sequence[str]:
    """All visits of the mirror and one that has not come, registered with the groups that they are in."""
    (tmp_path / "tasks_of_groups.py").write_text(TASKS)
    (tmp_path / "astra.toml").write_text('packages = ["tasks_of_groups"]\nworkers = "in-process"\n')
    monkeypatch.setenv("ASTRA_CONFIG", str(tmp_path / "astra.toml"))
    monkeypatch.syspath_prepend(tmp_path)
    astra("discover", "--release", "DR17")
    return list(registered(instance, VISITS))


def astra(*arguments: str) -> str:
    """What a command says, which succeeds."""
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    return done.output


def last_record(instance: dg.DagsterInstance, name: str, key: str) -> dict[str, Any]:
    wanted = dg.AssetRecordsFilter(dg.AssetKey(name), asset_partitions=[key])
    (event,) = instance.fetch_materializations(wanted, limit=1).records
    assert event.asset_materialization is not None
    return {name: entry.value for name, entry in event.asset_materialization.metadata.items()}


def test_a_group_that_waits_is_told_and_is_no_failure(
    instance: dg.DagsterInstance, visits: Sequence[str], mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = registry.tasks()["plate_snr"]
    register(instance, VISITS, [LATE], registry.groups())
    groups = list(registered(instance, task.domain))
    made = astra("run", "plate_snr")
    assert "too few yet: 1\n  1 waits for 1 of 9 ap_visit_snr\n" in made
    assert {key for key in groups if records.task_records(instance, task, [key])} == {*groups} - {PLATE}
    assert inputs(instance, task) == [key for key in groups if key != PLATE]
    (document,) = [one for one in json.loads(astra("plan", "plate_snr", "--json")) if one["task"] == "plate_snr"]
    assert document["too_few"] == [{"partition": PLATE, "reason": "waits for 1 of 9 ap_visit_snr"}]
    assert "waits for 1 of 9 ap_visit_snr" in astra("plan", "plate_snr", "--explain", PLATE)

    write_ap_visit(VISITS.parse_key(LATE), mirror)
    assert "\n2 computed; " in astra("run", "plate_snr", "--where", "plate=5226")
    assert f"    {LATE}, version " in astra("plan", "plate_snr", "--explain", PLATE)
    monkeypatch.setattr(records, "LISTED", 2)
    astra("run", "plate_snr", "--where", "plate=5226", "--overwrite")
    about = last_record(instance, "plate_snr", PLATE)
    assert (about["members"], about["expected"]) == (9, 9)
    first, second, more = about["made_from"]
    assert [text.partition(", version ")[0] for text in (first, second)] == sorted([*visits, LATE])[:2]
    assert more == "and 7 more"

    VISITS.parse_key(LATE).path(mirror).unlink()  # what was made of nine stays
    found = survey(instance, Path(os.environ["ASTRA_OUTPUTS"]), CleanConfig(tasks=["plate_snr"]).selection(mirror))
    assert found.candidates == []
    store = OutputStore(Path(os.environ["ASTRA_OUTPUTS"]), task, task.values())
    made_table = collect(store, records.task_records(instance, task, groups), fits=False)
    rows = {row["key"]: row for row in read_head(made_table.parquet, 100)}
    assert list(rows[PLATE])[:8] == ["key", "release", "field", "plate", "spectrum", "best", "members", "expected"]
    assert (rows[PLATE]["members"], rows[PLATE]["expected"]) == (9, 9)


def stored(name: str, key: str) -> dict[str, Any]:
    task = registry.tasks()[name]
    store = OutputStore(Path(os.environ["ASTRA_OUTPUTS"]), task, task.values())
    return dict(document.read(store.path(task.domain.parse_key(key)), task.output).results)


def test_a_group_is_chosen_by_the_key_of_a_member(instance: dg.DagsterInstance, visits: Sequence[str]) -> None:
    member = next(key for key in visits if "/5226/" in key)
    assert match_keys(records.DagsterLedger(instance), registry.tasks()["plate_snr"], [member, PLATE]) == [PLATE]
    assert "plate_snr: 1 partitions" in astra("plan", "plate_snr", member)
    assert registry.tasks()["plate_snr"].run(member).computed == 9  # of eight visits first


def test_groups_of_groups_up_to_a_whole_release(instance: dg.DagsterInstance, visits: Sequence[str]) -> None:
    tasks = registry.tasks()
    assert list(registered(instance, tasks["release_snr"].domain)) == ["DR17"]
    astra("run", "release_snr", "release_level")
    best = {key: stored("plate_snr", key)["best"] for key in registered(instance, tasks["plate_snr"].domain)}
    fields = {key: stored("field_snr", key) for key in registered(instance, tasks["field_snr"].domain)}
    assert {key: field["members"] for key, field in fields.items()} == Counter(key.rpartition("/")[0] for key in best)
    assert sum(field["visits"] for field in fields.values()) == len(visits)
    assert stored("release_snr", "DR17") == {
        "best": max(best.values()),
        "members": len(fields),
        "expected": len(fields),
    }
    assert stored("release_level", "DR17") == {"members": len(visits), "expected": len(visits)}
    for name in ("release_snr", "release_level"):
        path = OutputStore(Path(os.environ["ASTRA_OUTPUTS"]), tasks[name], tasks[name].values()).path_of("DR17")
        assert (path.name, path.parent.parent.name) == (f"{name}-DR17.{tasks[name].output}", name)
    assert "1 complete, 0 to do" in astra("plan", "release_snr").split("release_snr: ")[1]
    found = survey(instance, Path(os.environ["ASTRA_OUTPUTS"]), CleanConfig(older_days=0).selection(Path()))
    assert found.candidates == []


def test_groups_of_two_products_are_done_together(
    instance: dg.DagsterInstance, visits: Sequence[str], mirror: Path
) -> None:
    task = registry.tasks()["field_of_both"]
    astra("run", "field_of_both", "star_plates")
    stars = list(registered(instance, product("apStar")))
    for key in registered(instance, task.domain):
        of_both = [sum(one.startswith(f"{key}/") for one in keys) for keys in (visits, stars)]
        if all(of_both):
            found = stored("field_of_both", key)
            assert [found["visits"], found["stars"], found["members"]] == [*of_both, sum(of_both)]
    plates = {key: stored("star_plates", key)["plates"] for key in stars}
    assert all(set(found) == {1} for found in plates.values())
    (several,) = {len(found) for key, found in plates.items() if key == stars[0]}
    assert stored("star_plates", stars[0])["members"] == [1] * several

    # New stars, as new visits, lead to the groups that they are in.
    (mirror / "stars.csv").write_text(f"obj,cluster\n{stars[0].rpartition('/')[2]},M67\n")
    for name, group in (("field_of_both", "/".join(stars[0].split("/")[:3])), ("cluster_of_both", "DR17/M67")):
        other = registry.tasks()[name]
        store = OutputStore(Path(os.environ["ASTRA_OUTPUTS"]), other, other.values())
        *_, job = jobs_of(instance, [store], files=stars[:1], product=product("apStar"))
        assert job.keys == [group]
    for item in (product("apStar"), VISITS):
        assert task in watched(item).chosen()
    assert task not in watched(product("spec")).chosen()


def test_a_catalogue_tells_the_groups(instance: dg.DagsterInstance, visits: Sequence[str], mirror: Path) -> None:
    task = registry.tasks()["cluster_snr"]
    catalogue = mirror / "objects.csv"

    def write(**clusters: Sequence[str]) -> None:
        """Write which of the visits are in which cluster."""
        rows = [f"{key.split('/')[3]},{key.split('/')[5]},{name}" for name, keys in clusters.items() for key in keys]
        catalogue.write_text("\n".join(["plate,fibre,cluster", *rows]))

    def plan(name: str = "cluster_snr") -> str:
        return astra("plan", name).partition(f"{name}: ")[2]

    assert list(registered(instance, task.domain)) == []  # there was no catalogue, and all else was found
    write(M67=visits[:3], NGC188=visits[3:5])
    astra("discover", "--release", "DR17")
    assert list(registered(instance, task.domain)) == ["DR17/M67", "DR17/NGC188"]
    astra("run", "cluster_snr")
    assert [stored("cluster_snr", f"DR17/{name}")["members"] for name in ("M67", "NGC188")] == [3, 2]
    assert "1 complete" in astra("plan", "cluster_snr", "--where", "cluster=M67").partition("cluster_snr: ")[2]

    write(M67=visits[:3], M81=visits[5:6], M71=visits[6:7])
    register(instance, VISITS, visits[6:7], registry.groups(), regroup=False)
    assert list(registered(instance, task.domain)) == ["DR17/M67", "DR17/M71", "DR17/NGC188"]
    write(NGC188=visits[3:6], M67=visits[:3], M71=visits[6:7])  # the catalogue is another, and M67 the same
    assert plan().startswith("3 partitions\n1 complete, ")
    astra("discover", "--release", "DR17")
    astra("run", "cluster_snr")
    assert plan().startswith("3 partitions\n3 complete, ")
    assert [stored("cluster_snr", f"DR17/{name}")["members"] for name in ("M67", "NGC188", "M71")] == [3, 3, 1]

    catalogue.unlink()
    assert "3 the catalogue is not there" in plan()
    astra("discover", "--release", "DR17")
    assert len(registered(instance, task.domain)) == 3
    unregister(instance, VISITS, visits[6:7], registry.groups())
    assert len(registered(instance, task.domain)) == 3  # nobody can tell that the only one of M71 is gone
    assert CliRunner().invoke(main, ["run", "cluster_snr"]).exit_code == 1
