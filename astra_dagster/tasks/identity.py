"""Who a spectrum is of: the columns of results by which people join them with other catalogues, and cut on them.

The readers put what a file says into the metadata of its spectra; here it becomes columns, alike for all tasks of a
product. What a file does not say is missing.
"""

from collections.abc import Mapping
from enum import IntFlag
from types import MappingProxyType
from typing import Any

from astra_dagster.spectra import object_flags
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.spectra.velocities import find_velocities
from astra_dagster.tasks.columns import Column


def _column(description: str, unit: str = "", ucd: str = "", flags: type[IntFlag] | None = None) -> Column:
    return Column(description, unit, flags=flags, ucd=ucd, identity=True)


_ALL = {
    "object": _column("Name of the object.", ucd="meta.id;meta.main"),
    "ra": _column("Right ascension of the object, J2000.", "deg", "pos.eq.ra;meta.main"),
    "dec": _column("Declination of the object, J2000.", "deg", "pos.eq.dec;meta.main"),
    "header_snr": _column("Signal-to-noise ratio that the file states.", ucd="stat.snr"),
    "v_rad": _column("Radial velocity relative to the Sun or the barycentre.", "km / s", "spect.dopplerVeloc.opt"),
    "v_source": _column(
        "Where the velocity is from: header of the file, or redshift of the pipeline.", ucd="meta.note"
    ),
}
APOGEE: Mapping[str, Column] = MappingProxyType(
    {
        **_ALL,
        "starflag": _column(
            "STARFLAG: the survey's flags of the star or visit.", ucd="meta.code.qual", flags=object_flags.StarFlag
        ),
    }
)
"""Columns for apVisit and apStar files."""

BOSS: Mapping[str, Column] = MappingProxyType(
    {
        **_ALL,
        "zwarning": _column(
            "ZWARNING: warnings about the redshift; 0 is good.",
            ucd="meta.code.qual",
            flags=object_flags.RedshiftWarning,
        ),
        "class": _column("Class by the pipeline: STAR, GALAXY or QSO.", ucd="src.class"),
        "z": _column("Redshift by the pipeline.", ucd="src.redshift"),
    }
)
"""Columns for spec files."""

LEGACY: Mapping[str, Column] = MappingProxyType(
    {
        **BOSS,
        "zwarning": _column("Z_WARNIN: bits of warnings about the redshift; 0 is good.", ucd="meta.code.qual"),
    }
)
"""Columns for spSpec files, whose pipeline had warnings of its own."""

PLATE: Mapping[str, Column] = MappingProxyType(
    {
        "fibre": _column("Number of the fibre.", ucd="meta.id;instr"),
        "objtype": _column("What the fibre was plugged for: GALAXY, QSO, SKY and so on.", ucd="meta.code.class"),
        **{name: column for name, column in _ALL.items() if name != "header_snr"},
    }
)
"""Columns for spPlate files."""

MWM: Mapping[str, Column] = MappingProxyType(
    {
        **{name: column for name, column in _ALL.items() if name not in ("ra", "dec")},
        "instrument": _column("Instrument of the spectrum: APOGEE or BOSS.", ucd="instr"),
        "telescope": _column("Telescope of the spectrum.", ucd="instr.tel"),
        "mjd": _column("Modified Julian date of a visit.", ucd="time.epoch"),
    }
)
"""Columns for mwm files."""

_META = {"header_snr": "snr"}
"""Names of metadata that differ from those of the columns."""


def identity(spectra: SpectrumBatch, columns: Mapping[str, Column]) -> dict[str, tuple[Any, ...]]:
    """Return the values of the columns `APOGEE` or `BOSS` for spectra; None where a file does not say."""
    missing = (None,) * len(spectra)
    found = {name: tuple(spectra.meta.get(_META.get(name, name), missing)) for name in columns}
    found["v_rad"], found["v_source"] = zip(*find_velocities(spectra), strict=True)
    return found
