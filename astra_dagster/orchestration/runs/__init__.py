"""What happens in a run of Dagster, and around it."""
