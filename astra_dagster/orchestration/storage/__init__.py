"""Storages of a Dagster instance that keep many records in one transaction."""
