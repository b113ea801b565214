"""The files that tasks write: their paths, contents and records."""
