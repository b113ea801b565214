"""Plan which partitions are complete, which are to do and why, without Dagster."""
