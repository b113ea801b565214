"""What the bits of the APOGEE pixel mask tell of real pixels: ``python benchmarks/masks.py --sas FOLDER``.

Printed are, over all apVisit files below the folder (by default those of a synthetic mirror):

- for each bit that is a warning, how many of the pixels that the survey's rule leaves it is set in, and how far their
  flux is from a running median of pixels that no line or ghost is near, in units of their error: the robust scatter,
  and how many are more than 5 errors above, and below. Lines of the star are below: what is above is no star;
- of pixels above 3 in the spectra that `ap_visit_continuum` makes, how many have each bit;
- the median S/N of the green chip that each rule gives, divided by the SNR card of the header;
- how far the continuum moves if pixels of a bit are no part of its fit;
- the time of reading a file with and without its mask.
"""

import argparse
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")  # before NumPy is imported

import numpy as np
import numpy.typing as npt
from measure import table
from reading import find, interleaved, mirror

from astra_dagster.errors import AstraError
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.spectra.pixel_flags import APOGEE_REJECTED, ApogeePixel
from astra_dagster.spectra.readers import read_spectra
from astra_dagster.tasks.continuum import ap_visit_continuum

Array = npt.NDArray[Any]

WINDOW = 101
"""Pixels of the running median."""

FAR = 5.0
"""Errors from the median beyond which a pixel is an outlier."""

HIGH = 3.0
"""Normalised flux that no star has."""

NEAR_LINES = ("LITTROW_GHOST", "SIG_SKYLINE", "SIG_TELLURIC")
"""Bits of pixels that are no part of the running median; persistence covers so much that it must be."""

WARNINGS = tuple(str(item.name) for item in ApogeePixel if item.name not in APOGEE_REJECTED)
RULES: Mapping[str, tuple[str, ...]] = {
    "nothing": (),
    "as the survey": APOGEE_REJECTED,
    "and SIG_SKYLINE": (*APOGEE_REJECTED, "SIG_SKYLINE"),
    "and SIG_TELLURIC": (*APOGEE_REJECTED, "SIG_TELLURIC"),
    "and PERSIST_HIGH": (*APOGEE_REJECTED, "PERSIST_HIGH"),
    "and all warnings": tuple(item.name or "" for item in ApogeePixel),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sas", type=Path, nargs="*", help="folders with real files; by default a synthetic mirror")
    parser.add_argument("--rounds", type=int, default=20, help="of reading")
    arguments = parser.parse_args()
    with mirror(arguments.sas[0] if arguments.sas else None) as root:
        paths = [path for folder in [root, *(arguments.sas or [])[1:]] for path in find(folder, "apVisit")]
        visits = read_visits(paths)
        if not visits:
            raise SystemExit("no apVisit files")
        pixels = sum(visit.flux.size for visit in visits)
        print(f"{len(visits)} apVisit files, {pixels} pixels\n")
        for rows in (outliers(visits), high_pixels(visits), ratios(visits), continua(visits)):
            print(table(rows), end="\n\n")
        print(table(times(paths, arguments.rounds)))


def read_visits(paths: Sequence[Path]) -> list[SpectrumBatch]:
    """The files that have a good pixel, with their masks."""
    found = []
    for path in paths:
        try:
            found.append(read_spectra(path, "apVisit", bitmask=True))
        except AstraError as error:
            print(f"left out: {error}")
    return found


def running_median(visit: SpectrumBatch) -> Array:
    """Running median of each chip, of good pixels that no line or ghost is near."""
    values = np.where(visit.bad | visit.flagged(NEAR_LINES), np.nan, visit.flux)[0]
    found = np.full(values.size, np.nan)
    half = WINDOW // 2
    for _, start, stop in visit.chips:
        padded = np.pad(values[start:stop], half, constant_values=np.nan)
        windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)
        enough = np.isfinite(windows).sum(axis=1) > half // 2
        found[start:stop][enough] = np.nanmedian(windows[enough], axis=1)
    return found


def outliers(visits: Sequence[SpectrumBatch]) -> list[list[str]]:
    """Rows of the table of outliers, by bit."""
    pulls = [(visit.flux[0] - running_median(visit)) / visit.error[0] for visit in visits]
    good = [~visit.bad[0] & np.isfinite(pull) for visit, pull in zip(visits, pulls, strict=True)]
    total = sum(int(one.sum()) for one in good)
    rows = [["good pixels", "share", "scatter", f"> {FAR:g} above", f"> {FAR:g} below"]]
    for name in ("no flag", *WARNINGS):
        picked = np.concatenate(
            [
                pull[one & (~visit.flagged(WARNINGS) if name == "no flag" else visit.flagged([name]))[0]]
                for visit, pull, one in zip(visits, pulls, good, strict=True)
            ]
        )
        if picked.size:
            scatter = 1.4826 * float(np.median(np.abs(picked - np.median(picked))))
            above, below = float((picked > FAR).mean()), float((picked < -FAR).mean())
            rows.append([name, f"{picked.size / total:.2%}", f"{scatter:.2f}", f"{above:.2%}", f"{below:.2%}"])
    return rows


def high_pixels(visits: Sequence[SpectrumBatch]) -> list[list[str]]:
    """Rows of the table of high pixels in normalised spectra, by bit."""
    counts = dict.fromkeys(WARNINGS, 0)
    total = plain = 0
    for visit in visits:
        made = ap_visit_continuum(visit)
        high = ~made.bad & (made.flux > HIGH)
        total += int(high.sum())
        plain += int((high & ~visit.flagged(WARNINGS)).sum())
        for name in WARNINGS:
            counts[name] += int((high & visit.flagged([name])).sum())
    rows = [[f"normalised flux > {HIGH:g}", f"share of {total} pixels"]]
    shares = {"no flag": plain, **counts}
    return rows + [[name, f"{count / total:.1%}"] for name, count in shares.items() if total and count]


def ratios(visits: Sequence[SpectrumBatch]) -> list[list[str]]:
    """Rows of the table of S/N, by rule; of files whose header has S/N."""
    rows = [["bad pixels", "S/N of good pixels / header", "smallest", "largest"]]
    known = [visit for visit in visits if isinstance(visit.meta["snr"][0], float) and visit.meta["snr"][0] > 0]
    for rule, names in RULES.items():
        found = []
        for visit in known:
            one, green = visit.rejecting(names), visit.chip("green")
            snr = (one.flux / one.error)[0, green][~one.bad[0, green]]
            if snr.size:
                found.append(float(np.median(snr)) / float(visit.meta["snr"][0]))
        if found:
            rows.append([rule, f"{statistics.median(found):.4f}", f"{min(found):.4f}", f"{max(found):.4f}"])
    return rows


def continua(visits: Sequence[SpectrumBatch]) -> list[list[str]]:
    """Rows of the table of continua, by bits that are left out of the fit."""
    rows = [["left out of the fit", "continuum moves by", "of the worst file"]]
    usual = [ap_visit_continuum(visit) for visit in visits]
    for rule, names in list(RULES.items())[2:]:
        moved = []
        for visit, before in zip(visits, usual, strict=True):
            after = ap_visit_continuum(visit.rejecting(names), reject=names)
            both = ~before.bad & ~after.bad
            if both.any():
                change = after.continuum[both] / before.continuum[both] - 1  # type: ignore[index]
                moved.append(float(np.sqrt(np.mean(np.square(change)))))
        rows.append([rule, f"{statistics.median(moved):.2%}", f"{max(moved):.2%}"])
    return rows


def times(paths: Sequence[Path], rounds: int) -> list[list[str]]:
    """Rows of the table of times of reading."""
    calls = {
        "as it is": lambda: [_read(path) for path in paths],
        "with the mask": lambda: [_read(path, bitmask=True) for path in paths],
        "SIG_SKYLINE rejected": lambda: [_read(path, reject=RULES["and SIG_SKYLINE"]) for path in paths],
    }
    taken = interleaved(calls, rounds, len(paths))
    rows = [["reading, ms a file", "median", "smallest"]]
    return rows + [[name, f"{statistics.median(of):.3f}", f"{min(of):.3f}"] for name, of in taken.items()]


def _read(path: Path, **options: Any) -> SpectrumBatch | None:
    try:
        return read_spectra(path, "apVisit", **options)
    except AstraError:
        return None


if __name__ == "__main__":
    main()
