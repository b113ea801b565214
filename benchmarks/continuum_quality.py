"""How good the continua of several methods are: ``python benchmarks/continuum_quality.py MIRROR ...``.

Four tables. The first is of the real apVisit of S/N > 30 below the folders: how well the normalised spectra of
several visits of a star agree (the median over windows of 20 Angstrom of their scatter; of all stars the median and
the largest are printed), how level the envelope is, which is the 90th percentile of the normalised flux in each
window, and how much the continuum changes if the wavelengths are shifted by 100 km/s. Most of these stars are M
dwarfs, which have no true continuum; for them the visits must agree. The second is of injected spectra, whose
continuum is known: lines drawn at random or those of the giant among the aspcapStar files, Brackett lines, noise,
night sky, gaps, velocities of up to 500 km/s. Printed are the bias, and the scatter over pixels, both in per cent.
The third is the same of optical spectra, with the lines of the models in spec files. The fourth is of the real optical
spectra: the range from the 5th to the 95th percentile of the normalised flux, by
class.

Methods are the original one in windows free of lines, as observed and shifted by the velocity; clipping pixels far
below and above a fit (with sines, or with Chebyshev polynomials); a running percentile; asymmetric least squares
(Eilers & Boelens 2005); and the default of the tasks, a likelihood of all pixels.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy.ndimage import gaussian_filter1d, percentile_filter

from astra_dagster import read_spectra
from astra_dagster.analysis.continuum import compute_first_harmonic, fit_continuum, make_design
from astra_dagster.analysis.frontier import fit_all_pixels
from astra_dagster.analysis.regions import named_regions
from astra_dagster.analysis.velocity import LIGHT, SIGNIFICANT, measure_velocity
from astra_dagster.arrays import BoolArray, FloatArray
from astra_dagster.tasks.continuum import spec_continuum
from astra_dagster_tests.analysis.injection import REGIONS, draw_lines, inject, make_stars

Fitted = tuple[FloatArray, BoolArray]
Method = Callable[[FloatArray, FloatArray, FloatArray, BoolArray], Fitted]
WINDOWS = np.arange(15140, 16960, 20.0)
APOGEE = named_regions("apogee")


def fit_windows(wavelength: FloatArray, flux: FloatArray, ivar: FloatArray, bad: BoolArray) -> Fitted:
    """Fit as the original method does, at the observed wavelengths."""
    found = fit_continuum(wavelength, flux, ivar, regions=REGIONS, continuum_regions=APOGEE)
    return found.values[0], found.fitted[0] & (found.values[0] > 0)


def fit_shifted_windows(wavelength: FloatArray, flux: FloatArray, ivar: FloatArray, bad: BoolArray) -> Fitted:
    """Fit as the original method does, with its windows at the measured velocity."""
    found = fit_all_pixels(wavelength, flux, ivar, regions=REGIONS)
    normal = np.where(found.fitted, flux / found.values, 1)
    velocity, clear = measure_velocity(wavelength, normal, bad | ~found.fitted, np.array(APOGEE))
    shift = 1 + (velocity[0] / LIGHT if clear[0] >= SIGNIFICANT else 0)
    windows = [(low * shift, high * shift) for low, high in APOGEE]
    found = fit_continuum(wavelength, flux, ivar, regions=REGIONS, continuum_regions=windows)
    return found.values[0], found.fitted[0] & (found.values[0] > 0)


def fit_likelihood(wavelength: FloatArray, flux: FloatArray, ivar: FloatArray, bad: BoolArray) -> Fitted:
    """Fit as the tasks do by default."""
    found = fit_all_pixels(wavelength, flux, ivar, regions=REGIONS, brackett=True)
    return found.values[0], found.fitted[0]


def make_sines(wavelength: FloatArray) -> FloatArray:
    """Make the design matrix of the tasks, shape (7, pixels)."""
    return make_design(compute_first_harmonic(wavelength, 1400.0), 3)


def make_polynomials(wavelength: FloatArray) -> FloatArray:
    """Make a design matrix of as many Chebyshev polynomials."""
    scaled = 2 * (wavelength - wavelength[0]) / (wavelength[-1] - wavelength[0]) - 1
    return np.polynomial.chebyshev.chebvander(scaled, 6).T


def by_region(fit_one: Callable[..., FloatArray]) -> Method:
    """Make a method from one that fits the good pixels of a region."""

    def fit(wavelength: FloatArray, flux: FloatArray, ivar: FloatArray, bad: BoolArray) -> Fitted:
        values, fitted = np.ones(len(wavelength)), np.zeros(len(wavelength), bool)
        for low, high in REGIONS:
            part = (wavelength >= low) & (wavelength <= high)
            values[part] = fit_one(wavelength[part], flux[0, part], ivar[0, part], ~bad[0, part])
            fitted |= part
        return values, fitted & (values > 0)

    return fit


def solve(design: FloatArray, flux: FloatArray, weight: FloatArray) -> FloatArray:
    """Fit by weighted least squares with the ridge of the original, and return the fit at each pixel."""
    normal = (design * weight) @ design.T
    normal += 1e-6 * np.linalg.eigvalsh(normal)[-1] * np.eye(len(normal))
    return np.linalg.solve(normal, design @ (weight * flux)) @ design


def clip(basis: Callable[[FloatArray], FloatArray]) -> Method:
    """Clip pixels more than one standard deviation below, and three above the fit, until they stay the same."""

    def fit_one(wavelength: FloatArray, flux: FloatArray, ivar: FloatArray, good: BoolArray) -> FloatArray:
        design, used = basis(wavelength), good
        for _ in range(20):
            continuum = solve(design, flux, ivar * used)
            ratio = flux / continuum - 1
            spread = np.std(ratio[used])
            before, used = used, good & (ratio > -spread) & (ratio < 3 * spread)
            if (used == before).all() or used.sum() < 50:
                break
        return continuum

    return by_region(fit_one)


def run_percentile(wavelength: FloatArray, flux: FloatArray, ivar: FloatArray, good: BoolArray) -> FloatArray:
    """Interpolate between the 90th percentiles of stretches of 60 Angstrom."""
    knots = np.arange(wavelength[0] + 30, wavelength[-1], 60)
    near = [good & (abs(wavelength - knot) < 30) for knot in knots]
    there = [i for i, item in enumerate(near) if item.sum() > 20]
    return np.interp(wavelength, knots[there], [np.percentile(flux[near[i]], 90) for i in there])


def fit_asymmetric(wavelength: FloatArray, flux: FloatArray, ivar: FloatArray, good: BoolArray) -> FloatArray:
    """Fit sines by least squares, in which pixels above the fit weigh nineteen times as much as those below."""
    design, weight = make_sines(wavelength), ivar * good
    for _ in range(20):
        continuum = solve(design, flux, weight)
        weight = ivar * good * np.where(flux > continuum, 0.95, 0.05)
    return continuum


METHODS: dict[str, Method] = {
    "windows, as observed (the original)": fit_windows,
    "windows, shifted by the velocity": fit_shifted_windows,
    "clipping, sines": clip(make_sines),
    "clipping, Chebyshev": clip(make_polynomials),
    "running percentile": by_region(run_percentile),
    "asymmetric least squares, sines": by_region(fit_asymmetric),
    "likelihood of all pixels (default)": fit_likelihood,
}


def find(mirrors: list[Path], pattern: str) -> list[Path]:
    """Find files below the folders, each name once."""
    return sorted({path.name: path for mirror in mirrors for path in mirror.rglob(pattern)}.values())


def compare_visits(mirrors: list[Path]) -> None:
    """Print the first table."""
    visits = [
        (fits.getheader(path), read_spectra(path, "apVisit", bitmask=True)) for path in find(mirrors, "apVisit-*")
    ]
    visits = [(header, batch) for header, batch in visits if header["SNR"] > 30]
    giant = max(range(len(visits)), key=lambda i: -abs(visits[i][0].get("RVTEFF", 0) - 4500)) if visits else 0
    print(
        f"\n{len(visits)} real visits of S/N > 30; the giant is {visits[giant][0].get('OBJID')}"
        if visits
        else "no visits"
    )
    print(f"{'':36}{'repeatability':>17}{'giant: envelope':>26}{'all':>8}{'<= 0':>6}{'shift %':>9}{'ms':>7}")
    for name, method in METHODS.items() if visits else ():
        envelopes, stars, negative, shifts, seconds = [], defaultdict(list), 0, [], 0.0
        for header, batch in visits:
            wavelength, flux, ivar, bad = batch.wavelength[0], batch.flux, batch.ivar, batch.bad
            begun = time.perf_counter()
            continuum, fitted = method(wavelength, flux, ivar, bad)
            seconds += time.perf_counter() - begun
            good = fitted & ~bad[0]
            negative += bool((continuum[good] <= 0).any())
            for velocity in (-100, 100):
                other, also = method(wavelength * (1 + velocity / LIGHT), flux, ivar, bad)
                both = good & also
                shifts.append(np.sqrt(np.mean((other[both] / continuum[both] - 1) ** 2)))
            sky = (batch.bitmask[0] & (1 << 12)) != 0
            speed = header.get("VRAD", 0.0)  # of a header that says more than 100 km/s it is wrong
            rest = wavelength / (1 + (speed if abs(speed) < 100 else 0) / LIGHT)
            normal = np.where(good & ~sky, flux[0] / continuum, np.nan)
            rows = [normal[(rest >= start) & (rest < start + 20) & np.isfinite(normal)] for start in WINDOWS]
            envelopes.append(np.array([np.percentile(row, 90) if len(row) > 40 else np.nan for row in rows]))
            stars[str(header.get("OBJID")).strip()].append(
                [np.median(row) if len(row) > 40 else np.nan for row in rows]
            )
        scatter = [np.nanstd(item) for item in envelopes]
        several = [np.array(item) for item in stars.values() if len(item) > 1]
        repeated = [
            np.median([np.std(v[np.isfinite(v)]) for v in item.T if np.isfinite(v).sum() > 1]) for item in several
        ]
        print(
            f"{name:36}{np.median(repeated):9.4f}{max(repeated):8.4f}{scatter[giant]:10.4f}"
            f"{np.nanmin(envelopes[giant]):7.3f} to {np.nanmax(envelopes[giant]):5.3f}{np.median(scatter):8.4f}"
            f"{negative:6d}{100 * max(shifts):9.2f}{1e3 * seconds / len(visits):7.2f}"
        )


def read_models(mirrors: list[Path]) -> dict[str, FloatArray]:
    """Return the lines of the model spectra of aspcapStar files, by temperature and gravity.

    Their level is the 97th percentile of each chip, as they are normalised in another way, and not to the continuum.
    """
    found = {}
    for path in find(mirrors, "aspcapStar-*"):
        with fits.open(path) as hdus:
            temperature, gravity = (float(value) for value in hdus[4].data["FPARAM"][0][:2])
            model = np.array(hdus[3].data, float).ravel()
        lines = np.full(len(model), np.nan)
        for start, end in ((246, 3274), (3585, 6080), (6344, 8335)):
            chip = model[start:end]
            lines[start:end] = np.minimum(chip / np.percentile(chip, 97), 1)
        found[f"{'giant' if gravity < 3 else 'dwarf'} {temperature:.0f} K"] = lines
    return found


def compare_injected(mirrors: list[Path], count: int) -> None:
    """Print the second table."""
    models = read_models(mirrors)
    kinds = {"lines drawn at random": make_stars(draw_lines(1, 0.15))}
    for giant in sorted(name for name in models if name.startswith("giant"))[-1:]:
        kinds[f"lines of a real {giant}"] = make_stars(models[giant])
    if models:
        kinds["models of real stars"] = models
    for kind, stars in kinds.items():
        for name in ("windows, as observed (the original)", "clipping, sines", "likelihood of all pixels (default)"):
            print(f"\ninjected, {kind}; {name}: bias and scatter in %, at S/N")
            print(f"{'':14}" + "".join(f"{snr:>14}" for snr in (5, 10, 20, 50, 100, 200)))
            for star, flux in stars.items():
                cells = []
                for snr in (5, 10, 20, 50, 100, 200):
                    rng, found = np.random.default_rng(snr), []
                    for _ in range(count):
                        made = inject(flux, snr, rng)
                        values, fitted = METHODS[name](
                            made.wavelength, made.flux[None], made.ivar[None], made.bad[None]
                        )
                        good = fitted & ~made.bad
                        ratio = values[good] / made.continuum[good] - 1
                        found.append((100 * np.median(ratio), 100 * np.std(ratio)))
                    cells.append("{:8.2f}{:6.2f}".format(*np.mean(found, axis=0)))
                print(f"{star:14}" + "".join(cells))


def compare_injected_optical(mirrors: list[Path], count: int) -> None:
    """Print the third table: the lines are those of the models in spec files, divided by their own upper envelope.

    The continua are those of black bodies of 3,500 to 25,000 K times a slope; the pixels and their relative errors are
    those of the file.
    """
    print("\ninjected, models of spec files; default: bias and scatter in %, at S/N")
    print(f"{'':26}{'class':28}" + "".join(f"{snr:>14}" for snr in (5, 10, 20, 50, 100)))
    for path in find(mirrors, "spec-*"):
        batch = read_spectra(path, "spec")
        with fits.open(path) as hdus:
            table = hdus[1].data
            model, sky = np.array(table["model"], float), np.array(table["ivar"], float)
        kind = " ".join(str(batch.meta[name][0]).strip() for name in ("class", "subclass"))
        if kind.startswith("QSO") or batch.bad.all() or len(model) != batch.flux.shape[1] or np.median(model) <= 0:
            continue
        pixels = np.linspace(-1, 1, len(model))  # the slope is taken out first: it would raise the level
        smooth = np.polynomial.Chebyshev.fit(pixels, np.log(np.maximum(model, np.median(model) / 100)), 5)(pixels)
        level = percentile_filter(model / np.exp(smooth), 95, 301, mode="nearest")
        envelope = np.exp(smooth) * gaussian_filter1d(level, 100, mode="nearest")
        lines, wavelength = np.clip(model / envelope, 0.02, 2), np.atleast_2d(batch.wavelength)[0]
        relative = np.sqrt(np.median(sky[sky > 0]) / np.where(sky > 0, sky, np.inf)).clip(0.3, 20)
        cells = []
        for snr in (5, 10, 20, 50, 100):
            rng, found = np.random.default_rng(snr), []
            for _ in range(count):
                body = 1 / wavelength**5 / np.expm1(1.4388e8 / (wavelength * rng.uniform(3500, 25_000)))
                truth = 10 * body / np.median(body) * (1 + rng.uniform(-0.2, 0.2) * (wavelength - 7000) / 3000)
                error = truth / snr * np.where(batch.bad[0], 1.0, relative)
                flux = truth * lines + error * rng.normal(size=len(truth))
                ivar = np.where(batch.bad[0], 0.0, error**-2)
                made = spec_continuum(replace(batch, flux=flux[None], ivar=ivar[None], error=None))
                good = ~made.bad[0]
                ratio = flux[good] / made.flux[0][good] / truth[good] - 1
                found.append((100 * np.median(ratio), 100 * np.std(ratio)))
            cells.append("{:8.2f}{:6.2f}".format(*np.mean(found, axis=0)))
        print(f"{path.stem:26}{kind:28}" + "".join(cells))


def compare_optical(mirrors: list[Path]) -> None:
    """Print the fourth table."""
    print("\noptical spectra: 5th to 95th percentile of the normalised flux in pixels with S/N > 5")
    print(f"{'':26}{'class':28}{'windows, as observed':>22}{'default':>18}")
    for path in find(mirrors, "spec-*"):
        batch = read_spectra(path, "spec")
        cells = []
        for parameters in ({"pixels": "regions", "frame": "observed"}, {}):
            made = spec_continuum(batch, **parameters)
            clear = ~made.bad[0] & (batch.flux[0] ** 2 * batch.ivar[0] > 25)
            low, high = np.percentile(made.flux[0][clear], (5, 95)) if clear.sum() > 100 else (np.nan, np.nan)
            cells.append(f"{low:.3f} to {high:.3f}")
        kind = " ".join(str(batch.meta[name][0]).strip() for name in ("class", "subclass"))
        print(f"{path.stem:26}{kind:28}{cells[0]:>22}{cells[1]:>18}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "mirrors", nargs="*", type=Path, help="SAS mirrors; without any only the second table is printed"
    )
    parser.add_argument("--spectra", type=int, default=8, help="injected spectra in each cell")
    arguments = parser.parse_args()
    if arguments.mirrors:
        compare_visits(arguments.mirrors)
    compare_injected(arguments.mirrors, arguments.spectra)
    if arguments.mirrors:
        compare_injected_optical(arguments.mirrors, arguments.spectra)
        compare_optical(arguments.mirrors)
