"""Results that are long arrays, in the FITS files of spectra: columns of a table, and not texts of the header.

The table RESULTS is the last HDU of a file. It has a row for each spectrum, and a column for each result that is an
array of numbers of several axes, or of more than `LONGEST` numbers. The card ARRAYS of the primary header tells the
shape of each, and the rows in which it is missing. Missing numbers are NaN.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from astra_dagster.arrays import AnyArray
from astra_dagster.files import parse_json
from astra_dagster.fits import writer
from astra_dagster.fits.model import Model
from astra_dagster.fits.reader import LARGEST, FitsFile
from astra_dagster.fits.writer import Card

LONGEST = 64
"""Largest number of values of a result that is written as a text of the header."""

_CELLS = Model("fiu", ((), (range(1, LARGEST),)))


def find_arrays(results: Mapping[str, Any], several: bool) -> dict[str, AnyArray]:
    """Return the results that are written as columns of a table, as arrays of shape (spectra, ...).

    Whole numbers of which some are missing, texts and logical values stay texts of the header.

    Parameters
    ----------
    several
        Whether the results are lists with one value for each spectrum.
    """
    found: dict[str, AnyArray] = {}
    for name, value in results.items():
        rows = value if several else [value]
        shape = find_shape(rows)
        if len(shape) > 1 or (shape and shape[0] > LONGEST):
            values = stack_rows(rows)
            kinds = set(map(type, values.ravel()))
            if kinds in ({float}, {float, type(None)}, {int}) and name.lower() not in map(str.lower, found):
                found[name] = values.astype(np.float64 if float in kinds else np.int64)
    return found


def find_shape(rows: Sequence[Any]) -> tuple[int, ...]:
    """Return the shape of the values of spectra, of which some may be missing."""
    return next((np.shape(row) for row in rows if row is not None), ())


def stack_rows(rows: Sequence[Any]) -> AnyArray:
    """Return the values of spectra as an array of objects, shape (spectra, ...); of a missing one all are None."""
    shape = find_shape(rows)
    return np.array([np.full(shape, None) if row is None and shape else row for row in rows], dtype=object)


def encode_arrays(
    arrays: Mapping[str, AnyArray], results: Mapping[str, Any], several: bool
) -> tuple[list[Card], bytes]:
    """Return the cards of the primary header that tell of these results, and the bytes of their table."""
    if not arrays:
        return [], b""
    about = {}
    for name, array in arrays.items():
        rows = results[name] if several else [results[name]]
        about[name] = [list(array.shape[1:]), [i for i, row in enumerate(rows) if row is None]]
    text = json.dumps(about, separators=(",", ":"))
    return [("ARRAYS", text, "results in the last HDU: shape, rows without")], writer.make_table("RESULTS", arrays, {})


def read_arrays(file: FitsFile) -> dict[str, Any]:
    """Read the results that are in a table, as plain Python values; of a file of one spectrum its only row.

    Raises
    ------
    AstraError
        If the table is not what the primary header says.
    """
    header = file.hdu(0).header
    text = header.text("ARRAYS")
    if text is None:
        return {}
    about = parse_json(text)
    index = 3 if file.hdu(1).header.get("CONTIN") is True else 2
    model = {name.lower(): _CELLS for name in about}
    columns = file.table(index, model, "results", rows=range(1, LARGEST), width=LARGEST)
    found: dict[str, Any] = {}
    for name, (shape, missing) in about.items():
        array = columns[name.lower()]
        values = array.reshape(len(array), *shape).astype(array.dtype.newbyteorder("="))
        rows = np.ma.masked_invalid(values).tolist()
        kept = [None if i in missing else row for i, row in enumerate(rows)]
        found[name] = kept if header.get("SEVERAL") is True else kept[0]
    return found
