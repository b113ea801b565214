"""Spectra in files: the readers of each product, the batch that they return, and the files that tasks write."""

from astra_dagster.spectra.batch import SpectrumBatch, stack
from astra_dagster.spectra.output import read_output
from astra_dagster.spectra.readers import read_spectra

__all__ = ["SpectrumBatch", "read_output", "read_spectra", "stack"]
