"""The velocity of an object as its file tells it: that of the header, or that of the redshift of a star."""

from collections.abc import Mapping, Sequence
from typing import Any

from astra_dagster.analysis.velocity import LIGHT
from astra_dagster.spectra.batch import SpectrumBatch

FASTEST = 3000.0
"""Larger velocities, in km/s, are those that pipelines write where the velocity is not known."""


def find_velocities(spectra: SpectrumBatch) -> tuple[tuple[float | None, str | None], ...]:
    """Return the velocity of each object in km/s relative to the Sun or the barycentre, and where it is from.

    That is "header", or "redshift" for stars whose file has a redshift; both are None where the file does not say.
    The redshift of what is no star is no velocity.
    """
    meta: Mapping[str, Sequence[Any]] = spectra.meta
    missing = (None,) * len(spectra)
    if "z" in meta:
        kinds = meta.get("class", missing)
        values = [z if kind == "STAR" else None for z, kind in zip(meta["z"], kinds, strict=True)]
        return tuple((None, None) if z is None else (LIGHT * z, "redshift") for z in values)
    stated = meta.get("v_helio", meta.get("v_rad", missing))
    return tuple((v, "header") if v is not None and abs(v) < FASTEST else (None, None) for v in stated)
