"""How far the numbers agree with the survey's own, and with the original continuum method.

As a command it prints them: ``python -m astra_dagster_tests.analysis.agreement MIRROR [CONTINUUM-REGIONS]``.
"""

import argparse
from pathlib import Path

import numpy as np

from astra_dagster.analysis.continuum import fit_continuum
from astra_dagster.analysis.regions import named_regions, read_regions
from astra_dagster.analysis.snr import median_snr, pixel_snr
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.spectra.readers import read_spectra
from astra_dagster_tests.analysis.reference import pixels_in, sinusoidal_continuum

REGIONS = ((15090.0, 15822.0), (15823.0, 16451.0), (16452.0, 16971.0))
PATTERNS = {"apVisit": "a?Visit*.fits", "apStar": "a?Star*.fits"}


def spectra_of(root: Path, product: str) -> list[SpectrumBatch]:
    """All spectra of a product below a folder, a batch a file."""
    return [read_spectra(path, product) for path in sorted(root.rglob(PATTERNS[product]))]


def largest_difference(batch: SpectrumBatch, windows: tuple[tuple[float, float], ...]) -> float:
    """Largest relative difference between the batched continuum and the original's, over all rows and pixels."""
    fit = fit_continuum(batch.wavelength, batch.flux, batch.ivar, regions=REGIONS, continuum_regions=windows)
    largest = 0.0
    for i in range(len(batch)):
        if batch.bad[i].all():
            assert not fit.fitted[i].any()
            continue
        grid = np.broadcast_to(batch.wavelength, batch.flux.shape)[i]
        flux = np.where(batch.bad[i], 0.0, batch.flux[i])
        expected = sinusoidal_continuum(grid, flux, batch.ivar[i], pixels_in(grid, windows), REGIONS)
        largest = max(largest, float(np.max(np.abs(fit.values[i] / expected - 1))))
    return largest


def header_difference(batch: SpectrumBatch, product: str) -> float:
    """Relative difference between our S/N and that of the file's header."""
    ratio = pixel_snr(batch.flux[:1], batch.error[:1])
    if product == "apVisit":
        ratio = ratio[:, batch.chip("green")]
    return abs(float(median_snr(ratio)[0]) / float(batch.meta["snr"][0]) - 1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mirror", type=Path)
    parser.add_argument("regions", type=Path, nargs="?")
    options = parser.parse_args()
    windows = read_regions(options.regions) if options.regions else named_regions("apogee")
    print(f"{'':10}{'files':>6}{'spectra':>9}{'continuum':>12}{'header S/N':>12}   (largest relative differences)")
    for product in ("apVisit", "apStar"):
        batches = spectra_of(options.mirror, product)
        continuum = max(largest_difference(batch, windows) for batch in batches)
        snr = max(header_difference(batch, product) for batch in batches)
        print(f"{product:10}{len(batches):6}{sum(map(len, batches)):9}{continuum:12.1e}{snr:12.1e}")


if __name__ == "__main__":
    main()
