"""Outputs of fixed contents at data IDs of the synthetic mirror, whatever a processor makes of its spectra."""

from pathlib import Path
from typing import Any

import numpy as np

from astra_dagster import Parameters, SpectrumBatch, ap_star, ap_visit, grouped, spec, spectrum_task
from astra_dagster.outputs.store import InputFiles, OutputStore, PartitionWork, StoredOutput
from astra_dagster.tasks.task import Task

VISIT = "DR17/apo25m/120+12/5226/56000/001"
SPECTRUM = "DR17/v5_13_2/4055/55359/0596"
STAR = "DR17/apo25m/120+12/-/2M00012723+6258059"
PLATE = "DR17/v5_13_2/4055"
LONG = "a text that is too long for one card: " + ", ".join(map(str, range(40)))


class Settings(Parameters):
    """Of every type."""

    width: float = 2.0
    order: int = 3
    clip: bool = True
    name: str = "it's"
    regions: tuple[float, ...] = (1.0, 2.5)
    rest: float | None = None


@spectrum_task(requires=ap_visit, version="1", parameters=Settings)
def columns(spectra: Any, parameters: Settings) -> Any:
    """Columns alone."""


@spectrum_task(requires=spec, version="2b", parameters=Settings)
def spectra(spectra: Any, parameters: Settings) -> SpectrumBatch:
    """Spectra."""
    return spectra


@spectrum_task(requires=ap_star, version="1")
def spectra_of_star(spectra: Any, parameters: Any) -> SpectrumBatch:
    """Several spectra a file."""
    return spectra


@spectrum_task(requires=(spec, spectra), version="1")
def of_both(spectra: Any, made: Any, parameters: Any) -> Any:
    """Of a file and of what a task made of it."""


@spectrum_task(requires=grouped(spectra, by=("run2d", "plate")), version="1")
def of_plate(spectra: Any, parameters: Any) -> Any:
    """Of many one."""


def store_of(task: Task, root: Path) -> OutputStore:
    return OutputStore(root, task, task.values())


def work_on(store: OutputStore, key: str, *paths: str) -> PartitionWork:
    """A partition, given a file of this path for each requirement."""
    given = (
        InputFiles(item.asset_name, path, f"version {number} of {path}", ())
        for number, (item, path) in enumerate(zip(store.task.requires, paths, strict=True))
    )
    return PartitionWork(store.task.domain.parse_key(key), tuple(given))


def batch(count: int = 1, pixels: int = 5, *, continuum: bool = True) -> SpectrumBatch:
    flux = np.arange(1.0, 1.0 + count * pixels).reshape(count, pixels)
    return SpectrumBatch(
        flux=flux,
        ivar=flux / 4,
        wavelength=np.arange(4000.0, 4000.0 + pixels),
        bad=flux % 3 == 0,
        unit="1e-17 erg / (Angstrom cm2 s)",
        chips=(("b", 0, 3), ("r", 3, pixels)),
        meta={"object": tuple(f"2M{i}" for i in range(count))},
        continuum=2 * flux if continuum else None,
        continuum_unit="1e-17 erg / (Angstrom cm2 s)" if continuum else "",
    )


RESULTS = {"snr": 12.5, "count": 3, "good": True, "text": LONG, "none": None, "row": [1.0, None]}
OUTPUTS = {
    "columns": (columns, VISIT, ("a/b/apVisit.fits",), RESULTS, None),
    "spectra": (spectra, SPECTRUM, (f"c/{'d' * 80}/spec.fits",), RESULTS, batch()),
    "several": (spectra_of_star, STAR, ("e/apStar.fits",), {"snr": [1.0, None, 3.0]}, batch(3, continuum=False)),
    "of both": (of_both, SPECTRUM, ("spec.fits", SPECTRUM), {"a": -0.5}, None),
    "of many": (of_plate, PLATE, ("3 partitions",), {"spectra": 3}, None),
}


def write(name: str, root: Path) -> tuple[OutputStore, PartitionWork, StoredOutput]:
    """Write one of `OUTPUTS`."""
    task, key, paths, results, made = OUTPUTS[name]
    store = store_of(task, root)
    store.prepare()
    work = work_on(store, key, *paths)
    return store, work, store.write(work, results, made)
