"""Where a ``dagster.yaml`` that an earlier version wrote looks for the storage of `storage.postgresql`."""

from astra_dagster.orchestration.storage.postgresql import BatchedPostgresStorage

__all__ = ["BatchedPostgresStorage"]
