"""Signal-to-noise tasks."""

from astra_dagster.analysis.snr import der_snr, mean_snr, median_snr, pixel_snr
from astra_dagster.datamodel.products import product
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.tasks.parameters import Parameters
from astra_dagster.tasks.task import Columns, Task


class SNRParameters(Parameters):
    """Parameters of the signal-to-noise tasks.

    Attributes
    ----------
    fudge_factor
        Factor by which every ratio is multiplied.
    """

    fudge_factor: float = 1.0


def _snr(spectra: SpectrumBatch, parameters: SNRParameters) -> Columns:
    snr = pixel_snr(spectra.flux, spectra.error)
    factor = parameters.fudge_factor
    return {
        "snr": factor * mean_snr(snr, spectra.bad),
        "snr_median": factor * median_snr(snr, spectra.bad),
        "der_snr": factor * der_snr(spectra.flux, spectra.bad),
        "good_pixels": (~spectra.bad).sum(axis=1),
    }


def _ap_visit_snr(spectra: SpectrumBatch, parameters: SNRParameters) -> Columns:
    snr = pixel_snr(spectra.flux, spectra.error)
    chips = {
        f"snr_{name}": parameters.fudge_factor * median_snr(snr[:, start:stop]) for name, start, stop in spectra.chips
    }
    return {**_snr(spectra, parameters), **chips}


def _ap_star_snr(spectra: SpectrumBatch, parameters: SNRParameters) -> Columns:
    snr = pixel_snr(spectra.flux, spectra.error)
    return {
        "row": [str(row) for row in spectra.meta["row"]],
        **_snr(spectra, parameters),
        "snr_all": parameters.fudge_factor * median_snr(snr),
    }


_COLUMNS = {
    "snr": "Mean signal-to-noise ratio a pixel, over good pixels.",
    "snr_median": "Median over good pixels.",
    "der_snr": "From the scatter of neighbouring pixels, whatever the errors say (DER_SNR).",
    "good_pixels": "Number of good pixels.",
}

ap_visit_snr = Task(
    name="ap_visit_snr",
    requires=product("apVisit"),
    parameters=SNRParameters,
    version="2",
    function=_ap_visit_snr,
    columns={
        **_COLUMNS,
        "snr_blue": "Median over all pixels of the blue chip.",
        "snr_green": "Median over all pixels of the green chip: the SNR card of the file's header.",
        "snr_red": "Median over all pixels of the red chip.",
    },
    wavelength=False,
    description="Signal-to-noise ratio of each visit spectrum, from its own flux, error and mask.",
)

ap_star_snr = Task(
    name="ap_star_snr",
    requires=product("apStar"),
    parameters=SNRParameters,
    version="1",
    function=_ap_star_snr,
    columns={
        "row": "Which spectrum of the file: a combination or a visit.",
        **_COLUMNS,
        "snr_all": "Median over all pixels: for the first spectrum the SNR card of the file's header.",
    },
    wavelength=False,
    description="Signal-to-noise ratio of each combined and visit spectrum of a star.",
)

spec_snr = Task(
    name="spec_snr",
    requires=product("spec"),
    parameters=SNRParameters,
    version="1",
    function=_snr,
    columns=_COLUMNS,
    wavelength=False,
    description="Signal-to-noise ratio of each optical spectrum, from its own flux and inverse variance.",
)
