"""Synthetic nights for the other benchmarks: N apVisit files, 300 of them distinct and the rest hard links to those."""

import os
from pathlib import Path

from astropy.io import fits

from astra_dagster.datamodel.products import DataID, product
from astra_dagster.demo import write_ap_visit

FIBRES = 300


def data_ids(files: int, last: int = 0) -> list[DataID]:
    """Data IDs of so many apVisit files, plate by plate, one a night, but for so many in the last night."""
    made, before = product("apVisit"), files - last
    return [
        made.data_id(
            "DR17",
            telescope="apo25m",
            field="120+12",
            plate=5000 + i // FIBRES,
            mjd=56000 + (i if i < before else before + FIBRES - 1) // FIBRES,
            fibre=i % FIBRES + 1,
        )
        for i in range(files)
    ]


def write_night(root: Path, files: int, of: Path | None = None, last: int = 0) -> list[DataID]:
    """Write a mirror of so many apVisit files below `root`, and return their data IDs.

    Parameters
    ----------
    last
        Number of visits that are all of the last night.
    of
        A larger mirror of the same kind, on the same disk: all files are then links to its own.
    """
    made = data_ids(files, last)
    for i, data_id in enumerate(made):
        if i < FIBRES and of is None:
            path = write_ap_visit(data_id, root)
            for card in ("PLATE", "MJD5"):  # of another night it would be refused
                fits.delval(path, card)
            continue
        path = data_id.path(root)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(made[i % FIBRES].path(of or root), path)
    return made
