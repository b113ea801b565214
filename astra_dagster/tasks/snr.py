"""Signal-to-noise tasks."""

from collections.abc import Mapping
from typing import Any

from astra_dagster.analysis.snr import der_snr, mean_snr, median_snr, pixel_snr
from astra_dagster.arrays import FloatArray
from astra_dagster.datamodel.products import product
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.spectra.pixel_flags import BOSS, BOSS_REJECTED
from astra_dagster.spectra.products.ap_star import AP_STAR
from astra_dagster.spectra.products.ap_visit import AP_VISIT
from astra_dagster.spectra.products.mwm import MWM
from astra_dagster.spectra.products.spec import SPEC
from astra_dagster.tasks import identity
from astra_dagster.tasks.columns import Column
from astra_dagster.tasks.decorator import spectrum_task, tasks_over
from astra_dagster.tasks.parameters import parameter
from astra_dagster.tasks.rejection import InstrumentParameters, RejectingParameters

COLUMNS = {
    "snr": "Mean signal-to-noise ratio a pixel, over good pixels.",
    "snr_median": "Median over good pixels.",
    "der_snr": "From the scatter of neighbouring pixels, a test of the errors (DER_SNR); lines lower it.",
    "good_pixels": "Number of good pixels.",
}


class SNRParameters(RejectingParameters):
    """Parameters of the signal-to-noise tasks.

    Attributes
    ----------
    fudge_factor
        Factor by which every ratio is multiplied.
    """

    fudge_factor: float = 1.0


class OpticalSNRParameters(SNRParameters):
    """Parameters of the signal-to-noise ratio of optical spectra; see `SNRParameters`."""

    _mask = BOSS
    reject: tuple[str, ...] = parameter(BOSS_REJECTED, omit_default=True)


class NormalisedSNRParameters(SNRParameters):
    """Parameters of the signal-to-noise ratio of aspcapStar spectra, which have no mask to reject by."""

    _mask = ""
    reject: tuple[str, ...] = parameter((), omit_default=True)


class MWMSNRParameters(InstrumentParameters, SNRParameters):
    """Parameters of the signal-to-noise ratio of mwm spectra; see `InstrumentParameters` and `SNRParameters`."""


def _measure(spectra: SpectrumBatch, parameters: SNRParameters, who: Mapping[str, Column]) -> dict[str, Any]:
    spectra = parameters.apply_to(spectra)
    ratios = measure_ratios(spectra, pixel_snr(spectra.flux, spectra.error), parameters.fudge_factor)
    return {**ratios, **identity.identity(spectra, who)}


def measure_ratios(spectra: SpectrumBatch, snr: FloatArray, factor: float = 1.0) -> dict[str, FloatArray]:
    """Return the columns `COLUMNS` from the ratio of each pixel, times a factor."""
    return {
        "snr": factor * mean_snr(snr, spectra.bad),
        "snr_median": factor * median_snr(snr, spectra.bad),
        "der_snr": factor * der_snr(spectra.flux, spectra.bad),
        "good_pixels": (~spectra.bad).sum(axis=1),
    }


def _ap_visit_snr(spectra, parameters):  # type: ignore[no-untyped-def]
    """Signal-to-noise ratio of each visit spectrum, from its own flux, error and mask."""
    spectra = parameters.apply_to(spectra)
    snr = pixel_snr(spectra.flux, spectra.error)
    factor = parameters.fudge_factor
    chips = {f"snr_{name}": factor * median_snr(snr[:, start:stop]) for name, start, stop in spectra.chips}
    return {**measure_ratios(spectra, snr, factor), **chips, **identity.identity(spectra, identity.APOGEE)}


ap_visit_snr, ap_visit_1m_snr = tasks_over(
    AP_VISIT,
    "snr",
    _ap_visit_snr,
    parameters=SNRParameters,
    version="3",
    columns={
        **COLUMNS,
        "snr_blue": "Median over all pixels of the blue chip.",
        "snr_green": "Median over all pixels of the green chip: the SNR card of the file's header.",
        "snr_red": "Median over all pixels of the red chip.",
        **identity.APOGEE,
    },
    wavelength=False,
    bitmask=True,
)


def _ap_star_snr(spectra, parameters):  # type: ignore[no-untyped-def]
    """Signal-to-noise ratio of each combined and visit spectrum of a star."""
    spectra = parameters.apply_to(spectra)
    snr = pixel_snr(spectra.flux, spectra.error)
    factor = parameters.fudge_factor
    return {
        "row": spectra.meta["row"],
        **measure_ratios(spectra, snr, factor),
        "snr_all": factor * median_snr(snr),
        **identity.identity(spectra, identity.APOGEE),
    }


ap_star_snr, ap_star_1m_snr = tasks_over(
    AP_STAR,
    "snr",
    _ap_star_snr,
    parameters=SNRParameters,
    version="2",
    columns={
        "row": "Which spectrum of the file: a combination or a visit.",
        **COLUMNS,
        "snr_all": "Median over all pixels: for the first spectrum the SNR card of the file's header.",
        **identity.APOGEE,
    },
    wavelength=False,
    bitmask=True,
)


def _mwm_snr(spectra, parameters):  # type: ignore[no-untyped-def]
    """Signal-to-noise ratio of each spectrum of a star by one instrument: APOGEE, or BOSS where there is no other."""
    return _measure(spectra, parameters, identity.MWM)


def _spec_snr(spectra, parameters):  # type: ignore[no-untyped-def]
    """Signal-to-noise ratio of each optical spectrum, from its own flux and inverse variance."""
    return _measure(spectra, parameters, identity.BOSS)


(
    spec_snr,
    spec_lite_snr,
    spec_lite_sdssv_snr,
    spec_full_snr,
    spec_lite_epoch_snr,
    spec_full_epoch_snr,
    spec_lite_coadd_snr,
    spec_full_coadd_snr,
) = tasks_over(
    SPEC,
    "snr",
    _spec_snr,
    parameters=OpticalSNRParameters,
    version="2",
    columns={**COLUMNS, **identity.BOSS},
    wavelength=False,
    bitmask=True,
)
(sp_spec_snr,) = tasks_over(
    ("spSpec",),
    "snr",
    _spec_snr,
    parameters=OpticalSNRParameters,
    version="2",
    columns={**COLUMNS, **identity.LEGACY},
    wavelength=False,
    bitmask=True,
)


@spectrum_task(
    requires=product("spPlate"),
    parameters=OpticalSNRParameters,
    version="1",
    columns={**COLUMNS, **identity.PLATE},
    wavelength=False,
    bitmask=True,
)
def sp_plate_snr(spectra, parameters):  # type: ignore[no-untyped-def]
    """Signal-to-noise ratio of the spectrum of each fibre of a plate, the sky's too."""
    return _measure(spectra, parameters, identity.PLATE)


@spectrum_task(
    requires=product("aspcapStar"),
    parameters=NormalisedSNRParameters,
    version="1",
    columns={**COLUMNS, **identity.APOGEE},
    wavelength=False,
)
def aspcap_star_snr(spectra, parameters):  # type: ignore[no-untyped-def]
    """Signal-to-noise ratio of each combined spectrum that ASPCAP has divided by its continuum."""
    return _measure(spectra, parameters, identity.APOGEE)


mwm_star_snr, mwm_visit_snr = tasks_over(
    MWM,
    "snr",
    _mwm_snr,
    parameters=MWMSNRParameters,
    version="1",
    columns={**COLUMNS, **identity.MWM},
    wavelength=False,
    bitmask=True,
    options=["instrument"],
)
