"""Tasks that divide spectra by a sinusoidal continuum: sums of sines and cosines, fitted to continuum pixels."""

from collections.abc import Mapping
from dataclasses import replace

from astra_dagster.analysis.continuum import fit_continuum, normalise
from astra_dagster.analysis.regions import NAMED, named_regions, read_regions
from astra_dagster.datamodel.products import product
from astra_dagster.errors import ParameterError
from astra_dagster.files import check_may_read
from astra_dagster.presence import is_file
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.tasks.columns import Column
from astra_dagster.tasks.decorator import spectrum_task
from astra_dagster.tasks.identity import APOGEE, BOSS, identity
from astra_dagster.tasks.parameters import Parameters, parameter

Region = tuple[float, float]


class ContinuumParameters(Parameters):
    """Parameters of the continuum of APOGEE spectra.

    Attributes
    ----------
    order
        Number of sines and of cosines in a region.
    L
        Longest period, in Angstrom.
    regions
        Start and end in Angstrom of each stretch that is fitted by itself.
    continuum_regions
        What is continuum: the name of a table of the package ("apogee" or "optical"), a file with two columns, start
        and end in Angstrom, or such pairs. Of a file the contents become the parameter.
    """

    order: int = parameter(3, minimum=1, maximum=50)
    L: float = parameter(1400.0, minimum=1)
    regions: tuple[Region, ...] = ((15090.0, 15822.0), (15823.0, 16451.0), (16452.0, 16971.0))
    continuum_regions: str | tuple[Region, ...] = "apogee"

    def __post_init__(self) -> None:
        super().__post_init__()
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

    L: float = parameter(14000.0, minimum=1)
    regions: tuple[Region, ...] = ((3750.0, 10300.0),)
    continuum_regions: str | tuple[Region, ...] = "optical"


def _normalised(spectra: SpectrumBatch, parameters: ContinuumParameters, who: Mapping[str, Column]) -> SpectrumBatch:
    named = parameters.continuum_regions
    assert spectra.wavelength is not None  # noqa: S101 (the tasks below ask for it)
    fit = fit_continuum(
        spectra.wavelength,
        spectra.flux,
        spectra.ivar,
        regions=parameters.regions,
        continuum_regions=named_regions(named) if isinstance(named, str) else named,
        period=parameters.L,
        order=parameters.order,
    )
    flux, ivar, bad = normalise(spectra.flux, spectra.ivar, spectra.bad, fit)
    return replace(
        spectra,
        flux=flux,
        ivar=ivar,
        bad=bad,
        error=None,  # type: ignore[arg-type]  # it is calculated from ivar
        unit="",
        continuum=fit.values,
        continuum_unit=spectra.unit,
        meta={
            **spectra.meta,
            **identity(spectra, who),
            "condition": tuple(fit.condition.tolist()),
            "good_pixels": tuple((~bad).sum(axis=1).tolist()),
        },
    )


_COLUMNS: Mapping[str, Column | str] = {
    "condition": "Condition number of the fit in each region, none where nothing was fitted.",
    "good_pixels": "Number of good pixels after normalisation.",
}
_APOGEE, _BOSS = {**_COLUMNS, **APOGEE}, {**_COLUMNS, **BOSS}


@spectrum_task(requires=product("apVisit"), parameters=ContinuumParameters, version="2", columns=_APOGEE)
def ap_visit_continuum(spectra: SpectrumBatch, parameters: ContinuumParameters) -> SpectrumBatch:
    """Each visit spectrum divided by its continuum: sines and cosines fitted to continuum pixels, chip by chip.

    The wavelengths are as observed, so that continuum regions are off by the star's velocity.
    """
    return _normalised(spectra, parameters, APOGEE)


@spectrum_task(requires=product("apStar"), parameters=ContinuumParameters, version="2", columns=_APOGEE)
def ap_star_continuum(spectra: SpectrumBatch, parameters: ContinuumParameters) -> SpectrumBatch:
    """Each combined and visit spectrum of a star divided by its continuum, chip by chip."""
    return _normalised(spectra, parameters, APOGEE)


@spectrum_task(requires=product("spec"), parameters=OpticalContinuumParameters, version="2", columns=_BOSS)
def spec_continuum(spectra: SpectrumBatch, parameters: OpticalContinuumParameters) -> SpectrumBatch:
    """Each optical spectrum divided by its continuum: sines and cosines fitted to windows free of strong lines."""
    return _normalised(spectra, parameters, BOSS)
