"""SDSS spectra analysed as partitioned Dagster assets.

The public API, and nothing else. Dagster is not imported here: the data model, the readers and the numerics work
without it.
"""

from astra_dagster.datamodel.products import DataID, Product, product, products, release, releases
from astra_dagster.errors import AstraError

__version__ = "0.1.0"

__all__ = ["AstraError", "DataID", "Product", "__version__", "product", "products", "release", "releases"]
