"""Make tables of a database that can hold the columns of a collection. Columns are added and widened, not narrowed."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from astra_dagster.errors import ConfigurationError
from astra_dagster.tables import column_types as kinds

_SQL: Mapping[str, Any] = {
    "bool": sa.Boolean(),
    "int": sa.BigInteger(),
    "float": sa.Double(),
    "text": sa.Text(),
    "json": sa.JSON(none_as_null=True),
}
_REFLECTED = ((sa.Boolean, "bool"), (sa.Integer, "int"), ((sa.Float, sa.Numeric), "float"), (sa.JSON, "json"))
_WIDER = ("bool", "int", "float", "text")
_CONVERT: Mapping[str, Callable[[Any], Any]] = {"int": int, "float": float, "text": json.dumps, "json": lambda v: v}


@dataclass(frozen=True)
class Field:
    """A column of a table in the database.

    Attributes
    ----------
    kind
        Kind of its values in the database: "bool", "int", "float", "text", or "json" for lists.
        given
        Kind of the values in the collection, if they must be converted; else empty.
    """

    name: str
    kind: str
    comment: str = ""
    given: str = ""

    @classmethod
    def of(cls, field: pa.Field) -> "Field":
        """Make the column for a column of a collection."""
        about = {name.decode(): text.decode() for name, text in (field.metadata or {}).items()}
        comment = about.get("description", "") + (f" [{about['unit']}]" if "unit" in about else "")
        kind = "json" if pa.types.is_list(field.type) else kinds.kind_name(field.type)
        return cls(field.name, kind, comment.strip())

    def values(self, column: pa.Array) -> list[Any]:
        """Convert values of a collection to those that the database takes."""
        values: list[Any] = column.to_pylist()
        if self.given in ("", self.kind):
            return values
        convert = _CONVERT[self.kind]
        return [None if value is None else convert(value) for value in values]


def describe_table(name: str, fields: Sequence[Field], primary: Sequence[str]) -> sa.Table:
    """Describe a table for SQLAlchemy."""
    return sa.Table(
        name,
        sa.MetaData(),
        *(
            sa.Column(
                f.name, _SQL[f.kind], primary_key=f.name in primary, comment=f.comment or None, autoincrement=False
            )
            for f in fields
        ),
    )


def prepare(
    connection: sa.Connection, name: str, fields: Sequence[Field], primary: Sequence[str]
) -> tuple[list[Field], list[Field]]:
    """Create or alter a table so that it can hold these columns.

    Returns
    -------
    fields, others
        The given columns, with the kinds that they have in the table; and further columns of the table.

    Raises
    ------
    ConfigurationError
        If there is a table of that name with another primary key, which was not made here.
    """
    inspector = sa.inspect(connection)
    if not inspector.has_table(name):
        describe_table(name, fields, primary).create(connection)
        return list(fields), []
    if set(inspector.get_pk_constraint(name)["constrained_columns"]) != set(primary):
        raise ConfigurationError(
            f"the database has a table {name} that astra_dagster did not make",
            hint="rename it, or use another database",
        )
    there = {column["name"]: _find_kind(column["type"]) for column in inspector.get_columns(name)}
    kept = [
        replace(field, kind=_choose_wider(field.kind, there.get(field.name, field.kind)), given=field.kind)
        for field in fields
    ]
    quote = connection.dialect.identifier_preparer.quote
    for field in kept:
        kind = _SQL[field.kind].compile(connection.dialect)
        column = quote(field.name)
        if field.name not in there:
            connection.exec_driver_sql(f"ALTER TABLE {quote(name)} ADD COLUMN {column} {kind}")
        elif field.kind != there[field.name] and connection.dialect.name != "sqlite":  # SQLite takes values of any type
            number = "::int" if there[field.name] == "bool" and field.kind != "text" else ""
            connection.exec_driver_sql(
                f"ALTER TABLE {quote(name)} ALTER COLUMN {column} TYPE {kind} USING {column}{number}::{kind}"
            )
    names = {field.name for field in fields}
    return kept, [Field(column, kind) for column, kind in there.items() if column not in names]


def _find_kind(kind: object) -> str:
    return next((name for base, name in _REFLECTED if isinstance(kind, base)), "text")


def _choose_wider(one: str, other: str) -> str:
    if one == other:
        return one
    return max(one, other, key=_WIDER.index) if {one, other} <= set(_WIDER) else "text"
