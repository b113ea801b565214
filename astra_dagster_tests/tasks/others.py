"""Tasks of products that the demo's mirror lacks, and one file of each, two of mwmStar, at their places in a mirror."""

from pathlib import Path

from astra_dagster import product
from astra_dagster.tasks import continuum, snr
from astra_dagster.tasks.task import Task
from astra_dagster_tests.spectra.synthetic import (
    write_aspcap_star,
    write_mwm,
    write_one_metre,
    write_sp_plate,
    write_sp_spec,
    write_spec,
)

SNR, CONTINUUM = ([task for task in vars(m).values() if isinstance(task, Task)] for m in (snr, continuum))
OTHERS = [task for task in (*SNR, *CONTINUUM) if task.domain.name not in ("apVisit", "apStar", "spec")]

STAR = {"sdss_id": 103020000}
BOTH, BOSS_ALONE = product("mwmStar").data_id("DR19", **STAR), product("mwmStar").data_id("DR20", **STAR)
"""A star with spectra from both instruments; in a later release there are only those of BOSS."""


def write_others(root: Path) -> None:
    write_mwm(BOTH.path(root), (1, 0, 0, 1))
    write_mwm(BOSS_ALONE.path(root), (2, 0, 0, 0))
    write_mwm(product("mwmVisit").data_id("DR19", **STAR).path(root), (2, 0, 0, 3), star=False)
    write_spec(
        product("spec-lite").data_id("DR17", run2d="v5_13_2", plate=266, mjd=60000, fibre=31).path(root), "v5_13_2"
    )
    for name in ("specLite", "specFull"):
        observed = {"field": 112360, "mjd": 60000, "catalogid": 27021598150202075}
        write_spec(product(name).data_id("DR19", **observed).path(root), full=name == "specFull")
    nights = {"mjd": 60000, "catalogid": 27021598150202075}
    for kind in ("Lite", "Full"):
        write_spec(product(f"spec{kind}_epoch").data_id("DR19", field=112360, **nights).path(root), full=kind == "Full")
        coadd = product(f"spec{kind}_coadd").data_id("DR20", coadd="allepoch", obs="apo", **nights)
        write_spec(coadd.path(root), full=kind == "Full", nights=True)
    for name in ("apVisit-1m", "apStar-1m"):
        write_one_metre(root, name)
    plate = product("spPlate").data_id("DR17", run2d="v5_13_2", plate=266, mjd=51602)
    write_sp_plate(plate.path(root))
    target = product("spSpec").data_id("DR20", field=112360, mjd=60000, catalogid=27021598150202075)
    write_sp_spec(target.path(root), sdss5=True)
    star = {"telescope": "apo25m", "field": "120+12", "obj": "2M00000032+5737103"}
    write_aspcap_star(product("aspcapStar").data_id("DR17", **star).path(root))
