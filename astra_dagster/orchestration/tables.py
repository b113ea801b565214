"""Make the asset of a task's table, which is not partitioned and covers all partitions of the task."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field
from tqdm import tqdm

from astra_dagster import settings
from astra_dagster.orchestration.assets import describe_column, list_promised_columns, owner_of
from astra_dagster.orchestration.causes import plain_failures
from astra_dagster.orchestration.records import latest, table_name
from astra_dagster.orchestration.runs.launchpad import Launchpad
from astra_dagster.orchestration.runs.preview_metadata import escape_markdown
from astra_dagster.orchestration.runs.summary import SHOWN
from astra_dagster.outputs.store import OutputStore
from astra_dagster.outputs.table_head import FORMAT
from astra_dagster.tables.table_columns import KEY, NUMBERS, PART, PROVENANCE, SPECTRUM, WHICH, WHOLE, part_names
from astra_dagster.tasks.task import Task

if TYPE_CHECKING:  # pyarrow and SQLAlchemy are imported where they are used, so that definitions load fast
    import pyarrow as pa

    from astra_dagster.tables.collection import Collection

PREVIEW = 10
"""Number of rows that the web UI shows."""


class TableConfig(dg.Config):
    """What building a table takes besides the task's parameters."""

    overwrite: bool = Field(default=False, description="Read all outputs again.")
    fits: bool = Field(default=True, description="Write the table as FITS as well.")


def collection(task: Task) -> dg.AssetsDefinition:
    """Make the asset of the table with all partitions of a task that are complete with its parameters."""
    launchpad = Launchpad(task, TableConfig)

    @dg.asset(  # type: ignore[call-overload]
        name=table_name(task),
        deps=[dg.AssetDep(task.name, partition_mapping=dg.AllPartitionMapping())],
        group_name="tables",
        kinds={"parquet"},
        owners=[owner_of(task)],
        code_version=f"{task.version}.{FORMAT}",
        description=f"All results of {task.name} in one table, one row a spectrum.\n\n{task.description}",
        metadata={"dagster/column_schema": _make_promised_schema(task)},
        config_schema=launchpad.schema,
        dagster_type=dg.Nothing,
    )
    def asset(context: dg.AssetExecutionContext):  # type: ignore[no-untyped-def]
        with plain_failures():
            config, (mine,) = launchpad.read(context.op_execution_context)
            store = OutputStore(settings.check_outputs_dir(), mine, mine.values())
            with tqdm(unit="file", disable=None, desc=table_name(task)) as progress:
                made, database = build(
                    context.instance,
                    store,
                    fits=config.fits,
                    overwrite=config.overwrite,
                    progress=progress.update,
                )
        for _, reason in made.unreadable[:SHOWN]:
            context.log.warning(f"left out: {reason}")
        if len(made.unreadable) > SHOWN:
            context.log.warning(f"and {len(made.unreadable) - SHOWN} more outputs that cannot be read")
        yield dg.MaterializeResult(
            metadata=_make_metadata(store, made, database), data_version=dg.DataVersion(made.version)
        )

    return asset


def build(
    instance: dg.DagsterInstance,
    store: OutputStore,
    *,
    fits: bool = True,
    overwrite: bool = False,
    progress: Callable[[int], object] | None = None,
) -> "tuple[Collection, str | None]":
    """Bring a table up to date, and the database if one is configured; returns what was done there in words.

    Raises
    ------
    AstraError
        If table or database cannot be written.
    """
    from astra_dagster.tables.collection import collect

    url = None  # looked at first: a mistake in the configuration shows before the work
    if settings.config().database.url:
        from astra_dagster.tables import database

        url = database.configured_url()
    made = collect(store, latest(instance, store.task), fits=fits, overwrite=overwrite, progress=progress)
    return made, None if url is None else str(database.upsert(url, made.parquet))


def _make_promised_schema(task: Task) -> dg.TableSchema:
    """Return the columns of a table before it is built, when the types of results are not known."""
    columns = [dg.TableColumn(KEY, "text", WHOLE)]
    columns += [dg.TableColumn(n, "int" if n in NUMBERS else "text", PART) for n in part_names(task.domain)]
    columns.append(dg.TableColumn(SPECTRUM, "int", WHICH))
    columns += list_promised_columns(task)
    columns += [dg.TableColumn(name, "text", description) for name, description in PROVENANCE.items()]
    return dg.TableSchema(columns)


def _make_schema(schema: "pa.Schema") -> dg.TableSchema:
    from astra_dagster.tables.column_types import kind_name

    columns = []
    for field in schema:
        about = {name.decode(): text.decode() for name, text in (field.metadata or {}).items()}
        description = describe_column(about.get("description", ""), about.get("unit", ""))
        columns.append(dg.TableColumn(field.name, kind_name(field.type), description))
    return dg.TableSchema(columns)


def _make_metadata(store: OutputStore, made: "Collection", database: str | None) -> Mapping[str, Any]:
    metadata: dict[str, Any] = {
        "dagster/row_count": made.rows,
        "dagster/column_schema": _make_schema(made.schema),
        "partitions": made.partitions,
        "new": made.new,
        "changed": made.changed,
        "dropped": made.dropped,
        "unreadable": len(made.unreadable),
        "parquet": dg.MetadataValue.path(str(made.parquet)),
        "parameters": dg.MetadataValue.json(store.parameters.as_dict(all=True)),
        "preview": dg.MetadataValue.md(_make_preview(made)),
    }
    if made.fits is not None:
        metadata["fits"] = dg.MetadataValue.path(str(made.fits))
    if database is not None:
        metadata["database"] = database
    if made.unreadable:
        metadata["left_out"] = dg.MetadataValue.table(
            [dg.TableRecord({"partition": key, "reason": reason}) for key, reason in made.unreadable[:1000]],
            schema=dg.TableSchema([dg.TableColumn("partition"), dg.TableColumn("reason")]),
        )
    return metadata


def _make_preview(made: "Collection") -> str:
    """Return the first rows of a table as Markdown."""
    from astra_dagster.tables.table import read_head

    names = [name for name in made.schema.names if name not in PROVENANCE]
    lines = [list(map(escape_markdown, names)), ["---"] * len(names)]
    lines += [[_write_cell(row[name]) for name in names] for row in read_head(made.parquet, PREVIEW)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _write_cell(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_write_cell, value))
    text = f"{value:.6g}" if isinstance(value, float) else "" if value is None else str(value)
    return escape_markdown(text.replace("\n", " "))
