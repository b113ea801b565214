"""Requirements of many partitions for one partition: those of a group, or those that a file names."""

import functools
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from astra_dagster.datamodel.catalogue_columns import CatalogueColumn, check_part_name
from astra_dagster.datamodel.products import DataID, Product
from astra_dagster.errors import SpectrumFileError
from astra_dagster.fits.reader import FitsFile
from astra_dagster.tasks.groups import Domain, Group, Minimum, Parts, ValueOfFile, check_minimum
from astra_dagster.tasks.inputs.requirement import Find, Requirement
from astra_dagster.tasks.task import Task, requirement_of


def grouped(
    of: Product | Task | Requirement, by: Sequence[str] | str | ValueOfFile, *, minimum: Minimum = 1
) -> Requirement:
    """Require all partitions of a product or task that share parts of their keys; each such group is a partition.

    ``grouped(spec, by=("run2d", "plate"))`` requires all spectra of a plate, ``grouped(plate_snr, by="run2d")`` all
    plates of a reduction, and ``grouped(spec, by=())`` all spectra of a release. All that are registered are expected,
    also those whose file is not there. Results have the columns ``members`` and ``expected``.

    Parameters
    ----------
    of
        The product or task whose partitions are required.
    by
        Name of the shared part of the keys, or names of several; none for all partitions of a release. Or what tells
        a value that files share: a `catalogue_column`, or a function of the data ID, after which the part of the
        group's key is named. Files for which it returns None are in no group.
    minimum
        How many members of a group must be there before it is computed: a number, a fraction of those expected as a
        decimal number (``0.8``), or "all". A group that waits for more is no failure.

    Raises
    ------
    ValueError
        If the keys have no such part, each group would be a single partition, or the minimum cannot be one.
    """
    check_minimum(minimum)
    required = _one_for_one(of)
    members = required.partitions
    if isinstance(by, CatalogueColumn) or callable(by):
        group = Group(required.product, (_name_part(by, members),), by)
        return replace(required, domain=group, group=group, minimum=minimum)
    names = (by,) if isinstance(by, str) else tuple(by)
    unknown = set(names) - set(members.parts)
    if unknown:
        all_parts = "" if members == required.product else "; only partitions that are files have all parts"
        hint = f"its parts are {members.key_order}{all_parts}"
        raise ValueError(f"{members.name} has no part {', '.join(sorted(unknown))}; {hint}")
    group = Group(required.product, tuple(name for name in members.parts if name in names))
    if group == members:
        raise ValueError(f"{members.name} is grouped by {', '.join(names)} already: require the task itself")
    return replace(required, domain=group, group=group, minimum=minimum)


def matching(
    of: Product | Task | Requirement, one: Product, find: Find, *, minimum: Minimum = 1, expected: str | None = None
) -> Requirement:
    """Require the partitions of a product or task that belong to one file of another product.

    Results have the columns ``members``, how many there are, and ``expected``, how many there should be.

    Parameters
    ----------
    of
        The product or task whose partitions are required.
    one
        The product whose files are the partitions of the task that requires them.
    find
        Function from a data ID of `one` and its path to the known parts of the data IDs that belong to it. All
        partitions of the same release with these values are required. What it names is expected, registered or not.
    minimum
        How many must be there before anything is computed: a number, a fraction of those expected as a decimal number
        (``0.8``), or "all". To wait for more is no failure.
    expected
        Card of the first header of the file that says how many there should be, ``"NVISITS"``, where `find` does not
        name each of them.

    Raises
    ------
    ValueError
        If what is required is of many itself, or the minimum cannot be one.
    """
    check_minimum(minimum)
    count = None if expected is None else functools.partial(_read_count, card=expected)
    return replace(_one_for_one(of), domain=one, find=find, minimum=minimum, count=count)


def _read_count(path: Path, card: str) -> int:
    with FitsFile(path) as file:
        count = file.hdu(0).header.integer(card)
    if count is None or count < 0:
        raise SpectrumFileError(f"{card} does not say how many there should be", path=path)
    return count


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


def _name_part(by: ValueOfFile, files: Domain) -> str:
    """Return the name of the part of the group's keys that a value is."""
    name = by.name if isinstance(by, CatalogueColumn) else getattr(by, "__name__", "")
    check_part_name(name)
    if files != files.product:
        raise ValueError(f"only files are grouped by {name}: a group of {files.name} has no value of its own")
    if name in files.parts:
        raise ValueError(f"{files.name} has a part {name} already: give what it is grouped by another name")
    return name


def _one_for_one(of: Product | Task | Requirement) -> Requirement:
    found = requirement_of(of)
    if not found.one_to_one:
        raise ValueError("only partitions that are files, or groups of a task, can be required by the many")
    return found
