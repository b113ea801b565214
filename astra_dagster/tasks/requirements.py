"""Requirements of many partitions for one partition: those of a group, or those that a file names."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from astra_dagster.datamodel.products import DataID, Product
from astra_dagster.errors import SpectrumFileError
from astra_dagster.fits.reader import FitsFile
from astra_dagster.tasks.groups import Group, Parts
from astra_dagster.tasks.task import Find, Requirement, Task, requirement_of


def grouped(of: Product | Task | Requirement, by: Sequence[str] | str) -> Requirement:
    """Require all partitions of a product or task that share parts of their keys; each such group is a partition.

    ``grouped(spec, by=("run2d", "plate"))`` requires all spectra of a plate.

    Raises
    ------
    ValueError
        If the product has no such part, or the partitions of the task are not files.
    """
    names = (by,) if isinstance(by, str) else tuple(by)
    required = _files(of)
    product = required.product
    unknown = set(names) - set(product.parts)
    if unknown or not names:
        raise ValueError(f"{product.name} has no part {', '.join(sorted(unknown))}; its parts are {product.key_order}")
    return replace(required, domain=Group(product, tuple(name for name in product.parts if name in names)))


def matching(of: Product | Task | Requirement, one: Product, find: Find) -> Requirement:
    """Require the partitions of a product or task that belong to one file of another product.

    Parameters
    ----------
    of
        The product or task whose partitions are required.
    one
        The product whose files are the partitions of the task that requires them.
    find
        Function from a data ID of `one` and its path to the known parts of the data IDs that belong to it. All
        partitions of the same release with these values are required.

    Raises
    ------
    ValueError
        If the partitions of the required task are not files.
    """
    return replace(_files(of), domain=one, find=find)


def visits_of_star(star: DataID, path: Path) -> list[Parts]:
    """Return the visits that an apStar file combines, from the names in its header; for `matching`.

    ``matching(ap_visit_snr, ap_star, visits_of_star)`` requires the S/N of all visits of a star.

    Raises
    ------
    AstraError
        If the file cannot be read.
    """
    with FitsFile(path) as file:
        header = file.hdu(0).header
    found: list[Parts] = []
    while (name := header.text(f"SFILE{len(found) + 1}")) is not None:
        match = re.fullmatch(r"a[ps]Visit-.+-([0-9A-Za-z]+)-([0-9]{5})-([0-9]{3})\.fits", name)
        if match is None:
            raise SpectrumFileError(f"SFILE{len(found) + 1} is {name!r}, which is no visit", path=path, key=star.key)
        parts = {"plate": match[1], "mjd": match[2], "fibre": match[3]}
        telescope = star.values.get("telescope")
        found.append({**parts, "telescope": telescope} if telescope else parts)
    return found


def _files(of: Product | Task | Requirement) -> Requirement:
    found = requirement_of(of)
    if not found.one_to_one or found.domain != found.product:
        raise ValueError("only partitions that are files can be required by the many")
    return found
