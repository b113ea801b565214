"""What products and tasks give from records and outputs, as methods; the folder `results` above does the work."""

import importlib
from collections.abc import Iterable, Mapping
from typing import Any


class Searchable:
    """The method of a product that looks at what is registered. Dagster is imported when it is called, not before."""

    __slots__ = ()

    def search(
        self,
        *,
        release: str | Iterable[str] = (),
        where: Mapping[str, Any] | None = None,
        star: str | Iterable[str] = (),
        near: Any = None,
        radius: Any = None,
        **parts: object,
    ) -> Any:
        """Return the registered files with these parts of their keys: ``search(plate=5226, mjd="56000..56100")``.

        Parameters
        ----------
        release
            Release, or several; by default all.
        where, parts
            What the parts of the key may be: a value, several, a range ``"56000..56100"`` or a pattern ``"120*"``.
        star
            Only files of this star, or of several, by their 2MASS names: ``"2M00000032+5737103"``.
        near, radius
            Only files of objects within an angle, ``"5 arcsec"``, of a SkyCoord, or of one of several. Objects are
            known where keys hold 2MASS names, and by results with the columns ``object``, ``ra`` and ``dec``.

        Returns
        -------
        Found
            A sequence of data IDs that prints as a table, with ``.keys``, ``.paths``, ``.read()`` and ``.fetch()``.

        Raises
        ------
        InvalidKeyError
            If a part or a star is unknown, a value cannot be understood, or nothing is registered as this.
        InputMissingError
            If it is not known of any file which object it is of.
        """
        return _module("search").Found.search(self, release, where, parts, star=star, near=near, radius=radius)


class Drawable:
    """The methods of a batch of spectra by which it is seen. What draws it is imported when one is called."""

    __slots__ = ()

    def plot(self, row: int = 0, title: str = "") -> Any:
        """Make the interactive page of the spectra, that of ``astra-dagster show``; a notebook shows it.

        Parameters
        ----------
        row
            Number of the spectrum that is shown at first; the others can be switched on.
        title
            What they are; by default what is known of it.

        Returns
        -------
        Page
            ``.save("spectra.html")`` writes it.

        Raises
        ------
        AstraError
            If there is no such spectrum, or it has no wavelengths.
        TooManyRowsError
            If there are too many for a page.
        """
        return _module("pages").plot_batch(self, row, title)

    def _repr_html_(self) -> str:
        return str(_module("pages").tabulate_batch(self))


class AtHand:
    """The methods of a task that look at its records. Dagster is imported when one is called, not before.

    They take parameters of the task by name; one that is named like an argument here is set by `Task.setting`.
    """

    __slots__ = ()

    def results(
        self,
        keys: str | Iterable[str] | None = None,
        *,
        release: str | Iterable[str] = (),
        where: Mapping[str, Any] | None = None,
        **parameters: object,
    ) -> Any:
        """Return the results of the task, one row a spectrum; they are read when they are looked at.

        Parameters
        ----------
        keys
            Partition keys, or a single one; by default all that are registered.
        release, where
            Select partitions, by release and by parts of the key: ``where={"mjd": 56000}``.
        parameters
            Parameters other than the defaults, as for `setting`.

        Returns
        -------
        Results
            ``results["snr"]``, ``.to_table()``, ``.to_pandas()``, ``.to_polars()``, ``.to_arrow()``; it prints as a
            table.

        Raises
        ------
        ParameterError
            If there is no such parameter, or its value is not valid.
        """
        return _module("results").Results.select(self, keys, release, where, parameters)

    def run(
        self,
        keys: str | Iterable[str] | None = None,
        *,
        release: str | Iterable[str] = (),
        where: Mapping[str, Any] | None = None,
        overwrite: bool = False,
        fetch: bool = False,
        workers: str = "",
        **parameters: object,
    ) -> Any:
        """Run the task, and first what it requires, on everything that is not complete, as ``astra-dagster run`` does.

        Parameters
        ----------
        keys
            Partition keys, or a single one, such as ``ap_visit.search(plate=5226).keys``; by default all.
        release, where
            Select partitions instead.
        overwrite
            Whether to compute complete partitions again.
        fetch
            Whether to fetch files that are not on this disk first.
        workers
            Who computes: ``"in-process"``, ``"processes:4"``, ``"dask:4"``; by default as configured.
        parameters
            Parameters other than the defaults, as for `setting`.

        Returns
        -------
        RunSummary
            ``computed``, the number of outputs, ``failed``, the reasons by key, and ``run_id``.

        Raises
        ------
        AstraError
            If there is no such partition or parameter, or no partition can be run at all.
        KeyboardInterrupt
            If it was stopped; what is finished is recorded.
        """
        return _module("running").run(
            self, keys, release, where, parameters, overwrite=overwrite, fetch=fetch, workers=workers
        )

    def read(self, key: str, **parameters: object) -> Any:
        """Read the output of a partition.

        Parameters
        ----------
        key
            Partition key.
        parameters
            Parameters other than the defaults, as for `setting`.

        Returns
        -------
        SpectrumBatch or mapping of columns
            What the task made of the partition; ``.provenance`` has the parameters, the code version, and the versions
            of the inputs, in the words of a JSON output.

        Raises
        ------
        InputMissingError
            If there is no output with these parameters.
        AstraError
            If the key is not valid, or the output cannot be read.
        """
        return _module("partitions").read_output(self, key, parameters)

    def why(self, key: str, **parameters: object) -> str:
        """Say whether a partition is complete, and if not, why: ``"to do: parameters changed: order"``.

        Raises
        ------
        InvalidKeyError
            If there is no such partition.
        """
        return str(_module("partitions").why(self, key, parameters))

    def status(
        self, *, release: str | Iterable[str] = (), where: Mapping[str, Any] | None = None, **parameters: object
    ) -> dict[str, int]:
        """Return the number of partitions by status, ``{"complete": 10, "to_do": 2}``; those of `plan`.

        Raises
        ------
        AstraError
            If no partition is selected.
        """
        return dict(_module("partitions").count_statuses(self, release, where, parameters))


def _module(name: str) -> Any:
    return importlib.import_module(f"astra_dagster.results.{name}")
