"""Checks of the table of a task, which has all its results.

They read single columns of the Parquet file, and no outputs.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from astra_dagster.analysis.robust import find_middle
from astra_dagster.arrays import BoolArray, FloatArray
from astra_dagster.checks.check import LISTED, Check, Finding, Verdict
from astra_dagster.errors import OutputError
from astra_dagster.files import open_file, read_file
from astra_dagster.outputs.companions import read_failure_note
from astra_dagster.outputs.store import OutputStore
from astra_dagster.tables.table_columns import KEY, SPECTRUM, part_names
from astra_dagster.tasks.task import Task

if TYPE_CHECKING:  # slow to import, and only needed where something is checked
    import pyarrow as pa

JUMP = 3.0
"""Largest distance of a night's median from that of the nights before it, in units of the scatter of their spectra.

Of 35 real visits a few single ones are further from the median of all: one with S/N 3, where the others have 26 to 90,
and in the number of good pixels those of one fibre. Medians of any five in the order of their nights are within 2.3."""

NIGHTS, BEFORE = 30, 10
"""Number of last nights that are checked, and number of nights before it with which each is compared."""

ENOUGH, ENOUGH_BEFORE = 5, 20
"""Smallest numbers of spectra in a night, and in the nights before it, for a comparison."""

FLOOR = 1e-3
"""Smallest scatter that is assumed, as a fraction of the median."""


@dataclass(frozen=True)
class Table:
    """The table of a task, which the checks take.

    Attributes
    ----------
    store
        Store of the task with the parameters of the table.
    path
        Path of the Parquet file.
    inputs
        Returns the partition keys for which all inputs exist that the task requires.
    """

    store: OutputStore
    path: Path
    inputs: Callable[[], Sequence[str]]

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts of a key."""
        return part_names(self.store.task.domain)

    @cached_property
    def numbers(self) -> tuple[str, ...]:
        """Names of the columns of results that are single numbers, without those that say what the object is."""
        from astra_dagster.tables.table import find_numbers

        return tuple(field.name for _, field in find_numbers(self.store.task, _read_schema(self.path)))

    def read(self, *columns: str) -> "pa.Table":
        """Read columns, with the row of the first spectrum only for each partition.

        Raises
        ------
        OutputError
            If the table cannot be read.
        """
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        with _translate_errors(self.path), open_file(self.path) as stream:
            wanted = [*columns, SPECTRUM]
            table = pq.read_table(stream, columns=wanted, page_checksum_verification=True, partitioning=None)
        return table.filter(pc.equal(table[SPECTRUM], 0))


def read_digest(path: Path) -> str | None:
    """Read the parameters digest of a table; None if it cannot be read."""
    try:
        return str((_read_schema(path).metadata or {})[b"digest"].decode())
    except (OutputError, KeyError):
        return None


def _read_schema(path: Path) -> "pa.Schema":
    import pyarrow.parquet as pq

    with _translate_errors(path), open_file(path) as stream:
        return pq.read_schema(stream)


@contextmanager
def _translate_errors(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise OutputError(f"the table cannot be read: {error}", path=path, hint="materialise it again") from error


def all_inputs_done(table: Table) -> Verdict:
    """Check that every partition whose input exists has a row; those without are named with the reason."""
    inputs = table.inputs()
    there = set(table.read(KEY)[KEY].to_pylist())
    missing = [key for key in inputs if key not in there]
    reasons = [_say_why_missing(table.store, key) for key in missing[:LISTED]]
    reasons += ["no result"] * (len(missing) - len(reasons))
    nothing = not there
    wrong = [Finding(key, why, "a result", nothing) for key, why in zip(missing, reasons, strict=True)]
    return Verdict(len(inputs), "inputs", tuple(wrong), f"{len(there)} partitions have results")


def no_duplicates(table: Table) -> Verdict:
    """Check that no object, and no spectrum, occurs twice in a release.

    Objects are the same if their part ``obj`` of the key is, and spectra if all results are, to the last digit.
    """
    import pyarrow.compute as pc

    numbers = table.numbers if table.store.task.output == "json" else ()
    data = table.read(KEY, *table.parts, "data_version", *numbers)
    keys = data[KEY]
    results = pc.list_element(pc.split_pattern(data["data_version"], "."), 0)  # hash of spectra and results
    results = pc.binary_join_element_wise(data["release"], results, "/")
    telling = _find_telling(data, numbers) if table.store.task.output == "json" else np.ones(len(data), dtype=bool)
    wrong = []
    for first, *others in _find_repeated(results.filter(telling), keys.filter(telling)):
        wrong.append(Finding(first, f"same results as {_list_keys(others)}", "one file a spectrum"))
    if "obj" in table.parts:
        names = [name for name in ("release", "telescope", "obj") if name in table.parts]
        for first, *others in _find_repeated(_join(data, names), keys):
            wrong.append(Finding(first, f"the object is also {_list_keys(others)}", "one row an object"))
    return Verdict(len(data), "partitions", tuple(wrong))


def nights_alike(table: Table) -> Verdict:
    """Check that no result jumps from the nights before to one of the last nights."""
    names = [name for name in ("release", "telescope", "run2d") if name in table.parts]
    data = table.read(*names, "mjd", *table.numbers)
    label = _join(data, [*names, "mjd"]).combine_chunks().dictionary_encode()
    codes, labels = label.indices.to_numpy(), label.dictionary.to_pylist()
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(len(labels) + 1))
    sequences: dict[str, list[tuple[str, int]]] = {}
    for code, text in enumerate(labels):
        group, _, night = text.rpartition("/")
        sequences.setdefault(group, []).append((night, code))
    compared: set[str] = set()
    wrong = []
    for name in table.numbers:
        values = data[name].to_numpy().astype(float)[order]
        for group, nights in sequences.items():
            nights.sort()
            each = [values[starts[code] : starts[code + 1]] for _, code in nights]
            for i, jump in find_jumps(each):
                compared.add(f"{group}/{nights[i][0]}")
                if jump:
                    fixed = dict(zip([*names, "mjd"], [*group.split("/"), nights[i][0]], strict=True))
                    key = "/".join(fixed.get(part, "*") for part in table.parts)
                    wrong.append(Finding(key, f"{name} {jump[0]}", jump[1]))
    return Verdict(len(compared), "nights", tuple(wrong), _say_few(sequences, compared))


def find_jumps(nights: Sequence[FloatArray]) -> Iterator[tuple[int, tuple[str, str] | None]]:
    """Yield the number of each of the last nights that can be compared, with what was found and expected if it jumps.

    Parameters
    ----------
    nights
        Values of one column, night by night; NaN where a value is missing.
    """
    for i in range(max(1, len(nights) - NIGHTS), len(nights)):
        now, before = nights[i], np.concatenate(nights[max(0, i - BEFORE) : i])
        now, before = now[np.isfinite(now)], before[np.isfinite(before)]
        if len(now) < ENOUGH or len(before) < ENOUGH_BEFORE:
            continue
        (middle, spread), here = find_middle(before), float(np.median(now))
        scatter = max(spread, FLOOR * abs(middle))
        jump = abs(here - middle) > JUMP * scatter
        found = f"{here:.5g}, median of {len(now)}"
        yield i, (found, f"{middle:.5g}, scatter {scatter:.3g}, in {len(before)} before") if jump else None


def _say_few(sequences: dict[str, list[tuple[str, int]]], compared: set[str]) -> str:
    every = sum(min(len(nights), NIGHTS) for nights in sequences.values())
    return f"{every - len(compared)} left out: too few spectra in them or before them" if every > len(compared) else ""


def _say_why_missing(store: OutputStore, key: str) -> str:
    try:
        note = read_failure_note(read_file(store.failure_path(store.task.domain.parse_key(key))))
        return f"failed: {note.error}"
    except (OSError, ValueError, KeyError, TypeError):
        return "no result"


def _join(data: "pa.Table", names: Sequence[str]) -> "pa.Array":
    import pyarrow.compute as pc

    return pc.binary_join_element_wise(*(data[name].cast("string") for name in names), "/")


def _find_telling(data: "pa.Table", numbers: Sequence[str]) -> BoolArray:
    """Return True for rows whose results cannot be equal by chance, as two or more numbers are not whole."""
    count = np.zeros(len(data), dtype=int)
    for name in numbers:
        values = data[name].to_numpy().astype(float)
        count += np.isfinite(values) & (values != np.floor(values))
    enough: BoolArray = count >= 2
    return enough


def _find_repeated(groups: "pa.Array", keys: "pa.Array") -> list[list[str]]:
    """Return the keys of each group that has several."""
    import pyarrow.compute as pc

    counted = pc.value_counts(groups)
    chosen = pc.is_in(groups, value_set=counted.field("values").filter(pc.greater(counted.field("counts"), 1)))
    found: dict[str, list[str]] = {}
    for group, key in zip(groups.filter(chosen).to_pylist(), keys.filter(chosen).to_pylist(), strict=True):
        found.setdefault(group, []).append(key)
    return list(found.values())


def _list_keys(keys: Sequence[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def _has_nights(task: Task) -> bool:
    return "mjd" in part_names(task.domain)


CHECKS: tuple[Check[Table], ...] = (
    Check(all_inputs_done, "Every partition whose input is there has a result."),
    Check(no_duplicates, "No object, and no spectrum, is there twice in a release."),
    Check(nights_alike, "No result jumps from the nights before to one of the last nights.", _has_nights),
)
"""All checks of the table."""
