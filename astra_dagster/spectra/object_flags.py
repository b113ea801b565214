"""The bits of the surveys' flags of a whole spectrum by name: what each means.

Sources: for STARFLAG https://www.sdss4.org/dr17/irspec/apogee-bitmasks/ and the class StarBitMask of the APOGEE
pipeline (https://github.com/sdss/apogee, ``python/apogee/utils/bitmask.py``), which SDSS-V numbers alike; for ZWARNING
https://www.sdss4.org/dr17/algorithms/bitmasks/#ZWARNING.
"""

from collections.abc import Mapping
from enum import IntFlag


class StarFlag(IntFlag):
    """Bits of STARFLAG of apVisit and apStar files; that of a star has the bits of all its visits."""

    BAD_PIXELS = 1 << 0
    """More than a fifth of the pixels are bad."""
    COMMISSIONING = 1 << 1
    """Taken before MJD 55761, with another configuration and a poor line-spread function."""
    BRIGHT_NEIGHBOR = 1 << 2
    """A neighbour on the detector is more than 10 times brighter."""
    VERY_BRIGHT_NEIGHBOR = 1 << 3
    """A neighbour on the detector is more than 100 times brighter."""
    LOW_SNR = 1 << 4
    """The signal-to-noise ratio is less than 5."""
    PERSIST_HIGH = 1 << 9
    """More than a fifth of the pixels are in a region of high persistence."""
    PERSIST_MED = 1 << 10
    """More than a fifth of the pixels are in regions of medium or higher persistence."""
    PERSIST_LOW = 1 << 11
    """More than a fifth of the pixels are in regions of persistence."""
    PERSIST_JUMP_POS = 1 << 12
    """The flux of the blue chip jumps up, as by persistence."""
    PERSIST_JUMP_NEG = 1 << 13
    """The flux of the blue chip jumps down."""
    SUSPECT_RV_COMBINATION = 1 << 16
    """Velocities by the synthetic template and by the combined spectrum differ by some 2 km/s."""
    SUSPECT_BROAD_LINES = 1 << 17
    """The peak of the cross-correlation is broader than that of the template with itself."""
    BAD_RV_COMBINATION = 1 << 18
    """Velocities by the synthetic template and by the combined spectrum differ by some 10 km/s."""
    RV_REJECT = 1 << 19
    """The visit is left out of the star, as velocities by cross-correlation and by least squares differ much."""
    RV_SUSPECT = 1 << 20
    """Velocities by cross-correlation and by least squares differ slightly."""
    MULTIPLE_SUSPECT = 1 << 21
    """The cross-correlation has several peaks, as of several stars."""
    RV_FAIL = 1 << 22
    """No velocity was found."""
    SUSPECT_ROTATION = 1 << 23
    """The peak of the cross-correlation is much broader than that of the template with itself, as by rotation."""
    MTPFLUX_LT_75 = 1 << 24
    """The fibre is in a block with a relative flux below 0.75."""
    MTPFLUX_LT_50 = 1 << 25
    """The fibre is in a block with a relative flux below 0.5."""


class RedshiftWarning(IntFlag):
    """Bits of ZWARNING of spec files."""

    SKY = 1 << 0
    """A fibre on the sky."""
    LITTLE_COVERAGE = 1 << 1
    """Too little of the wavelengths is covered."""
    SMALL_DELTA_CHI2 = 1 << 2
    """The best fit is hardly better than the second best."""
    NEGATIVE_MODEL = 1 << 3
    """The best-fitting model, of a star or a quasar, is negative."""
    MANY_OUTLIERS = 1 << 4
    """More than a twentieth of the pixels are outliers of the fit."""
    Z_FITLIMIT = 1 << 5
    """The minimum of chi-square is at the edge of the redshifts that were tried."""
    NEGATIVE_EMISSION = 1 << 6
    """The emission of a quasar's line is negative."""
    UNPLUGGED = 1 << 7
    """The fibre was unplugged or damaged."""
    BAD_TARGET = 1 << 8
    """The target was wrong from the start."""
    NODATA = 1 << 9
    """There is no data for this fibre."""


OBJECT_FLAGS: Mapping[str, type[IntFlag]] = {"starflag": StarFlag, "zwarning": RedshiftWarning}
"""Flags by the name of the metadata that hold them."""
