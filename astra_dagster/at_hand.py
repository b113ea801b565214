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


def _module(name: str) -> Any:
    return importlib.import_module(f"astra_dagster.results.{name}")
