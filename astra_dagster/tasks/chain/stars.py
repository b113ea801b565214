"""The combined spectrum of a star from its visits, and its S/N."""

from collections.abc import Mapping, Sequence

import numpy as np

from astra_dagster.analysis.combination import combine, resample
from astra_dagster.analysis.cross_correlation import Flattened, align, measure_relative
from astra_dagster.analysis.snr import pixel_snr
from astra_dagster.datamodel.products import product
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.spectra.products.ap_star import CHIPS, log_grid
from astra_dagster.tasks.chain.barycentre import to_barycentric
from astra_dagster.tasks.chain.visits import (
    VELOCITY_COLUMNS,
    VelocityFlag,
    VelocityParameters,
    find_best,
    flatten_for_velocity,
    visit_velocity,
)
from astra_dagster.tasks.columns import Column
from astra_dagster.tasks.decorator import spectrum_task
from astra_dagster.tasks.identity import APOGEE
from astra_dagster.tasks.requirements import matching, visits_of_star
from astra_dagster.tasks.snr import COLUMNS, measure_ratios

STAR_COLUMNS: Mapping[str, Column | str] = {
    "object": APOGEE["object"],
    **VELOCITY_COLUMNS,
    "v_scatter": Column("Standard deviation of the velocities of the visits.", "km / s"),
    "visits_used": "Number of visits that are in the combination.",
    "v_visits": Column("Velocity of each visit relative to the barycentre.", "km / s"),
    "jd_visits": Column("Julian date of the middle of each visit, UTC.", "d"),
    "flags": Column("What is to be known of the velocity before it is used.", flags=VelocityFlag),
}
"""Columns of what `combine_visits` returns."""


def combine_visits(visits: Sequence[SpectrumBatch], parameters: VelocityParameters) -> SpectrumBatch:
    """Combine what `visit_velocity` made of the visits of a star to one spectrum on the grid of apStar files.

    Velocities of the visits relative to each other are from each with each other, which no template limits; their zero
    point is that of the template that fits their mean best. A visit without a velocity is left out.
    """
    flattened = [flatten_for_velocity(visit) for visit in visits]
    joined = Flattened(*(np.concatenate([getattr(one, part) for one in flattened]) for part in ("values", "weight")))
    relative, relative_error = measure_relative(joined)
    used = np.flatnonzero(np.isfinite(relative) & (joined.weight.sum(axis=1) > 0))
    chosen = Flattened(joined.values[used], joined.weight[used])
    (template,), (zero,), (error,), (height,) = find_best(align(chosen, relative[used]))
    observed = relative + zero
    added = np.array([visit.meta["barycentric"][0] for visit in visits], float)  # None becomes NaN
    velocity = to_barycentric(observed, added)
    timed = used[np.isfinite(velocity[used])]
    grid = log_grid()
    made = [
        resample(
            visit.wavelength,  # type: ignore[arg-type]  # outputs have wavelengths
            visit.flux,
            visit.error**2,
            visit.bad,
            visit.chips,
            grid,
            observed[i : i + 1],
        )
        for i, visit in enumerate(visits)
        if i in used and np.isfinite(observed[i])
    ]
    empty = np.ones((1, len(grid)))
    stacked = [np.concatenate(arrays) for arrays in zip(*made, strict=True)] if made else [empty, empty, empty > 0]
    flux, ivar, bad = combine(*stacked)
    flags = (
        (VelocityFlag.NO_VELOCITY if not made else 0)
        | (VelocityFlag.LOW_PEAK if height < parameters.least_height else 0)
        | (VelocityFlag.NO_TIME if len(timed) < len(used) else 0)
    )
    mean = float(velocity[timed].mean()) if len(timed) else None
    first = visits[0].meta
    results = {
        "v_barycentre": mean,
        "v_error": float(np.hypot(error, np.sqrt((relative_error[used] ** 2).sum()) / max(len(used), 1))),
        "template": template,
        "height": float(height),
        "v_scatter": float(velocity[timed].std(ddof=1)) if len(timed) > 1 else None,
        "visits_used": len(made),
        "v_visits": velocity.tolist(),
        "jd_visits": np.array([visit.meta["jd"][0] for visit in visits], float).tolist(),
        "flags": int(flags),
    }
    about = {name: first[name][0] for name in ("object", "telescope", "field", "ra", "dec") if name in first}
    return SpectrumBatch(
        flux=flux,
        ivar=ivar,
        wavelength=grid,
        bad=bad,
        unit=visits[0].unit,
        chips=CHIPS,
        meta={name: (value,) for name, value in {**about, "frame": "SOURCE", "v_helio": mean, **results}.items()},
    )


@spectrum_task(
    requires=matching(visit_velocity.sharing(), product("apStar"), visits_of_star, minimum=0.5),
    parameters=VelocityParameters,
    version="1",
    columns=STAR_COLUMNS,
    bitmask=True,
)
def star_combination(visits: Sequence[SpectrumBatch], parameters: VelocityParameters) -> SpectrumBatch:
    """Combined spectrum of a star in its rest frame, from at least half of the visits that its apStar file names."""
    return combine_visits(visits, parameters)


@spectrum_task(
    requires=star_combination,
    version="1",
    columns={
        **COLUMNS,
        **{name: STAR_COLUMNS[name] for name in ("v_barycentre", "v_scatter", "visits_used")},
    },
    wavelength=False,
)
def star_snr(spectra, parameters):  # type: ignore[no-untyped-def]
    """Signal-to-noise ratio of each combination, beside its velocity."""
    return {
        **measure_ratios(spectra, pixel_snr(spectra.flux, spectra.error)),
        **{name: spectra.meta[name] for name in ("v_barycentre", "v_scatter", "visits_used")},
    }
