"""The results of a task: selected by key, read when they are looked at, in the form of a table library."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import pyarrow as pa

from astra_dagster import settings
from astra_dagster.errors import InvalidKeyError, TooManyRowsError, UnknownColumnError, nearest
from astra_dagster.orchestration.records import DagsterLedger, record_texts
from astra_dagster.orchestration.runs.instance import open_instance
from astra_dagster.outputs.store import OutputStore
from astra_dagster.planning.ledger import Selection, make_none_registered, select_keys
from astra_dagster.results.columns import make_qtable
from astra_dagster.results.pages import make_table
from astra_dagster.results.scan import find_library, list_columns, scan
from astra_dagster.tables.collection import Gathered, gather
from astra_dagster.tables.texts import write_cell
from astra_dagster.tasks.task import Task

LIMIT = 2_000_000
"""Most partitions whose results are taken into memory."""

SHOWN = 10
"""Rows that are printed."""


@dataclass(frozen=True)
class Results:
    """The results of a task, one row a spectrum: the key, then the columns of the task.

    Attributes
    ----------
    task
        The task, with its parameters.
    keys
        Wanted partition keys; None for all that are registered and selected.
    selection
        Wanted releases, and values of parts of the keys.
    """

    task: Task
    keys: tuple[str, ...] | None
    selection: Selection

    @classmethod
    def select(
        cls,
        task: Task,
        keys: str | Iterable[str] | None,
        release: str | Iterable[str],
        where: Mapping[str, Any] | None,
        parameters: Mapping[str, Any],
    ) -> Self:
        """Select results as `Task.results` describes it; nothing is read."""
        if isinstance(keys, str):
            keys = (keys,)
        wanted = None if keys is None else tuple(task.domain.parse_key(key).key for key in dict.fromkeys(keys))
        return cls(task.setting(parameters), wanted, make_selection(release, where))

    @cached_property
    def _store(self) -> OutputStore:
        return OutputStore(settings.outputs_dir(), self.task, self.task.values())

    @contextmanager
    def _select(self) -> Iterator[tuple[int, Iterable[tuple[str, str]]]]:
        """Give the number of selected partitions, and each of those that have a record, with its text."""
        with open_instance() as instance:
            ledger = DagsterLedger(instance)
            domain = self.task.domain
            chosen = self.selection if self.selection.releases else Selection(self.task.releases, self.selection.where)
            keys = select_keys(ledger, domain, chosen if self.keys is None else self.selection)
            if self.keys is not None:
                known = set(keys)
                for key in self.keys:
                    if key not in known:
                        raise InvalidKeyError(
                            f"partition {key} of {domain.name} is not registered, or not selected",
                            hint=nearest(key, keys),
                        )
                keys = list(self.keys)
            if not keys:
                raise make_none_registered(domain, selected=True)
            every = self.keys is None and not (chosen.releases or chosen.where)
            yield len(keys), record_texts(instance, self.task, keys, every=every)

    @cached_property
    def _selected(self) -> tuple[int, Gathered]:
        """Number of selected partitions, and the rows of those that have results."""
        with self._select() as (count, records):
            if count > LIMIT:
                raise TooManyRowsError(
                    f"{count} partitions of {self.task.name} are more than the {LIMIT} that are taken into memory",
                    hint="select some by keys, release or where, or take to_polars(), which reads what you ask of it",
                )
            return count, gather(self._store, records, keys=self.keys)

    @cached_property
    def _table(self) -> pa.Table:
        """The key, the number of the spectrum if a file has several, and the results."""
        made = self._selected[1].table
        return made.select(list_columns(self._store, made.schema))

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self._table.column_names)

    @property
    def unreadable(self) -> Mapping[str, str]:
        """Why outputs were left out that cannot be read, by partition key."""
        return dict(self._selected[1].unreadable)

    @property
    def source(self) -> str:
        """Where the rows are from, and how many partitions have no results with these parameters, in words."""
        count, made = self._selected
        left = count - len(set(made.keys.to_pylist())) - len(made.unreadable)
        without = [f"{left} partitions are without results"] if left else []
        return ", ".join([*made.sources, *without, *made.unread])

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, column: str) -> Any:
        """Return a column as astropy has it: with its unit, masked where values are missing."""
        return self.to_table([column])[column]

    def to_arrow(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return a pyarrow Table, of all columns or of these; metadata of a field hold its unit and description.

        Raises
        ------
        UnknownColumnError
            If there is no such column.
        InvalidKeyError
            If a key is not registered, or nothing is selected.
        TooManyRowsError
            If there are too many for memory.
        """
        self._check_columns(columns or (), self.columns)
        return self._table if columns is None else self._table.select(list(columns))

    def to_table(self, columns: Sequence[str] | None = None) -> Any:
        """Return an astropy QTable, with units, and masks where values are missing; raises as `to_arrow` does."""
        return make_qtable(self.to_arrow(columns))

    def to_pandas(self, columns: Sequence[str] | None = None) -> Any:
        """Return a pandas DataFrame; raises as `to_arrow` does.

        Raises
        ------
        ConfigurationError
            If pandas is not installed.
        """
        find_library("pandas")
        return self.to_arrow(columns).to_pandas()

    def to_polars(self, columns: Sequence[str] | None = None) -> Any:
        """Return a polars LazyFrame of any number of rows, which reads the table of the task when it is collected.

        What the table lacks is read from outputs now, and comes last.

        Raises
        ------
        ConfigurationError
            If polars is not installed.
        UnknownColumnError
            If there is no such column.
        TooManyRowsError
            If the table lacks too many.
        """
        with self._select() as (_, records):
            frame = scan(self._store, records, LIMIT)
        known = frame.collect_schema().names()
        self._check_columns(columns or (), known)
        return frame if columns is None else frame.select(list(columns))

    def _check_columns(self, columns: Iterable[str], known: Sequence[str]) -> None:
        for name in columns:
            if name not in known:
                raise UnknownColumnError(f"{self.task.name} has no column {name!r}", hint=nearest(name, known))

    def _repr_html_(self) -> str:
        rows = [[write_cell(value) for value in row.values()] for row in self._table.slice(0, SHOWN).to_pylist()]
        return make_table(f"{self.task.name}: {len(self)} rows, {self.source}", self.columns, rows, len(self))

    def __repr__(self) -> str:
        lines = make_qtable(self._table.slice(0, SHOWN)).pformat(max_width=120)
        more = [f"and {len(self) - SHOWN} more rows"] if len(self) > SHOWN else []
        return "\n".join([f"{self.task.name}: {len(self)} rows, {self.source}", *lines, *more])


def make_selection(release: str | Iterable[str], where: Mapping[str, Any] | None) -> Selection:
    """Make a selection of what Python gives: single values or several, texts or numbers."""
    releases = (release,) if isinstance(release, str) else tuple(release)
    return Selection(releases, where or {})
