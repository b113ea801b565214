"""Dagster's PostgreSQL storage with events written in batches, for a deployment that several machines share.

Everything but the writing is inherited from dagster-postgres: the same tables, the same answers, so that an instance
may be switched to and fro. It is named in ``dagster.yaml``; ``astra-dagster init --postgres URL`` writes one. How a
batch is written is the business of `batches`.
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
from astra_dagster.orchestration.causes import place
from astra_dagster.orchestration.storage.batches import INSERT, BatchedEventLogStorage, inserted_together
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
"""Ids are given when rows are inserted, and seen when they are committed. Who reads on from the last id, as sensors do,
would miss the rows of a batch that is committed after a later one: so that none is, they take turns. The turn of a
process that no longer answers ends by itself."""


class _Transaction(threading.local):
    """Connection of the batch that this thread is writing; none outside of a batch."""

    connection: Connection | None = None


class BatchedPostgresEventLogStorage(BatchedEventLogStorage, PostgresEventLogStorage):
    """Event log in which a batch is one transaction."""

    def __init__(self, postgres_url: str, *arguments: Any, **named: Any) -> None:
        self._transaction = _Transaction()
        super().__init__(postgres_url, *arguments, **named)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Let one connection do for all that follows."""
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
        """Write one event; where it is of an asset, in turn with the batches."""
        if inserted_together(event):
            self.store_event_batch([event])
        else:
            super().store_event(event)

    def store_event_batch(self, events: Sequence[dg.EventLogEntry]) -> None:
        """Write events, all of them or none; as Dagster's own, without those that only Dagster+ keeps."""
        kept = [
            event for event in events if event.dagster_event_type != dg.DagsterEventType.ASSET_FAILED_TO_MATERIALIZE
        ]
        if kept:
            super().store_event_batch(kept)

    def insert_in_index(self, index: Connection, rows: Sequence[Mapping[str, Any]]) -> Sequence[int]:
        """Insert rows; the server says which ids they were given."""
        returning = INSERT.returning(SqlEventLogStorageTable.c.id, sort_by_parameter_order=True)
        return index.execute(returning, rows).scalars().all()


class BatchedPostgresStorage(DagsterPostgresStorage):
    """dagster-postgres with `BatchedPostgresEventLogStorage`; for ``storage: custom:`` in ``dagster.yaml``.

    Takes the same configuration: ``postgres_url`` or ``postgres_db``, each value perhaps from the environment.

    Raises
    ------
    ConfigurationError
        If the URL is none of PostgreSQL.
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
            raise unreachable(url, error.__cause__ or error) from None

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """Storage from its section of ``dagster.yaml``."""
        return cls(
            inst_data=inst_data,
            postgres_url=pg_url_from_config(config_value),
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
            token_provider=get_token_provider_from_config(config_value),
        )


def parse_url(text: str) -> sa.URL:
    """URL of a PostgreSQL database, with the driver that is needed.

    Raises
    ------
    ConfigurationError
        If it is none; what is wrong with it is told without repeating it, for it may hold a password.
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
        If that is not possible.
    """
    engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args={"connect_timeout": 10})
    try:
        engine.connect().close()
    except sa.exc.SQLAlchemyError as error:
        raise unreachable(url, error) from None


def unreachable(url: sa.URL, error: BaseException) -> StorageError:
    """Say that a server cannot be reached, and why."""
    reason = in_one_line(str(getattr(error, "orig", None) or error))
    return StorageError(
        f"the database {place(url)} cannot be reached: {reason}", hint="is the server up, and the URL right?"
    )
