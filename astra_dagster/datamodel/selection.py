"""The language in which partitions are selected by the parts of their keys, wherever that is done.

A value is a text or a number, ``56000``; several, ``5226,5227`` or a list; a range of whole numbers, ``59000..59100``,
``59000..`` or ``..59100``, with both ends; or a pattern, ``120*``, in which ``*`` stands for any text and ``?`` for a
character. What a part may hold is not known here: `Product.allowed` and `Group.select` say so.
"""

import contextlib
import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from astra_dagster.errors import InvalidKeyError

_RANGE = re.compile(r"([0-9]{1,20})?\.\.([0-9]{1,20})?")


@dataclass(frozen=True)
class Choice:
    """The texts that a part of a key may have to be selected; ``text in choice`` asks for one.

    Attributes
    ----------
    texts
        Texts, as keys have them.
    ranges
        First and last whole number of each range; None where it is open.
    patterns
        Patterns that a whole text must match.
    """

    texts: frozenset[str] = frozenset()
    ranges: tuple[tuple[int | None, int | None], ...] = ()
    patterns: tuple[re.Pattern[str], ...] = ()

    def __contains__(self, text: object) -> bool:
        if text in self.texts:
            return True
        if not isinstance(text, str):
            return False
        if self.ranges and text.isascii() and text.isdigit():
            number = int(text)
            if any((low is None or low <= number) and (high is None or number <= high) for low, high in self.ranges):
                return True
        return any(pattern.fullmatch(text) for pattern in self.patterns)

    @property
    def pattern(self) -> str:
        """A pattern of SQL's LIKE that all these texts match, and often others: it is exact for a single text."""
        alone = len(self.texts) == 1 and not self.ranges and not self.patterns
        text = "".join(self.texts)
        return text if alone and "\\" not in text else "%"


def list_values(given: object, name: str) -> list[str]:
    """Return what is given for a part, a text, a number or several of them, as texts.

    Raises
    ------
    InvalidKeyError
        If it is something else, or nothing.
    """
    several = [given] if isinstance(given, (str, int)) else list(given) if isinstance(given, Iterable) else []
    if (
        not several
        or isinstance(given, Mapping)
        or any(isinstance(one, bool) or not isinstance(one, (str, int)) for one in several)
    ):
        raise InvalidKeyError(
            f"{name} cannot be {str(given)[:80]!r}",
            hint="expected a value, several, a range 59000..59100, or a pattern 120*",
        )
    return [str(one) for one in several]


def make_choice(given: object, name: str, canonical: Callable[[str], str] = str) -> Choice:
    """Return what is selected of a part.

    Parameters
    ----------
    given
        A text, a number, or several of them, in the language of this module.
    name
        Name of the part.
    canonical
        Function that returns a single value as keys have it, and raises an InvalidKeyError if none can.

    Raises
    ------
    InvalidKeyError
        If a value cannot be understood, or no key can have it.
    """
    texts: set[str] = set()
    ranges: list[tuple[int | None, int | None]] = []
    patterns: list[re.Pattern[str]] = []
    for value in list_values(given, name):
        if "," in value:  # fields may be named so
            with contextlib.suppress(InvalidKeyError):
                texts.add(canonical(value))
        for text in value.split(","):
            found = _RANGE.fullmatch(text)
            if found and any(found.groups()):
                low, high = (None if end is None else int(end) for end in found.groups())
                if low is not None and high is not None and low > high:
                    raise InvalidKeyError(
                        f"{name} cannot be {text!r}", hint=f"the first is above the last: {high}..{low}"
                    )
                ranges.append((low, high))
            elif ".." in text:
                raise InvalidKeyError(
                    f"{name} cannot be {text[:80]!r}", hint="a range is of whole numbers: 59000..59100"
                )
            elif "*" in text or "?" in text:
                patterns.append(re.compile(fnmatch.translate(text.replace("[", "[[]"))))
            else:
                texts.add(canonical(text))
    return Choice(frozenset(texts), tuple(ranges), tuple(patterns))
