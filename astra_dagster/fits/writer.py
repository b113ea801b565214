"""Make FITS files as bytes: cards, HDUs and their check sums. The same content gives the same bytes, without dates.

astropy writes the same, with which the tests compare every file, but takes ten times as long as the analysis of an
apVisit spectrum.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from astra_dagster.arrays import AnyArray
from astra_dagster.fits.header import BLOCK, CARD, Scalar
from astra_dagster.fits.structure import add_up

Card = tuple[str, Scalar, str]
"""Keyword, value and comment."""

Cards = Iterable[Card]

_TABLE_FORMATS = {"b1": "L", "u1": "B", "i2": "I", "i4": "J", "i8": "K", "f4": "E", "f8": "D"}
_BITPIX = {"u1": 8, "i2": 16, "i4": 32, "i8": 64, "f4": -32, "f8": -64}
_CHECKSUM_AT = len("CHECKSUM= '")


_PRIMARY = (
    ("SIMPLE", True, "conforms to the FITS standard"),
    ("BITPIX", 8, "no data here"),
    ("NAXIS", 0, "no data here"),
    ("EXTEND", True, "extensions follow"),
)


@dataclass(frozen=True, slots=True)
class ColumnHead:
    """What the header of a binary table says of a column.

    Attributes
    ----------
    form
        Value of TFORM: the number of cells, if it is not one, and the letter of the type.
    null
        The whole number that stands for a missing value.
    shape
        Shape of the array in each row, if it has more than one axis.
    """

    name: str
    form: str
    unit: str = ""
    null: int | None = None
    description: str = ""
    ucd: str = ""
    shape: tuple[int, ...] = ()


def make_primary(cards: Cards) -> bytes:
    """Return the bytes of a primary HDU without data."""
    return _make_hdu([*_PRIMARY, *cards], b"")


def begin_of_primary(cards: Cards) -> bytes:
    """Return the bytes with which a primary HDU begins that has these as its first cards."""
    return b"".join(make_card(*item) for item in (*_PRIMARY, *cards))


def make_table(
    name: str,
    columns: Mapping[str, AnyArray],
    units: Mapping[str, str],
    cards: Cards = (),
    ucds: Mapping[str, str] = MappingProxyType({}),
) -> bytes:
    """Return the bytes of a binary table HDU; columns are arrays of shape (rows,) or (rows, cells)."""
    rows = len(next(iter(columns.values())))
    kinds = {
        column: "u1" if array.dtype == bool else array.dtype.newbyteorder(">") for column, array in columns.items()
    }
    layout = np.dtype([(column, kinds[column], array.shape[1:]) for column, array in columns.items()])
    data = np.empty(rows, layout)
    heads: list[ColumnHead] = []
    for column, array in columns.items():
        code = _TABLE_FORMATS[array.dtype.str[1:]]
        data[column] = np.where(array, ord("T"), ord("F")) if code == "L" else array
        cells = math.prod(array.shape[1:])
        form = f"{cells}{code}" if array.ndim > 1 else code
        shape = array.shape[1:] if array.ndim > 2 else ()
        heads.append(ColumnHead(column, form, units.get(column, ""), ucd=ucds.get(column, ""), shape=shape))
    return _make_hdu([*_make_table_cards(rows, layout.itemsize, heads), ("EXTNAME", name, ""), *cards], data.tobytes())


def table_header(name: str, rows: int, row_bytes: int, columns: Sequence[ColumnHead]) -> bytes:
    """Return the header of a binary table HDU whose rows are written later, in blocks; so it has no check sums."""
    cards = _make_table_cards(rows, row_bytes, columns, [("EXTNAME", name, "")])
    return _fill(b"".join(make_card(*item) for item in cards) + _pad("END"))


def _make_table_cards(rows: int, row_bytes: int, columns: Sequence[ColumnHead], named: Cards = ()) -> list[Card]:
    cards: list[Card] = [
        ("XTENSION", "BINTABLE", "binary table"),
        ("BITPIX", 8, ""),
        ("NAXIS", 2, ""),
        ("NAXIS1", row_bytes, "bytes a row"),
        ("NAXIS2", rows, "rows"),
        ("PCOUNT", 0, ""),
        ("GCOUNT", 1, ""),
        ("TFIELDS", len(columns), "columns"),
        *named,
    ]
    for number, column in enumerate(columns, start=1):
        cards += [(f"TTYPE{number}", column.name, ""), (f"TFORM{number}", column.form, "")]
        dim = f"({','.join(map(str, column.shape[::-1]))})" if column.shape else ""
        optional = (
            ("TDIM", dim),
            ("TUNIT", column.unit),
            ("TNULL", column.null),
            ("TCOMM", column.description),
            ("TUCD", column.ucd),
        )
        cards += [(f"{keyword}{number}", value, "") for keyword, value in optional if value not in ("", None)]
    return cards


def make_image(name: str, array: AnyArray, unit: str, cards: Cards = ()) -> bytes:
    """Return the bytes of an image HDU."""
    axes: list[Card] = [(f"NAXIS{i}", size, "") for i, size in enumerate(array.shape[::-1], start=1)]
    structure: list[Card] = [
        ("XTENSION", "IMAGE", "image"),
        ("BITPIX", _BITPIX[array.dtype.str[1:]], ""),
        ("NAXIS", array.ndim, ""),
        *axes,
        ("PCOUNT", 0, ""),
        ("GCOUNT", 1, ""),
        ("EXTNAME", name, ""),
        *([("BUNIT", unit, "")] if unit else []),
    ]
    return _make_hdu([*structure, *cards], array.astype(array.dtype.newbyteorder(">")).tobytes())


def make_card(keyword: str, value: Scalar, comment: str = "") -> bytes:
    """Return a card of 80 characters, and CONTINUE cards if a text needs them; None is an unknown value.

    Raises
    ------
    ValueError
        If a FITS header cannot hold the keyword or the value.
    """
    if not (0 < len(keyword) <= 8 and keyword.isascii() and all(c.isalnum() or c in "-_" for c in keyword)):
        raise ValueError(f"no FITS keyword: {keyword!r}")
    if isinstance(value, str):
        return _make_text_card(keyword, value, comment)
    if value is None:
        shown = ""
    elif isinstance(value, (bool, np.bool_)):
        shown = "T" if value else "F"
    elif isinstance(value, (int, np.integer)):
        shown = str(int(value))
    else:
        shown = _write_real(float(value))
    line = f"{keyword:8}= {shown:>20}"
    return _pad(f"{line} / {comment}" if comment else line)


def _write_real(value: float) -> str:
    if not math.isfinite(value):
        raise ValueError(f"no FITS number: {value}")
    text = repr(value).upper()
    mantissa, e, exponent = text.partition("E")
    return f"{mantissa}{'' if '.' in mantissa else '.0'}{e}{exponent}"


def _make_text_card(keyword: str, value: str, comment: str) -> bytes:
    if not (value.isascii() and (value.isprintable() or not value)):
        raise ValueError(f"no FITS text: {value!r}")
    quoted = value.replace("'", "''")
    if len(quoted) <= CARD - 12:
        line = f"{keyword:8}= {chr(39) + quoted.ljust(8) + chr(39):20}"
        with_comment = f"{line} / {comment}"
        return _pad(with_comment if comment and len(with_comment) <= CARD else line)
    lines, first = [], f"{keyword:8}= "
    while value:
        size = CARD - 13
        while len(value[:size].replace("'", "''")) > CARD - 13:
            size -= 1
        piece, value = value[:size].replace("'", "''"), value[size:]
        lines.append(_pad(f"{first}'{piece}{'&' if value else ''}'"))
        first = "CONTINUE  "
    return b"".join(lines)


def _pad(line: str) -> bytes:
    return line[:CARD].ljust(CARD).encode("ascii")


def _make_hdu(cards: Cards, data: bytes) -> bytes:
    """Return header and data, each padded to whole blocks, with DATASUM and CHECKSUM."""
    data += b"\0" * (-len(data) % BLOCK)
    data_sum = add_up(data)
    head = b"".join(make_card(*item) for item in cards)
    head += make_card("DATASUM", str(data_sum), "data unit check sum")
    at = len(head) + _CHECKSUM_AT
    head += make_card("CHECKSUM", "0" * 16, "HDU check sum") + _pad("END")
    head = _fill(head)
    total = add_up(head, data_sum)
    return head[:at] + _encode(0xFFFFFFFF - total) + head[at + 16 :] + data


def _fill(head: bytes) -> bytes:
    """Pad a header to whole blocks."""
    return head + b" " * (-len(head) % BLOCK)


def _encode(value: int) -> bytes:
    """Encode a number as the sixteen letters and digits that, as bytes of a header, add it to the check sum."""
    columns = [_letters(byte) for byte in value.to_bytes(4, "big")]
    text = bytes(columns[byte][letter] for letter in range(4) for byte in range(4))
    return text[-1:] + text[:-1]


def _letters(byte: int) -> list[int]:
    quotient, rest = divmod(byte, 4)
    letters = [quotient + 48 + (rest if i == 0 else 0) for i in range(4)]
    excluded = (*range(0x3A, 0x41), *range(0x5B, 0x61))
    while any(letter in excluded for letter in letters):
        for i in (0, 2):
            if letters[i] in excluded or letters[i + 1] in excluded:
                letters[i] += 1
                letters[i + 1] -= 1
    return letters
