"""Dagster's PostgreSQL storage with events written in batches, for a deployment that several machines share.

Everything but the writing is inherited from dagster-postgres, with the same tables and answers, so that an instance may
be switched from one to the other and back. ``astra-dagster init --postgres URL`` writes a ``dagster.yaml`` that names
it. How a batch is written is the business of `batches`.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Self

import dagster as dg
import sqlalchemy as sa
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable  # the table that rows are put into
from dagster._serdes import ConfigurableClassData  # says where dagster.yaml names the storage
from sqlalchemy.engine import Connection

from astra_dagster.errors import ConfigurationError, StorageError, in_one_line
from astra_dagster.orchestration.causes import find_place
from astra_dagster.orchestration.storage.batches import INSERT, BatchedEventLogStorage, is_inserted_together
from astra_dagster.tables import database

try:
    from dagster_postgres.auth import PgTokenProvider
    from dagster_postgres.event_log import PostgresEventLogStorage
    from dagster_postgres.storage import DagsterPostgresStorage
    from dagster_postgres.utils import (
        DagsterPostgresException,
        get_token_provider_from_config,
        pg_url_from_config,
    )
except ModuleNotFoundError as error:
    raise ConfigurationError(
        f"Dagster on PostgreSQL needs the Python package {error.name}", hint="pip install 'astra-dagster[postgres]'"
    ) from error

EXAMPLE = "it is postgresql://user@host/database"

BEGIN = sa.text("SET LOCAL idle_in_transaction_session_timeout = '60s'; SELECT pg_advisory_xact_lock(4156387012)")
"""Begins a batch by taking a lock, so that batches are written one after another.

Rows get their ids when they are inserted, and are seen when they are committed. Without the lock, whoever reads on from
the last id, as sensors do, would miss a batch that is committed after one with later ids. The lock of a process that no
longer answers ends by itself."""


class _Transaction(threading.local):
    """The connection of the batch that this thread is writing; None outside of a batch."""

    connection: Connection | None = None


class BatchedPostgresEventLogStorage(BatchedEventLogStorage, PostgresEventLogStorage):
    """An event log in which a batch is one transaction."""

    collation = "C"

    def __init__(self, postgres_url: str, *arguments: Any, **named: Any) -> None:
        self._transaction = _Transaction()
        super().__init__(postgres_url, *arguments, **named)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Use one connection, and one transaction, for everything within the context."""
        with self.index_transaction() as connection:
            connection.execute(BEGIN)
            self._transaction.connection = connection
            try:
                yield
            finally:
                self._transaction.connection = None

    def _connect(self) -> AbstractContextManager[Connection]:
        connection = self._transaction.connection
        return super()._connect() if connection is None else nullcontext(connection)

    def store_event(self, event: dg.EventLogEntry) -> None:
        """Write one event; if it belongs to an asset, under the lock that batches take."""
        if is_inserted_together(event):
            self.store_event_batch([event])
        else:
            super().store_event(event)

    def store_event_batch(self, events: Sequence[dg.EventLogEntry]) -> None:
        """Write all events or none, without those that only Dagster+ keeps, as Dagster's own storage does."""
        kept = [
            event for event in events if event.dagster_event_type != dg.DagsterEventType.ASSET_FAILED_TO_MATERIALIZE
        ]
        if kept:
            super().store_event_batch(kept)

    def insert_in_index(self, index: Connection, rows: Sequence[Mapping[str, Any]]) -> Sequence[int]:
        """Insert rows of events, and return the ids that the server gave them, in the order of the rows."""
        returning = INSERT.returning(SqlEventLogStorageTable.c.id, sort_by_parameter_order=True)
        return index.execute(returning, rows).scalars().all()


class BatchedPostgresStorage(DagsterPostgresStorage):
    """dagster-postgres with `BatchedPostgresEventLogStorage`; for ``storage: custom:`` in ``dagster.yaml``.

    It takes the same configuration: ``postgres_url`` or ``postgres_db``, with values that may come from the
    environment.

    Raises
    ------
    ConfigurationError
        If the URL is not one of PostgreSQL.
    StorageError
        If the server cannot be reached.
    """

    def __init__(
        self,
        postgres_url: str,
        should_autocreate_tables: bool = True,
        inst_data: ConfigurableClassData | None = None,
        token_provider: "PgTokenProvider | None" = None,
    ) -> None:
        url = parse_url(postgres_url)
        written_out = url.render_as_string(hide_password=False)
        try:
            super().__init__(written_out, should_autocreate_tables, inst_data, token_provider)
            self._event_log_storage = BatchedPostgresEventLogStorage(
                written_out, should_autocreate_tables, token_provider=token_provider
            )
        except DagsterPostgresException as error:
            raise make_server_error(url, error.__cause__ or error) from None

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """Make the storage from its section of ``dagster.yaml``."""
        return cls(
            inst_data=inst_data,
            postgres_url=pg_url_from_config(config_value).strip(),  # a file may have ended with more than the URL
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
            token_provider=get_token_provider_from_config(config_value),
        )


def parse_url(text: str) -> sa.URL:
    """Parse the URL of a PostgreSQL database, and set the driver that is needed.

    Raises
    ------
    ConfigurationError
        If the text is not such a URL. The error does not repeat it, as it may hold a password.
    """
    url = database.parse_url(text, hint=EXAMPLE)
    if url.drivername != database.POSTGRESQL:
        raise ConfigurationError(f"Dagster's records cannot be kept with {url.drivername!r}", hint=EXAMPLE)
    return url


def check_server(url: sa.URL) -> None:
    """Connect to a database once.

    Raises
    ------
    StorageError
        If the server cannot be reached.
    """
    engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args={"connect_timeout": 10})
    try:
        engine.connect().close()
    except sa.exc.SQLAlchemyError as error:
        raise make_server_error(url, error) from None


def make_server_error(url: sa.URL, error: BaseException) -> StorageError:
    """Make the error of a server that cannot be reached."""
    reason = in_one_line(str(getattr(error, "orig", None) or error))
    return StorageError(
        f"the database {find_place(url)} cannot be reached: {reason}", hint="is the server up, and the URL right?"
    )
