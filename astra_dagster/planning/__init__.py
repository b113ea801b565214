"""What is to be done: which partitions are complete, which are to do and why. Nothing here knows Dagster."""
