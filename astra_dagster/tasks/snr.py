"""Signal-to-noise tasks."""

from astra_dagster.analysis.snr import mean_snr, median_snr, pixel_snr
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


def _ap_visit_snr(spectra: SpectrumBatch, parameters: SNRParameters) -> Columns:
    snr = pixel_snr(spectra.flux, spectra.error)
    factor = parameters.fudge_factor
    chips = {f"snr_{name}": factor * median_snr(snr[:, start:stop]) for name, start, stop in spectra.chips}
    return {
        "snr": factor * mean_snr(snr, spectra.bad),
        "snr_median": factor * median_snr(snr, spectra.bad),
        **chips,
        "good_pixels": (~spectra.bad).sum(axis=1),
    }


ap_visit_snr = Task(
    name="ap_visit_snr",
    requires=product("apVisit"),
    parameters=SNRParameters,
    version="1",
    function=_ap_visit_snr,
    columns={
        "snr": "Mean signal-to-noise ratio a pixel, over good pixels.",
        "snr_median": "Median over good pixels.",
        "snr_blue": "Median over all pixels of the blue chip.",
        "snr_green": "Median over all pixels of the green chip: the SNR card of the file's header.",
        "snr_red": "Median over all pixels of the red chip.",
        "good_pixels": "Number of good pixels.",
    },
    description="Signal-to-noise ratio of each visit spectrum, from its own flux, error and mask.",
)
