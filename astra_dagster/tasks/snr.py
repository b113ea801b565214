"""Signal-to-noise tasks."""

from astra_dagster.analysis.snr import der_snr, mean_snr, median_snr, pixel_snr
from astra_dagster.arrays import FloatArray
from astra_dagster.datamodel.products import product
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.spectra.pixel_flags import BOSS, BOSS_REJECTED
from astra_dagster.tasks import identity
from astra_dagster.tasks.decorator import spectrum_task
from astra_dagster.tasks.parameters import parameter
from astra_dagster.tasks.rejection import RejectingParameters

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


def _ratios(spectra: SpectrumBatch, snr: FloatArray, factor: float) -> dict[str, FloatArray]:
    return {
        "snr": factor * mean_snr(snr, spectra.bad),
        "snr_median": factor * median_snr(snr, spectra.bad),
        "der_snr": factor * der_snr(spectra.flux, spectra.bad),
        "good_pixels": (~spectra.bad).sum(axis=1),
    }


@spectrum_task(
    requires=product("apVisit"),
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
def ap_visit_snr(spectra, parameters):  # type: ignore[no-untyped-def]
    """Signal-to-noise ratio of each visit spectrum, from its own flux, error and mask."""
    spectra = parameters.apply_to(spectra)
    snr = pixel_snr(spectra.flux, spectra.error)
    factor = parameters.fudge_factor
    chips = {f"snr_{name}": factor * median_snr(snr[:, start:stop]) for name, start, stop in spectra.chips}
    return {**_ratios(spectra, snr, factor), **chips, **identity.identity(spectra, identity.APOGEE)}


@spectrum_task(
    requires=product("apStar"),
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
def ap_star_snr(spectra, parameters):  # type: ignore[no-untyped-def]
    """Signal-to-noise ratio of each combined and visit spectrum of a star."""
    spectra = parameters.apply_to(spectra)
    snr = pixel_snr(spectra.flux, spectra.error)
    factor = parameters.fudge_factor
    return {
        "row": spectra.meta["row"],
        **_ratios(spectra, snr, factor),
        "snr_all": factor * median_snr(snr),
        **identity.identity(spectra, identity.APOGEE),
    }


@spectrum_task(
    requires=product("spec"),
    parameters=OpticalSNRParameters,
    version="2",
    columns={**COLUMNS, **identity.BOSS},
    wavelength=False,
    bitmask=True,
)
def spec_snr(spectra, parameters):  # type: ignore[no-untyped-def]
    """Signal-to-noise ratio of each optical spectrum, from its own flux and inverse variance."""
    spectra = parameters.apply_to(spectra)
    ratios = _ratios(spectra, pixel_snr(spectra.flux, spectra.error), parameters.fudge_factor)
    return {**ratios, **identity.identity(spectra, identity.BOSS)}
