"""Run tasks over partitions, in this process, in worker processes or on a cluster. Nothing here knows of Dagster."""
