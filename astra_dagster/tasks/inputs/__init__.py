"""What the function of a task receives and returns besides spectra and columns: files."""
