"""Write the rows of collections to a database, into one table for each task, whatever the parameters.

The database is configured in ``astra.toml``::

    [database]
    url = "sqlite"

which means ``results.sqlite`` in the folder of the outputs; or with the URL of a database, ``sqlite:///results.sqlite``
(a relative path counts from the configuration file) or ``postgresql+psycopg2://user:password@host/name``. By default
there is none. The primary key is partition key, spectrum and parameters digest; only rows that changed are written. The
rows themselves come from `collection`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from astra_dagster import settings
from astra_dagster.errors import ConfigurationError, OutputError
from astra_dagster.files import open_file
from astra_dagster.tables import database_types
from astra_dagster.tables.database_types import Field
from astra_dagster.tables.table_columns import KEY, SPECTRUM

PRIMARY = (KEY, SPECTRUM, "digest")
AT_ONCE = 20_000
"""Number of rows that are written or read at a time."""

POSTGRESQL = "postgresql+psycopg2"
"""The driver of dagster-postgres, so that one driver is enough; SQLAlchemy's default may be another."""

_INSERT: Mapping[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_EXAMPLES = 'url = "sqlite", "sqlite:///results.sqlite" or "postgresql+psycopg2://user:password@host/name"'


@dataclass(frozen=True)
class Upserted:
    """Numbers of rows that were written, deleted and left alone in a table of the database."""

    table: str
    written: int
    deleted: int
    unchanged: int

    def __str__(self) -> str:
        return f"table {self.table}: {self.written} rows written, {self.deleted} deleted, {self.unchanged} unchanged"


def configured_url() -> sa.URL | None:
    """Return the URL of the database that the configuration names; None if it names none.

    Raises
    ------
    ConfigurationError
        If the database cannot be used.
    """
    text = settings.config().database.url.strip()
    if not text:
        return None
    if text == "sqlite":
        return sa.URL.create("sqlite", database=str(settings.outputs_dir() / "results.sqlite"))
    try:
        url = parse_url(text)
    except ConfigurationError as error:
        raise settings.config_error(f"[database]: {error.message}", hint=error.hint) from None
    beside = settings.config_path()
    if url.get_backend_name() == "sqlite" and beside is not None:
        url = url.set(database=str(beside.parent / str(url.database)))
    return url


def parse_url(text: str, hint: str = _EXAMPLES) -> sa.URL:
    """Parse the URL of a database. Errors do not repeat the URL, which may hold a password.

    If the URL of a PostgreSQL database names no driver, it is the one that Dagster needs.

    Raises
    ------
    ConfigurationError
        If the text is no URL, or that of a database that cannot be used.
    """
    try:
        url = sa.make_url(text)
        backend = url.get_backend_name()
    except (sa.exc.SQLAlchemyError, ValueError):
        raise ConfigurationError("the url of the database cannot be understood", hint=hint) from None
    if backend not in _INSERT:
        raise ConfigurationError(f"a database of kind {backend!r} cannot be used", hint=hint)
    if backend == "sqlite" and url.database in (None, "", ":memory:"):
        raise ConfigurationError("the url of the database names no file", hint=hint)
    if backend == "postgresql" and text.count("@") > 1:
        raise ConfigurationError("the url of the database has an @ too many", hint="in a password it is written %40")
    return url.set(drivername=POSTGRESQL) if url.drivername == "postgresql" else url


def upsert(url: sa.URL | str, parquet: Path) -> Upserted:
    """Bring the rows of a database up to date with a table that `collection.collect` made.

    Rows of the table's parameters digest that the table does not have are deleted; rows of other digests are left
    alone. Everything happens in one transaction.

    Raises
    ------
    ConfigurationError
        If the URL, its driver, or a table of the same name in the database cannot be used.
    OutputError
        If the database cannot be reached or written.
    """
    url = parse_url(url) if isinstance(url, str) else url
    shown = url.set(query={}).render_as_string(hide_password=True)
    try:
        engine = sa.create_engine(url, poolclass=sa.NullPool)
    except (sa.exc.NoSuchModuleError, ModuleNotFoundError) as error:
        driver = getattr(error, "name", None) or url.drivername
        raise ConfigurationError(
            f"the database {shown} needs the Python package {driver}",
            hint="install it (for PostgreSQL: pip install 'astra-dagster[postgres]')",
        ) from None
    try:
        with engine.begin() as connection:
            return _Upsert(connection, parquet).run()
    except sa.exc.SQLAlchemyError as error:
        said = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        for secret in (url.password, url.query.get("password")):
            said = said.replace(str(secret), "***") if secret else said
        raise OutputError(f"the database {shown} cannot be written: {said}", hint="may you write to it?") from None
    finally:
        engine.dispose()


class _Upsert:
    """The update of the rows of one digest in one table of the database."""

    def __init__(self, connection: sa.Connection, parquet: Path) -> None:
        self.connection, self.parquet = connection, parquet
        with open_file(parquet) as stream:
            schema = pq.read_schema(stream)
        self.name = schema.metadata[b"task"].decode()
        self.digest = schema.metadata[b"digest"].decode()
        # A column without any value has no type yet, and is added once it has values.
        self.fields = [Field.of(field) for field in schema if b"empty" not in (field.metadata or {})]

    def run(self) -> Upserted:
        fields, others = database_types.prepare(self.connection, self.name, self.fields, PRIMARY)
        table = database_types.describe_table(self.name, [*fields, *others], PRIMARY)
        mine, theirs = self._read_table(), self._read_database(table)
        outdated = pc.invert(pc.is_in(_join(mine), value_set=_join(theirs)))
        gone = theirs.filter(pc.invert(pc.is_in(_join(theirs, 2), value_set=_join(mine, 2))))
        self._delete(table, gone)
        written = self._write(table, fields, outdated)
        return Upserted(self.name, written, len(gone), len(mine) - written)

    def _read_table(self) -> pa.Table:
        with open_file(self.parquet) as stream:
            table = pq.read_table(stream, columns=_IDENTITIES.names, partitioning=None)
        return pa.table([table[name] for name in _IDENTITIES.names], schema=_IDENTITIES)

    def _read_database(self, table: sa.Table) -> pa.Table:
        """Read key, spectrum and data version of the rows of this digest in the database."""
        wanted = sa.select(table.c.key, table.c.spectrum, table.c.data_version).where(table.c.digest == self.digest)
        found = self.connection.execute(wanted, execution_options={"yield_per": AT_ONCE})
        batches = [
            pa.record_batch([list(column) for column in zip(*rows, strict=True)], schema=_IDENTITIES)
            for rows in found.partitions()
        ]
        return pa.Table.from_batches(batches, _IDENTITIES)

    def _delete(self, table: sa.Table, gone: pa.Table) -> None:
        statement = sa.delete(table).where(
            table.c.digest == self.digest,
            table.c.key == sa.bindparam("of_key"),
            table.c.spectrum == sa.bindparam("of_spectrum"),
        )
        for batch in gone.to_batches(AT_ONCE):
            pairs = zip(batch[KEY].to_pylist(), batch[SPECTRUM].to_pylist(), strict=True)
            self.connection.execute(statement, [{"of_key": key, "of_spectrum": number} for key, number in pairs])

    def _write(self, table: sa.Table, fields: Sequence[Field], outdated: pa.Array) -> int:
        insert = _INSERT[self.connection.dialect.name](table)
        mine = {field.name for field in fields}
        new = {c.name: insert.excluded[c.name] if c.name in mine else sa.null() for c in table.c if not c.primary_key}
        statement = insert.on_conflict_do_update(index_elements=PRIMARY, set_=new)
        written = 0
        for rows in self._read_rows(fields, outdated):
            self.connection.execute(statement, rows)
            written += len(rows)
        return written

    def _read_rows(self, fields: Sequence[Field], outdated: pa.Array) -> Iterator[list[dict[str, Any]]]:
        start = 0
        with open_file(self.parquet) as stream, pq.ParquetFile(stream) as file:
            for batch in file.iter_batches(batch_size=AT_ONCE):
                part = batch.filter(outdated.slice(start, len(batch)))
                start += len(batch)
                if len(part):
                    columns = [part[field.name] for field in self.fields]
                    values = [field.values(column) for field, column in zip(fields, columns, strict=True)]
                    names = [field.name for field in fields]
                    yield [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]


_IDENTITIES = pa.schema([(KEY, pa.string()), (SPECTRUM, pa.int32()), ("data_version", pa.string())])


def _join(known: pa.Table, columns: int = 3) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(*(column.cast(pa.string()) for column in known.columns[:columns]), " ")
