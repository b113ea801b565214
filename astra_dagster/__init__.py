"""SDSS spectra analysed as partitioned Dagster assets.

The public API, and nothing else. Dagster is not imported here: the data model, the readers, the numerics and the tasks
work without it. `SpectrumTask` alone is a part of Dagster, and takes it along when asked for.
"""

from typing import Any

from astra_dagster.datamodel.products import DataID, Product, product, products, release, releases
from astra_dagster.errors import AstraError

__version__ = "0.1.0"

__all__ = [
    "AstraError",
    "Column",
    "DataID",
    "Parameters",
    "Product",
    "SpectrumBatch",
    "SpectrumTask",
    "Task",
    "__version__",
    "ap_star",
    "ap_visit",
    "catalogue_column",
    "compare",
    "failed",
    "file",
    "grouped",
    "matching",
    "parameter",
    "product",
    "products",
    "read_spectra",
    "register_reader",
    "release",
    "releases",
    "spec",
    "spectrum_task",
    "visits_of_star",
]

_PRODUCTS = ("ap_visit", "ap_star", "spec")
_LATER = {
    "Column": "tasks.columns",
    "Parameters": "tasks.parameters",
    "SpectrumBatch": "spectra.batch",
    "SpectrumTask": "orchestration.component",
    "Task": "tasks.task",
    "catalogue_column": "datamodel.catalogue_columns",
    "compare": "results.comparing",
    "failed": "tasks.columns",
    "file": "tasks.inputs.common_files",
    "grouped": "tasks.requirements",
    "matching": "tasks.requirements",
    "parameter": "tasks.parameters",
    "read_spectra": "spectra.readers",
    "register_reader": "spectra.readers",
    "spectrum_task": "tasks.decorator",
    "visits_of_star": "tasks.requirements",
}


def __getattr__(name: str) -> Any:
    """Products and what a task needs; imported when asked for, as they take NumPy along."""
    if name in _PRODUCTS:
        return product(name)
    if name in _LATER:
        import importlib

        return getattr(importlib.import_module(f"astra_dagster.{_LATER[name]}"), name)
    raise AttributeError(f"module 'astra_dagster' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Names of the public API: where Dagster's tools look for the component."""
    return __all__
