"""Columns of catalogues that tell which files belong together: the healpix of a star, the object of a visit.

A catalogue is a product whose file follows from the release, or a table of one's own. Which partitions come of it is
not known here.
"""

import functools
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from astra_dagster import settings
from astra_dagster.datamodel.catalogue import join_parts, read_column
from astra_dagster.datamodel.keys import ABSENT
from astra_dagster.datamodel.products import Product
from astra_dagster.errors import CatalogueError
from astra_dagster.presence import status_of

Values = tuple[tuple[str, ...], Mapping[str, str]]
"""Names of the parts of keys that a catalogue has columns of, and values by the texts of these parts."""


@dataclass(frozen=True)
class CatalogueColumn:
    """A column of a catalogue. Make one with `catalogue_column`.

    Attributes
    ----------
    catalogue
        The catalogue: a product, or a path, which is below SAS_BASE_DIR if it is relative.
    column
        Name of the column.
    name
        Name of the part of the keys that holds its values.
    """

    catalogue: Product | Path
    column: str
    name: str

    def reader(self, product: Product) -> Callable[[str], str | None]:
        """Make a function from the key of a file of a product to the value for it, None where the catalogue has none.

        Each catalogue is looked up once. The function raises an `AstraError` if it cannot be read, or lacks the column.
        """
        parts_of_catalogue = self.catalogue.parts if isinstance(self.catalogue, Product) else ()
        shared = [name for name in product.parts if name in parts_of_catalogue]
        find = functools.cache(functools.partial(self._read, product))

        def value(key: str) -> str | None:
            release, *texts = key.split("/")
            if len(texts) != len(product.parts):  # the key is not valid
                return None
            parts = dict(zip(product.parts, texts, strict=True))
            names, values = find(release, *((name, parts[name]) for name in shared))
            return values.get(join_parts(parts[name] for name in names))

        return value

    def _read(self, product: Product, release: str, *parts: tuple[str, str]) -> Values:
        """Read the catalogue for files of a release with these parts, which the catalogue has too."""
        root = settings.sas_base_dir()
        if isinstance(self.catalogue, Product):
            known = {part.name for part in self.catalogue.template(release).keys.values()}
            data_id = self.catalogue.data_id(release, **{n: t for n, t in parts if n in known and t != ABSENT})
            path = data_id.existing_path(root) or data_id.path(root)
        else:
            path = root / self.catalogue.expanduser()
        status = status_of(path)
        if status is None:
            raise CatalogueError("the catalogue is not there", path=path, hint=f"{product.name} is grouped by it")
        return _read_file(path, status.st_size, status.st_mtime_ns, product, release, self.column)


@functools.lru_cache(maxsize=2)  # of a catalogue of a million rows it takes 200 MB
def _read_file(path: Path, _size: int, _mtime_ns: int, product: Product, release: str, column: str) -> Values:
    return read_column(path, product, release, column)


def catalogue_column(
    catalogue: Product | str | os.PathLike[str], column: str, *, name: str | None = None
) -> CatalogueColumn:
    """Name a column of a catalogue to group files by: ``grouped(spec, by=catalogue_column("stars.csv", "cluster"))``.

    A row is of the files with the same parts of the key, as far as the catalogue has columns of them; of several rows
    of a file, the first counts. A file without a row, or without a value, is in no group.

    Parameters
    ----------
    catalogue
        Path of a table in FITS, VOTable, Parquet or text, below SAS_BASE_DIR if it is relative; or a product whose file
        follows from the release, ``product("allStar")``.
    column
        Name of the column.
    name
        Name of the part of the group's keys; by default that of the column, in lower case.

    Raises
    ------
    ValueError
        If the name cannot be that of a part.
    """
    part = column.lower() if name is None else name
    check_part_name(part)
    return CatalogueColumn(catalogue if isinstance(catalogue, Product) else Path(catalogue), column, part)


def check_part_name(name: str) -> None:
    """Check that a part of the keys of groups can have a name.

    Raises
    ------
    ValueError
        If it cannot.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,59}", name) or name == "release":
        raise ValueError(f"{name!r} cannot be a part of a key: name it with lower-case letters, digits and _")
