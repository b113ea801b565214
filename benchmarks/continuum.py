"""Time of the continuum fit, against the original method: ``python benchmarks/continuum.py --sas FOLDER``.

The original is written anew from its description: a call a spectrum, which finds the continuum pixels window by
window, and in each region makes design matrices from cosines and sines of every order, and eigenvalues of the normal
matrix before and after the ridge. Spectra are those of the apStar (one shared grid) and apVisit files (a grid each)
below the folder, by default those of a synthetic mirror, repeated until there are enough. One measurement of each is
a round; they take turns at being first. Printed are the median and the smallest of the rounds. BLAS has one thread.
"Ours" is the same method, which is that of the tasks with ``pixels="regions"``; their default fits all pixels.
"""

import argparse
import os
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")  # before NumPy is imported

import numpy as np
import numpy.typing as npt
from reading import find, interleaved, mirror, ratio

from astra_dagster.analysis.continuum import fit_continuum, normalise
from astra_dagster.analysis.frontier import fit_all_pixels
from astra_dagster.analysis.quality import judge_continuum
from astra_dagster.analysis.regions import named_regions
from astra_dagster.spectra.batch import SpectrumBatch, stack
from astra_dagster.spectra.output import encode_spectra
from astra_dagster.spectra.readers import read_spectra
from astra_dagster.tasks.continuum import ContinuumParameters, ap_star_continuum, ap_visit_continuum

Array = npt.NDArray[Any]

TASKS = {"apStar": ap_star_continuum, "apVisit": ap_visit_continuum}
PARAMETERS = ContinuumParameters()
WINDOWS = np.array(named_regions("apogee"))
OPTIONS = {
    "regions": PARAMETERS.regions,
    "continuum_regions": named_regions("apogee"),
    "period": PARAMETERS.L,
    "order": PARAMETERS.order,
}
ORIGINAL, TOLD = "original, a spectrum a call", "original, told the continuum pixels"
OURS = "ours, a batch a call"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sas", type=Path, help="folder with real files; by default a synthetic mirror")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--spectra", type=int, default=64, help="spectra in the batch, at least")
    arguments = parser.parse_args()
    with mirror(arguments.sas) as root:
        for product in TASKS:
            compare(product, find(root, product), arguments.rounds, arguments.spectra)


def compare(product: str, files: Sequence[Path], rounds: int, least: int) -> None:
    """Measure original and ours on the spectra of a product, and print."""
    read = {path: usable(read_spectra(path, product)) for path in files}
    pixels = max((batch.flux.shape[1] for batch in read.values()), default=0)
    read = {path: batch for path, batch in read.items() if len(batch) and batch.flux.shape[1] == pixels}
    if not read:
        print(f"\n{product}: no files")
        return
    one = stack(list(read.values()))
    batch = stack([one] * -(-least // len(one)))
    print(f"\n{product}: {len(batch)} spectra, {len(one)} different ones of {len(read)} files; {pixels} pixels")

    wavelength = np.broadcast_to(batch.wavelength, batch.flux.shape)
    inputs = [
        (grid, np.where(ivar > 0, flux, 0.0), ivar)
        for grid, flux, ivar in zip(wavelength, batch.flux, batch.ivar, strict=True)
    ]
    told = [continuum_pixels(grid) for grid, *_ in inputs]
    normalised = TASKS[product].function(read_spectra(next(iter(read)), product), PARAMETERS)
    fit = fit_continuum(batch.wavelength, batch.flux, batch.ivar, **OPTIONS)
    calls: dict[str, Callable[[], Any]] = {
        ORIGINAL: lambda: _each(original, inputs),
        TOLD: lambda: _each(original, [(*values, found) for values, found in zip(inputs, told, strict=True)]),
        OURS: lambda: fit_continuum(batch.wavelength, batch.flux, batch.ivar, **OPTIONS),
        "ours, a spectrum a call": lambda: _each(partial(fit_continuum, **OPTIONS), inputs),
        "all pixels (default), a batch a call": lambda: fit_all_pixels(
            batch.wavelength, batch.flux, batch.ivar, regions=PARAMETERS.regions, brackett=True
        ),
        "its figures and flags, a batch a call": lambda: judge_continuum(
            batch.wavelength, batch.flux, batch.ivar, batch.bad, fit, regions=PARAMETERS.regions, period=PARAMETERS.L
        ),
        "normalise, a batch a call": lambda: normalise(batch.flux, batch.ivar, batch.bad, fit),
    }
    files_calls: dict[str, Callable[[], Any]] = {
        "reading a file": lambda: _each(read_spectra, [(path, product) for path in read]),
        f"writing a file of {len(normalised)} (encode_spectra)": lambda: _each(
            encode_spectra, [(normalised,)] * len(read)
        ),
    }
    results = interleaved(calls, rounds, len(batch)) | interleaved(files_calls, rounds, len(read))
    print(f"{'ms a spectrum':44}{'median':>9}{'least':>9}")
    for name, values in results.items():
        if name in files_calls and name == next(iter(files_calls)):
            print("ms a file")
        print(f"{name:44}{statistics.median(values):9.3f}{min(values):9.3f}")
    for name in (ORIGINAL, TOLD):
        speed = [ratio(results[name], results[OURS], of) for of in (statistics.median, min)]
        print(f"{name} / ours: {speed[0]:.1f} by the medians, {speed[1]:.1f} by the least times")
    expected = np.array([original(*values) for values in inputs])
    difference = np.abs(fit.values - expected) / np.abs(expected)
    print(f"largest relative difference of the continua: {difference.max():.1e}")


def usable(batch: SpectrumBatch) -> SpectrumBatch:
    """The spectra that the original can fit: those with weight in continuum pixels of every region."""
    fit = fit_continuum(batch.wavelength, batch.flux, batch.ivar, **OPTIONS)
    return batch[np.flatnonzero(np.isfinite(fit.condition).all(axis=1)).tolist()]


def continuum_pixels(wavelength: Array) -> Array:
    """Numbers of the pixels in the continuum windows."""
    inside = np.zeros(len(wavelength), dtype=bool)
    for first, last in np.searchsorted(wavelength, WINDOWS):
        inside[first:last] = True
    return np.flatnonzero(inside)


def original(wavelength: Array, flux: Array, ivar: Array, continuum: Array | None = None) -> Array:
    """Continuum of one spectrum by the original method; `continuum` are the numbers of its continuum pixels."""
    if continuum is None:
        continuum = continuum_pixels(wavelength)
    values = np.ones_like(flux)
    for start, end in PARAMETERS.regions:
        first, last = np.searchsorted(wavelength, (start, end))
        region = (start <= wavelength) & (wavelength <= end)
        used = continuum[(first <= continuum) & (continuum <= last)]
        matrix = design(wavelength[used])
        normal = matrix @ (ivar[used] * matrix).T
        right = matrix @ (ivar[used] * flux[used])
        normal[np.diag_indices(len(normal))] += 1e-6 * np.linalg.eigvalsh(normal).max()
        eigenvalues = np.linalg.eigvalsh(normal)
        _condition = eigenvalues.max() / eigenvalues.min()
        values[region] = np.linalg.solve(normal, right) @ design(wavelength[region])
    return values


def design(wavelength: Array) -> Array:
    """Constant, and cosine and sine of each order."""
    scale = 2 * np.pi / PARAMETERS.L
    rows = [np.ones_like(wavelength)]
    for k in range(1, PARAMETERS.order + 1):
        rows += [np.cos(k * scale * wavelength), np.sin(k * scale * wavelength)]
    return np.vstack(rows)


def _each(function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> None:
    """Call a function, and keep nothing: freeing many results at once would slow down what is measured next."""
    for values in arguments:
        function(*values)


if __name__ == "__main__":
    main()
