"""The velocity of each visit, by cross-correlation with templates from hot to cool."""

from collections.abc import Mapping
from dataclasses import replace
from enum import IntFlag
from pathlib import Path

import numpy as np

from astra_dagster.analysis.cross_correlation import Flattened, correlate, flatten
from astra_dagster.analysis.lines import make_templates
from astra_dagster.arrays import FloatArray
from astra_dagster.datamodel.products import product
from astra_dagster.fits.reader import FitsFile
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.tasks.chain.barycentre import find_barycentric, to_barycentric
from astra_dagster.tasks.columns import Column
from astra_dagster.tasks.decorator import spectrum_task
from astra_dagster.tasks.identity import APOGEE
from astra_dagster.tasks.parameters import parameter
from astra_dagster.tasks.rejection import RejectingParameters

NEAR_SKY = ("SIG_SKYLINE", "SIG_TELLURIC")
"""Bits of pixels that have no part in velocities, as what is left of lines of the sky does not move with the star."""


class VelocityFlag(IntFlag):
    """What is to be known of a velocity before it is used; 0 if there is nothing."""

    NO_VELOCITY = 1
    "No peak of the cross-correlation was found."
    LOW_PEAK = 2
    "The peak is lower than least_height: the template may be of another star, or the peak noise."
    NO_TIME = 4
    "The file does not say when or where the star was seen: the motion of the Earth is that of the header, if any."
    HEADER_DIFFERS = 8
    "The header has a velocity that differs by more than header_tolerance."


class VelocityParameters(RejectingParameters):
    """Parameters of the velocities of visits.

    Attributes
    ----------
    least_height
        Height of the peak, from 0 to 1, below which it is flagged.
    header_tolerance
        How far from that of the header a velocity may be, in km/s, before it is flagged.
    """

    least_height: float = parameter(0.2, minimum=0, maximum=1)
    header_tolerance: float = parameter(10.0, minimum=0)


VELOCITY_COLUMNS: Mapping[str, Column | str] = {
    "v_barycentre": Column("Radial velocity relative to the barycentre.", "km / s", ucd="spect.dopplerVeloc.opt"),
    "v_error": Column("Standard error of the velocity, from the shape of the peak.", "km / s"),
    "template": "Template with the highest peak.",
    "height": "Height of the peak of the cross-correlation, at most 1.",
}


def flatten_for_velocity(spectra: SpectrumBatch) -> Flattened:
    """Flatten spectra for cross-correlation, without pixels near lines of the sky where the mask tells these."""
    if spectra.mask_name:
        spectra = spectra.rejecting((*spectra.reject, *NEAR_SKY))
    assert spectra.wavelength is not None  # noqa: S101 (tasks ask for it)
    return flatten(spectra.wavelength, spectra.flux, spectra.bad, spectra.chips)


def find_best(spectra: Flattened) -> tuple[list[str], FloatArray, FloatArray, FloatArray]:
    """Return name of the template with the highest peak, velocity and error in km/s, and height, for each spectrum."""
    templates = make_templates()
    found = np.array([correlate(spectra, template) for template in templates.values()])
    best = np.argmax(np.nan_to_num(found[:, 1], nan=-1.0), axis=0)
    velocity, height, error = found[best, :, np.arange(len(spectra))].T
    return [list(templates)[i] for i in best], velocity, error, height


@spectrum_task(
    requires=(product("apVisit"), product("apVisit")),
    parameters=VelocityParameters,
    version="1",
    columns={
        "object": APOGEE["object"],
        **VELOCITY_COLUMNS,
        "v_observatory": Column("Radial velocity relative to the observatory.", "km / s"),
        "barycentric": Column("What the motion of the Earth adds to it, from time, place and position.", "km / s"),
        "v_header": Column("Velocity that the header of the file states.", "km / s"),
        "jd": Column("Julian date of the middle of the visit, UTC.", "d", ucd="time.epoch", identity=True),
        "flags": Column("What is to be known of the velocity before it is used.", flags=VelocityFlag),
    },
    bitmask=True,
)
def visit_velocity(spectra: SpectrumBatch, path: Path, parameters: VelocityParameters) -> SpectrumBatch:
    """Radial velocity of each visit; the spectrum stays as it is, for the combination of the star."""
    spectra = parameters.apply_to(spectra)
    names, velocity, error, height = find_best(flatten_for_velocity(spectra))
    with FitsFile(path) as file:
        header = file.hdu(0).header
    time = header.number("JD-MID")
    motion = _find_motion(spectra, time)
    stated_motion = spectra.meta["v_barycentric"][0]
    added = np.array([stated_motion if motion is None else motion] * len(spectra), float)  # None becomes NaN
    moving = to_barycentric(velocity, added)
    stated = spectra.meta["v_helio"]
    differs = [s is not None and abs(v - s) > parameters.header_tolerance for v, s in zip(moving, stated, strict=True)]
    flags = (
        np.where(np.isnan(velocity), VelocityFlag.NO_VELOCITY, 0)
        | np.where(height < parameters.least_height, VelocityFlag.LOW_PEAK, 0)
        | (VelocityFlag.NO_TIME if motion is None else 0)
        | np.where(differs, VelocityFlag.HEADER_DIFFERS, 0)
    )
    results = {
        "v_barycentre": moving,
        "v_error": error,
        "height": height,
        "v_observatory": velocity,
        "barycentric": added,
        "flags": flags,
    }
    values = {name: tuple(column.tolist()) for name, column in results.items()}
    return replace(
        spectra,
        meta={
            **spectra.meta,
            **values,
            "template": tuple(names),
            "v_header": stated,
            "jd": (time,) * len(spectra),
            "v_observed": values["v_observatory"],
            "v_barycentric": values["barycentric"],
            "v_helio": values["v_barycentre"],
        },
    )


def _find_motion(spectra: SpectrumBatch, time: float | None) -> float | None:
    """Return what the motion of the Earth adds to a velocity in km/s; None if the file does not tell enough."""
    telescope, ra, dec = (spectra.meta[name][0] for name in ("telescope", "ra", "dec"))
    if time is None or telescope is None or ra is None or dec is None:
        return None
    return find_barycentric(ra, dec, time, telescope)
