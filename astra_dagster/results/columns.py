"""Make astropy's table from a pyarrow table of results."""

from typing import Any

import numpy as np
import pyarrow as pa

from astra_dagster.spectra.result_arrays import stack_rows


def make_qtable(table: pa.Table) -> Any:
    """Return a QTable with the units and descriptions of the fields, and with masks where values are missing.

    Arrays of one shape stay arrays; of several shapes they are objects.
    """
    from astropy.table import QTable, Table  # here, because it is slow to import

    columns = {}
    for field in table.schema:
        about = {name.decode(): text.decode() for name, text in (field.metadata or {}).items()}
        columns[field.name] = _make_column(field.name, table[field.name], about)
    return QTable(Table(columns))


def _make_column(name: str, values: pa.ChunkedArray, about: dict[str, str]) -> Any:
    from astropy.table import Column, MaskedColumn

    if pa.types.is_list(values.type):
        array = stack_rows(values.to_pylist())
        masked: Any = np.array([value is None for value in array.ravel()], bool).reshape(array.shape)
        flat = [value for value in array.ravel() if value is not None]
        if not any(isinstance(value, list) for value in flat):
            filled = array.copy()
            filled[masked] = flat[0] if flat else np.nan
            array = np.array(filled.tolist())
    else:
        masked = values.is_null().to_numpy()
        array = values.to_numpy() if not values.null_count else _fill(values)
        array = array.astype(str) if pa.types.is_string(values.type) else array
    make = MaskedColumn if np.any(masked) else Column
    more = {"mask": masked} if np.any(masked) else {}
    return make(array, name=name, unit=about.get("unit"), description=about.get("description"), **more)


def _fill(values: pa.ChunkedArray) -> Any:
    """Return the values as an array, with something of their type where they are missing."""
    if pa.types.is_string(values.type):
        return values.fill_null("").to_numpy()
    return values.fill_null(pa.scalar(0).cast(values.type)).to_numpy()
