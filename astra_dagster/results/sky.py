"""Which files are of a star, or of a place on the sky: as far as keys, or results that are there, tell.

Keys that hold the 2MASS name of a star hold its position too, to a tenth of an arcsecond. Of other files those results
tell both that have the columns ``object``, ``ra`` and ``dec``, as S/N has.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from astra_dagster.datamodel.products import Product
from astra_dagster.errors import InputMissingError, InvalidKeyError, nearest
from astra_dagster.planning.ledger import Selection
from astra_dagster.results.results import Results
from astra_dagster.tasks import registry

Place = tuple[str, float, float]
"""Name of an object, and its right ascension and declination in degrees, NaN if they are not known."""

COLUMNS = ("object", "ra", "dec")
"""Columns of results that tell them."""

_NAME = re.compile(r".*?(\d\d)(\d\d)(\d\d)(\d\d)([+-])(\d\d)(\d\d)(\d\d)(\d)")
_PREFIX = re.compile(r"^(2MASS|2M)?\s*J?", re.IGNORECASE)


def keep_near(product: Product, keys: Sequence[str], stars: Iterable[str], near: Any, radius: Any) -> list[str]:
    """Keep the keys of files of some stars, and of those within a radius of a place, as `Searchable.search` has them.

    Raises
    ------
    InvalidKeyError
        If no file is of a star, or the radius is no angle.
    InputMissingError
        If it is not known of any file what it is of.
    """
    wanted = [stars] if isinstance(stars, str) else list(stars)
    if (near is None) != (radius is None):
        raise InvalidKeyError("near and radius belong together", hint='near=SkyCoord(...), radius="5 arcsec"')
    known = find_places(product, keys)
    kept = [key for key in keys if key in known]
    if wanted:
        by_star: dict[str, list[str]] = {}
        for key in kept:
            by_star.setdefault(_plain(known[key][0]), []).append(key)
        for star in wanted:
            if _plain(star) not in by_star:
                names = (place[0] for place in known.values())
                raise InvalidKeyError(
                    f"no file of {product.name} is known to be of star {star!r:.100}", hint=nearest(star, names)
                )
        kept = [key for star in dict.fromkeys(map(_plain, wanted)) for key in by_star[star]]
    return kept if near is None else _keep_close(kept, known, near, radius)


def find_places(product: Product, keys: Sequence[str]) -> dict[str, Place]:
    """Return the object and the place of each file of which they are known, by key.

    Raises
    ------
    InputMissingError
        If there is none.
    """
    if "obj" in product.parts:
        at = 1 + product.parts.index("obj")
        return {key: (name, *read_position(name)) for key, name in ((key, key.split("/")[at]) for key in keys)}
    tasks = [task for task in registry.tasks().values() if task.domain == product and {*COLUMNS} <= {*task.promised}]
    found: dict[str, Place] = {}
    for task in tasks:
        left = tuple(key for key in keys if key not in found)
        rows = Results(task, left, Selection()).to_arrow(["key", *COLUMNS]).to_pydict() if left else {"key": []}
        for key, name, ra, dec in zip(*rows.values(), strict=True) if rows["key"] else ():
            place = read_position(str(name)) if ra is None or dec is None else (float(ra), float(dec))
            found.setdefault(key, (str(name or ""), *place))
    if not found:
        hint = f"run astra-dagster run {tasks[0].name}: its results tell" if tasks else "no task has columns ra and dec"
        raise InputMissingError(f"it is not known which objects the files of {product.name} are of", hint=hint)
    return found


def read_position(name: str) -> tuple[float, float]:
    """Return right ascension and declination in degrees from a 2MASS name, ``2M00000032+5737103``; else NaN."""
    found = _NAME.fullmatch(name)
    if found is None:
        return np.nan, np.nan
    hours, minutes, seconds, cents, sign, degrees, arcminutes, arcseconds, tenths = found.groups()
    ra = 15 * (int(hours) + int(minutes) / 60 + (int(seconds) + int(cents) / 100) / 3600)
    dec = int(degrees) + int(arcminutes) / 60 + (int(arcseconds) + int(tenths) / 10) / 3600
    return (ra, -dec if sign == "-" else dec) if ra < 360 and dec <= 90 else (np.nan, np.nan)


def _keep_close(keys: Sequence[str], known: dict[str, Place], near: Any, radius: Any) -> list[str]:
    from astropy.coordinates import Angle, SkyCoord  # slow to import

    try:
        limit = Angle(radius)
    except (TypeError, ValueError) as error:  # of a number without a unit too
        raise InvalidKeyError(f"radius cannot be {radius!r:.80}", hint='it is an angle: "5 arcsec"') from error
    if not isinstance(near, SkyCoord):
        raise InvalidKeyError(f"near cannot be {near!r:.80}", hint="it is a SkyCoord of astropy's")
    placed = [key for key in keys if np.isfinite(known[key][1:]).all()]
    if not placed:
        return []
    ra, dec = np.array([known[key][1:] for key in placed]).T
    places = SkyCoord(ra, dec, unit="deg")
    close = np.zeros(len(placed), dtype=bool)
    for one in near.icrs.ravel() if near.shape else [near.icrs]:
        close |= places.separation(one) <= limit
    return [key for key, is_close in zip(placed, close, strict=True) if is_close]


def _plain(name: str) -> str:
    return _PREFIX.sub("", name.strip()).lower()
