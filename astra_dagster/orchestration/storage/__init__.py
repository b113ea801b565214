"""Storages of a Dagster instance that write many records in one transaction.

A ``dagster.yaml`` names their modules, `sqlite` and `postgresql`; one from an earlier version names this package.
"""

from astra_dagster.orchestration.storage.sqlite import BatchedSqliteStorage

__all__ = ["BatchedSqliteStorage"]
