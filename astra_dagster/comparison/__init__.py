"""Compare two sets of results of a task: which rows belong together, by how much they differ, and which jump."""
