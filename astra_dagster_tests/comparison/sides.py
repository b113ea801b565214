"""Sides of a comparison for tests, from plain columns."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from astra_dagster.comparison.sides import Side, split_arrays

PARTS = ("release", "telescope", "field", "plate", "mjd", "fibre")


def key_of(fibre: int, release: str = "DR17", field: str = "120+12") -> str:
    return f"{release}/apo25m/{field}/5226/56000/{fibre:03d}"


def make(name: str, keys: Sequence[str], units: dict[str, str] | None = None, **columns: Sequence[Any]) -> Side:
    given = {"key": list(keys), **columns}
    fields = []
    for label, values in given.items():
        unit = (units or {}).get(label)
        fields.append(pa.field(label, pa.array(values).type, metadata={"unit": unit} if unit else None))
    return Side(name, split_arrays(pa.table(given, schema=pa.schema(fields))), PARTS)
