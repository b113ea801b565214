"""Check what a FITS header says of the places, sizes and types of its data.

A single damaged bit of such a card can make other bytes of the file pass for the numbers that are wanted. So these
cards must be where the standard wants them, must be legal, and must agree with one another and with the data.

Standard: https://fits.gsfc.nasa.gov/fits_standard.html (version 4.0), sections 4.4.1 and 7, and appendix J.
"""

import functools
import re
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from astra_dagster.fits.header import CARD, Header, parse_value

MAX_AXES = 16
"""Largest number of axes of an array; those of the survey have four at most."""

MAX_COLUMNS = 999
"""Largest number of columns of a table, by the standard."""

_LEADING = CARD * (MAX_AXES + 8)  # bytes in which the mandatory cards are
_BITS = (8, 16, 32, 64, -32, -64)
_STRUCTURAL = re.compile(
    r"(SIMPLE|XTENSION|BITPIX|NAXIS\d*|PCOUNT|GCOUNT|TFIELDS|(TTYPE|TFORM|TSCAL|TZERO|TNULL)\d+|BSCALE|BZERO|BLANK"
    r"|(CRVAL|CDELT|CRPIX)\d*|CHECKSUM|DATASUM)"
)
_NUMERIC = re.compile(r"(TSCAL|TZERO)\d+|BSCALE|BZERO|(CRVAL|CDELT|CRPIX)\d*")
_WHOLE = re.compile(r"TNULL\d+|BLANK")
_KINDS = {"": "image", "IMAGE": "image", "BINTABLE": "table", "TABLE": "other"}  # those of the standard, section 7
_FREE = (b"COMMENT ", b"HISTORY ", b" " * 8)  # keywords of cards that hold text only


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the mandatory cards say: BITPIX, the shape with the slowest axis first, and PCOUNT."""

    kind: str
    bits: int
    shape: tuple[int, ...]
    heap: int

    @property
    def bytes(self) -> int:
        """Size of the data in bytes, without padding."""
        if not self.shape:
            return 0
        count = 1
        for length in self.shape:
            count *= length
        return abs(self.bits) // 8 * (count + self.heap)


def read_sizes(raw: bytes, *, primary: bool) -> Sizes:
    """Read the mandatory cards of a header, which are the first ones, in a fixed order.

    Raises
    ------
    ValueError
        If they are not, or have impossible values.
    """
    return _read_sizes(raw[:_LEADING], primary)


@functools.lru_cache(maxsize=256)
def _read_sizes(raw: bytes, primary: bool) -> Sizes:
    place = CARD

    def integer(keyword: str) -> int:
        nonlocal place
        card, place = raw[place : place + CARD], place + CARD
        value = parse_value(card[10:]) if card.startswith(f"{keyword:8}= ".encode()) else None
        if type(value) is not int:
            raise ValueError(f"has no whole number {keyword} in card {place // CARD} of its header")
        return value

    name = "" if primary else str(parse_value(raw[10:CARD])).strip()
    kind = _KINDS.get(name, "")
    if not kind:
        raise ValueError(f"is of an unknown type of extension, {name!r}")
    bits, axes = integer("BITPIX"), integer("NAXIS")
    if bits not in _BITS or not 0 <= axes <= MAX_AXES:
        raise ValueError(f"has an impossible BITPIX {bits} or NAXIS {axes}")
    shape = tuple(integer(f"NAXIS{axis}") for axis in range(1, axes + 1))[::-1]
    heap, groups = (0, 1) if primary else (integer("PCOUNT"), integer("GCOUNT"))
    fields = integer("TFIELDS") if kind == "table" else 0
    if min(shape, default=0) < 0 or heap < 0 or groups != 1:
        raise ValueError("has an impossible NAXISn, PCOUNT or GCOUNT")
    if kind == "table" and (bits != 8 or axes != 2 or not 0 <= fields <= MAX_COLUMNS):
        raise ValueError(f"is a table with BITPIX {bits}, NAXIS {axes} and TFIELDS {fields}")
    return Sizes(kind, bits, shape, heap)


def find_damage(header: Header) -> str:
    """Say what is wrong with a header, as far as places, sizes, types or scales depend on it; empty if nothing is."""
    if problem := find_garbage(header.raw):
        return problem
    seen: set[str] = set()
    for keyword in header.keywords():
        if not is_structural(keyword):
            continue
        if keyword in seen:
            return f"has the card {keyword} twice"
        seen.add(keyword)
        if _NUMERIC.fullmatch(keyword):
            value = header.number(keyword)
            if value is None or (value == 0 and keyword.startswith(("BSCALE", "TSCAL"))):
                return f"has no usable number in its card {keyword}"
        elif _WHOLE.fullmatch(keyword) and type(header.get(keyword)) is not int:
            return f"has no whole number in its card {keyword}"
    return ""


def is_structural(keyword: str) -> bool:
    """Whether places, sizes, types or scales of the data depend on a card."""
    return _STRUCTURAL.fullmatch(keyword) is not None


def is_one_bit_off(name: str, other: str) -> bool:
    """Whether two names of columns, of three letters or more, differ in one bit; blanks follow each in a header."""
    if min(len(name), len(other)) < 3:
        return False
    differing = [(a, b) for a, b in zip_longest(name.upper(), other.upper(), fillvalue=" ") if a != b]
    if len(differing) != 1:
        return False
    a, b = differing[0]  # either of which may be of upper or lower case in the file
    return any((ord(x) ^ ord(y)).bit_count() == 1 for x in (a, a.lower()) for y in (b, b.lower()))


def find_garbage(raw: bytes) -> str:
    """Say where a header has bytes that are no printable ASCII, but for cards that only hold text; empty if nowhere."""
    if (np.frombuffer(raw, np.uint8) - np.uint8(32) > 94).any():
        for place in range(0, len(raw), CARD):
            card = raw[place : place + CARD]
            if not (card.startswith(_FREE) or (card.isascii() and card.decode().isprintable())):
                return f"has a header with bytes that are no text, in card {place // CARD + 1}"
    return ""


def add_up(block: bytes, begin: int = 0) -> int:
    """Return the ones' complement sum of 32-bit words, as the standard defines it, continued from another sum."""
    total = begin + int(np.frombuffer(block, ">u4").sum(dtype=np.uint64))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total
