"""What damaged files do: ``python benchmarks/damage.py --flips 300000 --mutations 30000 --runs 5000``.

A file of each kind that is read, synthetic or below ``--sas``, is damaged again and again, and read:

- flips: one bit of a card on which places, sizes, types or scales of the data depend, or of the END of a header. The
  file must be refused, or every number must be what it was; what changes without a word is counted by card.
- mutations: bytes changed, blocks exchanged, lost or doubled, the file cut short or continued. It must be refused with
  an error that names it, or be a valid batch of spectra.
- runs: such a file is one of three that a task runs over. It must cost itself alone: the other two have the outputs
  that they have without it, and it has an output that can be read, or an error of its own.
"""

import argparse
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
from measure import load, table

from astra_dagster import product
from astra_dagster.datamodel.products import DataID
from astra_dagster.errors import AstraError, SpectrumFileError
from astra_dagster.execution import runner
from astra_dagster.fits.header import CARD
from astra_dagster.fits.reader import FitsFile
from astra_dagster.fits.structure import is_structural
from astra_dagster.outputs.store import InputFiles, OutputStore, PartitionWork
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.spectra.readers import read_spectra
from astra_dagster.tasks.continuum import ap_star_continuum, ap_visit_continuum, spec_continuum
from astra_dagster.tasks.snr import ap_star_snr, ap_visit_snr, spec_snr

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the writers of synthetic files

from astra_dagster_tests.spectra.synthetic import WRITERS
from astra_dagster_tests.spectra.wrong.files import check_valid

TOLERANCE = 1e-6
"""Largest relative change of a number that is none."""

REAL = {
    "apVisit": "ap*Visit-*.fits",
    "apStar": "apStar-*.fits",
    "aspcapStar": "aspcapStar-*.fits",
    "spec": "spec-*.fits",
}
TASKS = {"apVisit": [ap_visit_snr, ap_visit_continuum], "apStar": [ap_star_snr, ap_star_continuum]}
TASKS["spec"] = [spec_snr, spec_continuum]
KEYS = {"apVisit": "DR17/apo25m/120+12/5226/56000/{:03}", "apStar": "DR17/apo25m/120+12/-/2M{:08}+0000000"}
KEYS["spec"] = "DR17/v5_13_2/3586/55181/{:04}"
OPTIONS: Sequence[Mapping[str, bool]] = ({}, {"bitmask": True}, {"wavelength": False})


@dataclass
class Sample:
    """A file to damage: its kind, its product, and its whole contents."""

    kind: str
    product: str
    path: Path
    contents: bytes

    @contextmanager
    def damaged(self, contents: bytes) -> Iterator[None]:
        """Have other contents in the file for a while."""
        self.path.write_bytes(contents)
        try:
            yield
        finally:
            self.path.write_bytes(self.contents)


def samples(folder: Path, sas: Path | None) -> list[Sample]:
    """One file of each kind, in a folder of its own."""
    if sas is None:
        paths = {kind: (name, writer(folder / str(i))) for i, (kind, (name, writer)) in enumerate(WRITERS.items())}
    else:
        found = [(name, path) for name, pattern in REAL.items() for path in sorted(sas.rglob(pattern))]
        paths = {path.name: (name, folder / path.name) for name, path in found}
        for _, path in found:
            (folder / path.name).write_bytes(path.read_bytes())
    made = [Sample(kind, name, path, path.read_bytes()) for kind, (name, path) in paths.items()]
    return [sample for sample in made if can_be_read(sample)]


def can_be_read(sample: Sample) -> bool:
    """Whether a file is a whole one, as all but few of the survey are."""
    try:
        read_spectra(sample.path, sample.product)
    except SpectrumFileError:
        return False
    return True


# Flips


def cards(path: Path) -> list[tuple[str, int]]:
    """Name, with that of the HDU, and place of each card of the structure."""
    found = []
    with FitsFile(path) as file:
        for hdu in file.hdus():
            start = hdu.offset - len(hdu.header.raw)
            keywords = list(hdu.header.keywords())
            for i, keyword in enumerate(keywords[: keywords.index("END") + 1]):
                if keyword == "END" or is_structural(keyword):
                    found.append((f"HDU {hdu.index} {keyword}", start + i * CARD))
    return found


def flips(chosen: Sequence[Sample], number: int, dice: random.Random) -> tuple[Counter[str], Counter[str]]:
    """Flip bits, and count what became of the files, and what changed without a word, by card."""
    became: Counter[str] = Counter()
    silent: Counter[str] = Counter()
    for sample in chosen:
        places = cards(sample.path)
        whole = {i: read_spectra(sample.path, sample.product, **options) for i, options in enumerate(OPTIONS)}
        with sample.path.open("r+b", buffering=0) as stream:
            for trial in range(number // len(chosen)):
                name, start = dice.choice(places)
                place, bit = start + dice.randrange(CARD), 1 << dice.randrange(8)
                stream.seek(place)
                stream.write(bytes([sample.contents[place] ^ bit]))
                try:
                    batch = read_spectra(sample.path, sample.product, **OPTIONS[trial % len(OPTIONS)])
                except SpectrumFileError:
                    became["refused"] += 1
                else:
                    changed = difference(whole[trial % len(OPTIONS)], batch)
                    became["changed" if changed else "same"] += 1
                    if changed:
                        silent[f"{sample.kind}: {name}, byte {place - start}: {changed}"] += 1
                stream.seek(place)
                stream.write(sample.contents[place : place + 1])
    return became, silent


def difference(one: SpectrumBatch, two: SpectrumBatch) -> str:
    """Name the first of the arrays or metadata that differ; empty if none does."""
    for name in ("flux", "ivar", "error", "bad", "wavelength", "bitmask"):
        a, b = getattr(one, name), getattr(two, name)
        if (a is None) != (b is None) or np.shape(a) != np.shape(b):
            return name
        if a is not None and not np.allclose(a, b, rtol=TOLERANCE, atol=0, equal_nan=True):
            return name
    return next((name for name, values in one.meta.items() if two.meta.get(name) != values), "")


# Mutations


def mutate(contents: bytes, dice: random.Random) -> bytes:
    """Damage a file in one of the ways in which files are damaged."""
    size, made = len(contents), bytearray(contents)
    blocks = size // 2880
    match dice.randrange(7):
        case 0:
            for _ in range(dice.choice((1, 3, 20))):
                made[dice.randrange(size)] = dice.randrange(256)
        case 1:
            for _ in range(dice.choice((1, 3))):  # in the headers, with characters that make legal cards
                made[dice.randrange(min(size, 30_000))] = dice.choice(b"0123456789 TFEDAIJKLX'-+.=&")
        case 2:
            del made[dice.randrange(size) :]
        case 3:
            made += bytes(dice.randrange(1, 9000)) if dice.randrange(2) else dice.randbytes(dice.randrange(1, 9000))
        case 4:
            a, b = (2880 * dice.randrange(blocks) for _ in range(2))
            made[a : a + 2880], made[b : b + 2880] = made[b : b + 2880], made[a : a + 2880]
        case 5:
            a = 2880 * dice.randrange(blocks)
            del made[a : a + 2880 * dice.choice((1, 2, 10))]
        case _:
            a, length = dice.randrange(size), dice.choice((100, 4096, 65_536))
            made[a : a + length] = bytes(len(made[a : a + length]))
    return bytes(made)


def mutations(chosen: Sequence[Sample], number: int, dice: random.Random) -> tuple[Counter[str], Counter[str]]:
    """Read mutated files, and count what became of them, and what must not be."""
    became: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for sample in chosen:
        for trial in range(number // len(chosen)):
            contents = mutate(sample.contents, dice)
            with sample.damaged(contents):
                try:
                    batch = read_spectra(sample.path, sample.product, **OPTIONS[trial % len(OPTIONS)])
                    check_valid(batch)
                    became["valid"] += 1
                except AstraError as error:
                    became["refused"] += 1
                    if str(sample.path) not in str(error):
                        wrong[f"{sample.kind}: an error that names no file: {error}"] += 1
                except Exception as error:
                    wrong[f"{sample.kind}: {type(error).__name__}: {error}"] += 1
    return became, wrong


# Runs


def runs(chosen: Sequence[Sample], folder: Path, number: int, dice: random.Random) -> tuple[Counter[str], Counter[str]]:
    """Run tasks over a mutated file between two whole ones, and count what became of it, and what must not be."""
    became: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    tried = [(sample, task) for sample in chosen for task in TASKS.get(sample.product, [])]
    for sample, task in tried:
        store = OutputStore(folder / "outputs", task, task.values())
        whole = sample.path.with_name("whole.fits")
        whole.write_bytes(sample.contents)
        data_ids = [product(sample.product).parse_key(KEYS[sample.product].format(i)) for i in range(1, 4)]
        expected = _written(store, [work_on(data_id, sample.product, whole) for data_id in data_ids])
        for _ in range(number // len(tried)):
            with sample.damaged(mutate(sample.contents, dice)):
                work = [
                    work_on(data_id, sample.product, sample.path if i == 1 else whole)
                    for i, data_id in enumerate(data_ids)
                ]
                try:
                    made = _written(store, work)
                except Exception as error:
                    wrong[f"{sample.kind}, {task.name}: {type(error).__name__}: {error}"] += 1
                    continue
            if made[0] != expected[0] or made[2] != expected[2]:
                wrong[f"{sample.kind}, {task.name}: a whole file has another output"] += 1
            became["computed" if isinstance(made[1], bytes) else "refused"] += 1
            if isinstance(made[1], AstraError) and made[1].key != data_ids[1].key:
                wrong[f"{sample.kind}, {task.name}: an error without the partition key: {made[1]}"] += 1
    return became, wrong


def work_on(data_id: DataID, name: str, path: Path) -> PartitionWork:
    """The work on a file that is not where its data ID would have it."""
    return PartitionWork(data_id, (InputFiles(name, path.name, "v", (str(path),)),))


def _written(store: OutputStore, work: Sequence[PartitionWork]) -> list[bytes | AstraError]:
    """Run a task, and read what it wrote."""
    found = {}
    # One file stands for three partitions here, which a run refuses where a header tells.
    with mock.patch.object(runner, "check_identity"):
        chunks = list(runner.run([(store, work)]))
    for outcomes in chunks:
        for outcome in outcomes:
            if outcome.error is not None:
                found[outcome.work.data_id.key] = outcome.error
            elif outcome.written is not None:
                store.read(outcome.work.data_id)
                found[outcome.work.data_id.key] = outcome.written.path.read_bytes()
    return [found[item.data_id.key] for item in work]


def main() -> None:
    """Do the trials, and print what became of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=10_000)
    parser.add_argument("--mutations", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sas", type=Path, help="folder with real files; by default synthetic ones")
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder")
    arguments = parser.parse_args()
    dice = random.Random(arguments.seed)  # noqa: S311
    rows = [["", "trials", "refused", "unharmed", "wrong"]]
    problems: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="astra-damage-") as name:
        chosen = samples(Path(name), arguments.sas)
        print(f"{len(chosen)} files, seed {arguments.seed}; {load()}", flush=True)
        trials: dict[str, Callable[[], tuple[Counter[str], Counter[str]]]] = {
            "flips": lambda: flips(chosen, arguments.flips, dice),
            "mutations": lambda: mutations(chosen, arguments.mutations, dice),
            "runs": lambda: runs(chosen, Path(name), arguments.runs, dice),
        }
        for kind, act in trials.items():
            became, wrong = act()
            print(kind, dict(became), flush=True)
            unharmed = became["same"] + became["valid"] + became["computed"]
            numbers = (became["refused"] + unharmed + wrong.total(), became["refused"], unharmed, wrong.total())
            rows.append([kind, *map(str, numbers)])
            problems += wrong
    print(table(rows))
    for problem, count in problems.most_common(40):
        print(f"{count} times: {problem}")
    print(load())
    if problems:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
