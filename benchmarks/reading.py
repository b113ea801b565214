"""Time of reading a spectrum file, against other readers: ``python benchmarks/reading.py --sas FOLDER``.

The files are the apVisit, apStar and spec files below the folder, by default those of a synthetic mirror. One pass
over the files with each reader is a round; the readers take turns at being first. Printed are the median and the
smallest of the rounds, ms a file. Files are in the page cache, and BLAS has one thread. All readers share a process:
one that runs alone may get its memory from the kernel anew for every file, which costs more than reading.

Ours gives float64 in wavelength order, inverse variance, bad pixels and metadata; the others the same arrays as the
file has them, wavelengths not worked out. What a reader cannot read it is not timed on. The floor is what the kernel
takes for as many bytes as our reader takes in, and for the whole file, in one go.
"""

import argparse
import importlib
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")  # before NumPy is imported

from astropy.io import fits

from astra_dagster.demo import write_mirror
from astra_dagster.spectra.readers import read_spectra

FILES = {"apVisit": "a?Visit-*.fits", "apStar": "a?Star-*.fits", "spec": "spec-*.fits"}
IMAGES = {"apVisit": (1, 2, 3, 4), "apStar": (1, 2, 3)}
COLUMNS = ["flux", "loglam", "ivar"]
FORMATS = {
    "apVisit": ("APOGEE apVisit", "SDSS-V apVisit"),
    "apStar": ("APOGEE apStar", "SDSS-V apStar"),
    "spec": ("SDSS-III/IV spec", "SDSS-V spec"),
}

Reader = Callable[[Path], Any]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sas", type=Path, help="folder with real files; by default a synthetic mirror")
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    with mirror(arguments.sas) as root:
        for product in FILES:
            compare(product, find(root, product), arguments.rounds)


def compare(product: str, files: Sequence[Path], rounds: int) -> None:
    """Measure all readers on the files of a product, and print."""
    if not files:
        print(f"\n{product}: no files")
        return
    taken = sum(bytes_taken(product, path) for path in files) / len(files)
    size = sum(path.stat().st_size for path in files) / len(files)
    print(f"\n{product}: {len(files)} files of {size / 1e3:.0f} kB, of which our reader takes in {taken / 1e3:.0f} kB")
    readers, remarks = usable(candidates(product), files)
    sizes = {path: bytes_taken(product, path) for path in files}
    readers |= {
        "floor: as many bytes": lambda path: read_bytes(path, sizes[path]),
        "floor: the whole file": lambda path: read_bytes(path, path.stat().st_size),
    }
    results = interleaved({name: _pass(reader, files) for name, reader in readers.items()}, rounds, len(files))
    ours = results["ours"]
    print(f"{'ms a file':36}{'median':>9}{'least':>9}   ours / it: median, least")
    for name, values in results.items():
        ratios = (
            "" if name == "ours" else f"{ratio(ours, values, statistics.median):12.2f}{ratio(ours, values, min):9.2f}"
        )
        print(f"{name:36}{statistics.median(values):9.3f}{min(values):9.3f}{ratios}")
    for name, remark in remarks.items():
        print(f"{name:36} {remark}")
    others = {name: values for name, values in results.items() if name != "ours" and not name.startswith("floor")}
    for label, chosen in (
        ("best other reader", others),
        ("specutils", {name: values for name, values in others.items() if name.startswith("specutils")}),
    ):
        if chosen:
            best = min(chosen, key=lambda name: min(chosen[name]))
            print(f"ours / {label} ({best}): {ratio(ours, chosen[best], min):.2f} by the least times")


def candidates(product: str) -> dict[str, Reader | str]:
    """Readers by name; of one that is not installed, the words that say so."""
    found: dict[str, Reader | str] = {"ours": lambda path: read_spectra(path, product)}
    images = IMAGES.get(product)

    def astropy(path: Path) -> list[Any]:
        with fits.open(path, memmap=False) as hdus:
            if images:
                return [hdus[i].data for i in images]
            data = hdus[1].data
            return [data[name] for name in COLUMNS]

    found["astropy, memmap=False"] = astropy
    for name in ("fitsio", "rustfits"):
        try:
            module = importlib.import_module(name)
        except ImportError:
            found[name] = "not installed"
            continue

        def read(path: Path, opener: Any = module.FITS) -> list[Any]:
            with opener(str(path)) as hdus:
                return [hdus[i].read() for i in images] if images else [hdus[1].read(columns=COLUMNS)]

        found[name] = read
    try:
        from specutils import Spectrum
    except ImportError:
        found["specutils"] = "not installed"
    else:
        for known in FORMATS[product]:
            found[f'specutils "{known}"'] = lambda path, known=known: Spectrum.read(path, format=known)
    return found


def usable(readers: Mapping[str, Reader | str], files: Sequence[Path]) -> tuple[dict[str, Reader], dict[str, str]]:
    """Readers that read all files, and what keeps the others from it. Every file is in the page cache afterwards."""
    good: dict[str, Reader] = {}
    remarks: dict[str, str] = {}
    for name, reader in readers.items():
        if isinstance(reader, str):
            remarks[name] = reader
            continue
        failures = []
        for path in files:
            try:
                reader(path)
            except Exception as error:  # whatever it is, it is no reading
                failures.append(f"{type(error).__name__}: {str(error).partition(chr(10))[0][:60]}")
        if failures:
            remarks[name] = f"fails on {len(failures)} of {len(files)} files ({failures[0]})"
        else:
            good[name] = reader
    return good, remarks


def interleaved(calls: Mapping[str, Callable[[], Any]], rounds: int, count: int) -> dict[str, list[float]]:
    """Times of each call in every round, ms divided by `count`; the calls of a round take turns at being first."""
    names = list(calls)
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            calls[name]()
            times[name].append((time.perf_counter() - start) * 1e3 / count)
    return times


def ratio(ours: Sequence[float], other: Sequence[float], of: Callable[[Sequence[float]], float]) -> float:
    """Ours divided by the other."""
    return of(ours) / of(other)


def bytes_taken(product: str, path: Path) -> int:
    """How many bytes of a file our reader asks the kernel for."""
    pread, taken = os.pread, 0

    def counted(descriptor: int, size: int, offset: int) -> bytes:
        nonlocal taken
        block = pread(descriptor, size, offset)
        taken += len(block)
        return block

    with mock.patch("os.pread", counted):
        read_spectra(path, product)
    return taken


def read_bytes(path: Path, size: int) -> bytes:
    """The first bytes of a file, in one go."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, size)
    finally:
        os.close(descriptor)


def find(root: Path, product: str) -> list[Path]:
    """Files of a product below a folder."""
    return sorted(path for path in root.rglob(FILES[product]) if path.is_file())


@contextmanager
def mirror(root: Path | None) -> Iterator[Path]:
    """The folder, or a synthetic mirror that is gone afterwards."""
    if root is not None:
        yield root
        return
    with tempfile.TemporaryDirectory() as folder:
        write_mirror(Path(folder))
        yield Path(folder)


def _pass(reader: Reader, files: Sequence[Path]) -> Callable[[], None]:
    def run() -> None:
        for path in files:
            reader(path)

    return run


if __name__ == "__main__":
    main()
