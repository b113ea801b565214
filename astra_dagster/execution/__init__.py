"""Runs a task over partitions, on worker processes or a cluster. Knows nothing of Dagster."""
