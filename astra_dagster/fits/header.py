"""Headers of FITS files: cards and their values, which are decoded when asked for.

Standard: https://fits.gsfc.nasa.gov/fits_standard.html (version 4.0), section 4.
"""

import functools
import math
import re
from collections.abc import Iterator

Scalar = bool | int | float | str | None

CARD = 80
BLOCK = 2880
_STRING = re.compile(rb"'((?:[^']|'')*)'")
_INTEGER = re.compile(rb"[+-]?[0-9]{1,40}")
_FLOAT = re.compile(rb"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([EeDd][+-]?[0-9]{1,4})?")
_DIGITS = re.compile(r" *[0-9]{1,18}")


class Header:
    """Cards of a header. A card that has no value, or is not legal FITS, has the value None."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self._values: dict[str, Scalar] = {}

    @functools.cached_property
    def _places(self) -> dict[bytes, int]:
        places: dict[bytes, int] = {}
        for place in range(0, len(self.raw), CARD):
            places.setdefault(self.raw[place : place + 8], place)
        return places

    def __contains__(self, keyword: str) -> bool:
        return keyword.encode().ljust(8) in self._places

    def keywords(self) -> Iterator[str]:
        """Yield the keyword of each card, in their order."""
        for place in range(0, len(self.raw), CARD):
            yield self.raw[place : place + 8].decode("ascii", "replace").rstrip()

    def get(self, keyword: str) -> Scalar:
        """Return the value of the first card of a keyword; None if there is none, or it cannot be read."""
        if keyword not in self._values:
            self._values[keyword] = self._decode(keyword)
        return self._values[keyword]

    def _decode(self, keyword: str) -> Scalar:
        place = self._places.get(keyword.encode().ljust(8))
        if place is None or self.raw[place + 8 : place + 10] != b"= ":
            return None
        value = parse_value(self.raw[place + 10 : place + CARD])
        if not isinstance(value, str):
            return value
        pieces = [value]
        while pieces[-1].endswith("&"):
            place += CARD
            more = parse_value(self.raw[place + 10 : place + CARD])
            if self.raw[place : place + 8] != b"CONTINUE" or not isinstance(more, str):
                break
            pieces[-1] = pieces[-1][:-1]
            pieces.append(more)
        return "".join(pieces)

    def number(self, keyword: str) -> float | None:
        """Return a value as a finite number; None if it is not one."""
        value = self.get(keyword)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
        return None

    def integer(self, keyword: str) -> int | None:
        """Return a value as a whole number; None if it is not one."""
        value = self.get(keyword)
        if type(value) is int:
            return value
        if isinstance(value, str):
            value = int(value) if _DIGITS.fullmatch(value) else None
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def text(self, keyword: str) -> str | None:
        """Return a value as text without blanks around it; None if there is none."""
        value = self.get(keyword)
        return None if value is None or isinstance(value, bool) else str(value).strip()


def parse_value(text: bytes) -> Scalar:
    """Return the value of a card, from the text after its "= "; None if it has none, or it is not legal."""
    word = text.strip()
    if word.startswith(b"'"):
        match = _STRING.match(word)
        return match[1].decode("ascii", "replace").replace("''", "'").rstrip() if match else None
    word = word.partition(b"/")[0].strip()
    if _INTEGER.fullmatch(word):
        return int(word)
    if _FLOAT.fullmatch(word):
        return float(word.upper().replace(b"D", b"E"))
    return {b"T": True, b"F": False}.get(word)
