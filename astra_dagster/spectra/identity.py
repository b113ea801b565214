"""Compare what a file says of itself with its partition key, so that no file is taken for another one.

A file may lie at the path of another: copied there by hand, or renamed. Its header tells. What a header does not say is
no contradiction, and neither is what it says in another way than the path does: a number with other zeros, a field with
or without ``-RV``, a field's name where the path has its number. Which reduction a file is of is not compared.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from astra_dagster.datamodel.keys import ABSENT
from astra_dagster.datamodel.products import Product
from astra_dagster.errors import IdentityError
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.spectra.products.astra import ASTRA
from astra_dagster.spectra.products.mwm import MWM
from astra_dagster.spectra.products.spec import COMBINED, SPEC

TELESCOPES = frozenset(["apo25m", "lco25m", "apo1m"])
"""Telescopes as paths of APOGEE files have them; other names in a header are not compared."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a file says of one part of its key.

    Attributes
    ----------
    part
        Name of the part.
    cards
        Cards or columns that tell it, for the message.
    normalise
        Makes a comparable value of the part of a key, and of what a file says; None if it cannot be compared.
    names
        Names of the metadata that tell the part. If there are several, it is enough that one agrees.
    """

    part: str
    cards: str
    normalise: Callable[[object], int | str | None]
    names: tuple[str, ...]

    def find_other(self, text: str, meta: Mapping[str, Sequence[object]]) -> object:
        """Return what the file says instead of the part of its key; None if it says the same, or nothing."""
        wanted, other, agrees = self.normalise(text), None, False
        for name in self.names:
            for value in dict.fromkeys(meta.get(name, ())):
                said = None if value is None else self.normalise(value)
                if said == wanted:
                    agrees = True
                elif type(said) is type(wanted) and other is None:  # a number is no name
                    other = value
        return None if wanted is None or (agrees and len(self.names) > 1) else other


def _to_number(value: object) -> int | None:
    text = str(value).strip()
    return int(text) if text.isascii() and text.isdigit() else None


def _to_name(value: object) -> str | None:
    return str(value).strip().casefold() or None


def _to_telescope(value: object) -> str | None:
    name = str(value).strip().lower()
    return name if name in TELESCOPES else None


def _to_field(value: object) -> int | str | None:
    """Return the number of a field, or its name, which paths of observations for radial velocities end with -RV."""
    text = str(value).strip().casefold().removesuffix("-rv")
    number = _to_number(text)
    return text or None if number is None else number


_TELESCOPE = Claim("telescope", "TELESCOP", _to_telescope, ("telescope",))
_FIELD = Claim("field", "FIELD or LOCID", _to_field, ("field", "location"))
_VISIT = (
    _TELESCOPE,
    _FIELD,
    Claim("plate", "PLATE", _to_number, ("plate",)),
    Claim("mjd", "MJD5", _to_number, ("mjd",)),
    Claim("fibre", "FIBERID", _to_number, ("fibre",)),
)
_STAR = (
    _TELESCOPE,
    _FIELD,
    Claim("location", "LOCID", _to_number, ("location",)),
    Claim("healpix", "HEALPIX", _to_number, ("healpix",)),
    Claim("obj", "OBJID or OBJ", _to_name, ("object",)),
)
_SPEC = (
    Claim("field", "FIELDID", _to_number, ("field",)),
    Claim("plate", "PLATEID", _to_number, ("plate",)),
    Claim("mjd", "MJD", _to_number, ("mjd",)),
    Claim("fibre", "FIBERID", _to_number, ("fibre",)),
    Claim("catalogid", "CATALOGID", _to_number, ("catalogid",)),
)
_COMBINED = tuple(claim for claim in _SPEC if claim.part != "mjd")
"""The date of a combination of several nights is said in more than one way."""

CLAIMS: Mapping[str, tuple[Claim, ...]] = {
    "apVisit": _VISIT,
    "apStar": _STAR,
    "apVisit-1m": tuple(claim for claim in _VISIT if claim.part in ("telescope", "mjd")),
    "apStar-1m": (_TELESCOPE,),
    "aspcapStar": _STAR,
    **dict.fromkeys(SPEC, _SPEC),
    **dict.fromkeys(("spSpec", "spPlate"), _SPEC),
    **dict.fromkeys(COMBINED, _COMBINED),
    **dict.fromkeys((*MWM, *ASTRA), (Claim("sdss_id", "sdss_id", _to_number, ("sdss_id",)),)),
}
"""What is compared, by product."""


@functools.cache
def _place_claims(product: Product) -> tuple[tuple[int, Claim], ...]:
    """Return what is compared, with the place of each part in a key."""
    found = (claim for claim in CLAIMS.get(product.name, ()) if claim.part in product.parts)
    return tuple((product.parts.index(claim.part) + 1, claim) for claim in found)


def check_identity(spectra: SpectrumBatch, product: Product, key: str, path: Path) -> None:
    """Check that a file says nothing else of itself than its partition key does.

    Parameters
    ----------
    spectra
        What was read from the file.
    key
        Partition key that the file's path stands for.

    Raises
    ------
    IdentityError
        If the file is another one.
    """
    texts, meta = key.split("/"), spectra.meta
    other = []
    for place, claim in _place_claims(product):
        text, values = texts[place], meta.get(claim.names[0], ())
        # Most parts are written alike in both, which is seen at once.
        if text == ABSENT or (values and str(values[0]) == text and values.count(values[0]) == len(values)):
            continue
        said = claim.find_other(text, meta)
        if said is not None:
            other.append((f"{claim.part} {said} ({claim.cards})", f"{claim.part} {text}"))
    if other:
        found, wanted = (", ".join(parts) for parts in zip(*other, strict=True))
        raise IdentityError(
            f"the file is another one than its path says: its header has {found}, and the path {wanted}",
            key=key,
            path=path,
            hint="fetch the file again, or move it to where it belongs by its header",
        )
