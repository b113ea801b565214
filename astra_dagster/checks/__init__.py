"""Checks of results: which are to be distrusted, and why."""
