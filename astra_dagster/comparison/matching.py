"""Match the rows of two sides: by their keys, or across releases by plate, MJD and fibre, or by the object."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from astra_dagster.arrays import BoolArray, IndexArray
from astra_dagster.comparison.sides import Side
from astra_dagster.errors import ComparisonError
from astra_dagster.tables.table_columns import KEY, OBJECT, SPECTRUM, VISIT

WAYS = ("key", "visit", "object")
"""Ways to match rows."""


@dataclass(frozen=True, eq=False)
class Matches:
    """The rows that belong together.

    Attributes
    ----------
    by
        How they were matched, one of `WAYS`.
    a, b
        Number of the row on either side, of shape (matches,), in the order of side a.
    only_a, only_b
        Keys that one side has alone.
    repeated
        Number of rows left out since their side has several with the same visit or object.
    """

    by: str
    a: IndexArray
    b: IndexArray
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    repeated: int


def match_rows(a: Side, b: Side, by: str = "") -> Matches:
    """Match the rows of two sides.

    Parameters
    ----------
    by
        One of `WAYS`; by default the key, or for sides without a release in common the visit, else the object.

    Raises
    ------
    ComparisonError
        If the rows cannot be matched so, or none has a partner.
    """
    by = by or _choose(a, b)
    if by not in WAYS:
        raise ComparisonError(f"rows cannot be matched by {by!r}", hint=f"match by {', '.join(WAYS)}")
    ids = [_identify(side, by) for side in (a, b)]
    usable = [_find_usable(side, by, one) for side, one in zip((a, b), ids, strict=True)]
    rows_a, rows_b = (np.flatnonzero(one) for one in usable)
    places = pc.index_in(ids[0].take(pa.array(rows_a)), value_set=ids[1].take(pa.array(rows_b)))
    found = places.is_valid().to_numpy(zero_copy_only=False)
    left, right = rows_a[found], rows_b[places.drop_null().to_numpy()]
    if not len(left):
        raise ComparisonError(
            f"{a.name} and {b.name} have nothing in common: {len(a.table)} and {len(b.table)} rows, matched by {by}",
            hint="is everything run on both sides? --match tells what belongs together",
        )
    repeated = sum(len(side.table) - int(one.sum()) for side, one in zip((a, b), usable, strict=True))
    alone = [_take_keys(side, np.setdiff1d(rows, own)) for side, rows, own in ((a, rows_a, left), (b, rows_b, right))]
    return Matches(by, left, right, alone[0], alone[1], repeated)


def part_column(side: Side, name: str) -> pa.Array | None:
    """Return a part of the keys of a side; None if keys have no such part."""
    if name not in side.parts:
        return None
    split = pc.split_pattern(side.table[KEY].combine_chunks(), "/")
    return pc.list_element(split, side.parts.index(name))


def _choose(a: Side, b: Side) -> str:
    releases = [set(pc.unique(part_column(side, "release")).to_pylist()) for side in (a, b)]
    if releases[0] & releases[1] or not all(releases):
        return "key"
    return "visit" if set(VISIT) <= set(a.parts) else "object"


def _identify(side: Side, by: str) -> pa.Array:
    """Return a text for each row that is the same on both sides for rows that belong together."""
    if by == "key":
        texts = [side.table[KEY].combine_chunks()]
    elif by == "visit":
        parts = [part_column(side, name) for name in VISIT]
        if any(part is None for part in parts):
            raise ComparisonError("these keys have no plate, MJD and fibre", hint="match by object")
        texts = parts
    elif OBJECT in side.table.column_names:
        return side.table[OBJECT].cast(pa.string()).combine_chunks()
    elif (named := part_column(side, "obj")) is not None:
        return named
    else:
        raise ComparisonError(f"{side.name} has no column {OBJECT!r}", hint="match by key or visit")
    if SPECTRUM in side.table.column_names:
        texts = [*texts, side.table[SPECTRUM].cast(pa.string()).combine_chunks()]
    return pc.binary_join_element_wise(*texts, "/") if len(texts) > 1 else texts[0]


def _find_usable(side: Side, by: str, ids: pa.Array) -> BoolArray:
    """Return True for rows that no other of the side could be taken for."""
    if by == "key":
        return np.ones(len(ids), bool)
    usable = ids.is_valid().to_numpy(zero_copy_only=False)
    if by == "object" and SPECTRUM in side.table.column_names:
        usable &= side.table[SPECTRUM].to_numpy() == 0
    codes = ids.dictionary_encode().indices.fill_null(-1).to_numpy()
    counts = np.bincount(codes[usable], minlength=1) if usable.any() else np.zeros(1, int)
    single: BoolArray = usable & (counts[np.maximum(codes, 0).clip(max=len(counts) - 1)] == 1)
    return single


def _take_keys(side: Side, rows: IndexArray) -> tuple[str, ...]:
    return tuple(side.table[KEY].take(pa.array(rows, pa.int64())).to_pylist())
