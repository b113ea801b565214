"""Read what the checks of a task's newest outputs need: results, headers of input files, and spectra of a sample.

Each is read once, when the first check asks for it. The checks are in `output_checks`.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from astra_dagster.analysis.quality import find_envelope
from astra_dagster.archive.links import Links
from astra_dagster.errors import AstraError, InputMissingError
from astra_dagster.fits.reader import FitsFile
from astra_dagster.outputs.record import Record
from astra_dagster.outputs.store import OutputStore
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.spectra.output import read_output
from astra_dagster.spectra.products.ap_visit import AP_VISIT

NUMBERS = frozenset(["int", "float", "[int]", "[float]", "[]"])
"""Kinds of values, as `column_types` names them, that are numbers or lists of numbers."""

WINDOW, CLEAR = 110, 0.1
"""Pixels in a stretch in which the envelope is measured, and the largest error of the normalised flux that counts."""

THREADS, TOGETHER = 8, 50
"""Number of threads that read files, which mostly wait for the disk, and of outputs that each reads at a time."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """What the checks need of the input file of a partition.

    Attributes
    ----------
    snr
        Value of the SNR card; None if there is none.
    pixels
        Number of pixels of a spectrum.
    problem
        Why the file cannot be read; empty if it can.
    """

    snr: float | None = None
    pixels: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Level:
    """How good the continuum of a written spectrum is.

    Attributes
    ----------
    spectrum
        Number of the spectrum in its file.
    wrong
        Fraction of pixels whose continuum is not positive and finite.
    used
        Number of pixels that are not marked bad, although their continuum is not positive and finite, or their flux is
        not finite.
    windows
        Number of stretches of `WINDOW` pixels in which the envelope could be measured.
    middle, highest, place
        Median and largest envelope of all windows, and the wavelength in Angstrom of the largest. The envelope is the
        90th percentile of the normalised flux, less what noise lifts it, without pixels that show the sky.
    problem
        Why the output cannot be read; empty if it can.
    """

    spectrum: int = 0
    wrong: float = 0.0
    used: int = 0
    windows: int = 0
    middle: float = math.nan
    highest: float = math.nan
    place: float = math.nan
    problem: str = ""


@dataclass(frozen=True)
class OutputSample:
    """The newest outputs of a task, which the checks take.

    Attributes
    ----------
    store
        Store of the task with the parameters of the outputs.
    root
        Top folder of the SAS mirror.
    outputs
        Number of outputs.
    keys, spectra
        Of each spectrum the partition key, and the number of the spectrum in its file.
    columns
        Results by name, with a value for each spectrum; None where it is missing.
    numbers
        Names of the columns that hold nothing but numbers.
    problems
        Key of each output that could not be read, and the reason.
    sample
        Number of outputs whose spectra are read.
    """

    store: OutputStore
    root: Path
    outputs: int
    keys: Sequence[str]
    spectra: Sequence[int]
    columns: Mapping[str, Sequence[Any]]
    numbers: Sequence[str]
    problems: Sequence[tuple[str, str]]
    sample: int

    @classmethod
    def read(cls, store: OutputStore, records: Mapping[str, Record], root: Path, sample: int) -> Self:
        """Read the outputs of records by partition key, all of which are of the store's task and parameters."""
        import pyarrow as pa  # slow to import, and only needed where something is checked

        from astra_dagster.tables.rows import read_rows

        wanted = pa.table({"key": list(records), "data_version": [str(record) for record in records.values()]})
        pieces = [wanted.slice(start, TOGETHER) for start in range(0, len(wanted), TOGETHER)]
        with ThreadPoolExecutor(THREADS, "astra-check") as threads:
            read = list(threads.map(lambda piece: read_rows(store, piece), pieces))
        columns: dict[str, list[Any]] = {name: [] for rows in read for name in rows.results}
        for rows in read:
            for name, values in columns.items():
                values += rows.results[name].to_pylist() if name in rows.results else [None] * len(rows.keys)
        return cls(
            store,
            root,
            len(wanted),
            [key for rows in read for key in rows.keys.to_pylist()],
            [spectrum for rows in read for spectrum in rows.spectra.to_pylist()],
            columns,
            [name for name in columns if all(rows.found.get(name, NUMBERS) <= NUMBERS for rows in read)],
            [problem for rows in read for problem in rows.problems],
            sample,
        )

    @cached_property
    def first(self) -> Sequence[int]:
        """Numbers of the rows that are the first spectrum of their file."""
        return [i for i, spectrum in enumerate(self.spectra) if spectrum == 0]

    def column(self, name: str) -> Sequence[float | None]:
        """Return a column of single numbers; None where there is no number."""
        values = self.columns.get(name) or [None] * len(self.keys)
        return [value if isinstance(value, (int, float)) else None for value in values]

    def is_identity(self, name: str) -> bool:
        """Whether a column says what the object is, and not what the task found."""
        column = self.store.task.result_columns.get(name)
        return column is not None and column.identity

    @cached_property
    def _links(self) -> Links:
        return Links(self.root)

    @cached_property
    def files(self) -> Mapping[str, InputFile | None]:
        """Input files by partition key; None where the file is not on this disk."""
        with ThreadPoolExecutor(THREADS, "astra-check") as threads:
            keys = list(dict.fromkeys(self.keys))
            return dict(zip(keys, threads.map(self._read_file, keys), strict=True))

    def _read_file(self, key: str) -> InputFile | None:
        product = self.store.task.requires[0].product
        try:
            path = self._links.existing_path(product.parse_key(key))
            if path is None:
                return None
            with FitsFile(path) as file:
                hdu = file.hdu(1)
                shape = hdu.shape or (0,)
                across = math.prod(shape) if product.name in AP_VISIT else shape[-1]
                return InputFile(file.hdu(0).header.number("SNR"), shape[0] if hdu.kind == "table" else across)
        except InputMissingError:
            return None
        except (AstraError, OSError) as error:
            return InputFile(problem=error.message if isinstance(error, AstraError) else str(error))

    @cached_property
    def sampled(self) -> Sequence[str]:
        """Partition keys of the outputs whose spectra are read, evenly spread over all of them."""
        keys = list(dict.fromkeys(self.keys))
        return keys[:: max(1, math.ceil(len(keys) / self.sample))] if self.sample else []

    @cached_property
    def levels(self) -> Sequence[tuple[str, Level]]:
        """Continua of the sample, each with its partition key."""
        return [(key, level) for key in self.sampled for level in self._measure_levels(key)]

    def _measure_levels(self, key: str) -> Iterable[Level]:
        try:
            batch = read_output(self.store.path(self.store.task.domain.parse_key(key)))
        except AstraError as error:
            return [Level(problem=error.message)]
        return measure_levels(batch)


def measure_levels(batch: SpectrumBatch) -> Iterator[Level]:
    """Measure the continuum and the envelope of normalised spectra, without those that have no good pixel."""
    grid = np.broadcast_to(np.atleast_2d(batch.wavelength), batch.flux.shape)  # type: ignore[arg-type]  # a written spectrum has wavelengths
    dark = ~batch.bad & ~batch.sky
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.where(dark, 1 / np.sqrt(batch.ivar), np.inf)
    width = min(WINDOW, batch.flux.shape[1])
    count = batch.flux.shape[1] // width
    for i in np.flatnonzero(~batch.bad.all(axis=1)):
        finite = np.isfinite(batch.flux[i])
        continuum = np.ones_like(batch.flux[i]) if batch.continuum is None else batch.continuum[i]
        wrong = ~(np.isfinite(continuum) & (continuum > 0))
        used = int(((wrong | ~finite) & ~batch.bad[i]).sum())
        clear = (finite & (error[i] < CLEAR))[: count * width].reshape(count, width)
        flux = np.where(clear, batch.flux[i, : count * width].reshape(count, width), np.inf)
        envelope, number = find_envelope(flux)
        enough = np.flatnonzero(2 * number >= width)
        if not len(enough):
            yield Level(int(i), float(wrong.mean()), used)
            continue
        noise = np.median(np.where(clear, error[i, : count * width].reshape(count, width), CLEAR)[enough], axis=1)
        envelope = envelope[enough] - 1.28 * noise
        best = int(np.argmax(envelope))
        place = float(grid[i, enough[best] * width + width // 2])
        yield Level(
            int(i), float(wrong.mean()), used, len(enough), float(np.median(envelope)), float(envelope[best]), place
        )
