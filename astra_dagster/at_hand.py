"""What a task gives from its records and outputs, as methods; the folder `results`, above the tasks, does the work."""

import importlib
from collections.abc import Iterable, Mapping
from typing import Any


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
            What the task made of the partition.

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
