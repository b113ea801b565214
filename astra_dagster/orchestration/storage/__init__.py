"""Storages of a Dagster instance that write many records in one transaction.

A ``dagster.yaml`` names their modules, `sqlite` and `postgresql`; one that an earlier version wrote names this package.
"""

from astra_dagster.orchestration.storage.sqlite import BatchedSqliteStorage

__all__ = ["BatchedSqliteStorage"]
