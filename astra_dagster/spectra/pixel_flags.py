"""The bits of the surveys' own pixel masks by name: what each means, and which of them the survey rejects.

What a batch does with them is in `batch`; the rule for bad pixels that needs no mask is in `masks`. The names are those
of SDSS, and bits that SDSS does not name have none here.

Sources: for APOGEE_PIXMASK https://www.sdss4.org/dr17/algorithms/bitmasks/#APOGEE_PIXMASK and the class PixelBitMask of
the APOGEE pipeline (https://github.com/sdss/apogee, ``python/apogee/utils/bitmask.py``); for SPPIXMASK
https://www.sdss4.org/dr17/algorithms/bitmasks/#SPPIXMASK and https://github.com/sdss/idlutils,
``data/sdss/sdssMaskbits.par``. Both list the same names and numbers.
"""

import functools
from collections.abc import Iterable, Mapping
from enum import IntFlag

from astra_dagster.errors import UnknownFlagError, nearest


class ApogeePixel(IntFlag):
    """Bits of APOGEE_PIXMASK, the pixel mask of apVisit and apStar files, and of APOGEE spectra in mwm files."""

    BADPIX = 1 << 0
    """Bad in the mask of bad pixels, or after a strong jump of persistence."""
    CRPIX = 1 << 1
    """Hit by a cosmic ray."""
    SATPIX = 1 << 2
    """Saturated."""
    UNFIXABLE = 1 << 3
    """Saturated or hit, and not to be mended from the other reads."""
    BADDARK = 1 << 4
    """Bad in the dark frame."""
    BADFLAT = 1 << 5
    """Bad in the flat field."""
    BADERR = 1 << 6
    """Given a very large error; not used."""
    NOSKY = 1 << 7
    """No sky fibre has a value here."""
    LITTROW_GHOST = 1 << 8
    """In the Littrow ghost, and perhaps affected."""
    PERSIST_HIGH = 1 << 9
    """In a region of high persistence, and perhaps affected."""
    PERSIST_MED = 1 << 10
    """In a region of medium persistence, and perhaps affected."""
    PERSIST_LOW = 1 << 11
    """In a region of low persistence, and perhaps affected."""
    SIG_SKYLINE = 1 << 12
    """Near a sky line that is bright compared with the object."""
    SIG_TELLURIC = 1 << 13
    """Near a telluric line that absorbs much."""
    NOT_ENOUGH_PSF = 1 << 14
    """Less than half of the point-spread function is in good pixels."""
    FERRE_MASK = 1 << 16
    """Left out by the mask of the code FERRE (DR16 and later)."""


class BossPixel(IntFlag):
    """Bits of SPPIXMASK, the pixel mask of spec files, and of BOSS spectra in mwm files.

    Bits 0 to 12 are those of a whole fibre, or of its blue or red half; bits from 16 are those of a pixel.
    """

    NOPLUG = 1 << 0
    """The fibre is not in the list of plugged fibres."""
    BADTRACE = 1 << 1
    """The trace of the fibre is bad."""
    BADFLAT = 1 << 2
    """Few counts in the flat field of the fibre."""
    BADARC = 1 << 3
    """The solution from the arc lamps is bad."""
    MANYBADCOLUMNS = 1 << 4
    """More than a tenth of the pixels are in bad columns."""
    MANYREJECTED = 1 << 5
    """More than a tenth of the pixels are rejected in the extraction."""
    LARGESHIFT = 1 << 6
    """Large shift on the detector between flat field and object."""
    BADSKYFIBER = 1 << 7
    """A sky fibre with extreme residuals."""
    NEARWHOPPER = 1 << 8
    """Within two fibres of a very bright one (not set since DR9)."""
    WHOPPER = 1 << 9
    """A very bright source."""
    SMEARIMAGE = 1 << 10
    """There is a smear exposure for both cameras (not set since DR9)."""
    SMEARHIGHSN = 1 << 11
    """The smear exposure is good enough for a full fit (not set since DR9)."""
    SMEARMEDSN = 1 << 12
    """The smear exposure is good enough for a scaled median only (not set since DR9)."""
    NEARBADPIXEL = 1 << 16
    """A bad pixel is within three pixels of the trace."""
    LOWFLAT = 1 << 17
    """The flat field is less than 0.5."""
    FULLREJECT = 1 << 18
    """Rejected in the extraction; the inverse variance is 0."""
    PARTIALREJECT = 1 << 19
    """Rejected in the extraction in part."""
    SCATTEREDLIGHT = 1 << 20
    """Much scattered light."""
    CROSSTALK = 1 << 21
    """Much light of neighbouring fibres."""
    NOSKY = 1 << 22
    """The sky is unknown at this wavelength; the inverse variance is 0."""
    BRIGHTSKY = 1 << 23
    """The sky is brighter than the flux by ten errors, and than 1.25 times its own running median."""
    NODATA = 1 << 24
    """No data for the combination; the inverse variance is 0."""
    COMBINEREJ = 1 << 25
    """Rejected in the combination."""
    BADFLUXFACTOR = 1 << 26
    """The factor of the flux calibration or correction is small."""
    BADSKYCHI = 1 << 27
    """Chi-square of the sky residuals at this wavelength is above 3."""
    REDMONSTER = 1 << 28
    """In a longer stretch of bad sky residuals."""


APOGEE, BOSS = "APOGEE_PIXMASK", "SPPIXMASK"
"""Names by which SDSS calls the two masks."""

MASKS: Mapping[str, type[IntFlag]] = {APOGEE: ApogeePixel, BOSS: BossPixel}
"""The bits of each mask, by the name of the mask."""

APOGEE_REJECTED = (
    "BADPIX",
    "CRPIX",
    "SATPIX",
    "UNFIXABLE",
    "BADDARK",
    "BADFLAT",
    "BADERR",
    "NOSKY",
    "NOT_ENOUGH_PSF",
)
"""Bits that the APOGEE pipeline itself counts as bad (its level 1); all others are warnings."""

BOSS_REJECTED = ()
"""Bits of spec files that make a pixel bad: none, as the pipeline gives bad pixels the inverse variance 0."""

SKY: Mapping[str, tuple[str, ...]] = {
    APOGEE: ("LITTROW_GHOST", "SIG_SKYLINE"),
    BOSS: ("BRIGHTSKY", "BADSKYCHI", "REDMONSTER"),
}
"""Bits of pixels that say more of the sky than of the object: neither pages nor figures of a continuum go by them."""

_WORDS: Mapping[str, Mapping[str, str]] = {
    APOGEE: {
        "BADPIX": "bad pixel",
        "CRPIX": "cosmic ray",
        "SATPIX": "saturated",
        "UNFIXABLE": "unfixable",
        "BADDARK": "bad dark",
        "BADFLAT": "bad flat",
        "BADERR": "huge error",
        "NOSKY": "no sky",
        "LITTROW_GHOST": "Littrow ghost",
        "PERSIST_HIGH": "high persistence",
        "PERSIST_MED": "medium persistence",
        "PERSIST_LOW": "low persistence",
        "SIG_SKYLINE": "sky line",
        "SIG_TELLURIC": "telluric line",
        "NOT_ENOUGH_PSF": "point-spread function incomplete",
        "FERRE_MASK": "left out by FERRE",
    },
    BOSS: {
        "NOPLUG": "fibre not plugged",
        "BADTRACE": "bad trace",
        "BADFLAT": "bad flat of the fibre",
        "BADARC": "bad arc",
        "MANYBADCOLUMNS": "many bad columns",
        "MANYREJECTED": "many pixels rejected",
        "LARGESHIFT": "large shift",
        "BADSKYFIBER": "bad sky fibre",
        "NEARWHOPPER": "near a very bright fibre",
        "WHOPPER": "very bright fibre",
        "SMEARIMAGE": "smear exposure",
        "SMEARHIGHSN": "smear exposure of high S/N",
        "SMEARMEDSN": "smear exposure of medium S/N",
        "NEARBADPIXEL": "near a bad pixel",
        "LOWFLAT": "low flat",
        "FULLREJECT": "rejected",
        "PARTIALREJECT": "rejected in part",
        "SCATTEREDLIGHT": "scattered light",
        "CROSSTALK": "cross-talk",
        "NOSKY": "no sky",
        "BRIGHTSKY": "bright sky",
        "NODATA": "no data",
        "COMBINEREJ": "rejected in the combination",
        "BADFLUXFACTOR": "bad flux factor",
        "BADSKYCHI": "bad sky residuals",
        "REDMONSTER": "stretch of bad sky residuals",
    },
}
"""What the page of a spectrum says of a bit, by mask and name."""


def order_names(mask: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return names of bits as SDSS spells them, in the order of the bits, each once.

    Parameters
    ----------
    mask
        Name of the mask: "APOGEE_PIXMASK" or "SPPIXMASK", or "" for files without a mask, which have no bits.
    names
        Names of bits in upper or lower case; a text is one name.

    Raises
    ------
    UnknownFlagError
        If the mask has no bit of a name; the error says which names are most like it.
    """
    return _order(mask, (names,) if isinstance(names, str) else tuple(names))


def find_bits(mask: str, names: Iterable[str]) -> int:
    """Return the number that has the bits of these names set, and no other.

    Raises
    ------
    UnknownFlagError
        If the mask has no bit of a name.
    """
    return _add_up(mask, order_names(mask, names))


def describe_bits(mask: str, value: int) -> tuple[str, ...]:
    """Return in plain words which bits are set in a pixel: ``("sky line", "low persistence")``.

    Bits without a name, and all bits of a mask that is not known, are called "bit 15", and so on.
    """
    named = {int(MASKS[mask][name]): text for name, text in _WORDS[mask].items()} if mask in MASKS else {}
    return tuple(named.get(1 << bit, f"bit {bit}") for bit in range(64) if value >> bit & 1)


@functools.lru_cache(maxsize=256)  # readers ask for the same names for every file
def _order(mask: str, names: tuple[str, ...]) -> tuple[str, ...]:
    known = MASKS[mask].__members__ if mask in MASKS else {}
    for name in names:
        if not isinstance(name, str) or name.upper() not in known:
            hint = nearest(str(name), known) if known else "it has no mask whose bits are known"
            raise UnknownFlagError(f"{mask or 'this file'} has no bit {name!r}", hint=hint)
    wanted = {name.upper() for name in names}
    return tuple(name for name in known if name in wanted)


@functools.lru_cache(maxsize=256)
def _add_up(mask: str, names: tuple[str, ...]) -> int:
    return sum(int(MASKS[mask][name]) for name in names)
