"""All files of a product that are found on disk, at once."""

from pathlib import Path

from astra_dagster.archive.discovery import FoundFile, Skipped, walk_files
from astra_dagster.datamodel.products import Product, Where


def find_files(
    product: Product, release: str, root: Path, where: Where | None = None
) -> tuple[list[FoundFile], list[Skipped]]:
    """Files of a product and release below `root`, and what is left out, both in the order of their paths."""
    windows = list(walk_files(product, release, root, where))
    found = sorted((file for files, _ in windows for file in files), key=lambda file: file.path)
    return found, sorted((one for _, skipped in windows for one in skipped), key=lambda one: one.path)
