"""What happens in a run of Dagster: its configuration, jobs, files, progress, and the signs that it is alive."""
