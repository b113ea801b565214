"""Spectra of chance, and a file as a task writes it that holds some."""

import json
from pathlib import Path

import numpy as np

from astra_dagster.fits import writer as encode
from astra_dagster.spectra.batch import FLUX_UNIT, SpectrumBatch
from astra_dagster.spectra.output import encode_spectra, make_pairs


def a_batch(n: int, own: bool) -> SpectrumBatch:
    rng = np.random.default_rng(n)
    grid = np.linspace(15000, 17000, 50)
    flux = rng.normal(1, 0.1, (n, 50))
    ivar = rng.uniform(1, 2, (n, 50))
    ivar[:, 3] = 0
    return SpectrumBatch(
        flux=flux,
        ivar=ivar,
        wavelength=np.array([grid + i for i in range(n)]) if own else grid,
        chips=(("blue", 0, 20), ("red", 20, 50)),
        meta={"object": ("it's",) * n, "ra": (float("nan"),) * n, "fibre": tuple(range(n))},
        continuum=rng.uniform(5, 6, (n, 50)),
        continuum_unit=FLUX_UNIT,
    )


def write_by_pixel(path: Path, batch: SpectrumBatch) -> Path:
    """Write spectra in layout 2: a row for each pixel, and a cell for each of several spectra."""
    columns = {"wavelength": batch.wavelength, "flux": batch.flux, "ivar": batch.ivar, "mask": batch.bad}
    one = len(batch) == 1
    table = encode.make_table(
        "SPECTRUM",
        {name: array[0] if one and array.ndim == 2 else array.T for name, array in columns.items()},
        {"wavelength": "Angstrom"},
        [
            ("OWNGRID", batch.wavelength.ndim == 2, ""),
            ("CONTIN", True, ""),
            ("CHIPS", json.dumps(batch.chips), ""),
            ("META", json.dumps({name: values for name, values in batch.meta.items() if name != "ra"}), ""),
        ],
    )
    head = encode.make_primary([("ORIGIN", "astra_dagster", ""), ("FORMAT", 2, ""), ("SEVERAL", not one, "")])
    path.write_bytes(head + table + encode.make_image("CONTINUUM", batch.continuum, ""))
    return path


def write(path: Path, batch: SpectrumBatch) -> Path:
    several = len(batch) > 1
    head = [("ORIGIN", "astra_dagster", ""), *make_pairs("RES", {"q": [1.5] * len(batch) if several else 1.5}, "")]
    path.write_bytes(encode.make_primary([*head, ("SEVERAL", several, "")]) + encode_spectra(batch))
    return path
