"""Checks of results: which of them should not be trusted, and why. Nothing here changes a result."""
