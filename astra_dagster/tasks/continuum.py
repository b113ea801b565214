"""Tasks that divide spectra by a continuum: sums of sines and cosines, fitted to all good pixels or to chosen ones."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from astra_dagster.analysis.continuum import Continuum, fit_continuum, normalise
from astra_dagster.analysis.frontier import fit_all_pixels
from astra_dagster.analysis.quality import ContinuumFlag, judge_continuum
from astra_dagster.analysis.regions import NAMED, named_regions, read_regions
from astra_dagster.analysis.velocity import LIGHT, SIGNIFICANT, measure_velocity
from astra_dagster.arrays import BoolArray, FloatArray
from astra_dagster.datamodel.products import product
from astra_dagster.errors import ParameterError, nearest
from astra_dagster.files import check_may_read
from astra_dagster.presence import is_file
from astra_dagster.spectra import pixel_flags
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.spectra.products.ap_star import AP_STAR
from astra_dagster.spectra.products.ap_visit import AP_VISIT
from astra_dagster.spectra.products.mwm import MWM
from astra_dagster.spectra.products.spec import SPEC
from astra_dagster.tasks.columns import Column
from astra_dagster.tasks.decorator import spectrum_task, tasks_over
from astra_dagster.tasks.identity import APOGEE, BOSS, LEGACY, PLATE, identity
from astra_dagster.tasks.identity import MWM as MWM_COLUMNS
from astra_dagster.tasks.parameters import descriptions, parameter
from astra_dagster.tasks.rejection import InstrumentParameters, RejectingParameters

Region = tuple[float, float]

CHOICES = {"pixels": ("all", "regions"), "frame": ("rest", "observed")}
"""Values that parameters of text may have."""


class ContinuumParameters(RejectingParameters):
    """Parameters of the continuum of APOGEE spectra.

    Attributes
    ----------
    pixels
        "all" to fit all good pixels, with the depth of lines as part of the model; "regions" to fit continuum_regions
        alone, by weighted least squares, as The Cannon does.
    order
        Number of sines and of cosines in a region.
    L
        Longest period, in Angstrom.
    regions
        Start and end in Angstrom of each stretch that is fitted by itself.
    continuum_regions
        What is continuum: the name of a table of the package ("apogee" or "optical"), a file with two columns, start
        and end in Angstrom, or such pairs. Of a file the contents become the parameter. Without effect on pixels="all".
    frame
        Frame of the continuum_regions: "rest" for that of the object, where its velocity is known, or "observed" for
        that of the file's wavelengths.
    """

    pixels: str = "all"
    order: int = parameter(3, minimum=1, maximum=50)
    L: float = parameter(1400.0, minimum=1)
    regions: tuple[Region, ...] = ((15090.0, 15822.0), (15823.0, 16451.0), (16452.0, 16971.0))
    continuum_regions: str | tuple[Region, ...] = "apogee"
    frame: str = "rest"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                value = getattr(self, name)
                raise ParameterError(f"{name} cannot be {value!r}", hint=nearest(value, choices))
        if isinstance(self.continuum_regions, str) and self.continuum_regions not in NAMED:
            check_may_read(self.continuum_regions)
            if not is_file(self.continuum_regions):
                raise ParameterError(
                    f"continuum_regions cannot be {self.continuum_regions!r}",
                    hint=f"expected {' or '.join(NAMED)}, a file that exists, or pairs of wavelengths",
                )
            object.__setattr__(self, "continuum_regions", read_regions(self.continuum_regions))
        for name in ("regions", "continuum_regions"):
            pairs = getattr(self, name)
            if not pairs or (not isinstance(pairs, str) and any(not start < end for start, end in pairs)):
                raise ParameterError(f"{name} must be pairs of start and end", hint="each start below its end")


class OpticalContinuumParameters(ContinuumParameters):
    """Parameters of the continuum of optical spectra; see `ContinuumParameters`."""

    _mask = pixel_flags.BOSS
    reject: tuple[str, ...] = parameter(pixel_flags.BOSS_REJECTED, omit_default=True)
    L: float = parameter(14000.0, minimum=1)
    regions: tuple[Region, ...] = ((3750.0, 10300.0),)
    continuum_regions: str | tuple[Region, ...] = "optical"


class MWMContinuumParameters(InstrumentParameters):
    """Parameters of the continuum of mwm spectra; see `InstrumentParameters`, and `ContinuumParameters` for the others.

    Attributes
    ----------
    L, regions, continuum_regions
        By default those of the tasks over other spectra of the same instrument.
    """

    pixels: str = "all"
    order: int = parameter(3, minimum=1, maximum=50)
    L: float | None = parameter(None, minimum=1)
    regions: tuple[Region, ...] | None = None
    continuum_regions: str | tuple[Region, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for instrument in self.instrument:
            made = self.of(instrument)
        if self.continuum_regions is not None:
            object.__setattr__(self, "continuum_regions", made.continuum_regions)

    def of(self, instrument: str) -> ContinuumParameters:
        """Return the parameters for spectra of one instrument, with its own defaults for what is None."""
        kind = OpticalContinuumParameters if instrument == "BOSS" else ContinuumParameters
        values = {name: value for name, value in vars(self).items() if value is not None and name in descriptions(kind)}
        return kind.from_mapping(values)


def _normalise_all(
    spectra: SpectrumBatch,
    parameters: ContinuumParameters,
    who: Mapping[str, Column],
    *,
    brackett: bool = False,
    velocity: FloatArray | None = None,
) -> SpectrumBatch:
    """Divide spectra by their continuum; `velocity` in km/s has shape (n,), and None stands for one to be measured."""
    spectra = parameters.apply_to(spectra)
    wavelength = spectra.wavelength
    assert wavelength is not None  # noqa: S101 (the tasks below ask for it)
    flux, ivar, regions, period = spectra.flux, spectra.ivar, parameters.regions, parameters.L
    unknown = np.zeros(len(flux), bool)
    if parameters.pixels == "all":
        fit = fit_all_pixels(
            wavelength, flux, ivar, regions=regions, period=period, order=parameters.order, brackett=brackett
        )
    else:
        shift = np.zeros(len(flux))
        if parameters.frame == "rest":
            shift = _measure(spectra, parameters) if velocity is None else velocity
            unknown, shift = ~np.isfinite(shift), np.nan_to_num(shift)
        fit = _fit_regions(spectra, parameters, shift)
    quality = judge_continuum(wavelength, flux, ivar, spectra.bad, fit, sky=spectra.sky, regions=regions, period=period)
    flags = quality.flags | np.where(unknown, ContinuumFlag.VELOCITY_UNKNOWN, 0)
    normal, scaled, bad = normalise(flux, ivar, spectra.bad, fit)
    results = {
        "flags": flags,
        "chi2": quality.chi2,
        "envelope_scatter": quality.scatter,
        "fraction_used": quality.used,
        "line_depth": quality.depth,
        "steps": fit.steps,
        "condition": fit.condition,
        "good_pixels": (~bad).sum(axis=1),
    }
    return replace(
        spectra,
        flux=normal,
        ivar=scaled,
        bad=bad,
        error=None,  # type: ignore[arg-type]  # it is calculated from ivar
        unit="",
        continuum=fit.values,
        continuum_unit=spectra.unit,
        meta={
            **spectra.meta,
            **identity(spectra, who),
            **{name: tuple(values.tolist()) for name, values in results.items()},
        },
    )


def _get_windows(parameters: ContinuumParameters) -> tuple[Region, ...]:
    named = parameters.continuum_regions
    return named_regions(named) if isinstance(named, str) else named


def _measure(spectra: SpectrumBatch, parameters: ContinuumParameters) -> FloatArray:
    """Measure velocities by the continuum regions on spectra divided by a continuum from all pixels; NaN if unclear."""
    assert spectra.wavelength is not None  # noqa: S101
    fit = fit_all_pixels(
        spectra.wavelength, spectra.flux, spectra.ivar, regions=parameters.regions, period=parameters.L
    )
    normal, _, bad = normalise(spectra.flux, spectra.ivar, spectra.bad, fit)
    velocity, significance = measure_velocity(spectra.wavelength, normal, bad, np.array(_get_windows(parameters)))
    return np.where(significance >= SIGNIFICANT, velocity, np.nan)


def _fit_regions(spectra: SpectrumBatch, parameters: ContinuumParameters, velocity: FloatArray) -> Continuum:
    """Fit continuum regions, each spectrum with those of its velocity."""
    wavelength = spectra.wavelength
    assert wavelength is not None  # noqa: S101
    windows = np.array(_get_windows(parameters))

    def fit(rows: slice, speed: float) -> Continuum:
        return fit_continuum(
            wavelength if wavelength.ndim == 1 else wavelength[rows],
            spectra.flux[rows],
            spectra.ivar[rows],
            regions=parameters.regions,
            continuum_regions=[(float(low), float(high)) for low, high in windows * (1 + speed / LIGHT)],
            period=parameters.L,
            order=parameters.order,
        )

    if not velocity.any():
        return fit(slice(None), 0.0)
    return Continuum.join([fit(slice(i, i + 1), float(speed)) for i, speed in enumerate(velocity)])


_COLUMNS: dict[str, Any] = {
    "flags": Column("What is to be known of the continuum before it is used.", flags=ContinuumFlag),
    "chi2": "Mean square of the deviations, in errors, of fitted pixels above the continuum, by region: 1 by noise.",
    "envelope_scatter": "Standard deviation of the envelope, the 90th percentile in windows, by region.",
    "fraction_used": "Fraction of the pixels to which the continuum was fitted, by region.",
    "line_depth": "Mean depth of lines: of 1 less the normalised flux over good pixels.",
    "steps": "Number of steps of the fit.",
    "condition": "Condition number of the fit in each region, none where nothing was fitted.",
    "good_pixels": "Number of good pixels after normalisation.",
}
_APOGEE, _BOSS = {**_COLUMNS, **APOGEE}, {**_COLUMNS, **BOSS}


def _ap_visit_continuum(spectra: SpectrumBatch, parameters: ContinuumParameters) -> SpectrumBatch:
    """Each visit spectrum divided by its continuum, chip by chip: sines and cosines, fitted to all good pixels.

    With pixels="regions" and frame="rest" the regions are shifted by the velocity at which they are clearest, as
    velocities of headers can be wrong by hundreds of km/s.
    """
    return _normalise_all(spectra, parameters, APOGEE, brackett=True)


def _ap_star_continuum(spectra: SpectrumBatch, parameters: ContinuumParameters) -> SpectrumBatch:
    """Each combined and visit spectrum of a star divided by its continuum, chip by chip."""
    return _normalise_all(spectra, parameters, APOGEE, brackett=True, velocity=np.zeros(len(spectra)))


_OF_STARS: dict[str, Any] = {"parameters": ContinuumParameters, "version": "2", "columns": _APOGEE, "bitmask": True}
ap_visit_continuum, ap_visit_1m_continuum = tasks_over(AP_VISIT, "continuum", _ap_visit_continuum, **_OF_STARS)
ap_star_continuum, ap_star_1m_continuum = tasks_over(AP_STAR, "continuum", _ap_star_continuum, **_OF_STARS)


def _spec_continuum(spectra: SpectrumBatch, parameters: OpticalContinuumParameters) -> SpectrumBatch:
    """Each optical spectrum divided by its continuum: sines and cosines, fitted to all good pixels.

    M dwarfs and quasars have no true continuum: theirs is a pseudo-continuum, and flagged.
    """
    made = _normalise_all(spectra, parameters, BOSS, velocity=LIGHT * _get_redshifts(spectra))
    flags = np.array(made.meta["flags"]) | np.where(_is_without_continuum(spectra), ContinuumFlag.PSEUDO_CONTINUUM, 0)
    return replace(made, meta={**made.meta, "flags": tuple(flags.tolist())})


(
    spec_continuum,
    spec_lite_continuum,
    spec_lite_sdssv_continuum,
    spec_full_continuum,
    spec_lite_epoch_continuum,
    spec_full_epoch_continuum,
    spec_lite_coadd_continuum,
    spec_full_coadd_continuum,
) = tasks_over(
    SPEC,
    "continuum",
    _spec_continuum,
    parameters=OpticalContinuumParameters,
    version="2",
    columns=_BOSS,
    bitmask=True,
)
(sp_spec_continuum,) = tasks_over(
    ("spSpec",),
    "continuum",
    _spec_continuum,
    parameters=OpticalContinuumParameters,
    version="2",
    columns={**_COLUMNS, **LEGACY},
    bitmask=True,
)


@spectrum_task(
    requires=product("spPlate"),
    parameters=OpticalContinuumParameters,
    version="1",
    columns={**_COLUMNS, **PLATE},
    bitmask=True,
)
def sp_plate_continuum(spectra: SpectrumBatch, parameters: OpticalContinuumParameters) -> SpectrumBatch:
    """The spectrum of each fibre of a plate divided by its continuum.

    As the files tell neither class nor redshift, none is flagged for having no true continuum.
    """
    return _normalise_all(spectra, parameters, PLATE, velocity=np.full(len(spectra), np.nan))


def _mwm_continuum(spectra: SpectrumBatch, parameters: MWMContinuumParameters) -> SpectrumBatch:
    """Each spectrum of a star by one instrument divided by its continuum: APOGEE, or BOSS where there is no other.

    The wavelengths are those of the star's rest frame. As the files tell no class, none is flagged for molecular bands.
    """
    instrument = str(spectra.meta.get("instrument", parameters.instrument)[0])
    return _normalise_all(
        spectra,
        parameters.of(instrument),
        MWM_COLUMNS,
        brackett=instrument == "APOGEE",
        velocity=np.zeros(len(spectra)),
    )


mwm_star_continuum, mwm_visit_continuum = tasks_over(
    MWM,
    "continuum",
    _mwm_continuum,
    parameters=MWMContinuumParameters,
    version="1",
    columns={**_COLUMNS, **MWM_COLUMNS},
    bitmask=True,
    options=["instrument"],
)


def _get_redshifts(spectra: SpectrumBatch) -> FloatArray:
    """Return redshifts that the pipeline does not warn of; NaN where there are none."""
    empty = (None,) * len(spectra)
    values, warnings = spectra.meta.get("z", empty), spectra.meta.get("zwarning", empty)
    return np.array([np.nan if z is None or warning else z for z, warning in zip(values, warnings, strict=True)], float)


def _is_without_continuum(spectra: SpectrumBatch) -> BoolArray:
    """Return True for quasars and for stars with molecular bands, by the pipeline's class."""
    empty = (None,) * len(spectra)
    kinds, types = (spectra.meta.get(name, empty) for name in ("class", "subclass"))
    return np.array(
        [
            str(kind).strip() == "QSO" or (str(kind).strip() == "STAR" and str(subclass).strip()[:1] in set("MLTC"))
            for kind, subclass in zip(kinds, types, strict=True)
        ],
        bool,
    )
