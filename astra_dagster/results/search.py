"""Registered files of a product, as a sequence that prints as a table, and that is read, fetched and shown."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, overload

from astra_dagster import settings
from astra_dagster.archive.reductions import add_reductions
from astra_dagster.archive.sas import Archive
from astra_dagster.datamodel.products import DataID, Product, releases
from astra_dagster.errors import InputMissingError, InvalidKeyError, SpectrumFileError
from astra_dagster.orchestration.records import DagsterLedger
from astra_dagster.orchestration.runs.instance import open_instance
from astra_dagster.planning.ledger import make_none_registered, select_keys
from astra_dagster.results.pages import Page, make_table, plot_files
from astra_dagster.results.results import SHOWN, make_selection
from astra_dagster.results.sky import keep_near
from astra_dagster.spectra.batch import SpectrumBatch, stack
from astra_dagster.spectra.readers import read_spectra
from astra_dagster.tables.texts import align

FETCHED = 4
"""Files that are fetched at a time."""


@dataclass(frozen=True, repr=False)
class Found(Sequence[DataID]):
    """Files of a product that a search found; a slice is such a sequence too.

    Attributes
    ----------
    product
        Product of the files.
    keys
        Their partition keys, which `Task.run` and `Task.results` take.
    """

    product: Product
    keys: tuple[str, ...]

    @classmethod
    def search(
        cls,
        product: Product,
        release: str | Iterable[str],
        where: Mapping[str, Any] | None,
        parts: Mapping[str, Any],
        *,
        star: str | Iterable[str],
        near: Any,
        radius: Any,
    ) -> Self:
        """Search as `Product.search` describes it."""
        both = {**(where or {}), **parts}
        if twice := set(where or {}) & set(parts):
            raise InvalidKeyError(f"{', '.join(sorted(twice))} is given twice", hint="in where, or by name")
        chosen = make_selection(release, both)
        with open_instance() as instance:
            keys = select_keys(DagsterLedger(instance), product, chosen)
        if not keys:
            error = make_none_registered(product, selected=bool(both or release))
            add_reductions(error, product, chosen.releases or releases(), both)
            raise error
        if star or near is not None or radius is not None:
            keys = keep_near(product, keys, star, near, radius)
            if not keys:
                raise InvalidKeyError(f"no file of {product.name} is known to be there", hint="within a larger radius?")
        return cls(product, tuple(keys))

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, index: int) -> DataID: ...
    @overload
    def __getitem__(self, index: slice) -> "Found": ...
    def __getitem__(self, index: int | slice) -> "DataID | Found":
        if isinstance(index, slice):
            return Found(self.product, self.keys[index])
        return self.product.parse_key(self.keys[index])

    def __iter__(self) -> Iterator[DataID]:
        return (self.product.parse_key(key) for key in self.keys)

    def __repr__(self) -> str:
        names = ("release", *self.product.parts)
        lines = align([names, *(key.split("/") for key in self.keys[:SHOWN])])
        more = [f"and {len(self) - SHOWN} more"] if len(self) > SHOWN else []
        return "\n".join([f"{len(self)} files of {self.product.name}", *lines, *more])

    def _repr_html_(self) -> str:
        rows = [key.split("/") for key in self.keys[:SHOWN]]
        heading = f"{len(self)} files of {self.product.name}"
        return make_table(heading, ("release", *self.product.parts), rows, len(self))

    def plot(self, row: int = 0, instrument: str | None = None) -> Page:
        """Make the interactive page of the files, a panel each, that of ``astra-dagster show``; a notebook shows it.

        Parameters
        ----------
        row
            Which spectrum of files with several is shown at first.
        instrument
            ``"BOSS"`` or ``"APOGEE"``, for mwm files.

        Raises
        ------
        AstraError
            If a file is not here, cannot be read, or has no such spectrum.
        TooManyRowsError
            If there are too many files for a page.
        """
        return plot_files(list(self), row, instrument)

    @property
    def paths(self) -> list[Path]:
        """Paths of the files on this disk.

        Raises
        ------
        InputMissingError
            If a file is not here.
        """
        root = settings.sas_base_dir()
        found = []
        for data_id in self:
            path = data_id.existing_path(root)
            if path is None:
                raise InputMissingError(
                    "the file is not here", key=data_id.key, path=data_id.path(root), hint="fetch() gets it"
                )
            found.append(path)
        return found

    def read(self, **options: Any) -> SpectrumBatch:
        """Read all spectra into one batch; of many files, read slices: ``found[:1000].read()``.

        Parameters
        ----------
        options
            As of `read_spectra`.

        Raises
        ------
        InputMissingError
            If a file is not here.
        SpectrumFileError
            If a file cannot be read, or the spectra have different numbers of pixels.
        """
        paths = self.paths
        batches = [read_spectra(path, self.product, **options) for path in paths]
        try:
            return stack(batches)
        except ValueError as error:
            raise SpectrumFileError(
                f"these {len(batches)} files do not fit into one batch: {error}",
                path=paths[0],
                hint="read them one by one, or those of one kind",
            ) from error

    def fetch(self) -> Self:
        """Fetch the files that are not here from the Science Archive Server.

        Raises
        ------
        AstraError
            If a file cannot be fetched; the others are.
        """
        fetched = list(Archive.from_settings().fetch(list(self), FETCHED))
        failed = [result.error for result in fetched if result.error is not None]
        if failed:
            failed[0].message += f"; {len(failed)} of {len(self)} could not be fetched" if len(failed) > 1 else ""
            raise failed[0]
        return self
