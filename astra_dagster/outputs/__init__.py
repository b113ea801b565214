"""Files that tasks write: where they are, what is in them, and whether they are complete."""
