"""The parts of a data ID: their names, their order, and which texts each may hold.

Every value is checked here, against a list of what is allowed, before any path is formed from it. How the
parts sit in a path is the business of `templates`.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from astra_dagster.errors import InvalidKeyError

_Value = TypeVar("_Value")

ABSENT = "-"
"""Stands in a partition key for a part that the release's template, or the file, does not have."""

MAX_PART, MAX_KEY = 128, 512

KNOWN = 10_000
"""Most texts of a part that are remembered."""

RENAMED = {
    "fiber": "fibre",
    "fiberid": "fibre",
    "plateid": "plate",
    "fieldid": "field",
    "release": "data_release",
    "dib_model | None": "dib_model",
}
"""Our name by SDSS key, where the two differ."""

ORDER = (
    *("run2d", "survey", "telescope", "instrument", "field", "healpix", "plate", "designid", "configid", "tileid"),
    *("mjd", "fibre", "ifu", "catalogid", "reduction", "obj", "sdss_id", "cat_id", "component"),
    *("v_targ", "rerun", "run", "camcol", "filter", "frame", "br", "id", "chip"),
)
"""Order of the parts in a partition key, after the release; parts not listed follow alphabetically."""

NUMERIC = frozenset(
    [
        "mjd",
        "plate",
        "plateid",
        "fiber",
        "fiberid",
        "healpix",
        "sdss_id",
        "cat_id",
        "catalogid",
        "designid",
        "configid",
        "tileid",
        "num",
    ]
)
"""SDSS keys that are numbers in every template; other keys are numbers in templates that pad them."""

_TEXT = r"-?[A-Za-z0-9_+(][A-Za-z0-9_.+,:=()-]*"
_FIVE_DIGITS = r"[1-9][0-9]{4}"
_IMAGING = r"(?:PHOTO|BOSS_PHOTOOBJ|SEGUE2_TARGET|SDSS_TARGET|BOSS_TARGET|APO_ROOT)[^/]*/.*"
_PATTERNS: Mapping[str, tuple[tuple[str, str], ...]] = {
    # The master calibrations of pixels belong to no night.
    "mjd": ((r"LVM_MASTER_DIR/lvm_calib", rf"(?:{_FIVE_DIGITS}|pixelmasks)"), (r".*", _FIVE_DIGITS)),
    "prefix": ((r"APOGEE_REDUX/.*", r"a[ps]"),),
    "filter": ((_IMAGING, r"[ugriz]"),),
    "camcol": ((_IMAGING, r"[1-6]"),),
    # One letter or digit, as another key follows without anything between: sdR-b1-..., lvm-xobject-b1-...
    "camrow": ((r"APO_ROOT/idCCDLog", r"[0-9]"),),
    "br": ((r"(?:spectrodir|BOSS_SPECTRO_[^/]*|SPECFLAT_DIR)/.*", r"[a-z]"),),
    "rc": ((r"PHOTO_DATA/idGang", r"[a-z0-9]"),),
    "kind": ((r"LVM_SPECTRO_REDUX/lvm_anc", r"[a-z]"),),
    "dr": ((r".*", r"[A-Za-z]+[0-9]+"),),
    "component": ((r"MWM_ASTRA/.*", r"[A-Za-z][A-Za-z0-9]*"),),
    "obs": ((r"(?:SDSSCORE_DIR|BOSS_SPECTRO_REDUX)/.*", r"[a-z]+"),),
    "fieldid": (
        (
            r"(?:BOSS_SPECTRO_REDUX|ROBOSTRATEGY_DATA)/.*",
            r"(?:0|[1-9][0-9]{0,19}|(?![0-9]+(?:[^A-Za-z0-9_.+,:=()-]|$))" + _TEXT + ")",
        ),
    ),
}
"""Regular expressions of what a part may hold, by part; in other products the same name means something else.

Each goes with a regular expression of the products for which it was written, as in ``BOSS_SPECTRO_REDUX/specLite``
(see `Key.of`); the first that fits counts.
"""

APOGEE_PATTERNS = {"telescope": r"(?:apo25m|lco25m|apo1m)", "instrument": r"(?:apogee-n|apogee-s)"}
ONE_METRE = "apo1m"
"""The only telescope of the products apVisit-1m and apStar-1m."""

_LARGEST = {"fiber": 300, "fiberid": 1000}


def our_name(sdss_key: str) -> str:
    """Return our name of an SDSS key: ``fibre`` for ``fiberid``."""
    return RENAMED.get(sdss_key, sdss_key)


def name_parts(values: Mapping[str, _Value], parts: Iterable[str]) -> dict[str, _Value]:
    """Return values by our names of the parts of a key, where they may be given by those of the SDSS: ``fiber``.

    Names that are neither stay as they are.

    Raises
    ------
    InvalidKeyError
        If a part is given by both of its names.
    """
    known = set(parts)
    named: dict[str, _Value] = {}
    for name, value in values.items():
        # The release is no part, whatever a template calls by this name.
        ours = our_name(name) if name != "release" and our_name(name) in known else name
        if ours in named:
            raise InvalidKeyError(f"{ours} is given twice", hint=f"{name} is the name that the SDSS has for it")
        named[ours] = value
    return named


def sort_parts(names: Iterable[str]) -> tuple[str, ...]:
    """Sort names of parts as they stand in partition keys."""
    rank = {name: i for i, name in enumerate(ORDER)}
    return tuple(sorted(set(names), key=lambda name: (rank.get(name, len(rank)), name)))


@dataclass(frozen=True)
class Key:
    """One key of a path template, with the texts that it may hold.

    Attributes
    ----------
    sdss_name
        Name as the template spells it.
    width
        Number of digits to which the template pads it; 0 if it does not.
    number
        Whether the template formats it as a number.
    optional
        Whether a file may lack it.
    apogee
        Whether it belongs to an APOGEE product, where telescopes and instruments are a closed list.
    of
        The variable at the beginning of the template, and the product: ``BOSS_SPECTRO_REDUX/specLite``. What a part may
        hold depends on it, as unrelated products use the same name for different things.
    """

    sdss_name: str
    width: int = 0
    number: bool = False
    optional: bool = False
    apogee: bool = False
    of: str = ""

    @cached_property
    def name(self) -> str:
        """Our name of the part."""
        return our_name(self.sdss_name)

    @cached_property
    def numeric(self) -> bool:
        """Whether the value is a number."""
        return self.number or self.width > 0 or self.sdss_name in NUMERIC

    @cached_property
    def pattern(self) -> str:
        """Regular expression of the canonical text."""
        if self.sdss_name == "telescope" and self.of.endswith(("/apVisit-1m", "/apStar-1m")):
            return ONE_METRE
        if self.apogee and self.sdss_name in APOGEE_PATTERNS:
            return APOGEE_PATTERNS[self.sdss_name]
        if not self.width:
            for products, pattern in _PATTERNS.get(self.sdss_name, ()):
                if re.fullmatch(products, self.of):
                    return pattern
        if self.width:
            return rf"(?:[0-9]{{{self.width}}}|[1-9][0-9]{{{self.width},19}})"
        if self.numeric:
            # Where a number is optional, zero means that the file has none, and is not written.
            return r"[1-9][0-9]{0,19}" if self.optional else r"(?:0|[1-9][0-9]{0,19})"
        return _TEXT

    @cached_property
    def _fullmatch(self) -> Callable[[str], re.Match[str] | None]:
        return re.compile(self.pattern).fullmatch

    def canonical(self, value: str | int) -> str:
        """Return the canonical text of a value; numbers are padded as in the file name.

        Raises
        ------
        InvalidKeyError
            If no file name of this product can hold the value.
        """
        text = str(value)
        known = self._known.get(text)
        if known is None:
            known = self._make_canonical(value)
            if len(self._known) < KNOWN:
                self._known[text] = known
        return known

    @cached_property
    def _known(self) -> dict[str, str]:
        """Canonical texts of what was asked for first; among the parts of very many partition keys, few differ."""
        return {}

    def _make_canonical(self, value: str | int) -> str:
        text = str(value)
        if not text or len(text) > MAX_PART:
            size = f"{len(text)} characters" if text else "empty"
            raise InvalidKeyError(f"{self.name} is {size}", hint=f"1 to {MAX_PART} are allowed")
        digits = text.isascii() and text.isdigit() and len(text) <= 20
        if digits and (self.numeric or self.sdss_name == "fieldid"):
            text = str(int(text)).zfill(self.width)
        if ".." in text or not self._fullmatch(text):
            raise InvalidKeyError(f"{self.name} cannot be {_shorten(value)}", hint=f"expected {self._say_expected()}")
        largest = _LARGEST.get(self.sdss_name)
        if largest and not 1 <= int(text) <= largest:
            raise InvalidKeyError(f"{self.name} cannot be {_shorten(value)}", hint=f"expected 1 to {largest}")
        return text

    def _say_expected(self) -> str:
        if self.sdss_name == "mjd":
            return "a five-digit MJD"
        if self.numeric:
            return "a whole number"
        if self.apogee and self.sdss_name in APOGEE_PATTERNS:
            return "one of " + self.pattern[3:-1].replace("|", ", ") if "|" in self.pattern else self.pattern
        return "letters, digits and _ . + , : = ( ) -"


def _shorten(value: str | int) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
