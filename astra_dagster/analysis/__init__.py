"""Numbers in, numbers out: NumPy only."""
