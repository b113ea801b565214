"""The velocity of an observatory relative to the barycentre of the solar system, along the line of sight to a star."""

import functools
from typing import TYPE_CHECKING

from astra_dagster.analysis.velocity import LIGHT
from astra_dagster.arrays import FloatArray
from astra_dagster.errors import AnalysisError

if TYPE_CHECKING:
    from astropy.coordinates import EarthLocation

OBSERVATORIES = {
    "apo": (-105.820_277_8, 32.780_277_8, 2788.0),
    "lco": (-70.692_600, -29.014_600, 2380.0),
}
"""East longitude and latitude in degrees, and height in metres, by the first letters of telescopes.

Source: Apache Point Observatory (https://www.apo.nmsu.edu) and Las Campanas Observatory, as in astropy's own list; a
kilometre changes the velocity by less than 0.1 m/s."""


@functools.cache
def _locate(observatory: str) -> "EarthLocation":
    from astropy.coordinates import EarthLocation

    longitude, latitude, height = OBSERVATORIES[observatory]
    return EarthLocation.from_geodetic(longitude, latitude, height)


def find_barycentric(ra: float, dec: float, julian_date: float, telescope: str) -> float:
    """Calculate what is to be added to a velocity measured at an observatory, in km/s; positive towards the star.

    Parameters
    ----------
    ra, dec
        Position of the star in degrees, J2000.
    julian_date
        Middle of the exposure, in UTC.
    telescope
        Name of the telescope, ``apo25m``.

    Raises
    ------
    AnalysisError
        If the observatory of the telescope is not known.
    """
    observatory = telescope[:3].lower()
    if observatory not in OBSERVATORIES:
        raise AnalysisError(f"no observatory is known of telescope {telescope!r}", hint=f"known: {list(OBSERVATORIES)}")
    from astropy import units
    from astropy.coordinates import SkyCoord
    from astropy.time import Time
    from astropy.utils import iers

    star = SkyCoord(ra, dec, unit="deg")
    with iers.conf.set_temp("auto_download", False), iers.conf.set_temp("iers_degraded_accuracy", "ignore"):
        time = Time(julian_date, format="jd", scale="utc")
        velocity = star.radial_velocity_correction(obstime=time, location=_locate(observatory))
    return float(velocity.to_value(units.km / units.s))


def to_barycentric(velocity: FloatArray, barycentric: FloatArray) -> FloatArray:
    """Return velocities relative to the barycentre, from those at the observatory and what is to be added; km/s."""
    return velocity + barycentric + velocity * barycentric / LIGHT
